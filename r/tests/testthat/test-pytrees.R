# The tree as Python prints it, and as R has it when it comes back.
in_python <- function(x) {
  x <- to_python(x, "x")
  gsub("\\s+", " ", as.character(reticulate::py_str(x)))
}

there_and_back <- function(x) {
  from_marked(helpers()$marked(to_python(x, "x")))
}

test_that("lists are lists, and dicts where they have names", {
  skip_without_python()
  expect_equal(in_python(list(b = 1, a = list(2L, TRUE, NULL))),
    "{'b': 1.0, 'a': [2, True, None]}")
  expect_equal(in_python(list()), "[]")
  expect_equal(in_python(stats::setNames(list(), character())), "{}")
  expect_equal(in_python(c(dropout = "training")), "{'dropout': 'training'}")
})

test_that("vectors are arrays, and those of length one numbers", {
  skip_without_python()
  expect_equal(in_python(list(a = c(1, 2))), "{'a': array([1., 2.])}")
  expect_equal(in_python(list(a = 1, b = array(1))),
    "{'a': 1.0, 'b': array([1.])}")
  expect_equal(in_python(c("a", "b")), "['a', 'b']")
})

test_that("a tree that goes to R and back has its structure", {
  skip_without_python()
  tree <- reticulate::py_eval(
    "{'t': (1, [2], (), {}), 'one': (3,), 'l': [4, 5], 'n': None}",
    convert = FALSE
  )
  came <- from_marked(helpers()$marked(tree))
  expect_equal(came$t[[2]], list(2L))
  expect_equal(came$l, list(4L, 5L))
  expect_equal(in_python(came), as.character(reticulate::py_str(tree)))
  # What R changes in a tuple leaves it a tuple.
  came$one[[1]] <- 6L
  expect_equal(in_python(came$one), "(6,)")
})

test_that("names that are missing or double are reported by their place", {
  skip_without_python()
  expect_error(to_python(list(a = list(1, b = 2)), "params"), "`params\\$a` must")
  expect_error(to_python(list(a = 1, a = 2), "state"), "`state` must be a list")
  expect_error(to_python(list(list(a = quote(x))), "state"),
    "`state\\[\\[1\\]\\]\\$a` must be made of")
})

test_that("the vectors in a tuple are arrays", {
  skip_without_python()
  expect_equal(in_python(tuple(c(1, 2), 3L)), "(array([1., 2.]), 3)")
  expect_equal(in_python(tuple(list(2L, 3L))), "(2, 3)")
  expect_equal(in_python(tuple(list(a = 2L))), "({'a': 2},)")
  expect_equal(in_python(tuple()), "()")
  expect_equal(in_python(tuple(NULL, 4L)), "(None, 4)")
})

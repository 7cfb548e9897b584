test_that("arrays come back as they went", {
  skip_without_python()
  arrays <- list(
    array(as.double(1:24), c(2, 3, 4)), matrix(1:6, 2), c(1.5, NA, Inf),
    matrix(c(TRUE, FALSE, TRUE, TRUE), 1), array(1:3), c(1i, 2 + 3i),
    matrix(numeric(), 0, 3)
  )
  for (x in arrays) {
    expected <- if (is.null(dim(x))) array(x, length(x)) else x
    expect_identical(numpy_to_r(r_to_numpy(x)), expected)
  }
})

test_that("elements have the places in Python that they have in R", {
  skip_without_python()
  x <- r_to_numpy(array(1:24, c(2, 3, 4)))
  item <- x$item(1L, 2L, 3L)
  expect_equal(reticulate::py_to_r(item), 24)
  expect_equal(numpy_to_r(x$sum(axis = tuple(0L, 1L))),
    array(colSums(array(1:24, c(6, 4)))))
})

test_that("the type of elements is R's, or the one that is asked for", {
  skip_without_python()
  type <- function(...) {
    as.character(reticulate::py_str(r_to_numpy(...)$dtype))
  }
  expect_equal(type(1), "float64")
  expect_equal(type(1L), "int32")
  expect_equal(type(TRUE), "bool")
  expect_equal(type(1i), "complex128")
  expect_equal(type(c(1, 2), "float32"), "float32")
  expect_equal(type(TRUE, "int64"), "int64")
})

test_that("arrays of JAX, variables and lists of them become R's", {
  skip_without_python()
  jnp <- python("jax.numpy")
  keras <- python("keras")
  tree <- list(
    a = jnp$ones(tuple(2L, 3L), "bfloat16"),
    b = list(keras$Variable(float32(c(1, 2))), 7),
    c = jnp$array(5L)
  )
  expect_identical(numpy_to_r(tree), list(
    a = matrix(1, 2, 3), b = list(array(c(1, 2)), 7), c = 5L
  ))
})

test_that("what is no array is refused by name", {
  skip_without_python()
  expect_error(r_to_numpy("a"), "`x` must have numbers.*Received: \"a\"")
  expect_error(r_to_numpy(factor("a")), "`x` is a factor")
  expect_error(r_to_numpy(c(1L, NA)), "`x` has missing values")
  expect_error(r_to_numpy(reticulate::r_to_py("a")), "`x` must be a vector")
  words <- reticulate::import("numpy", convert = FALSE)$array(list("a", "b"))
  expect_error(numpy_to_r(words), "An array of <U1 cannot be one of R")
  expect_error(
    numpy_to_r(python("jax.numpy")), "`x` must be an array.*Python object"
  )
})

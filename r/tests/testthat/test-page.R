test_that("the code of the page about R runs", {
  skip_without_python()
  page <- Sys.getenv("FLAXLAYER_PAGE")
  skip_if(page == "", "the page is not there")
  lines <- readLines(page)
  starts <- which(lines == "```r")
  expect_gt(length(starts), 2)
  ends <- vapply(starts, function(i) min(which(lines == "```" &
    seq_along(lines) > i)), 0)
  code <- unlist(Map(function(i, j) lines[(i + 1):(j - 1)], starts, ends))
  expect_error(eval(parse(text = code), new.env()), NA)
})

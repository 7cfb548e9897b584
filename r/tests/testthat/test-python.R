test_that("a package that is missing is named, with the Python in use", {
  skip_without_python()
  expect_error(
    import_or_explain("no_such_package"),
    "`no_such_package` cannot be imported.*python.*install_flaxlayer"
  )
})

test_that("the module is that of Python", {
  skip_without_python()
  expect_true(reticulate::py_has_attr(flaxlayer_module(), "explain_kernels"))
  skip_if(Sys.getenv("FLAXLAYER_REQUIRE_PYTHON") == "", "of another version")
  expect_equal(
    flaxlayer_module()$`__version__`,
    as.character(utils::packageVersion("flaxlayer"))
  )
})

test_that("what is installed has to be a name", {
  expect_error(install_flaxlayer(3), "`package` must be")
})

test_that("functions with names are found when a model is loaded", {
  skip_without_python()
  model <- python("keras")$Sequential()
  layer_jax_model_wrapper(
    model,
    model_function(linear, "linear", package = "tests"),
    model_function(linear_init, "linear_init", package = "tests"),
    seed = 1
  )
  fit_flowers(model, 1L)
  file <- tempfile(fileext = ".keras")
  model$save(file)
  config <- model$layers[[1]]$get_config()
  expect_match(config$call_fn$name, "tests>linear", fixed = TRUE)

  # What the name means now is what counts.
  other <- function(params, inputs) linear(params, inputs) + 1
  model_function(other, "linear", package = "tests")
  loaded <- load_flaxlayer_model(file)
  expect_equal(predicted(loaded), predicted(model) + 1, tolerance = 1e-6)
})

test_that("functions without names are passed by those that they have", {
  skip_without_python()
  model <- python("keras")$Sequential()
  layer_jax_model_wrapper(model, linear, linear_init, seed = 1)
  fit_flowers(model, 1L)
  file <- tempfile(fileext = ".keras")
  model$save(file)
  expected <- predicted(model)
  other <- function(params, inputs) linear(params, inputs) + 1
  loaded <- load_flaxlayer_model(
    file,
    custom_objects = list(call_fn = other, init_fn = linear_init)
  )
  expect_equal(predicted(loaded), expected + 1, tolerance = 1e-6)
})

test_that("errors name the argument of R", {
  skip_without_python()
  expect_error(load_flaxlayer_model(3), "`filepath` must be")
  expect_error(model_function(3), "`fn` must be a function")
  expect_error(model_function(linear, 3), "`name` must be a string")
})

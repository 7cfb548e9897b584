test_that("layers compose with keras3", {
  skip_without_python()
  skip_if_not_installed("keras3")
  model <- keras3::keras_model_sequential(input_shape = 4)
  layer_jax_model_wrapper(model, linear, linear_init)
  keras3::layer_dense(model, 3)
  compile_classifier(model)
  keras3::fit(model, flowers$x, flowers$y, epochs = 1, verbose = 0)
  expect_equal(dim(stats::predict(model, flowers$x)), c(150L, 3L))
  output <- layer_jax_model_wrapper(
    keras3::keras_input(4), linear, linear_init
  )
  expect_equal(unlist(output$shape), 3L)
})

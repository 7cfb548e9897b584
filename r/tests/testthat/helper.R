# The tests need the Python package. FLAXLAYER_REQUIRE_PYTHON makes its absence
# an error, so that continuous integration does not skip them all.
skip_without_python <- function() {
  if (nzchar(Sys.getenv("FLAXLAYER_REQUIRE_PYTHON"))) {
    return(invisible(flaxlayer_module()))
  }
  there <- reticulate::py_available(initialize = TRUE) &&
    reticulate::py_module_available("flaxlayer")
  testthat::skip_if_not(there, "the Python package flaxlayer is installed")
}

python <- function(name) {
  reticulate::import(name)
}

float32 <- function(x) {
  r_to_numpy(x, "float32")
}

flowers <- list(
  x = unname(scale(as.matrix(iris[, 1:4]), scale = FALSE)),
  y = as.integer(iris$Species) - 1L
)

# A linear model of three classes, in functions of R.
linear_init <- function(rng, inputs) {
  shape <- tuple(inputs$shape[[2]], 3L)
  list(kernel = python("jax")$random$normal(rng, shape), bias = c(0, 0, 0))
}

linear <- function(params, inputs) {
  python("jax.numpy")$matmul(inputs, params$kernel) + params$bias
}

compile_classifier <- function(model) {
  keras <- python("keras")
  model$compile(
    keras$optimizers$Adam(0.1),
    keras$losses$SparseCategoricalCrossentropy(from_logits = TRUE),
    metrics = list("accuracy")
  )
}

fit_flowers <- function(model, epochs = 10L) {
  compile_classifier(model)
  model$fit(
    float32(flowers$x), r_to_numpy(flowers$y),
    epochs = epochs, verbose = 0L
  )$history
}

predicted <- function(model, x = flowers$x) {
  numpy_to_r(model$predict(float32(x), verbose = 0L))
}

network <- function() {
  nn <- python("flax.linen")
  nn$Sequential(list(nn$Dense(16L), nn$relu, nn$Dense(3L)))
}

test_that("a module learns, is saved, and predicts the same when loaded", {
  skip_without_python()
  model <- python("keras")$Sequential()
  result <- withVisible(layer_flax_module_wrapper(model, network(), seed = 1))
  expect_false(result$visible)
  history <- fit_flowers(model)
  expect_gt(tail(unlist(history$accuracy), 1), 0.9)

  file <- tempfile(fileext = ".keras")
  model$save(file)
  loaded <- load_flaxlayer_model(file)
  expect_equal(predicted(loaded), predicted(model))
})

test_that("a tensor goes through it, and without one there is the layer", {
  skip_without_python()
  input <- python("keras")$Input(tuple(4L))
  output <- layer_flax_module_wrapper(input, network())
  expect_equal(unlist(output$shape), 3L)
  layer <- layer_flax_module_wrapper(module = network())
  expect_true(is_instance(layer, flaxlayer_module()$FlaxLayer))
})

test_that("variables are nested lists", {
  skip_without_python()
  variables <- list(params = list(kernel = diag(2), bias = c(1, 2)))
  dense <- python("flax.linen")$Dense(2L)
  result <- layer_flax_module_wrapper(
    matrix(1:4, 2), dense, variables = variables
  )
  expect_equal(numpy_to_r(result), matrix(c(2, 3, 5, 6), 2))
})

test_that("the method is a name, or a function of R with the module", {
  skip_without_python()
  x <- matrix(1, 2, 4)
  embed <- python("flax.linen")$Embed(5L, 4L)
  shape <- function(...) dim(numpy_to_r(layer_flax_module_wrapper(x, ...)))
  expect_equal(shape(embed, "attend"), c(2L, 5L))
  twice <- function(module, x) module(module(x))
  expect_equal(shape(python("flax.linen")$Dense(4L), twice), c(2L, 4L))
})

test_that("modules of Python and of NNX are taken, with their random streams", {
  skip_without_python()
  code <- "
import flax.linen as nn
from flax import nnx
import functools

class Noisy(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Dropout(0.5, rng_collection='noise', deterministic=not train)(x)
        return nn.BatchNorm(use_running_average=not train)(nn.Dense(3)(x))

linear = functools.partial(nnx.Linear, 4, 3)
"
  made <- reticulate::py_run_string(code)
  model <- python("keras")$Sequential()
  layer_flax_module_wrapper(model, made$Noisy(), seed = 2, rngs = "noise")
  layer_flax_module_wrapper(
    model, made$Noisy(),
    rngs = c(noise = "training", dropout = "never"),
    collections = list(batch_stats = "state")
  )
  fit_flowers(model, 1L)
  expect_length(model$layers[[1]]$non_trainable_weights, 2)

  nnx <- layer_flax_module_wrapper(matrix(1, 2, 4), made$linear, seed = 1)
  expect_equal(dim(numpy_to_r(nnx)), c(2L, 3L))
})

test_that("errors name the argument of R", {
  skip_without_python()
  wrap <- layer_flax_module_wrapper
  expect_error(wrap(), "`module` is missing")
  expect_error(wrap(network()), "`object` must be .*`module = `.*Sequential")
  expect_error(wrap(module = linear), "`module` must be a module of Flax")
  expect_error(wrap(module = network(), method = "nothing"), "nothing")
  expect_error(wrap(module = network(), variables = list(1)), "`variables`")
  expect_error(wrap(module = network(), seed = "a"), "`seed` must")
})

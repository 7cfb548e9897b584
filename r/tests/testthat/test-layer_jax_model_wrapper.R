test_that("a sequential model gets the layer and is returned invisibly", {
  skip_without_python()
  model <- python("keras")$Sequential()
  result <- withVisible(
    layer_jax_model_wrapper(model, linear, linear_init, seed = 1)
  )
  expect_false(result$visible)
  expect_equal(reticulate::py_id(result$value), reticulate::py_id(model))
  expect_length(model$layers, 1)
  history <- fit_flowers(model)
  expect_gt(tail(unlist(history$accuracy), 1), 0.9)
})

test_that("a tensor or an array goes through the layer", {
  skip_without_python()
  keras <- python("keras")
  input <- keras$Input(tuple(4L))
  output <- layer_jax_model_wrapper(input, linear, linear_init)
  expect_equal(unlist(output$shape), 3L)
  model <- keras$Model(input, output)
  expect_equal(dim(predicted(model)), c(150L, 3L))

  double <- function(params, inputs) inputs$a * params$s + inputs$b[[1]]
  params <- list(s = 2)
  tree <- list(a = c(1, 2), b = list(array(10)))
  result <- layer_jax_model_wrapper(tree, double, params = params)
  expect_equal(numpy_to_r(result), array(c(12, 14)))
})

test_that("without an object there is the layer", {
  skip_without_python()
  for (layer in list(
    layer_jax_model_wrapper(call_fn = linear, init_fn = linear_init),
    layer_jax_model_wrapper(NULL, linear, linear_init)
  )) {
    expect_true(is_instance(layer, flaxlayer_module()$JaxLayer))
  }
})

test_that("functions are called with the arguments that they name", {
  skip_without_python()
  seen <- list()
  init_fn <- function(inputs, training, rng) {
    seen$init <<- list(unlist(inputs$shape), training, unlist(rng$shape))
    list(w = 3)
  }
  call_fn <- function(training = FALSE, inputs, rng, params) {
    seen[[if (training) "training" else "inference"]] <<- names(params)
    if (training) inputs * params$w else inputs
  }
  layer <- layer_jax_model_wrapper(call_fn = call_fn, init_fn = init_fn)
  x <- float32(c(1, 2))
  expect_equal(numpy_to_r(layer(x, training = TRUE)), array(c(3, 6)))
  expect_equal(numpy_to_r(layer(x)), array(c(1, 2)))
  expect_equal(seen$init, list(2L, TRUE, 2L))
  expect_equal(seen$training, "w")
  expect_equal(seen$inference, "w")
})

test_that("state is kept", {
  skip_without_python()
  init_fn <- function(inputs) {
    tuple(list(scale = c(2, 3)), tuple(0, list(last = c(1, 1))))
  }
  call_fn <- function(params, state, inputs, training) {
    if (training) {
      state[[1]] <- state[[1]] + 1
      state[[2]]$last <- inputs
    }
    tuple(inputs * params$scale, state)
  }
  layer <- layer_jax_model_wrapper(call_fn = call_fn, init_fn = init_fn)
  x <- float32(c(5, 6))
  expect_equal(numpy_to_r(layer(x)), array(c(10, 18)))
  for (i in 1:2) layer(x, training = TRUE)
  state <- numpy_to_r(layer$get_layer_variables())$state
  expect_equal(state[[1]], 2)
  expect_equal(state[[2]], list(last = array(c(5, 6))))
  expect_length(layer$trainable_weights, 1)
  expect_length(layer$non_trainable_weights, 2)
})

test_that("given parameters and state need no init_fn", {
  skip_without_python()
  layer <- layer_jax_model_wrapper(
    matrix(1, 2, 4), linear,
    params = list(kernel = matrix(1:12, 4), bias = c(0, 0, 1))
  )
  expect_equal(numpy_to_r(layer)[1, ], c(10, 26, 43))
  counting <- function(state, inputs) tuple(inputs, state + 1)
  counter <- layer_jax_model_wrapper(call_fn = counting, state = 5)
  counter(float32(1))
  expect_equal(numpy_to_r(counter$weights[[1]]), 6)
})

test_that("functions of Python serve as well", {
  skip_without_python()
  fns <- reticulate::py_run_string(
    "def call_fn(params, inputs): return inputs * params['w']
def init_fn(rng, inputs): return {'w': inputs.shape[-1]}",
    local = TRUE
  )
  result <- layer_jax_model_wrapper(c(1, 2), fns$call_fn, fns$init_fn)
  expect_equal(numpy_to_r(result), array(c(2, 4)))
})

test_that("the seed decides the weights, also one of more than 31 bits", {
  skip_without_python()
  weights <- function(seed) {
    layer <- layer_jax_model_wrapper(
      call_fn = linear, init_fn = linear_init, seed = seed
    )
    layer$build(tuple(NULL, 4L))
    numpy_to_r(layer$get_layer_variables()$params$kernel)
  }
  expect_equal(weights(3), weights(3L))
  expect_false(identical(weights(3), weights(4)))
  expect_equal(weights(4294967295), weights(4294967295))
})

test_that("other arguments reach the layer", {
  skip_without_python()
  layer <- layer_jax_model_wrapper(
    call_fn = linear, init_fn = linear_init, name = "flowers",
    kernels = "reference", regularizers = list(kernel = "l2"),
    trainable = FALSE
  )
  expect_equal(layer$name, "flowers")
  expect_false(layer$trainable)
  layer$build(tuple(NULL, 4L))
  expect_equal(layer$weights[[1]]$path, "flowers/params/bias")
})

test_that("a pipe adds layers in its order, the first with a shape", {
  skip_without_python()
  model <- python("keras")$Sequential() |>
    layer_jax_model_wrapper(linear, linear_init, input_shape = 4) |>
    layer_jax_model_wrapper(linear, linear_init, name = "second")
  expect_equal(model$layers[[2]]$name, "second")
  expect_true(model$built)
  dims <- function(shape) {
    layer <- layer_jax_model_wrapper(
      call_fn = function(inputs) inputs, input_shape = shape
    )
    python("keras")$Sequential(list(layer))$input_shape
  }
  expect_equal(dims(c(28, NA)), list(NULL, 28L, NULL))
  expect_equal(dims(list(NULL, 3L)), list(NULL, NULL, 3L))
})

test_that("errors name the argument of R", {
  skip_without_python()
  wrap <- layer_jax_model_wrapper
  expect_error(wrap(), "`call_fn` is missing")
  expect_error(wrap(linear), "`object` must be .*`call_fn = `.*params, inputs")
  expect_error(wrap(call_fn = 3), "`call_fn` must be a function. Received: 3")
  expect_error(wrap(call_fn = linear, init_fn = "a"), "`init_fn` must be")
  expect_error(
    wrap(call_fn = function(inputs, ...) inputs), "`call_fn` must name its"
  )
  expect_error(
    wrap(call_fn = function(params) 1, params = 1),
    "`call_fn`: `inputs`"
  )
  expect_error(
    wrap(call_fn = function(inputs, mode) 1), "argument in `call_fn`: `mode`"
  )
  expect_error(wrap(call_fn = linear), "`init_fn`, `params` and `state` cannot")
  expect_error(wrap(call_fn = linear, seed = 0.5), "`seed` must .*: 0.5")
  expect_error(
    wrap(call_fn = linear, params = list(a = list(quote(x)))),
    "`params\\$a\\[\\[1\\]\\]` must"
  )
  expect_error(wrap(NULL, linear, linear_init, NULL, NULL, 1, 2), "named")
  expect_error(wrap(call_fn = linear, params = 1, kernel = 1), "kernel")
})

test_that("an error in a function of R comes through", {
  skip_without_python()
  broken <- function(params, inputs) stop("the kernel is upside down")
  layer <- layer_jax_model_wrapper(call_fn = broken, params = 1)
  expect_error(layer(float32(1)), "the kernel is upside down")
  wrong <- function(params, inputs) list(a = quote(x))
  layer <- layer_jax_model_wrapper(call_fn = wrong, params = 1)
  expect_error(layer(float32(1)), "`call_fn\\(\\)\\$a` must be made of")
})

test_that("a call on a thread that cannot call R is an error", {
  skip_without_python()
  skip_if(utils::packageVersion("reticulate") >= "1.39", "it can")
  layer <- layer_jax_model_wrapper(call_fn = linear, init_fn = linear_init)
  code <- "
import threading

def on_a_thread(call):
    raised = []
    def run():
        try:
            call()
        except Exception as error:
            raised.append(str(error))
    thread = threading.Thread(target=run, name='other')
    thread.start()
    thread.join()
    return raised[0]
"
  on_a_thread <- reticulate::py_run_string(code)$on_a_thread
  call <- python("functools")$partial(layer, float32(matrix(1, 2, 4)))
  expect_match(on_a_thread(call), "main thread only.*'other'")
})

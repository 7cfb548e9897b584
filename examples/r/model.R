# A network that tells three species of iris apart, in functions of R, behind a
# layer that standardizes its inputs by what it has seen in training.

library(flaxlayer)

flaxlayer_module() # makes Keras use JAX
keras <- reticulate::import("keras")
jax <- reticulate::import("jax")
jnp <- jax$numpy

dense_init <- function(key, from, to) {
  kernel <- jax$random$normal(key, tuple(from, to)) / sqrt(from)
  list(kernel = kernel, bias = rep(0, to))
}

dense <- function(params, x) {
  jnp$matmul(x, params$kernel) + params$bias
}

network_init <- function(rng, inputs) {
  keys <- jax$random$split(rng)
  features <- inputs$shape[[2]]
  list(
    hidden = dense_init(keys[0L], features, 16L),
    head = dense_init(keys[1L], 16L, 3L)
  )
}

network <- function(params, rng, inputs, training) {
  hidden <- jax$nn$relu(dense(params$hidden, inputs))
  if (training) {
    kept <- jax$random$bernoulli(rng, 0.9, hidden$shape)
    hidden <- jnp$where(kept, hidden / 0.9, 0)
  }
  dense(params$head, hidden)
}

standardizer_init <- function(inputs) {
  features <- inputs$shape[[2]]
  state <- list(mean = rep(0, features), variance = rep(1, features))
  tuple(list(scale = rep(1, features)), state)
}

standardizer <- function(params, state, inputs, training) {
  if (training) {
    moving <- function(old, new) 0.9 * old + 0.1 * new
    state <- list(
      mean = moving(state$mean, jnp$mean(inputs, axis = 0L)),
      variance = moving(state$variance, jnp$var(inputs, axis = 0L))
    )
  }
  standard <- (inputs - state$mean) * jax$lax$rsqrt(state$variance + 1e-3)
  tuple(standard * params$scale, state)
}

# By these names a file of the model finds the functions.
named <- function(fn, name) {
  model_function(fn, name, package = "iris")
}

network_init <- named(network_init, "network_init")
network <- named(network, "network")
standardizer_init <- named(standardizer_init, "standardizer_init")
standardizer <- named(standardizer, "standardizer")

# The measures of the flowers, as Keras takes them.
measures_of <- function(flowers) {
  r_to_numpy(unname(as.matrix(flowers[, 1:4])), "float32")
}

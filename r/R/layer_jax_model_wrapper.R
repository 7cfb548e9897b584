#' A JAX model as a layer
#'
#' Makes a layer of a JAX model that is given as functions, of R or of Python.
#'
#' @param object What to compose the layer with: a sequential model, a tensor or
#'   array, or a list of those; missing or `NULL` for the layer alone.
#' @param call_fn The model: a function that takes some of these arguments, by
#'   exactly these names:
#'
#'   - `params`: its trainable parameters;
#'   - `state`: its non-trainable state;
#'   - `rng`: a key as `jax.random.PRNGKey` makes them;
#'   - `inputs`: the inputs, an array of JAX or a list of such; it has to be
#'     there;
#'   - `training`: `TRUE` in training and `FALSE` in inference.
#'
#'   Without `state` it returns the outputs. With it, it returns
#'   `tuple(outputs, state)`, the new state having the structure and
#'   shapes of the old one. What functions of R can do with these values is in
#'   [model_function()].
#' @param init_fn Its initialiser: a function of some of `rng`, `inputs` (which
#'   have the shapes of the inputs) and `training` (always `TRUE`). It returns the
#'   parameters; if `call_fn` takes a `state`, `tuple(params, state)`.
#'   It may be `NULL` if `params` or `state` is given.
#' @param params Trained or hand-made parameters; then `init_fn` is not called.
#' @param state The same for the state.
#' @param seed A whole number that decides the initial weights and the keys of
#'   all calls; `NULL` for one that Keras draws.
#' @param ... Other arguments of the layer in Python: `inputs_spec`, `rng_impl`,
#'   `nonfinite_state`, `regularizers`, `constraints`, `kernels`, and those that
#'   all layers have, such as `name`, `dtype`, `trainable` and `input_shape`.
#'
#' @section Trees of arrays:
#' Parameters, state, inputs and outputs are trees. A list with names is a dict
#' in Python, a list without a list, and [tuple()] a tuple. Arrays,
#' matrices and vectors are arrays; a vector of length one is a number, which is
#' an array without dimensions. Python objects, such as arrays of JAX, stay what
#' they are.
#'
#' @return If `object` is a sequential model, that model, to which the layer has
#'   been added, invisibly. If it is a tensor or array, what the layer returns
#'   for it. Otherwise the layer.
#' @seealso [layer_flax_module_wrapper()], [model_function()] for saving.
#' @examples
#' if (reticulate::py_module_available("flaxlayer")) {
#'   jax <- reticulate::import("jax")
#'   jnp <- jax$numpy
#'
#'   init_fn <- function(rng, inputs) {
#'     shape <- tuple(inputs$shape[[2]], 3L)
#'     list(kernel = jax$random$normal(rng, shape), bias = c(0, 0, 0))
#'   }
#'   call_fn <- function(params, inputs) {
#'     jnp$add(jnp$matmul(inputs, params$kernel), params$bias)
#'   }
#'   layer <- layer_jax_model_wrapper(
#'     call_fn = call_fn, init_fn = init_fn, seed = 1
#'   )
#'   numpy_to_r(layer(r_to_numpy(matrix(1, 2, 4), "float32")))
#' }
#' @export
layer_jax_model_wrapper <- function(object, call_fn, init_fn = NULL,
                                    params = NULL, state = NULL, seed = NULL,
                                    ...) {
  object <- if (missing(object)) NULL else object
  check_object(object, "call_fn")
  if (missing(call_fn)) {
    stop("`call_fn` is missing: the model, as a function.", call. = FALSE)
  }
  arguments <- list(
    call_fn = as_python_function(call_fn, "call_fn"),
    init_fn = if (!is.null(init_fn)) as_python_function(init_fn, "init_fn"),
    params = to_python(params, "params"),
    state = to_python(state, "state"),
    seed = seed_to_python(seed)
  )
  compose(object, make_layer("JaxLayer", arguments, list(...)))
}

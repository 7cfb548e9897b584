#' A Flax module as a layer
#'
#' Makes a layer of a module of Flax: of Linen or of NNX, made in Python or in R
#' by way of `reticulate::import("flax.linen")`.
#'
#' @inheritParams layer_jax_model_wrapper
#' @param module An instance of a Linen module, of an NNX module, or the class of
#'   one or a `functools.partial` of it.
#' @param method The method that is called: its name, a function of Python, or a
#'   function of R that takes the module as its first argument; `NULL` for
#'   `__call__`.
#' @param variables Variables of the module by collection, as in
#'   `list(params = list(Dense_0 = list(kernel = k, bias = b)))`; collections that
#'   are not there are initialised.
#' @param ... Other arguments of the layer in Python: `seed`, `rngs`,
#'   `collections`, `partition`, `regularizers`, `constraints`,
#'   `training_argument`, `inputs_spec`, `nonfinite_state`, `kernels`, and those
#'   that all layers have, such as `name`, `dtype` and `trainable`. What Python
#'   takes as a dict is a list with names, or a vector with names:
#'   `rngs = c(dropout = "training", noise = "always")`.
#'
#' @return If `object` is a sequential model, that model, to which the layer has
#'   been added, invisibly. If it is a tensor or array, what the layer returns
#'   for it. Otherwise the layer.
#' @seealso [layer_jax_model_wrapper()], which says how trees of arrays are
#'   written.
#' @examples
#' if (reticulate::py_module_available("flaxlayer")) {
#'   flaxlayer_module()
#'   keras <- reticulate::import("keras")
#'   nn <- reticulate::import("flax.linen")
#'
#'   model <- keras$Sequential()
#'   model$add(keras$Input(tuple(4L)))
#'   layer_flax_module_wrapper(model, nn$Dense(3L), seed = 1)
#'   model$output_shape
#' }
#' @export
layer_flax_module_wrapper <- function(object, module, method = NULL,
                                      variables = NULL, ...) {
  object <- if (missing(object)) NULL else object
  check_object(object, "module")
  if (missing(module)) {
    stop("`module` is missing: a module of Flax.", call. = FALSE)
  }
  if (!is_python(module)) {
    stop_argument("module", "must be a module of Flax, made in Python", module)
  }
  options <- list(...)
  arguments <- list(
    module = module,
    method = if (is.function(method) && !is_python(method)) {
      as_python_function(method, "method")
    } else {
      method
    },
    variables = to_python(variables, "variables"),
    seed = seed_to_python(options[["seed"]])
  )
  options$seed <- NULL
  compose(object, make_layer("FlaxLayer", arguments, options))
}

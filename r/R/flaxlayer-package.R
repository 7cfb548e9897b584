#' flaxlayer: Flax modules and JAX models as Keras layers
#'
#' [layer_flax_module_wrapper()] makes a layer of a module of Flax, and
#' [layer_jax_model_wrapper()] one of a JAX model that is given as functions,
#' which may be functions of R. They are composed as the layers of the R package
#' keras3 are, and work with it and without it.
#'
#' They need the Python package of the same name: see [install_flaxlayer()] and
#' [flaxlayer_module()].
#'
#' @keywords internal
"_PACKAGE"

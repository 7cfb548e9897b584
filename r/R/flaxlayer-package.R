#' flaxlayer: Flax modules and JAX models as Keras layers
#'
#' [layer_flax_module_wrapper()] makes a layer of a module of Flax, and
#' [layer_jax_model_wrapper()] one of a JAX model that is given as functions,
#' which may be functions of R. They are composed as the layers of the R package
#' keras3 are, and work with it and without it.
#'
#' keras3 has functions of these names, with the same arguments, around Keras's own
#' layers: attach flaxlayer after it, or write `flaxlayer::` in front of them.
#'
#' They need the Python package of the same name: see [install_flaxlayer()] and
#' [flaxlayer_module()].
#'
#' @keywords internal
"_PACKAGE"

# What all layers of Keras do in R with their first argument: a sequential model
# gets the layer, a tensor goes through it, and without either there is the
# layer alone.
compose <- function(object, layer) {
  if (is.null(object)) {
    return(layer)
  }
  if (is_sequential(object)) {
    object$add(layer)
    return(invisible(object))
  }
  layer(to_python(object, "object"))
}

# Before a layer is made of the other arguments, which may be in `object`'s place.
check_object <- function(object, first) {
  if (is.null(object) || is_sequential(object)) {
    return()
  }
  if (is.function(object) || (is_python(object) && !is_tensor(object))) {
    stop_argument(
      "object",
      paste0(
        "must be a sequential model, a tensor or array, a list of those, or ",
        "NULL. Name the other arguments if there is none of these, as in `",
        first, " = `"
      ),
      object
    )
  }
}

is_sequential <- function(object) {
  is_python(object) && is_instance(object, keras()$Sequential)
}

is_tensor <- function(object) {
  is_instance(object, keras()$KerasTensor) || helpers()$is_array(object) ||
    # Trees of tensors.
    inherits(object, c("python.builtin.dict", "python.builtin.list",
      "python.builtin.tuple"))
}

is_instance <- function(object, class) {
  reticulate::import_builtins()$isinstance(object, class)
}

# Imported after flaxlayer, which makes it use JAX.
keras <- function() {
  flaxlayer_module()
  import_or_explain("keras")
}

# Makes a layer of those arguments that are there. `arguments` are in the form of
# Python; those in `...` are R's.
make_layer <- function(name, arguments, options) {
  unnamed <- length(options) > 0 &&
    (is.null(names(options)) || !all(nzchar(names(options))))
  if (unnamed) {
    stop_argument("...", "must be named arguments", options)
  }
  options <- Map(option_to_python, options, names(options))
  arguments <- Filter(Negate(is.null), c(arguments, options))
  do.call(flaxlayer_module()[[name]], arguments)
}

option_to_python <- function(value, name) {
  if (name == "rngs" && is.character(value) && is.null(names(value))) {
    # One name is a sequence of names as well.
    return(as.list(value))
  }
  if (name == "input_shape") {
    return(shape_to_python(value))
  }
  to_python(value, name)
}

# Sizes without the batch, `NA` or `NULL` for any, as layers of keras3 take them.
shape_to_python <- function(shape) {
  sizes <- lapply(shape, function(size) {
    if (!is.null(size) && !is.na(size)) as.integer(size)
  })
  do.call(tuple, list(unname(sizes)))
}

# A number of R is a double, which Python takes for no integer.
seed_to_python <- function(seed) {
  if (is.null(seed) || is_python(seed)) {
    return(seed)
  }
  if (!is.numeric(seed) || length(seed) != 1 || !is.finite(seed) ||
    seed != round(seed)) {
    stop_argument("seed", "must be a whole number, a key of JAX, or NULL", seed)
  }
  reticulate::import_builtins(convert = FALSE)$int(seed)
}

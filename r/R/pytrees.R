# Pytrees: R's lists, vectors and arrays as Python's, and back.

is_python <- function(x) {
  inherits(x, "python.builtin.object")
}

# A value of R for Python: named lists are dicts, other lists are lists, or
# tuples where they came as such; vectors and arrays are arrays of NumPy, but a
# vector of length one is a number. `argument` is what errors name.
to_python <- function(x, argument) {
  if (is.null(x) || is_python(x)) {
    return(x)
  }
  if (is.function(x)) {
    # A callable of Python that reticulate has wrapped comes through unchanged.
    return(reticulate::r_to_py(x))
  }
  if (is.list(x) || (is.atomic(x) && !is.null(names(x)))) {
    return(list_to_python(x, argument))
  }
  if (!is.atomic(x)) {
    stop_argument(argument, "must be made of lists, vectors and arrays", x)
  }
  if (is.character(x)) {
    return(reticulate::r_to_py(as.vector(x)))
  }
  if (length(x) == 1 && is.null(dim(x))) {
    return(reticulate::r_to_py(x))
  }
  r_to_numpy(x)
}

list_to_python <- function(x, argument) {
  keys <- names(x)
  is_tuple <- isTRUE(attr(x, "python_tuple"))
  children <- lapply(seq_along(x), function(i) {
    place <- if (is.null(keys)) paste0("[[", i, "]]") else paste0("$", keys[[i]])
    to_python(x[[i]], paste0(argument, place))
  })
  if (is_tuple) {
    return(do.call(reticulate::tuple, list(children)))
  }
  if (is.null(keys)) {
    return(reticulate::r_to_py(children))
  }
  if (!all(nzchar(keys)) || anyDuplicated(keys)) {
    stop_argument(
      argument, "must be a list with names that are all there and differ", keys
    )
  }
  reticulate::py_dict(keys, children)
}

# What `marked` of inst/python has made of a tree. Lists that were tuples have
# the attribute `python_tuple`, so that they are tuples again when they go back.
from_marked <- function(x) {
  if (!is.list(x)) {
    return(x)
  }
  if (identical(names(x), "__python_tuple__")) {
    return(structure(lapply(as.list(x[[1]]), from_marked), python_tuple = TRUE))
  }
  if (identical(names(x), "__python_list__")) {
    return(lapply(as.list(x[[1]]), from_marked))
  }
  lapply(x, from_marked)
}

#' Arrays of R for Python, and back
#'
#' `r_to_numpy()` makes a NumPy array of a vector, matrix or array, and
#' `numpy_to_r()` the reverse of any array of NumPy or JAX, of Keras variables
#' and tensors, and of lists of such. reticulate does the same by itself from
#' version 1.38 on; older ones, such as that of Debian 12, cannot read the arrays
#' of NumPy 2, and hand over Python objects or fail.
#'
#' @param x What is to be converted.
#' @param dtype The type of the elements in Python, such as `"float32"` or
#'   `"int64"`; `NULL` for R's own: `"float64"`, `"int32"`, `"bool"` or
#'   `"complex128"`.
#' @return `r_to_numpy()` returns a Python object with the dimensions of `x`; one
#'   dimension if it has none. `numpy_to_r()` returns an array, or a vector of
#'   length one for a scalar. Integers of 64 bits become doubles.
#' @examples
#' if (reticulate::py_module_available("flaxlayer")) {
#'   x <- r_to_numpy(matrix(1:6, 2), "float32")
#'   numpy_to_r(x)
#' }
#' @export
r_to_numpy <- function(x, dtype = NULL) {
  if (is_python(x)) {
    stop_argument("x", "must be a vector or array of R", x)
  }
  type <- switch(typeof(x),
    double = "<f8",
    integer = "<i4",
    logical = "<i4",
    complex = "<c16",
    stop_argument("x", "must have numbers or logical values", x)
  )
  if (is.factor(x)) {
    stop_argument("x", "is a factor; `as.integer(x) - 1L` has its codes", x)
  }
  if (typeof(x) %in% c("integer", "logical") && anyNA(x)) {
    stop_argument("x", "has missing values, which Python's integers lack", x)
  }
  dims <- if (is.null(dim(x))) length(x) else dim(x)
  data <- writeBin(as.vector(x), raw(), endian = "little")
  # Unconverted, as arrays of NumPy 1 would be made R's again.
  array <- python_helpers()$array_of(
    reticulate::r_to_py(data), type, as.list(as.integer(dims))
  )
  if (is.null(dtype) && is.logical(x)) {
    dtype <- "bool"
  }
  if (is.null(dtype)) array else array$astype(dtype)
}

#' @rdname r_to_numpy
#' @export
numpy_to_r <- function(x) {
  if (is.list(x)) {
    x[] <- lapply(x, numpy_to_r)
    return(x)
  }
  if (!is_python(x)) {
    return(x)
  }
  if (!helpers()$is_array(x)) {
    tree <- from_marked(helpers()$marked(x))
    if (is.list(tree)) {
      return(numpy_to_r(tree))
    }
    stop_argument("x", "must be an array, or a list of arrays", x)
  }
  parts <- helpers()$parts_of(x)
  dims <- as.integer(unlist(parts$shape))
  what <- if (parts$kind == "logical") "integer" else parts$kind
  values <- readBin(parts$data, what, prod(dims), endian = "little")
  if (parts$kind == "logical") {
    values <- as.logical(values)
  }
  if (length(dims) > 0) array(values, dims) else values
}

#' A tuple of Python
#'
#' As [reticulate::tuple()], which it stands in for, but the vectors in it are
#' arrays, as they are in the trees of [layer_jax_model_wrapper()]. reticulate
#' makes lists of numbers of them, which would be a weight for each number. Where
#' another package is attached later that has a `tuple()`, such as keras3, write
#' `flaxlayer::tuple()`.
#'
#' @param ... The elements; or one list without names, of the elements.
#' @return A Python tuple.
#' @examples
#' if (reticulate::py_module_available("flaxlayer")) {
#'   tuple(list(kernel = matrix(1, 2, 2)), c(0, 0))
#'   tuple(28L, 28L)
#' }
#' @export
tuple <- function(...) {
  elements <- list(...)
  if (length(elements) == 1 && is_plain_list(elements[[1]])) {
    elements <- elements[[1]]
  }
  to_python(structure(elements, python_tuple = TRUE, names = NULL), "...")
}

is_plain_list <- function(x) {
  is.list(x) && is.null(names(x)) && !is_python(x)
}

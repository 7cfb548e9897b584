#' Install the Python package
#'
#' Installs the Python package `flaxlayer`, with JAX, Flax and Keras, by pip into
#' an environment of Python. Restart R after it if Python was in use.
#'
#' @param package What is installed: the name of the package, with a version if
#'   need be, or the path of a checkout or wheel.
#' @param envname,method,... As for [reticulate::py_install()].
#' @return Nothing.
#' @examples
#' \dontrun{
#' install_flaxlayer("~/src/flaxlayer")
#' }
#' @export
install_flaxlayer <- function(package = "flaxlayer", envname = NULL,
                              method = "auto", ...) {
  if (!is.character(package)) {
    stop_argument("package", "must be the name or path of a package", package)
  }
  if (file.exists(path.expand(package[[1]]))) {
    package <- normalizePath(package)
  }
  reticulate::py_install(
    package,
    envname = envname, method = method, pip = TRUE, ...
  )
  invisible()
}

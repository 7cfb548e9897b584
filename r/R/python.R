#' The Python package
#'
#' Imports the Python package `flaxlayer`, on which all of this rests, and
#' checks that it can be used. The other functions of this package call it by
#' themselves. Call it first where Keras is to use JAX and nothing else has said
#' so: imported before Keras, `flaxlayer` makes it use JAX.
#'
#' Which Python that is, is decided by reticulate: see
#' [reticulate::use_python()] and [install_flaxlayer()].
#'
#' @return The Python module `flaxlayer`. What is in it is described in its
#'   Python documentation, such as `explain_kernels`, `layout_map`, `tabulate`
#'   and `save_variables`.
#' @examples
#' if (reticulate::py_module_available("flaxlayer")) {
#'   flaxlayer_module()$`__version__`
#' }
#' @export
flaxlayer_module <- function() {
  if (!is.null(state$flaxlayer)) {
    return(state$flaxlayer)
  }
  module <- import_or_explain("flaxlayer")
  # The module of an unusable package can be imported; its names cannot.
  tryCatch(
    module$JaxLayer,
    error = function(error) {
      stop(
        "The Python package `flaxlayer` cannot be used: ",
        conditionMessage(error),
        "\nIf Keras was started with another backend, restart R and call ",
        "`keras3::use_backend(\"jax\")` or `flaxlayer::flaxlayer_module()` ",
        "before anything else uses Keras.",
        call. = FALSE
      )
    }
  )
  state$flaxlayer <- module
  module
}

# What is imported once for a session.
state <- new.env(parent = emptyenv())

import_or_explain <- function(name) {
  tryCatch(
    reticulate::import(name),
    error = function(error) {
      stop(
        "The Python package `", name, "` cannot be imported: ",
        conditionMessage(error), "\nThe Python in use is ", python_in_use(),
        ". Choose another with `reticulate::use_python()`, in a new session, ",
        "or install the package into it with `flaxlayer::install_flaxlayer()`.",
        call. = FALSE
      )
    }
  )
}

python_in_use <- function() {
  config <- tryCatch(reticulate::py_config(), error = function(error) NULL)
  if (is.null(config)) "none" else config$python
}

# The helpers in inst/python.
helpers <- function() {
  if (is.null(state$helpers)) {
    state$helpers <- reticulate::import_from_path(
      "flaxlayer_r",
      path = system.file("python", package = "flaxlayer")
    )
  }
  state$helpers
}

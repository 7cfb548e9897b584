#' Load a model
#'
#' Reads a `.keras` file, with layers of this package among others, or one that
#' was saved in Python, or with the layers of Keras that these stand in for. It
#' makes the layers known to Keras first, which `keras3::load_model()` needs as
#' well: call [flaxlayer_module()] before that.
#'
#' @param filepath Where the file is.
#' @param custom_objects Functions and classes that the file names, by their
#'   names; functions of R are found if they are registered, see
#'   [model_function()].
#' @param compile Whether to compile the model as it was when it was saved.
#' @param safe_mode Whether to refuse what could do harm.
#' @return The model.
#' @examples
#' \dontrun{
#' model <- load_flaxlayer_model("model.keras")
#' }
#' @export
load_flaxlayer_model <- function(filepath, custom_objects = NULL,
                                 compile = TRUE, safe_mode = TRUE) {
  if (!is.character(filepath) || length(filepath) != 1) {
    stop_argument("filepath", "must be the name of a file", filepath)
  }
  if (!is.null(custom_objects)) {
    custom_objects <- lapply(custom_objects, function(x) {
      if (is.function(x)) as_python_function(x, "custom_objects") else x
    })
  }
  flaxlayer_module()$load_model(
    path.expand(filepath),
    custom_objects = to_python(custom_objects, "custom_objects"),
    compile = compile,
    safe_mode = safe_mode
  )
}

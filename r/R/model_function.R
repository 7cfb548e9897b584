#' An R function as a Python function
#'
#' Makes a function of Python that calls one of R and has its argument names,
#' by which layers decide what to call it with. [layer_jax_model_wrapper()] does
#' this to its functions by itself; do it yourself, with a `name`, where a model
#' is to be saved as a whole.
#'
#' @section Saving:
#' A `.keras` file has the names of functions, not their code. With a `name` the
#' function is registered with Keras as `package>name`, and is found by that name
#' when a model is saved, and when it is loaded in a session that has called
#' `model_function()` with the same name before. Without a `name` a file calls it
#' `call_fn` or `init_fn`, as its layer does. Where it was not saved in the same
#' session, [load_flaxlayer_model()] needs to be told what that is, by
#' `custom_objects = list(call_fn = , init_fn = )`, which several layers in one
#' model cannot share.
#'
#' @section What the function is called with:
#' Arguments come as R values: dicts as named lists, tuples and lists as lists
#' (those that were tuples are tuples again when they are returned), booleans and
#' numbers as vectors of length one. Arrays are JAX arrays, most often tracers,
#' which stand for values that are not known yet: the function is called once to
#' write down a program, not once for each batch. They are never converted to R
#' arrays, so that functions of R, such as `exp()` or `sum()`, cannot compute
#' with them: those of `jax$numpy` do. `+`, `-`, `*`, `/`, `^`, `%%`, `%/%`, `&`,
#' `|` and `!` work; `%*%` needs R 4.3 and reticulate 1.29, so `jnp$matmul` is
#' what runs everywhere, and so do comparisons (reticulate before 1.29 makes one
#' logical value of `x > 0`, which a tracer has not): use `jnp$greater`.
#'
#' What the function returns goes back in the same way; see
#' [layer_jax_model_wrapper()].
#'
#' R runs one thing at a time, on its main thread. From another thread of Python
#' such a function can be called from reticulate 1.39 on, and waits there until R
#' has time; before that it is an error.
#'
#' @param fn A function. Its arguments are inspected; `...` is none that can be
#'   given.
#' @param name The name by which it is registered; `NULL` for none.
#' @param package What stands before the name.
#' @return A Python function.
#' @examples
#' if (reticulate::py_module_available("flaxlayer")) {
#'   scale <- model_function(
#'     function(params, inputs) inputs * params$scale,
#'     name = "scale"
#'   )
#'   layer_jax_model_wrapper(call_fn = scale, params = list(scale = 2))
#' }
#' @export
model_function <- function(fn, name = NULL, package = "r") {
  as_python_function(fn, "fn", name, package)
}

as_python_function <- function(fn, argument, name = NULL, package = "r") {
  if (is_python(fn)) {
    return(fn)
  }
  if (!is.function(fn)) {
    stop_argument(argument, "must be a function", fn)
  }
  if (!is.null(name) && !(is.character(name) && length(name) == 1)) {
    stop_argument("name", "must be a string or NULL", name)
  }
  arguments <- formals(args(fn))
  if ("..." %in% names(arguments)) {
    stop_argument(
      argument,
      "must name its arguments, which are inspected, and cannot have `...`",
      fn
    )
  }
  optional <- vapply(arguments, function(x) !identical(x, quote(expr = )), NA)
  called <- function(...) {
    values <- lapply(list(...), from_marked)
    to_python(do.call(fn, values), paste0(argument, "()"))
  }
  made <- python_helpers()$python_function(
    # Converted: what it is called with has values of R in its attributes.
    reticulate::r_to_py(called, convert = TRUE),
    if (is.null(name)) argument else name,
    as.list(names(arguments)),
    as.list(unname(optional)),
    utils::packageVersion("reticulate") >= "1.39"
  )
  if (is.null(name)) {
    return(made)
  }
  flaxlayer_module()
  python_helpers()$registered(made, package, name)
}

# The helpers, whose results stay Python objects.
python_helpers <- function() {
  if (is.null(state$python_helpers)) {
    helpers()
    state$python_helpers <- reticulate::import("flaxlayer_r", convert = FALSE)
  }
  state$python_helpers
}

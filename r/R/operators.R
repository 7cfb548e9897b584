# The operators of Python objects, where reticulate has none: it has from 1.29
# on. Functions of R could not add two arrays of JAX without them.

add_operators <- function() {
  unary <- c("-" = "neg", "+" = "pos", "!" = "invert")
  binary <- c(
    "+" = "add", "-" = "sub", "*" = "mul", "/" = "truediv", "^" = "pow",
    "%%" = "mod", "%/%" = "floordiv", "&" = "and_", "|" = "or_"
  )
  for (symbol in union(names(unary), names(binary))) {
    registerS3method(
      symbol, "python.builtin.object",
      operator_of(unary[symbol], binary[symbol]),
      envir = asNamespace("reticulate")
    )
  }
}

operator_of <- function(unary, binary) {
  force(unary)
  force(binary)
  function(e1, e2) {
    operator <- reticulate::import("operator")
    if (missing(e2)) {
      return(operator[[unary]](e1))
    }
    operator[[binary]](to_python(e1, "e1"), to_python(e2, "e2"))
  }
}

.onLoad <- function(libname, pkgname) {
  methods <- asNamespace("reticulate")[[".__S3MethodsTable__."]]
  named <- c("Ops.python.builtin.object", "+.python.builtin.object")
  if (!any(named %in% ls(methods, all.names = TRUE))) {
    add_operators()
  }
}

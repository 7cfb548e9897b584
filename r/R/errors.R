# Ends with a message that names an argument and says what was received.
stop_argument <- function(argument, expected, received) {
  stop("`", argument, "` ", expected, ". Received: ", shown(received), ".",
    call. = FALSE
  )
}

shown <- function(x) {
  if (is_python(x)) {
    return(paste("a Python object of class", class(x)[[1]]))
  }
  if (is.function(x)) {
    return(paste0("a function (", paste(names(formals(x)), collapse = ", "), ")"))
  }
  text <- paste(deparse(x, nlines = 2L), collapse = " ")
  if (nchar(text) > 100) paste0(substr(text, 1, 97), "...") else text
}

# Trains a network in functions of R on the measures of iris flowers, as a Keras
# model, saves it, and has another process load it and predict the same.
#
#   Rscript train.R [FOLDER]
#
# FOLDER, `out` by default, is where the files go.

script <- sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))
here <- dirname(normalizePath(script))
source(file.path(here, "model.R"))

out <- commandArgs(trailingOnly = TRUE)
out <- if (length(out) > 0) out[[1]] else file.path(here, "out")
dir.create(out, showWarnings = FALSE, recursive = TRUE)

flowers <- iris[seq_len(nrow(iris)) %% 3 > 0, ]
others <- iris[seq_len(nrow(iris)) %% 3 == 0, ]
species_of <- function(flowers) r_to_numpy(as.integer(flowers$Species) - 1L)

keras$utils$set_random_seed(0L)
model <- keras$Sequential(list(keras$Input(tuple(4L))))
layer_jax_model_wrapper(
  model, standardizer, standardizer_init,
  name = "standardizer"
)
layer_jax_model_wrapper(
  model, network, network_init,
  seed = 0, name = "network"
)
model$summary()
model$compile(
  keras$optimizers$Adam(0.02),
  keras$losses$SparseCategoricalCrossentropy(from_logits = TRUE),
  metrics = list("accuracy")
)
history <- model$fit(
  measures_of(flowers), species_of(flowers),
  epochs = 30L, batch_size = 20L, verbose = 0L
)

logits <- numpy_to_r(model$predict(measures_of(others), verbose = 0L))
accuracy <- mean(max.col(logits) == as.integer(others$Species))
cat("accuracy on flowers that it has not seen:", round(accuracy, 3), "\n")
stopifnot(accuracy >= 0.9)

file <- file.path(out, "iris.keras")
model$save(file)
saveRDS(list(flowers = others, logits = logits), file.path(out, "expected.rds"))
status <- system2(
  file.path(R.home("bin"), "Rscript"),
  shQuote(c(file.path(here, "predict.R"), out))
)
if (status != 0) {
  stop("the model that was loaded predicts something else")
}

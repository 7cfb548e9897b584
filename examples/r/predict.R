# Loads what train.R has saved and compares its predictions.
#
#   Rscript predict.R FOLDER

script <- sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))
source(file.path(dirname(normalizePath(script)), "model.R"))

folder <- commandArgs(trailingOnly = TRUE)[[1]]
model <- load_flaxlayer_model(file.path(folder, "iris.keras"))
expected <- readRDS(file.path(folder, "expected.rds"))
logits <- model$predict(measures_of(expected$flowers), verbose = 0L)
stopifnot(identical(numpy_to_r(logits), expected$logits))
cat("another process has loaded the model and predicts the same\n")

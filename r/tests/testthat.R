library(testthat)
library(flaxlayer)

test_check("flaxlayer")

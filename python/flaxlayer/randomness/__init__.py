"""From a layer's seed to the keys that a model is given."""

"""A Keras layer that holds a model: its weights, its calls, its files."""

"""What a call of a model takes: arguments, signatures, shapes and dtypes."""

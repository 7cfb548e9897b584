"""Weights as pytrees of Keras variables: made, named, chosen, assigned."""

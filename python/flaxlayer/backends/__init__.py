"""What the layers ask of the array library that Keras works with.

Models are functions of JAX whatever Keras does. What its variables hold, how
such a function is called on that, and what is called eagerly, is the matter of
one module here for each backend, with the same names in it; `current` is that
of the backend in use.
"""

from flaxlayer import backend

if backend.in_use() == "tensorflow":
    from flaxlayer.backends import tensorflow_backend as current
else:
    from flaxlayer.backends import jax_backend as current

__all__ = ["current"]

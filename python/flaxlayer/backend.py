"""Makes Keras use a backend that the layers work with: JAX or TensorFlow."""

import importlib.util
import os
import sys

# What was asked for before this package was imported.
ASKED = os.environ.get("KERAS_BACKEND")

_KNOWN = ("jax", "tensorflow")


def use_jax() -> None:
    """Chooses the JAX backend, unless one was chosen.

    Keras reads KERAS_BACKEND when it is imported. Without it Keras asks a file
    that it has written itself, with "tensorflow" in it, which says nothing of
    what anybody wants.

    Raises:
        ImportError: a backend was chosen that is neither of the two, or is
            not installed.
    """
    keras = sys.modules.get("keras")
    # While another thread imports it, it cannot say.
    if keras is not None and hasattr(keras, "backend"):
        received = keras.backend.backend()
        if received not in _KNOWN:
            raise ImportError(
                "flaxlayer needs the JAX backend of Keras, or that of "
                f"TensorFlow. Received: backend {received!r}, with which keras "
                "is imported already. Set KERAS_BACKEND=jax, or import "
                "flaxlayer before keras."
            )
        return
    received = os.environ.get("KERAS_BACKEND") or "jax"
    if received not in _KNOWN:
        raise ImportError(
            "flaxlayer needs the JAX backend of Keras, or that of TensorFlow. "
            f"Received: KERAS_BACKEND={received!r}. Set KERAS_BACKEND=jax, or "
            "unset it: flaxlayer then chooses JAX."
        )
    if received == "tensorflow" and not is_installed("tensorflow"):
        raise ImportError(
            "KERAS_BACKEND='tensorflow' asks for TensorFlow, which is not "
            'installed. Install it, `pip install "flaxlayer[tensorflow]"`, or '
            "set KERAS_BACKEND=jax."
        )
    os.environ["KERAS_BACKEND"] = received


def is_installed(name: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return importlib.util.find_spec(name) is not None


def in_use() -> str:
    """The backend that Keras has, or will have when it is imported."""
    keras = sys.modules.get("keras")
    # While it is being imported it cannot say.
    if keras is not None and hasattr(keras, "backend"):
        return keras.backend.backend()
    return os.environ.get("KERAS_BACKEND") or "jax"

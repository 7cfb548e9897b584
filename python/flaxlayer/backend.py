"""Makes Keras use JAX, the one backend that the layers work with."""

import os
import sys

# What was asked for before this package was imported.
ASKED = os.environ.get("KERAS_BACKEND")


def use_jax() -> None:
    """Chooses the JAX backend, unless one was chosen.

    Keras reads KERAS_BACKEND when it is imported. Without it Keras asks a file
    that it has written itself, with "tensorflow" in it, which says nothing of
    what anybody wants.

    Raises:
        ImportError: another backend was chosen.
    """
    keras = sys.modules.get("keras")
    if keras is not None:
        received = keras.backend.backend()
        if received != "jax":
            raise ImportError(
                "flaxlayer needs the JAX backend of Keras. Received: backend "
                f"{received!r}, with which keras is imported already. Set "
                "KERAS_BACKEND=jax, or import flaxlayer before keras."
            )
        return
    received = os.environ.get("KERAS_BACKEND") or "jax"
    if received != "jax":
        raise ImportError(
            "flaxlayer needs the JAX backend of Keras. Received: "
            f"KERAS_BACKEND={received!r}. Set KERAS_BACKEND=jax, or unset it: "
            "flaxlayer then chooses JAX."
        )
    os.environ["KERAS_BACKEND"] = "jax"

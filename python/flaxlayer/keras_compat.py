"""The one place that touches what Keras does not promise.

Every function here says what it needs of Keras, and has a test that fails
plainly when that goes away.
"""

import jax
from keras.src.backend.common import stateless_scope, symbolic_scope
from keras.src.random import seed_generator
from keras.src.saving import serialization_lib


def draw_seed() -> jax.Array:
    """The next key of Keras's global seed generator, `uint32[2]`.

    Needs `keras.src.random.seed_generator.draw_seed`: Keras's own layer draws
    its initial keys there, and only so do both start from the same weights
    after `keras.utils.set_random_seed`.
    """
    # Keras refuses to draw global seeds inside a trace, where they would be
    # frozen; a layer that is built there needs its weights as values.
    with jax.ensure_compile_time_eval():
        return seed_generator.draw_seed(None)


def in_shape_inference() -> bool:
    """Whether Keras is tracing a model for shapes only.

    Needs the predicates of `keras.SymbolicScope` and `keras.StatelessScope`,
    which are public themselves. Keras enters both; variables that are created
    in there are initialized when it leaves the stateless one.
    """
    return bool(
        symbolic_scope.in_symbolic_scope()
        and stateless_scope.in_stateless_scope()
    )


def in_safe_mode() -> bool:
    """Whether a configuration that is being read may not be trusted.

    Needs `keras.src.saving.serialization_lib.in_safe_mode`, which answers
    `False` only where the user has passed `safe_mode=False` or has called
    `keras.config.enable_unsafe_deserialization()`, and None outside of a load.
    """
    return serialization_lib.in_safe_mode() is not False

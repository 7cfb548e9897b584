"""`nn.Dropout` with masks that native code makes.

A mask takes Linen two operations on keys and some on words, as many as there
are activations. With native keys all of it is one call, whose result is a
quarter of the size. What is computed from the mask is what Linen computes, and
so are the bits.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from flaxlayer.ops import random_mask, threefry


def native_masks(
    keys: dict[str, jax.Array],
) -> contextlib.AbstractContextManager[Any]:
    """Where `nn.Dropout` makes native masks, if one of these keys is native."""
    if not any(threefry.native_key(key) is not None for key in keys.values()):
        return contextlib.nullcontext()
    return nn.intercept_methods(_interceptor)


def _interceptor(
    next_fun: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    context: nn.module.InterceptorContext,
) -> Any:
    module = context.module
    # A subclass may do something else.
    if type(module) is not nn.Dropout or context.method_name != "__call__":
        return next_fun(*args, **kwargs)
    inputs, deterministic, rng = _arguments(*args, **kwargs)
    if not _draws(module, deterministic):
        return next_fun(*args, **kwargs)
    key = module.make_rng(module.rng_collection) if rng is None else rng
    if threefry.native_key(key) is None:
        # It has been drawn, and drawing again would give another one.
        return next_fun(inputs, deterministic=deterministic, rng=key)

    # From here on it is nn.Dropout.
    keep = 1.0 - module.rate
    shape = list(inputs.shape)
    for axis in module.broadcast_dims:
        shape[axis] = 1
    mask = random_mask.bernoulli(key, keep, tuple(shape))
    mask = jnp.broadcast_to(mask, inputs.shape)
    return jax.lax.select(mask, inputs / keep, jnp.zeros_like(inputs))


def _arguments(
    inputs: Any, deterministic: bool | None = None, rng: Any = None
) -> tuple[Any, bool | None, Any]:
    return inputs, deterministic, rng


def _draws(module: nn.Dropout, deterministic: bool | None) -> bool:
    """Whether there is a mask; if not, or in doubt, Linen itself is called."""
    given = (module.deterministic, deterministic)
    said = [value for value in given if value is not None]
    if len(said) != 1 or not isinstance(said[0], bool | np.bool_):
        return False
    rate = module.rate
    return not said[0] and isinstance(rate, float) and 0.0 < rate < 1.0

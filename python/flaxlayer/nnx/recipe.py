"""How an NNX module is made: from an instance, or by a class and arguments."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import flax
import jax
from flax import nnx

from flaxlayer.nnx.graph import mark_traced_arrays


def is_nnx(module: Any) -> bool:
    """Whether it is an NNX module, a class of such, or a partial of one."""
    return isinstance(module, nnx.Module) or class_made_by(module) is not None


def class_made_by(module: Any) -> type[nnx.Module] | None:
    """The class that a class or a partial makes instances of.

    `None` where it makes no NNX modules, as an instance does.
    """
    while isinstance(module, functools.partial):
        module = module.func
    is_class = inspect.isclass(module) and issubclass(module, nnx.Module)
    return module if is_class else None


def class_of(module: Any) -> type[nnx.Module]:
    """The class of an instance, or of what a class or a partial makes."""
    return class_made_by(module) or type(module)


def made(module: Callable[..., Any], key: Any) -> nnx.Module:
    """The module that a class or a partial makes.

    Args:
        module: the class or the partial. It is given `rngs=nnx.Rngs(key)` if
            it takes `rngs`.
        key: a typed key.
    """
    wants_rngs = _wants_rngs(module)

    def make() -> nnx.Module:
        return module(**({"rngs": nnx.Rngs(key)} if wants_rngs else {}))

    try:
        result = make()
    except ValueError:
        # Variables that name axes want to be put on a mesh at once, which is
        # not there: where weights live is for Keras's distribution.
        with _no_eager_sharding():
            result = make()
    mark_traced_arrays(result)
    return result


def _no_eager_sharding() -> Any:
    """A context in which variables are made where all others are."""
    if hasattr(nnx, "use_eager_sharding"):
        return nnx.use_eager_sharding(False)
    return flax.config.temp_flip_flag("always_shard_variable", False)  # 0.12.0


def check(module: Any, layer: str) -> None:
    """Reports a partial that has what the layer gives it.

    Raises:
        ValueError: it has `rngs`.
    """
    if class_made_by(module) is None:
        return
    rngs = _bound(module).get("rngs")
    if rngs is not None:
        raise ValueError(
            f"{layer}: `module` has `rngs` already, which are made of the "
            "layer's `seed` when it is built. Leave them out of the partial, "
            "or pass an instance in its place. Received: "
            f"a partial with `rngs`, of type {type(rngs).__name__}."
        )


def shaped(module: Callable[..., Any]) -> nnx.Module:
    """What `made` returns, with shapes and dtypes in the place of arrays."""
    return nnx.eval_shape(lambda: made(module, jax.random.key(0)))


def _wants_rngs(module: Any) -> bool:
    """Whether a class or a partial takes `rngs`."""
    parameters = _signature(module).parameters
    return "rngs" in parameters or any(
        p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()
    )


def _bound(module: Any) -> dict[str, Any]:
    """The arguments that a partial has, by name."""
    args: tuple[Any, ...] = ()
    keywords: dict[str, Any] = {}
    while isinstance(module, functools.partial):
        args = (*module.args, *args)
        keywords = {**module.keywords, **keywords}
        module = module.func
    try:
        bound = _signature(module).bind_partial(None, *args, **keywords)
    except TypeError:  # It will say so itself when it is made.
        return keywords
    return {**keywords, **bound.arguments}


def _signature(module: Any) -> inspect.Signature:
    cls: Any = class_made_by(module)
    if cls.__init__ is object.__init__:
        return inspect.signature(lambda self: None)
    # Of the method: classes of NNX are called through their metaclass.
    return inspect.signature(cls.__init__)

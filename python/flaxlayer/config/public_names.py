"""The functions of JAX, Flax and NumPy that a model file may name.

Only functions that neither do I/O, nor change global state, nor read memory
they are given, nor run functions they are given; they go by their public
import path, which outlives the module that happens to define them.
"""

import enum
import functools
import inspect
import sys
import types
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import jax.scipy.special
import numpy as np

_FUNCTION_TYPES: tuple[type, ...] = (
    types.FunctionType,
    type(jax.jit(lambda x: x)),
    jax.custom_jvp,
    jax.custom_vjp,
    np.ufunc,
    getattr(jnp, "ufunc", np.ufunc),
)


def is_class(value: object) -> bool:
    """Whether `value` is a class.

    `isinstance` also asks `value.__class__`, which makes a lazily imported
    module import itself; asking the type does not. The same below.
    """
    return issubclass(type(value), type)


def is_subclass(value: object, *bases: type) -> bool:
    """Whether `value` is a class derived from one of `bases`."""
    return is_class(value) and issubclass(value, bases)  # pyrefly: ignore


def is_function(value: object) -> bool:
    """Whether `value` is a function, jitted function or ufunc."""
    return issubclass(type(value), _FUNCTION_TYPES)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What of the namespaces below is left out.
_EXCLUDED = {
    "jax.numpy": _words(
        "load save savez fromfile fromstring frombuffer from_dlpack fromiter "
        "fromfunction frompyfunc vectorize piecewise apply_along_axis "
        "apply_over_axes mask_indices array_repr array_str printoptions "
        "get_printoptions set_printoptions"
    ),
    "jax.lax": _words(
        "associative_scan composite cond create_token custom_linear_solve "
        "custom_root fori_loop infeed map outfeed platform_dependent reduce "
        "reduce_window scan scatter_apply stage switch while_loop"
    ),
    "keras.activations": frozenset({"deserialize", "get", "serialize"}),
}
# A second net, for functions of a later JAX that the lists do not know.
_RUNS_OR_OPENS = _words(
    "body_fn body_fun branches buffer callable callback computation cond_fn "
    "cond_fun decomposition f false_fun file filename fn fname fun func func1d "
    "function funclist mask_func path per_platform pyfunc select_callable "
    "true_fun"
)
# Flax's own namespace is mostly transformations and things that run a module,
# so here it is the other way round.
_FLAX_FUNCTIONS = _words(
    "avg_pool combine_masks dot_product_attention "
    "dot_product_attention_weights make_attention_mask make_causal_mask "
    "max_pool min_pool ones_init with_logical_constraint zeros_init"
)
_INITIALIZERS = ("jax.nn.initializers", "flax.linen.initializers")
# In the order in which they name an object that several of them have.
PUBLIC = (
    "jax.nn",
    "jax.nn.initializers",
    "jax.numpy",
    "jax.numpy.linalg",
    "jax.numpy.fft",
    "jax.scipy.special",
    "jax.lax",
    "jax.random",
    "flax.linen",
    "flax.linen.activation",
    "flax.linen.attention",
    "flax.linen.initializers",
    "flax.linen.pooling",
    "keras.activations",
    "numpy",
)

# Functions that return initializers. Those are closures, so they are written
# as the call that makes an equal one.
_FACTORIES = {
    **dict.fromkeys(
        _words(
            "constant delta_orthogonal normal orthogonal truncated_normal "
            "uniform variance_scaling"
        ),
        "jax.nn.initializers",
    ),
    "with_partitioning": "flax.linen",
    "with_logical_partitioning": "flax.linen",
}


def public_object(name: str) -> Any:
    """The function or enum that a public import path means, or None."""
    namespace, _, attribute = name.partition(":")
    if namespace not in PUBLIC or namespace not in sys.modules:
        return None
    value = vars(sys.modules[namespace]).get(attribute)
    return value if _is_public(namespace, attribute, value) else None


def public_name(value: Any) -> str | None:
    """The public import path to write for a function or class, if any."""
    found = None
    own_name = getattr(value, "__name__", None)
    for namespace in PUBLIC:
        if namespace not in sys.modules:
            continue
        for attribute, other in vars(sys.modules[namespace]).items():
            if other is value and (
                _is_public(namespace, attribute, value)
                or (namespace == "flax.linen" and is_subclass(value, nn.Module))
            ):
                if attribute == own_name:
                    return f"{namespace}:{attribute}"
                found = found or f"{namespace}:{attribute}"
    return found


def _is_public(namespace: str, attribute: str, value: Any) -> bool:
    if attribute.startswith("_"):
        return False
    if namespace == "jax.lax" and is_subclass(value, enum.Enum):
        return True
    if not is_function(value) or attribute in _EXCLUDED.get(namespace, ()):
        return False
    if namespace == "numpy":
        return issubclass(type(value), np.ufunc)
    if namespace.startswith("flax.") and namespace not in _INITIALIZERS:
        # Here the activations are functions of `jax.nn`.
        return attribute in _FLAX_FUNCTIONS or any(
            value is other for other in vars(jax.nn).values()
        )
    return not _parameters(value) & _RUNS_OR_OPENS


@functools.lru_cache(maxsize=2048)
def _parameters(function: Any) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # A ufunc has none before NumPy 2.4.
        return frozenset()


def initializer_call(value: Any) -> tuple[str, dict[str, Any]] | None:
    """The call of a public function that makes an initializer like `value`.

    Args:
        value: Any function.

    Returns:
        The name and keyword arguments of a call that returns a function of
        the same code, captured values and defaults; None if there is none.
    """
    code = getattr(value, "__code__", None)
    factory_name = code.co_qualname.partition(".")[0] if code else None
    if factory_name not in _FACTORIES:
        return None
    name = f"{_FACTORIES[factory_name]}:{factory_name}"
    factory = initializer_factory(name, "")
    captured, defaults = _captured(value), _defaults(value)
    found = {**defaults, **captured}
    keywords = {
        key: found[key]
        for key, parameter in inspect.signature(factory).parameters.items()
        if key in found and found[key] is not parameter.default
    }
    try:
        again = factory(**keywords)
    except (TypeError, ValueError):
        return None
    # The names of captured variables are JAX's own business: trust them only
    # as far as they lead back to the same function.
    same = (
        again.__code__ is code
        and _identical(_captured(again), captured)
        and _identical(_defaults(again), defaults)
    )
    return (name, keywords) if same else None


def initializer_factory(name: object, site: str) -> Callable[..., Any]:
    """The function of JAX or Flax that makes initializers, by its name.

    Args:
        name: Its name, as the configuration has it.
        site: Where it stands, for messages.

    Returns:
        The function.

    Raises:
        ValueError: If it is not one of the known ones.
    """
    for factory, namespace in _FACTORIES.items():
        if name == f"{namespace}:{factory}":
            return vars(sys.modules[namespace])[factory]
    raise ValueError(
        f"{site} names {name!r:.100}, which is no known initializer."
    )


def _captured(function: Any) -> dict[str, Any]:
    cells = function.__closure__ or ()
    names = function.__code__.co_freevars
    return {
        name: cell.cell_contents
        for name, cell in zip(names, cells, strict=True)
    }


def _defaults(function: Any) -> dict[str, Any]:
    signature = inspect.signature(function, follow_wrapped=False)
    return {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if parameter.default is not parameter.empty
    }


def _identical(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(
        value is second[name] for name, value in first.items()
    )

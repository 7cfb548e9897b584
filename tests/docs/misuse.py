"""What a misuse is, and the small layers that are misused."""

import contextlib
import dataclasses
import functools
import os
import re
import tempfile
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np

from flaxlayer import FlaxLayer, JaxLayer

# Of every layer that is misused; messages have to name it.
NAME = "probe"

X = np.linspace(-1.0, 1.0, 8, dtype=np.float32).reshape(2, 4)
TOKENS = np.zeros((2, 5), np.int32)

# What other libraries say differs from version to version.
_QUOTED = ("Flax says:", "JAX says:", "Keras says:", "Python says:")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Misuse:
    """Something that people try, and that is refused.

    Args:
        title: what is done, in words.
        do: does it.
        error: the type that is raised, exactly.
        *says: what the message has to contain: the argument or weight path,
            what was received.
        layer: whether there is a layer to name.
        until: where the page cuts the message, because what follows is not
            the same with all supported versions.
    """

    def __init__(
        self,
        title: str,
        do: Callable[[], Any],
        error: type[Exception],
        *says: str,
        layer: bool = True,
        until: str | None = None,
    ):
        self.title = title
        self.do = do
        self.error = error
        self.says = (*says, NAME) if layer else says
        self.until = until
        self._folder = ""

    def raised(self) -> Exception | None:
        """What doing it raises, in an empty folder."""
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.chdir(folder),
        ):
            self._folder = f"{os.getcwd()}/"
            try:
                self.do()
            except Exception as error:
                return error
        return None

    def message(self, error: Exception) -> str:
        """The text of an error as the page has it, on one line."""
        text = without_wrapper(str(error))
        if self._folder:
            text = text.replace(self._folder, "")
        for quoted in _QUOTED:
            before, found, _ = text.partition(quoted)
            text = before + found + (" ..." if found else "")
        if self.until is not None:
            before, found, _ = text.partition(self.until)
            text = before + found + (" ..." if found else "")
        return " ".join(text.split())


def without_wrapper(text: str) -> str:
    """The message inside of what Keras makes of it in a call of a layer."""
    text = _COLOUR.sub("", text)
    match = re.fullmatch(
        r"Exception encountered when calling .*?\n\n(.*)"
        r"\n\nArguments received by .*",
        text,
        re.DOTALL,
    )
    return match[1] if match else text


# Layers whose weights have to be what they were.


@dataclasses.dataclass
class _Watched:
    layer: keras.layers.Layer
    before: list[tuple[Any, bool]]


_watched: list[_Watched] = []


def _weights(layer: keras.layers.Layer) -> list[tuple[Any, bool]]:
    return [(np.array(v.value), v.trainable) for v in layer.variables]


def watched(layer: Any) -> Any:
    """The layer, whose weights must not change from now on."""
    _watched.append(_Watched(layer, _weights(layer)))
    return layer


def called(layer: Any, *args: Any, **kwargs: Any) -> Any:
    """The layer after a first call; then it is watched."""
    layer(*args, **kwargs)
    return watched(layer)


def changed() -> list[keras.layers.Layer]:
    """The watched layers that are not as they were when last asked."""
    found = []
    for each in _watched:
        before, each.before = each.before, _weights(each.layer)
        if len(before) != len(each.before) or not all(
            np.array_equal(a, b) and trainable == was
            for (a, was), (b, trainable) in zip(
                before, each.before, strict=True
            )
        ):
            found.append(each.layer)
    return found


# Modules and functions.


class Net(nn.Module):
    features: int = 3

    @nn.compact
    def __call__(self, x, training=False):
        x = nn.BatchNorm(use_running_average=not training)(x)
        return nn.Dense(self.features)(x)

    def bare(self):
        return 0


class Train(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dropout(0.5, deterministic=not train)(nn.Dense(3)(x))


class Noise(nn.Module):
    when: str = "training"

    def __call__(self, x, training=False):
        if training or self.when == "always":
            x += jax.random.normal(self.make_rng("noise"), x.shape)
        return x


class Embedding(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        return nn.Embed(10, 3)(tokens).mean(1)


class Spectrum(nn.Module):
    @nn.compact
    def __call__(self, x):
        if not jnp.iscomplexobj(x):
            raise TypeError("a spectrum is complex")
        return nn.Dense(3)(jnp.abs(x))


class Flat(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x.reshape(x.shape[0], -1))


class Cached(nn.Module):
    @nn.compact
    def __call__(self, x):
        last = self.variable("cache", "last", jnp.zeros_like, x)
        last.value = x
        return nn.Dense(3)(x)


class Growing(nn.Module):
    @nn.compact
    def __call__(self, x, training=False):
        if training and not self.is_initializing():
            self.variable("cache", "last", lambda: x)
        return nn.Dense(3)(x)


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x, context, heads=2, window=None):
        return nn.Dense(3)(x + context)


class Holder(nn.Module):
    activation: Any = None

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)


def scale_init(rng, inputs):
    return {"w": jax.random.normal(rng, (inputs.shape[-1], 2))}


def scaled(params, inputs):
    return inputs @ params["w"]


def counted(params, state, inputs):
    return inputs * params["w"], {"count": state["count"] + 1}


# Layers. Those that are shared are built once and misused often.


def flax_layer(module: Any = None, *args: Any, **kwargs: Any) -> FlaxLayer:
    module = Net() if module is None else module
    return FlaxLayer(module, *args, name=NAME, **kwargs)


def jax_layer(call_fn: Any = scaled, *args: Any, **kwargs: Any) -> JaxLayer:
    if not args and not kwargs.keys() & {"init_fn", "params", "state"}:
        args = (scale_init,)
    return JaxLayer(call_fn, *args, name=NAME, **kwargs)


@functools.cache
def net() -> Any:
    return called(flax_layer(seed=0), X)


@functools.cache
def train() -> Any:
    return called(flax_layer(Train(), seed=0), X)


@functools.cache
def embedding() -> Any:
    return called(flax_layer(Embedding(), seed=0), TOKENS)


@functools.cache
def attention() -> Any:
    return called(flax_layer(Attention(), seed=0), X, X)


@functools.cache
def scale() -> Any:
    return called(jax_layer(seed=0), X)


@functools.cache
def variables() -> Any:
    """Those of `Net`."""
    made = Net().init(jax.random.key(0), X)
    return jax.tree_util.tree_map(np.array, made)


def variables_with(path: str, value: Any) -> Any:
    """The variables of `Net` with another leaf at a path, or without it."""
    made = jax.tree_util.tree_map(np.array, variables())
    *steps, name = path.split("/")
    node = functools.reduce(lambda node, step: node[step], steps, made)
    del node[name]
    if value is not None:
        node[name] = value
    return made


def in_folder(path: str, content: bytes = b"") -> str:
    """A file, in the folder that a misuse is done in."""
    with open(path, "wb") as file:
        file.write(content)
    assert not os.path.isabs(path)
    return path

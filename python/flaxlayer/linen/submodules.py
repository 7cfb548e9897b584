"""Which submodules an initialisation calls, and what they return."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax

from flaxlayer.calls.called import Called
from flaxlayer.paths import Path


class Submodules:
    """The submodules that an initialiser has called.

    Attributes:
        called: them by their paths, in the order of calls.
    """

    def __init__(self) -> None:
        self.called: dict[Path, Called] = {}

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Notes the submodules that are called in this context.

        They are forgotten if it ends with an exception. What was noted where
        dimensions were unknown is kept: if the same initialiser is run again,
        it is on placeholders, whose sizes say less.
        """
        called: dict[Path, Called] = {}
        with nn.intercept_methods(functools.partial(_note, called)):
            yield
        if not any(each.has_unknown for each in self.called.values()):
            self.called = called

    def forget(self) -> None:
        """Forgets them: another initialisation is to come."""
        self.called = {}


def _note(
    called: dict[Path, Called],
    method: Callable[..., Any],
    args: Any,
    kwargs: Any,
    context: Any,
) -> Any:
    module, name = context.module, context.method_name
    if module.scope is None or not module.path or name == "setup":
        return method(*args, **kwargs)
    # Before the call, so that modules come before those they call.
    entry = called.setdefault(module.path, Called(type(module).__name__))
    outputs = method(*args, **kwargs)
    if entry.shapes is None or name == "__call__":
        entry.shapes = [
            tuple(size if isinstance(size, int) else None for size in x.shape)
            for x in jax.tree_util.tree_leaves(outputs)
            if hasattr(x, "shape")
        ]
    return outputs

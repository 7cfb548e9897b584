"""The paths of weights: `params/Dense_0/kernel`, one string for each step."""

from collections.abc import Sequence
from typing import Any

import jax

Path = tuple[str, ...]


class StructureMismatch(ValueError):
    """A tree does not have the structure or the shapes it should have."""


def path_of(keys: Sequence[Any]) -> Path:
    """The strings a JAX key path stands for: `("Dense_0", "kernel")`."""
    # Haiku names modules "net/~/linear": a slash is a step of its own.
    return tuple(
        step
        for key in keys
        for step in jax.tree_util.keystr((key,), simple=True).split("/")
    )


def joined(path: Path) -> str:
    """A path as users read it: `params/Dense_0/kernel`."""
    return "/".join(path) or "(root)"


def listed(paths: Sequence[Path], at_most: int = 8) -> str:
    """The first few of these paths as messages show them."""
    names = [f"`{joined(path)}`" for path in paths[:at_most]]
    more = len(paths) - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")

"""Packages that only some formats need, and that need not be there."""

import importlib
from typing import Any


def imported(module: str, *, extra: str, what: str) -> Any:
    """A module of such a package.

    Args:
        module: its name.
        extra: the extra of flaxlayer that installs it.
        what: what needs it.

    Raises:
        ImportError: it cannot be imported; the message says what to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{what} needs the package {module.partition('.')[0]!r}, which "
            f"cannot be imported: {error}. Install it with "
            f"`pip install 'flaxlayer[{extra}]'`."
        ) from error

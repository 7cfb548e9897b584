"""Which intermediates the call under way is to capture.

It goes through Keras, which hands on nothing but the arguments of the module.
"""

import contextlib
import contextvars
from collections.abc import Iterator

from flaxlayer.calls.model_result import Intermediates

_WANTED: contextvars.ContextVar[Intermediates | None] = contextvars.ContextVar(
    "intermediates", default=None
)


def wanted() -> Intermediates | None:
    """Which are to be captured; `None` in an ordinary call."""
    return _WANTED.get()


@contextlib.contextmanager
def reading(intermediates: Intermediates | None) -> Iterator[None]:
    """A context in which calls capture them."""
    token = _WANTED.set(intermediates)
    try:
        yield
    finally:
        _WANTED.reset(token)

"""What is said about kernels, to those who ask for it with verbosity 1."""

import functools
from collections.abc import Callable

from absl import logging


def once(line: Callable[[], str]) -> None:
    """Logs a line at verbosity 1, unless it was logged before.

    What is not shown is not remembered: a line appears once the verbosity is
    raised, however often it was due before.

    Args:
        line: Makes the line; called only if it would be shown.
    """
    if logging.vlog_is_on(1):
        _log(line())


# Bounded, since lines name layers, of which a long process may make many.
@functools.lru_cache(maxsize=4096)
def _log(line: str) -> None:
    logging.vlog(1, "%s", line)

"""A progress bar for what takes long enough to want one."""

from collections.abc import Callable

import keras

# A disk or a network share takes about a second for this much; what is done
# sooner needs no bar.
SHOWN_FROM_BYTES = 256 << 20
_MEGABYTE = 1_000_000


def reporter(num_bytes: int) -> Callable[[int], None]:
    """A function to call with the number of bytes done so far.

    It draws a `keras.utils.Progbar` in megabytes, if there are at least
    `SHOWN_FROM_BYTES` and `keras.config.is_interactive_logging_enabled()`.
    """
    shown = (
        num_bytes >= SHOWN_FROM_BYTES
        and keras.config.is_interactive_logging_enabled()
    )
    if not shown:
        return lambda done: None
    target = -(-num_bytes // _MEGABYTE)
    bar = keras.utils.Progbar(target, unit_name="MB")
    return lambda done: bar.update(
        target if done >= num_bytes else done // _MEGABYTE
    )

"""Shows how far something is that takes long, and nothing of what does not."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import keras

AFTER_SECONDS = 2.0

_Item = TypeVar("_Item")


def reported(
    items: Sequence[_Item],
    *,
    title: str,
    unit: str,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[_Item]:
    """The items, with a Keras progress bar if going through them takes long.

    The bar is printed where `fit` prints its own, below the title, and only
    while `keras.config.is_interactive_logging_enabled()`. It appears when going
    through the items has taken `AFTER_SECONDS`.

    Args:
        items: what to go through.
        title: what is going on.
        unit: what an item is called in the bar.
        clock: returns the time in seconds.
    """
    start = clock()
    # Made now, since it estimates what is left from its own beginning.
    bar = keras.utils.Progbar(len(items), unit_name=unit)
    shown = False
    for done, item in enumerate(items, start=1):
        yield item
        if not shown:
            shown = (
                # Whoever sees the last item has nothing to wait for.
                done < len(items)
                and clock() - start >= AFTER_SECONDS
                and keras.config.is_interactive_logging_enabled()
            )
            if shown:
                print(title)
        if shown:
            bar.update(done)

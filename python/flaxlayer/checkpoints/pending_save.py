"""A save that may still be going on."""

import threading
from collections.abc import Callable

from flaxlayer.checkpoints import processes


class PendingSave:
    """What `save_variables` returns: a save that may still be going on.

    The layer may be trained and changed meanwhile: its weights have been
    copied. Call `wait` before the program ends, or before the file is read.

    Args:
        finish: does what is left to do; it runs in a thread of its own, and
            the interpreter waits for that when it exits.
        path: what is being written.
        shared: whether several processes save it together.
    """

    def __init__(
        self, finish: Callable[[], None], path: str, *, shared: bool = False
    ):
        self.path = path
        self._finish = finish
        self._shared = shared
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"save {path}")
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return not self._thread.is_alive()

    def wait(self) -> None:
        """Returns when the weights are on the disk.

        Where several processes save together, all of them call it.

        Raises:
            OSError: they cannot be written; `path` is as it was before.
        """
        self._thread.join()
        shared, self._shared = self._shared, False
        try:
            with processes.agreeing(shared):
                if self._error is not None:
                    raise self._error
        except Exception as error:
            self._error = error
            raise

    def _run(self) -> None:
        try:
            self._finish()
        except BaseException as error:  # `wait` raises it.
            self._error = error

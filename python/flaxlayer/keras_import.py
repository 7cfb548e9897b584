"""Does something once Keras is there, without importing it."""

import inspect
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_KERAS = "keras"


def when_imported(then: Callable[[], None]) -> None:
    """Calls a function when Keras has been imported: now or later.

    Args:
        then: what to call.
    """
    if sys.modules.get(_KERAS) is not None:
        then()
    else:
        sys.meta_path.insert(0, _Finder(then))


def is_importing(package: str) -> bool:
    """Whether this thread is in the import of a module below a package."""
    frame = inspect.currentframe()
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if frame.f_code.co_name == "<module>" and name.startswith(
            f"{package}."
        ):
            return True
        frame = frame.f_back
    return False


class _Finder(MetaPathFinder):
    """Finds Keras where the other finders do, and loads it as they do.

    It stays until Keras has been loaded: whoever looks for a module need not
    load it.
    """

    def __init__(self, then: Callable[[], None]):
        self._then = then

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """The spec of Keras, `None` for any other module."""
        if fullname != _KERAS:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if isinstance(finder, _Finder) or find is None:
                continue
            spec = find(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, self._loaded)
                return spec
        return None

    def _loaded(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        self._then()


class _Loader(Loader):
    """Loads a module as another loader does, and says when it is done."""

    def __init__(self, loader: Loader, loaded: Callable[[], None]):
        self._loader = loader
        self._loaded = loaded

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """What the other loader makes."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Runs the module."""
        # Whoever looks at it finds what would be there without this.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._loaded()

"""A module inside of a model, as a call has met it."""

import dataclasses

Shape = tuple[int | None, ...]


@dataclasses.dataclass
class Called:
    """A submodule.

    Attributes:
        kind: the name of its class.
        shapes: those of its outputs, with `None` for unknown sizes; `None`
            where it has not returned.
    """

    kind: str
    shapes: list[Shape] | None = None

    @property
    def has_unknown(self) -> bool:
        """Whether a size is not known."""
        return any(None in shape for shape in self.shapes or ())

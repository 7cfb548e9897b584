"""What was compared after an export."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A call of an endpoint, here and where the file was loaded.

    Attributes:
        endpoint: its name.
        sizes: what names of sizes stood for.
        difference: the largest of all outputs, in parts of the largest number
            in the output, or of 1 where that is smaller.
        tolerance: how large it may be.
    """

    endpoint: str
    sizes: Mapping[str, int]
    difference: float
    tolerance: float


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What `flaxlayer.export` has written and compared.

    Attributes:
        path: where it is.
        format: the format.
        platforms: what the programs are for; none for a format without.
        size: of all files, in bytes.
        reader: what loaded it for the comparison, with its version; empty if
            nothing was compared.
        compared: the calls that were compared.
        note: what could not be compared, if there is anything.
    """

    path: str
    format: str
    platforms: tuple[str, ...]
    size: int
    reader: str = ""
    compared: tuple[Comparison, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        lines = [
            f"{self.path}: {self.format}"
            + (f" for {', '.join(self.platforms)}" if self.platforms else "")
            + f", {self.size:,} bytes"
        ]
        for each in self.compared:
            sizes = ", ".join(f"{k}={v}" for k, v in each.sizes.items())
            lines.append(
                f"  {each.endpoint}({sizes}): differs by {each.difference:.1e} "
                f"in {self.reader}, at most {each.tolerance:.0e}"
            )
        if not self.compared:
            lines.append("  not compared")
        return "\n".join([*lines, *([f"  {self.note}"] if self.note else [])])

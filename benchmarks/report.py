"""Measurements as a JSON file and as tables in Markdown."""

import dataclasses
import datetime
import importlib.metadata
import json
import operator
import os
import pathlib
import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

import flaxlayer
from benchmarks import interleave

_PACKAGES = ("jax", "jaxlib", "flax", "keras", "numpy", "optax")
_RELATIONS = {">=": operator.ge, "<=": operator.le}


@dataclasses.dataclass(frozen=True)
class Section:
    """A table of what some variants took.

    Attributes:
        title: says what was measured, and on what.
        values: by measure and variant, an entry for each round.
        ratios: which variants are divided by which others, round by round.
        unit: of the values. Seconds, `"s"`, are shown in what suits each row.
        note: what has to be known to read it.
    """

    title: str
    values: interleave.Times
    ratios: Sequence[tuple[str, str]] = ()
    unit: str = "s"
    note: str = ""

    @property
    def variants(self) -> list[str]:
        """Those of any of the measures."""
        return list(dict.fromkeys(v for by in self.values.values() for v in by))


@dataclasses.dataclass(frozen=True)
class Floor:
    """What one ratio, or one value, has to be.

    Attributes:
        section: the name of the section it is about.
        measure: one of its measures.
        above: the variant whose values are divided.
        below: the one they are divided by; None for the values as they are.
        relation: `">="` or `"<="`.
        bound: what it has to be, on the median of the rounds.
        aim: what it should be.
    """

    section: str
    measure: str
    above: str
    below: str | None
    relation: str
    bound: float
    aim: float | None = None


@dataclasses.dataclass(frozen=True)
class Report:
    """All that a command measured.

    Attributes:
        about: what `environment` returned before.
        settings: how often, and of what size.
        sections: the tables, by name.
        floors: all there are; those of what was not measured do not count.
        section_name: what a section is called in the table of floors.
        smoke: whether it was run with tiny settings, only to see that it runs.
    """

    about: Mapping[str, Any]
    settings: Mapping[str, Any]
    sections: Mapping[str, Section]
    floors: Sequence[Floor]
    section_name: str = "table"
    smoke: bool = False

    @property
    def missed(self) -> bool:
        """Whether a floor does not hold."""
        return not all(floor["holds"] for floor in self.checked())

    def checked(self) -> list[dict[str, Any]]:
        """Each floor whose values were measured, and whether it holds."""
        found = []
        for floor in self.floors:
            section = self.sections.get(floor.section)
            values = section.values.get(floor.measure, {}) if section else {}
            variants = {floor.above, floor.below} - {None}
            if section is not None and variants <= values.keys():
                found.append(_checked(floor, section.unit, values))
        return found

    def markdown(self) -> str:
        """All of it as Markdown that can be read as it is, too."""
        lines = [*self._heading(), ""]
        for section in self.sections.values():
            lines += [f"**{section.title}**", ""]
            if section.note:
                lines += [section.note, ""]
            lines += _table(*_rows(section)) + [""]
        checked = self.checked()
        if checked:
            lines += ["**Floors**, on the median ratio of all rounds", ""]
            lines += _table(*_floor_rows(checked, self.section_name))
        return "\n".join(lines).rstrip() + "\n"

    def _heading(self) -> Iterable[str]:
        if self.smoke:
            yield (
                "**A smoke run with tiny settings: what it says of speed means "
                "nothing.**"
            )
            yield ""
        kernels = described(self.about["kernels"])
        machine = self.about["machine"]
        card = machine.get("card")
        yield f"{described(self.about['versions'])}; kernels: {kernels}."
        yield (
            f"{f'{card}; ' if card else ''}"
            f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, "
            f"load {machine['load']} at the start; {self.about['date']}. Times "
            f"are of the {self.settings.get('clock', 'wall')} clock: median "
            "[quartiles]."
        )
        settings = {
            name.replace("_", " "): value
            for name, value in self.settings.items()
        }
        yield f"Settings: {described(settings)}."

    def as_json(self) -> str:
        """All of it with the value of every round."""
        results = {
            **self.about,
            "settings": dict(self.settings),
            "floors": self.checked(),
            "sections": {
                name: {
                    "title": section.title,
                    "unit": section.unit,
                    "measures": {
                        measure: {
                            variant: {
                                "spread": dataclasses.asdict(
                                    interleave.Spread.of(values)
                                ),
                                "values": values,
                            }
                            for variant, values in by_variant.items()
                        }
                        for measure, by_variant in section.values.items()
                    },
                }
                for name, section in self.sections.items()
            },
        }
        return json.dumps(_rounded(results), indent=1) + "\n"

    def write(self, folder: pathlib.Path, name: str) -> None:
        """Writes both forms, as `<name>.md` and `<name>.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        forms = {"md": self.markdown(), "json": self.as_json()}
        for ending, text in forms.items():
            path = folder / f"{name}.{ending}"
            path.write_text(text, encoding="utf-8")


def environment() -> dict[str, Any]:
    """What the measurements were taken with and on."""
    kernels = flaxlayer.explain_kernels().ops
    device = jax.devices()[0]
    return {
        "date": datetime.date.today().isoformat(),
        "versions": {
            "flaxlayer": flaxlayer.__version__,
            "python": platform.python_version(),
        }
        | {name: importlib.metadata.version(name) for name in _PACKAGES},
        "kernels": {name: op.kernel for name, op in kernels.items()},
        "machine": {
            "cpu": _cpu_model(),
            "cores": len(os.sched_getaffinity(0)),
            "system": f"{platform.system()} {platform.machine()}",
            # More than there are cores: something else was running.
            "load": round(os.getloadavg()[0], 1),
            "card": None if device.platform == "cpu" else device.device_kind,
        },
    }


def described(values: Mapping[str, Any]) -> str:
    """Names with their values, as part of a sentence."""

    def text(value: Any) -> str:
        if isinstance(value, list | tuple):
            return " ".join(map(str, value))
        return str(value)

    return ", ".join(
        f"{name} {text(value)}"
        for name, value in values.items()
        if value is not None
    )


def _cpu_model() -> str:
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or "unknown"
    for line in text.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _checked(
    floor: Floor, unit: str, values: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    if floor.below is None:
        spread = interleave.Spread.of(values[floor.above])
        what, suffix = floor.above, f" {unit}" if unit else ""
    else:
        spread = interleave.ratios(values[floor.above], values[floor.below])
        what, suffix = f"{floor.above} / {floor.below}", ""
    holds = _RELATIONS[floor.relation]
    found: dict[str, Any] = {
        "section": floor.section,
        "measure": floor.measure,
        "ratio": what,
        "median": spread.median,
        "quartiles": [spread.quarter, spread.three_quarters],
        "floor": f"{floor.relation} {floor.bound:.10g}{suffix}",
        "holds": holds(spread.median, floor.bound),
    }
    if floor.aim is not None:
        found["aim"] = f"{floor.relation} {floor.aim:.10g}{suffix}"
        found["aim_met"] = holds(spread.median, floor.aim)
    return found


def _floor_rows(
    checked: Sequence[Mapping[str, Any]], section_name: str
) -> tuple[list[str], list[list[str]]]:
    # A column of aims only where there are some.
    aims = any("aim" in floor for floor in checked)
    header = [section_name, "measure", "ratio", "floor", "measured", ""]
    rows = [
        [
            floor["section"],
            floor["measure"],
            floor["ratio"],
            floor["floor"],
            # One digit more, or 1.034 would be said to pass.
            _between(floor["median"], *floor["quartiles"], digits=4),
            _verdict(floor),
        ]
        for floor in checked
    ]
    if aims:
        header.insert(4, "aim")
        for row, floor in zip(rows, checked, strict=True):
            row.insert(4, floor.get("aim", ""))
    return header, rows


def _verdict(floor: Mapping[str, Any]) -> str:
    if not floor["holds"]:
        return "MISS"
    if "aim" not in floor:
        return "pass"
    return "pass, aim met" if floor["aim_met"] else "pass, aim missed"


def _rows(section: Section) -> tuple[list[str], list[list[str]]]:
    variants = section.variants
    header = [
        "measure",
        *variants,
        *(f"{above} / {below}" for above, below in section.ratios),
    ]
    rows = []
    for measure, by_variant in section.values.items():
        spreads = {
            name: interleave.Spread.of(values)
            for name, values in by_variant.items()
        }
        scale, unit = _scale(section.unit, spreads.values())
        row = [f"{measure}, {unit}" if unit else measure]
        for name in variants:
            spread = spreads.get(name)
            row.append("" if spread is None else _spread(spread, scale))
        for above, below in section.ratios:
            both = {above, below} <= by_variant.keys()
            row.append(
                _spread(interleave.ratios(by_variant[above], by_variant[below]))
                if both
                else ""
            )
        rows.append(row)
    return header, rows


def _scale(
    unit: str, spreads: Iterable[interleave.Spread]
) -> tuple[float, str]:
    """What values are multiplied by to be shown, and the unit they then are."""
    if unit != "s":
        return 1, unit
    longest = max(spread.median for spread in spreads)
    if longest >= 1:
        return 1, "s"
    return (1e3, "ms") if longest >= 1e-3 else (1e6, "µs")


def _spread(spread: interleave.Spread, scale: float = 1) -> str:
    return _between(
        spread.median * scale,
        spread.quarter * scale,
        spread.three_quarters * scale,
    )


def _between(median: float, low: float, high: float, digits: int = 3) -> str:
    middle, *ends = (_number(value, digits) for value in (median, low, high))
    # One round, or what every round finds the same, has no quartiles.
    return middle if low == high else f"{middle} [{', '.join(ends)}]"


def _number(value: float, digits: int) -> str:
    """So many digits, or all of those before the point."""
    if float(value).is_integer():
        return f"{value:.0f}"
    if abs(value) < 0.1:
        return f"{value:.{digits - 1}g}"
    before = 1 if abs(value) < 10 else 2 if abs(value) < 100 else 3
    return f"{value:.{max(0, digits - before)}f}"


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    widths = [
        max(map(len, column)) for column in zip(header, *rows, strict=True)
    ]
    cells = [header, ["-" * width for width in widths], *rows]
    return [
        "| "
        + " | ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        )
        + " |"
        for row in cells
    ]


def _rounded(value: object) -> object:
    """Numbers with six digits: the clock has no more to say."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value

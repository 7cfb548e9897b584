"""Measurements as a JSON file and as tables in Markdown."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import flaxlayer
from benchmarks import interleave, layers, models

_PACKAGES = ("jax", "jaxlib", "flax", "keras", "numpy", "optax")


def environment() -> dict[str, Any]:
    """What the measurements were taken with and on."""
    kernels = flaxlayer.explain_kernels().ops
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
        },
    }


def _cpu_model() -> str:
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or "unknown"
    for line in text.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def floors(times: Mapping[str, interleave.Times]) -> list[dict[str, Any]]:
    """Each floor for each workload: the ratio, and whether it holds."""
    found = []
    for workload, measures in times.items():
        for measure, above, below, relation, bound in layers.FLOORS:
            by_variant = measures[measure]
            if above not in by_variant or below not in by_variant:
                continue
            ratio = interleave.ratios(by_variant[above], by_variant[below])
            holds = (
                ratio.median >= bound
                if relation == ">="
                else ratio.median <= bound
            )
            found.append(
                {
                    "workload": workload,
                    "measure": measure,
                    "ratio": f"{above} / {below}",
                    "median": ratio.median,
                    "quartiles": [ratio.quarter, ratio.three_quarters],
                    "floor": f"{relation} {bound:g}",
                    "holds": holds,
                }
            )
    return found


def markdown(
    times: Mapping[str, interleave.Times],
    checked: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
    clock: str,
) -> str:
    """All of it as Markdown that can be read as it is, too."""
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    kernels = ", ".join(f"{k} {v}" for k, v in about["kernels"].items())
    machine = about["machine"]
    lines = [
        f"{versions}; kernels: {kernels}.",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, "
        f"load {machine['load']} at the start; {about['date']}. Times are of "
        f"the {clock} clock: median [quartiles].",
        "",
    ]
    for workload, measures in times.items():
        lines += [f"**{models.WORKLOADS[workload].description}**", ""]
        lines += _table(*_rows(measures)) + [""]
    lines += ["**Floors**, on the median ratio of all rounds", ""]
    lines += _table(
        ["model", "measure", "ratio", "floor", "measured", ""],
        [
            [
                floor["workload"],
                floor["measure"],
                floor["ratio"],
                floor["floor"],
                # One digit more, or 1.034 would be said to pass.
                _between(floor["median"], *floor["quartiles"], digits=4),
                "pass" if floor["holds"] else "MISS",
            ]
            for floor in checked
        ],
    )
    return "\n".join(lines) + "\n"


def _rows(measures: interleave.Times) -> tuple[list[str], list[list[str]]]:
    variants = list(measures[layers.BUILD])
    others = [name for name in variants if name != layers.OURS]
    header = ["measure", *variants, *(f"{o} / {layers.OURS}" for o in others)]
    rows = []
    for measure, by_variant in measures.items():
        scale, unit = (
            (1, "s")
            if measure in (layers.BUILD, layers.FIRST_STEP)
            else (1e3, "ms")
        )
        row = [f"{measure}, {unit}"]
        for name in variants:
            spread = interleave.Spread.of(
                [seconds * scale for seconds in by_variant[name]]
            )
            row.append(_spread(spread))
        for name in others:
            ratio = interleave.ratios(by_variant[name], by_variant[layers.OURS])
            row.append(_spread(ratio))
        rows.append(row)
    return header, rows


def _spread(spread: interleave.Spread) -> str:
    return _between(spread.median, spread.quarter, spread.three_quarters)


def _between(median: float, low: float, high: float, digits: int = 3) -> str:
    median_text, low_text, high_text = (
        _number(value, digits) for value in (median, low, high)
    )
    return f"{median_text} [{low_text}, {high_text}]"


def _number(value: float, digits: int) -> str:
    """So many digits, or all of those before the point."""
    before = 1 if value < 10 else 2 if value < 100 else 3
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

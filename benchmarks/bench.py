"""Measures flaxlayer; `bench.py layers` is the whole-layer comparison."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # Read by the import of keras.

import argparse
import dataclasses
import json
import pathlib
import sys
import time

from benchmarks import interleave, layers, models, report

_RESULTS = pathlib.Path(__file__).resolve().parent / "results"
_TIMERS = {"wall": time.perf_counter, "processor": time.process_time}


def main() -> int:
    """Runs the subcommand; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "layers",
        help="build, first step, steps and calls, beside Keras's own layer and "
        "a hand-written loop",
    )
    command.set_defaults(run=_layers)
    command.add_argument(
        "--models",
        nargs="+",
        choices=models.WORKLOADS,
        default=list(models.WORKLOADS),
    )
    command.add_argument("--cold-rounds", type=int, default=3)
    command.add_argument("--rounds", type=int, default=30)
    command.add_argument("--fit-rounds", type=int, default=15)
    command.add_argument("--steps", type=int, default=32, help="of an epoch")
    command.add_argument(
        "--clock",
        choices=_TIMERS,
        default="wall",
        help="`processor` counts the time of all threads of this process, and "
        "not what other processes take; default: %(default)s",
    )
    command.add_argument(
        "--out",
        type=pathlib.Path,
        default=_RESULTS,
        help="where layers.json and layers.md go (default: %(default)s)",
    )
    command.add_argument(
        "--strict",
        action="store_true",
        help="end with status 1 if a floor is missed",
    )
    arguments = parser.parse_args()
    return arguments.run(arguments)


def _layers(arguments: argparse.Namespace) -> int:
    about = report.environment()
    settings = {
        "cold_rounds": arguments.cold_rounds,
        "rounds": arguments.rounds,
        "fit_rounds": arguments.fit_rounds,
        "steps": arguments.steps,
    }
    times: dict[str, interleave.Times] = {}
    for name in arguments.models:
        times[name] = layers.run(
            models.WORKLOADS[name],
            **settings,
            timer=_TIMERS[arguments.clock],
            progress=lambda what, name=name: print(
                f"measuring {name}: {what}", file=sys.stderr, flush=True
            ),
        )
    checked = report.floors(times)
    text = report.markdown(times, checked, about, arguments.clock)
    print(text)
    for measure, meaning in layers.MEASURES.items():
        print(f"{measure}: {meaning}.")

    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "layers.md").write_text(text, encoding="utf-8")
    results = about | {
        "settings": settings | {"clock": arguments.clock},
        "floors": checked,
        "models": {
            name: {
                measure: {
                    variant: {
                        "spread": dataclasses.asdict(
                            interleave.Spread.of(seconds)
                        ),
                        "seconds": seconds,
                    }
                    for variant, seconds in by_variant.items()
                }
                for measure, by_variant in measures.items()
            }
            for name, measures in times.items()
        },
    }
    (arguments.out / "layers.json").write_text(
        json.dumps(_rounded(results), indent=1) + "\n", encoding="utf-8"
    )
    missed = [floor for floor in checked if not floor["holds"]]
    return 1 if arguments.strict and missed else 0


def _rounded(value: object) -> object:
    """Numbers with six digits: the clock has no more to say."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value


if __name__ == "__main__":
    sys.exit(main())

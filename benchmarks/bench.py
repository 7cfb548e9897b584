"""Measures flaxlayer beside Keras's own layer, stock JAX and XLA."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # Read by the import of keras.

import argparse
import dataclasses
import functools
import json
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from absl import app
from absl.flags import argparse_flags

from benchmarks import (
    accelerator,
    exports,
    kernels,
    layers,
    mesh_training,
    models,
    nnx_training,
    report,
    threads,
    train,
)

_RESULTS = pathlib.Path(__file__).resolve().parent / "results"
_FIGURE = _RESULTS.parents[1] / "docs" / "performance.svg"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """What a command line says, with the flags of absl among the options.

    Args:
        argv: the program and its arguments.
    """
    # The parser of absl for programs with commands.
    parser = argparse_flags.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--plot",
        action="store_true",
        help=f"draw the stored results, into {_FIGURE.name}, and measure "
        "nothing",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_layers(commands)
    _add_train(commands)
    _add_kernels(commands)
    _add_nnx(commands)
    _add_mesh(commands)
    _add_exports(commands)
    _add_accelerator(commands)
    _add_hidden(commands)
    arguments = parser.parse_args(argv[1:])
    if arguments.plot == (arguments.command is not None):
        parser.error("either a command or --plot is needed")
    return arguments


def main(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    return _plot() if arguments.plot else arguments.run(arguments)


def _add_layers(commands: Any) -> None:
    command = _add(
        commands,
        "layers",
        layers,
        "build, first step, steps and calls in Keras, beside Keras's own layer "
        "and a hand-written loop",
        rounds=("rounds", "cold-rounds", "fit-rounds", "steps"),
        section_name="model",
    )
    command.add_argument("--models", nargs="+", choices=layers.MODELS)
    command.add_argument(
        "--clock",
        choices=layers.TIMERS,
        help="`processor` counts the time of all threads of this process, and "
        "not what other processes take",
    )


def _add_train(commands: Any) -> None:
    command = _add(
        commands,
        "train",
        train,
        "training steps, how they grow with the model, and memory",
        rounds=(
            "rounds",
            "cold-rounds",
            "growth-rounds",
            "growth-cold-rounds",
            "memory-rounds",
            "short-rounds",
        ),
    )
    command.add_argument("--models", nargs="+", choices=models.WORKLOADS)
    command.add_argument("--parts", nargs="+", choices=train.PARTS)
    command.add_argument(
        "--sizes",
        nargs="+",
        type=int,
        metavar="BLOCKS",
        help="of the growing model, two or more",
    )


def _add_kernels(commands: Any) -> None:
    command = _add(
        commands,
        "kernels",
        kernels,
        "each native kernel beside XLA, threads, and the package itself",
        rounds=("rounds", "cold-rounds", "import-rounds"),
    )
    command.add_argument("--parts", nargs="+", choices=kernels.PARTS)


def _add_nnx(commands: Any) -> None:
    _add(
        commands,
        "nnx",
        nnx_training,
        "training steps of an NNX module, beside those of plain NNX",
        rounds=("rounds", "cold-rounds"),
    )


def _add_mesh(commands: Any) -> None:
    _add(
        commands,
        "mesh",
        mesh_training,
        "training steps over the devices of a mesh, and their collectives",
        rounds=("rounds",),
    )


def _add_exports(commands: Any) -> None:
    _add(
        commands,
        "exports",
        exports,
        "exported models: writing them, their size, and calls of what reads "
        "them",
        rounds=("rounds", "export-rounds", "start-rounds"),
    )


def _add_accelerator(commands: Any) -> None:
    command = _add(
        commands,
        "accelerator",
        accelerator,
        "compiling and running a training step on a GPU, and random words "
        "there",
        rounds=("rounds", "cold-rounds"),
    )
    command.add_argument("--models", nargs="+", choices=accelerator.WORKLOADS)
    command.add_argument("--parts", nargs="+", choices=accelerator.PARTS)


def _add(
    commands: Any,
    name: str,
    module: Any,
    what: str,
    *,
    rounds: Iterable[str],
    section_name: str = "table",
) -> argparse.ArgumentParser:
    """Adds a command whose module has `Settings`, `SMOKE`, `FLOORS`, `run`.

    Options are named as fields of the settings, and not there if not given.
    """
    command = commands.add_parser(
        name, help=what, argument_default=argparse.SUPPRESS
    )
    command.set_defaults(
        run=functools.partial(_measure, module, name, section_name)
    )
    for option in rounds:
        field = option.replace("-", "_")
        command.add_argument(
            f"--{option}",
            type=int,
            metavar="N",
            help=f"default: {getattr(module.Settings(), field)}",
        )
    command.add_argument(
        "--quick",
        action="store_true",
        default=False,
        help="tiny settings, only to see that it runs",
    )
    command.add_argument(
        "--out",
        type=pathlib.Path,
        default=None,
        help=f"where {name}.json and {name}.md go (default: {_RESULTS}, or "
        "nowhere if it is quick or only a part)",
    )
    command.add_argument(
        "--strict",
        action="store_true",
        default=False,
        help="end with status 1 if a floor is missed",
    )
    return command


def _measure(
    module: Any, name: str, section_name: str, arguments: argparse.Namespace
) -> int:
    folder = arguments.out
    whole = not {"models", "parts"} & vars(arguments).keys()
    if folder is None and whole and not arguments.quick:
        folder = _RESULTS
    if arguments.quick and folder is not None and folder.resolve() == _RESULTS:
        print("--quick does not write to where results are", file=sys.stderr)
        return 2
    about = report.environment()
    settings = module.SMOKE if arguments.quick else module.Settings()
    given = {
        field.name: getattr(arguments, field.name)
        for field in dataclasses.fields(settings)
        if hasattr(arguments, field.name)
    }
    settings = dataclasses.replace(settings, **given)
    found = report.Report(
        about,
        dataclasses.asdict(settings),
        module.run(settings, _progress),
        module.FLOORS,
        section_name=section_name,
        smoke=arguments.quick,
    )
    print(found.markdown())
    if folder is not None:
        found.write(folder, name)
    return 1 if arguments.strict and found.missed else 0


def _progress(what: str) -> None:
    print(f"measuring {what}", file=sys.stderr, flush=True)


def _plot() -> int:
    # Only this needs matplotlib.
    from benchmarks import plot

    try:
        plot.write(_RESULTS, _FIGURE)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(_FIGURE)
    return 0


def _add_hidden(commands: Any) -> None:
    """The commands of the processes that `children` starts."""

    def add(name: str, run: Callable[..., int], **arguments: Any) -> None:
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        for argument, options in arguments.items():
            command.add_argument(argument, **options)

    add(
        "_memory",
        _memory,
        model={"choices": models.WORKLOADS},
        subject={},
        steps={"type": int},
        blocks={"type": int, "nargs": "?"},
    )
    add("_words", _words, threads={"type": int})
    add("_mesh", _mesh, settings={"type": json.loads})


def _memory(arguments: argparse.Namespace) -> int:
    peaks = train.peak_memory(
        arguments.model, arguments.subject, arguments.steps, arguments.blocks
    )
    print(json.dumps(peaks))
    return 0


def _mesh(arguments: argparse.Namespace) -> int:
    settings = mesh_training.Settings(**arguments.settings)
    print(json.dumps(mesh_training.measured(settings, _progress)))
    return 0


def _words(arguments: argparse.Namespace) -> int:
    threads.serve(arguments.threads)
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=parse)

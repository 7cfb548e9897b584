"""The demo's command line, which imports nothing that may be missing."""

import argparse
import importlib.util
import pathlib
import sys

import flaxlayer

DESCRIPTION = (
    "Trains a small Flax network on handwritten digits, as a Keras model, "
    "loads what it has saved in another process and compares the predictions, "
    "and draws a picture of it. The exit status is 0 if the model is good "
    "enough and comes back to the last bit."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the demo's options to a parser."""
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("flaxlayer-demo"),
        metavar="FOLDER",
        help="where the model and the picture go (default: %(default)s)",
    )
    parser.add_argument(
        "--short",
        action="store_true",
        help="train for a few epochs, and compare no times",
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the demo.

    Args:
        arguments: the options, parsed.

    Returns:
        The exit status: 0 if all went well.
    """
    if problem := _problem(arguments.out):
        print(f"flaxlayer demo: {problem}", file=sys.stderr)
        return 1
    from flaxlayer.demo import train

    return train.run(arguments.out, short=arguments.short)


def _problem(out: pathlib.Path) -> str | None:
    """What keeps the demo from running, if anything does."""
    try:
        _ = flaxlayer.FlaxLayer
    except ImportError as error:
        return str(error)
    needed = {"matplotlib": "matplotlib", "sklearn": "scikit-learn"}
    missing = [
        package
        for module, package in needed.items()
        if importlib.util.find_spec(module) is None
    ]
    if missing:
        return (
            f"{' and '.join(missing)} missing; run "
            'pip install "flaxlayer[examples]"'
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"--out must be a folder that can be written to: {error}"
    return None

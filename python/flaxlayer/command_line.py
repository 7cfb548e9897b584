"""The `flaxlayer` command.

`flaxlayer doctor` has to start where the package cannot be used, so nothing
that may be missing is imported here.
"""

import argparse
from collections.abc import Sequence

from flaxlayer import doctor
from flaxlayer.demo import command as demo
from flaxlayer.version import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one of the commands.

    Args:
        argv: the command and its options, by default those of the process.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        prog="flaxlayer",
        description="Flax modules and plain JAX models as Keras 3 layers.",
        epilog="`flaxlayer COMMAND --help` says what a command takes.",
    )
    parser.add_argument(
        "--version", action="version", version=f"flaxlayer {__version__}"
    )
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    one = commands.add_parser(
        "demo",
        help="train a small network on handwritten digits",
        description=demo.DESCRIPTION,
    )
    demo.add_arguments(one)
    one.set_defaults(run=demo.run)
    one = commands.add_parser(
        "doctor",
        help="say what flaxlayer runs on, and how to mend what is off",
        description=doctor.DESCRIPTION,
    )
    one.set_defaults(run=lambda _: doctor.run())
    arguments = parser.parse_args(argv)
    return arguments.run(arguments)

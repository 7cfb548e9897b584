"""Runs the demo: `python -m flaxlayer.demo --help`."""

import argparse
import sys

from flaxlayer.demo import command

parser = argparse.ArgumentParser(
    prog="python -m flaxlayer.demo", description=command.DESCRIPTION
)
command.add_arguments(parser)
sys.exit(command.run(parser.parse_args()))

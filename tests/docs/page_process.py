"""Runs the code of a page in a process of its own.

Importing JAX, Flax and Keras takes longer than most pages do. So a server
imports them once, and each page runs in a process that is forked from it,
before JAX has started anything.
"""

import multiprocessing
import os
import pathlib
import runpy
import warnings

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["flaxlayer"])


def run(program: pathlib.Path) -> tuple[int, str]:
    """Runs a program in its folder.

    Args:
        program: a Python file, run as `python -W error::UserWarning` does.

    Returns:
        Its exit status, and what it has printed.
    """
    output = program.with_suffix(".out")
    process = _CONTEXT.Process(target=_run, args=(program, output))
    process.start()
    process.join()
    return process.exitcode, output.read_text(encoding="utf-8")


def _run(program: pathlib.Path, output: pathlib.Path) -> None:
    os.chdir(program.parent)
    os.environ["COLUMNS"] = "80"
    printed = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(printed, 1)
    warnings.filterwarnings("error", category=UserWarning)
    runpy.run_path(str(program), run_name="__main__")

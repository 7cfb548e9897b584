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
# All of it: importing `flaxlayer` alone imports little.
_CONTEXT.set_forkserver_preload(["flaxlayer", "keras"])


def run(program: pathlib.Path, devices: int = 1) -> tuple[int, str]:
    """Runs a program in its folder.

    Args:
        program: a Python file, run as `python -W error::UserWarning` does.
        devices: how many JAX has.

    Returns:
        Its exit status, and what it has printed.
    """
    output = program.with_suffix(".out")
    process = _CONTEXT.Process(target=_run, args=(program, output, devices))
    process.start()
    process.join()
    return process.exitcode, output.read_text(encoding="utf-8")


def _run(program: pathlib.Path, output: pathlib.Path, devices: int) -> None:
    os.chdir(program.parent)
    if devices > 1:
        os.environ["XLA_FLAGS"] = (
            f"--xla_force_host_platform_device_count={devices}"
        )
    os.environ["COLUMNS"] = "80"
    printed = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(printed, 1)
    warnings.filterwarnings("error", category=UserWarning)
    runpy.run_path(str(program), run_name="__main__")

"""Runs pytest inside a Bazel test.

Bazel learns of every case through the XML report, and of a file without tests
through pytest's exit status. `--test_filter` becomes pytest's `-k`.
"""

import contextlib
import os
import shutil
import site
import sys
from collections.abc import Iterator

import python_env_site


def main() -> int:
    """Runs the tests named on the command line; returns the exit status."""
    for directory in python_env_site.SITE_PACKAGES:
        if directory not in sys.path:
            site.addsitedir(directory)
    scratch = os.environ["TEST_TMPDIR"]
    # A sandboxed test has no home folder for Keras to write its settings to.
    os.environ.setdefault("KERAS_HOME", scratch)
    # Most of a test's time goes into compiling, often what another test, or a
    # process that it starts, has compiled already.
    compiled = os.path.join(scratch, "jax")
    for name, value in {
        "JAX_COMPILATION_CACHE_DIR": compiled,
        # Those of GPUs, whose folders would be part of what names a program.
        "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }.items():
        os.environ.setdefault(name, value)

    import pytest  # after the path is complete

    # The cache would be written into the source tree.
    args = ["-p", "no:cacheprovider", *sys.argv[1:]]
    if report := os.environ.get("XML_OUTPUT_FILE"):
        args.append(f"--junitxml={report}")
    if pattern := os.environ.get("TESTBRIDGE_TEST_ONLY"):
        args += ["-k", pattern]
    with _kept(compiled, os.environ.get("FLAXLAYER_COMPILED")):
        return pytest.main(args)


@contextlib.contextmanager
def _kept(compiled: str, kept: str | None) -> Iterator[None]:
    """Has a folder of compiled programs begin with those that are kept.

    JAX names them by all that they depend on, and writes them in place; tests
    run side by side. So each target has a folder of its own, with links to what
    is kept, where whole files take their names.

    Args:
        compiled: the folder that JAX is told of.
        kept: an existing folder, if `tools/dev` has named one.
    """
    os.makedirs(compiled, exist_ok=True)
    for name in os.listdir(kept) if kept else []:
        os.symlink(os.path.join(kept, name), os.path.join(compiled, name))
    yield
    for entry in os.scandir(compiled) if kept else []:
        if not entry.is_symlink():
            whole = os.path.join(kept, entry.name)
            shutil.copyfile(entry.path, f"{whole}.{os.getpid()}")
            os.replace(f"{whole}.{os.getpid()}", whole)


if __name__ == "__main__":
    sys.exit(main())

"""Runs pytest inside a Bazel test.

Bazel learns of every case through the XML report, and of a file without tests
through pytest's exit status. `--test_filter` becomes pytest's `-k`.
"""

import os
import site
import sys

import python_env_site


def main() -> int:
    """Runs the tests named on the command line; returns the exit status."""
    for directory in python_env_site.SITE_PACKAGES:
        if directory not in sys.path:
            site.addsitedir(directory)
    scratch = os.environ["TEST_TMPDIR"]
    # A sandboxed test has no home folder for Keras to write its settings to.
    os.environ.setdefault("KERAS_HOME", scratch)
    # Most of a test's time goes into compiling, often what another test of this
    # target, or a process that it starts, has compiled already. The folder is
    # new for each run.
    for name, value in {
        "JAX_COMPILATION_CACHE_DIR": os.path.join(scratch, "jax"),
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
    return pytest.main(args)


if __name__ == "__main__":
    sys.exit(main())

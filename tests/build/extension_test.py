"""What Bazel and pip make of the C++ sources."""

import os
import pathlib
import subprocess


def test_bazel_compiles_every_file_that_pip_compiles():
    # setup.py takes every .cc file below csrc; so does this test's data.
    on_disk = {str(path) for path in pathlib.Path("csrc").glob("**/*.cc")}
    listing = pathlib.Path(os.environ["NATIVE_SOURCES"]).read_text()
    labels = (line.removeprefix("//") for line in listing.split())
    compiled = {label.replace(":", "/") for label in labels}
    assert compiled
    assert compiled == on_disk


def test_extension_exports_its_init_function_only():
    symbols = subprocess.run(
        ["nm", "--dynamic", "--extern-only", "--defined-only", "--just-symbols"]
        + [os.environ["NATIVE_SO"]],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert symbols == ["PyInit__native"]

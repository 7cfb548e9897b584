"""Builds the sdist of the checkout in the current folder.

    build_sdist.py FOLDER

setuptools puts the time, the user and the mode of every file into it; here
they are those of no machine, so that one commit has one sdist.
SOURCE_DATE_EPOCH is the time, in seconds. Prints the path of the sdist.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import pathlib
import sys
import tarfile
import tempfile

from setuptools import build_meta


def build(folder: pathlib.Path, time: int) -> pathlib.Path:
    """Writes the sdist into a folder."""
    with tempfile.TemporaryDirectory() as work:
        with contextlib.redirect_stdout(io.StringIO()):
            name = build_meta.build_sdist(work)
        with tarfile.open(pathlib.Path(work, name)) as source:
            members = sorted(source.getmembers(), key=lambda file: file.name)
            # The name of the file is not in the header of the gzip format.
            with (
                open(folder / name, "wb") as raw,
                gzip.GzipFile("", "wb", mtime=time, fileobj=raw) as packed,
                tarfile.open(
                    fileobj=packed, mode="w", format=tarfile.PAX_FORMAT
                ) as target,
            ):
                for member in members:
                    target.addfile(
                        _of_no_machine(member, time),
                        source.extractfile(member) if member.isfile() else None,
                    )
    return folder / name


def _of_no_machine(member: tarfile.TarInfo, time: int) -> tarfile.TarInfo:
    runs = member.isdir() or member.mode & 0o100
    member.pax_headers.clear()  # They have the time with its fractions.
    return member.replace(
        mtime=time,
        mode=0o755 if runs else 0o644,
        uid=0,
        gid=0,
        uname="",
        gname="",
    )


if __name__ == "__main__":
    commit_time = int(os.environ["SOURCE_DATE_EPOCH"])
    print(build(pathlib.Path(sys.argv[1]), commit_time))

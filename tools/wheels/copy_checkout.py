"""Copies what git knows, or would add, from the current folder.

    copy_checkout.py FOLDER

Nothing that is ignored is in the copy, and its modes do not depend on who has
checked it out, so that what is built from it is the same for everybody.
"""

import os
import pathlib
import shutil
import subprocess
import sys


def copy(folder: pathlib.Path) -> None:
    """Copies the files into a folder, which is made."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
    ).stdout
    for name in filter(None, os.fsdecode(listing).split("\0")):
        source, target = pathlib.Path(name), folder / name
        if not source.is_file():  # Deleted, but not in the index.
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)


if __name__ == "__main__":
    copy(pathlib.Path(sys.argv[1]))

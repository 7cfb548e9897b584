"""Resolves the lock files with uv, as tools/requirements/sources says.

    locks.py            anew
    locks.py --check    keeping their versions; prints what would change

A check asks an index only if what uv has in its cache is not enough. It keeps a
version that is above a floor, too; tests/build/pyproject_test.py finds that.
"""

import concurrent.futures
import difflib
import pathlib
import subprocess
import sys
import tempfile
import tomllib

_FOLDER = pathlib.Path("tools/requirements")
_COMPILE = [
    *("uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes"),
    *("--python-version", "3.11", "--no-emit-index-url"),
    *("--custom-compile-command", "tools/dev lock"),
]


def sources() -> dict[str, list[str]]:
    """The arguments of uv, by the names of the lock files."""
    lines = (_FOLDER / "sources").read_text(encoding="utf-8").splitlines()
    words = [line.split() for line in lines if line and line[0] != "#"]
    return {name: arguments for name, *arguments in words}


def resolve(lock: pathlib.Path, *arguments: str) -> None:
    """Writes a lock file.

    Args:
        lock: its path; what is there is kept where it may be.
        *arguments: of uv; a dash is `build-system.requires`.

    Raises:
        ValueError: uv cannot, for what reason.
    """
    pyproject = tomllib.loads(pathlib.Path("pyproject.toml").read_text("utf-8"))
    done = subprocess.run(
        [*_COMPILE, *arguments, "--output-file", str(lock)],
        input="\n".join(pyproject["build-system"]["requires"]),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ValueError(done.stderr)


def changes(name: str, *arguments: str) -> str:
    """What a lock file lacks or has too much, as a diff; "" if nothing."""
    path = _FOLDER / f"{name}.txt"
    stated = path.read_text(encoding="utf-8") if path.exists() else ""
    with tempfile.TemporaryDirectory() as work:
        lock = pathlib.Path(work, path.name)
        lock.write_text(stated, encoding="utf-8")
        resolve(lock, *arguments)
        resolved = lock.read_text(encoding="utf-8")
    lines = (text.splitlines(keepends=True) for text in (stated, resolved))
    return "".join(difflib.unified_diff(*lines, str(path), "resolved", n=1))


def _problem(name: str, arguments: list[str]) -> str:
    try:
        if not changes(name, *arguments, "--offline"):
            return ""
    except ValueError:
        pass  # Of something that is not in the cache.
    try:
        return changes(name, *arguments)
    except ValueError as error:
        return f"{_FOLDER}/{name}.txt: {error}"


def main() -> int:
    """Resolves or checks all lock files; returns the exit status."""
    stated = sources()
    if sys.argv[1:] != ["--check"]:
        for name, arguments in stated.items():
            resolve(_FOLDER / f"{name}.txt", *arguments, "--upgrade")
        return 0
    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = list(pool.map(_problem, stated.keys(), stated.values()))
    found += [
        f"{path}: not in {_FOLDER}/sources\n"
        for path in _FOLDER.glob("*.txt")
        if path.stem not in stated
    ]
    if problems := "".join(found):
        print(f"{problems}Run tools/dev lock.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

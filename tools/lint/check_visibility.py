"""Checks that the public targets are those that docs/monorepo.md lists.

Others can depend on a public target, so it is a promise. The rest name those
who may.
"""

import pathlib
import re
from collections.abc import Iterable

from tools.lint import build_files

_PAGE = "docs/monorepo.md"
_SECTION = re.compile(r"^## Public targets\n(.*?)(?=^## |\Z)", re.M | re.S)
_ROW = re.compile(r"^\| `(//[^`]+)` \|", re.M)
_PUBLIC = "//visibility:public"

# Unlike all others; the default of the package is not theirs.
_PUBLIC_BY_DEFAULT = ("config_setting", "exports_files")


def problems(root: pathlib.Path, build_paths: Iterable[str]) -> list[str]:
    """The targets that are public or listed, and not both.

    Args:
        root: the repository.
        build_paths: its BUILD files.

    Returns:
        A line for each.
    """
    targets, defaults = build_files.read(root, build_paths)
    public = {
        target.label
        for target in targets
        if _PUBLIC in _visibility(target, defaults[target.folder])
    }
    page = (root / _PAGE).read_text(encoding="utf-8")
    listed = {
        build_files.full(label, pathlib.PurePosixPath())
        for section in _SECTION.findall(page)
        for label in _ROW.findall(section)
    }
    return [
        *(
            f"{label} is public, and not in {_PAGE}"
            for label in sorted(public - listed)
        ),
        *(
            f"{label} is in {_PAGE}, and not public"
            for label in sorted(listed - public)
        ),
    ]


def _visibility(target: build_files.Target, default: list[str]) -> list[str]:
    if "visibility" in target.attributes:
        return target.strings("visibility")
    return [_PUBLIC] if target.rule in _PUBLIC_BY_DEFAULT else default

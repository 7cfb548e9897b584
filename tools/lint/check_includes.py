"""Checks that C++ targets state what they include: all of it, no more.

Bazel lets a file include the headers of everything that its target depends on,
however far, so a forgotten dependency shows only when another drops its own.
"""

import pathlib
import re
from collections.abc import Iterable

from tools.lint import build_files

_RULES = ("cc_binary", "cc_library", "cc_test", "pybind_extension")
_ADDED_BY_MACROS = {
    "pybind_extension": {"//third_party/pybind11:pybind11"},
}

# Headers that are not ours, by the folder they are in: their targets.
_THIRD_PARTY = {
    "gmock": {"//third_party/googletest:gtest_main"},
    "gtest": {"//third_party/googletest:gtest_main"},
    "pybind11": {"//third_party/pybind11:pybind11"},
    "xla": {"//third_party/xla_ffi:xla_ffi"},
}

_INCLUDE = re.compile(r"""^#include (["<])([^">]+)""", re.M)


def problems(root: pathlib.Path, build_paths: Iterable[str]) -> list[str]:
    """What is missing from the `deps` of C++ targets, and what is unused.

    Args:
        root: the repository.
        build_paths: its BUILD files.

    Returns:
        A line for each.
    """
    targets, _ = build_files.read(root, build_paths)
    targets = [target for target in targets if target.rule in _RULES]
    owners: dict[str, set[str]] = {}
    for target in targets:
        for path in target.files("hdrs", "textual_hdrs"):
            owners.setdefault(path, set()).add(target.label)
    # Those without a header are there to be linked: a main function.
    linked = {target.label for target in targets} - set().union(
        *owners.values()
    )

    # A target among sources is a library, not a file.
    built = set(build_files.as_paths(target.label for target in targets))
    found = []
    for target in targets:
        deps = set(target.labels("deps"))
        added = _ADDED_BY_MACROS.get(target.rule, set())
        own = target.files("srcs", "hdrs", "textual_hdrs")
        used = set(linked)
        for path in set(own) - built:
            text = (root / path).read_text(encoding="utf-8")
            for mark, header in _INCLUDE.findall(text):
                top = header.partition("/")[0]
                needed = owners.get(header) or _THIRD_PARTY.get(top, set())
                if header in own or (mark == "<" and not needed):
                    continue  # The latter are the compiler's.
                used |= needed
                if not needed & (deps | added):
                    found.append(
                        f"{target.label}: {path} includes {header} of "
                        f"{' or '.join(sorted(needed)) or 'no target'}, "
                        f"not in deps"
                    )
        for dep in sorted(deps - used):
            found.append(f"{target.label}: {dep} is in deps and not included")
    return sorted(set(found))

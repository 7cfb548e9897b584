"""Writes the mutants of sources, a line of JSON for each.

    mutate.py FILE...

Cosmic Ray makes them; it is no dependency of the tests, so this runs in an
environment of its own, and `run.py` reads what it prints. A mutant is a source
with one operator, number, condition, decorator or loop changed. Those that
differ in nothing that runs are left out.
"""

import itertools
import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

from cosmic_ray import mutating, plugins
from running import running  # Python looks in the folder of a script.

# One of the twelve operators that a sum can be replaced with finds a missing
# test as well as all of them.
_REPLACED = {
    "Binary": {
        "Add": "Sub",
        "Sub": "Add",
        "Mul": "Div",
        "Div": "Mul",
        "FloorDiv": "Mul",
        "Mod": "Mul",
        "Pow": "Mul",
        "LShift": "RShift",
        "RShift": "LShift",
        "BitOr": "BitAnd",
        "BitAnd": "BitOr",
        "BitXor": "BitOr",
    },
    "Comparison": {
        "Eq": "NotEq",
        "NotEq": "Eq",
        "Lt": "LtE",
        "LtE": "Lt",
        "Gt": "GtE",
        "GtE": "Gt",
        "Is": "IsNot",
        "IsNot": "Is",
    },
    "Unary": {"USub": "UAdd", "Delete": "Not"},
}
_OTHERS = (
    "AddNot",
    "ExceptionReplacer",
    "NumberReplacer",
    "RemoveDecorator",
    "ReplaceAndWithOr",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ReplaceFalseWithTrue",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ZeroIterationForLoop",
)


def operators() -> list[str]:
    """The names of the operators, as Cosmic Ray has them."""
    replaced = [
        f"Replace{kind}Operator_{one}_{other}"
        for kind, pairs in _REPLACED.items()
        for one, other in pairs.items()
    ]
    return [f"core/{name}" for name in (*replaced, *_OTHERS)]


def mutants(source: str) -> Iterator[str]:
    """The mutants of a source that run otherwise, each once."""
    seen = {running(source)}
    for name in operators():
        operator = plugins.get_operator(name)()
        for occurrence in itertools.count():
            mutant = _mutated(source, operator, occurrence)
            if mutant is None:
                break
            runs = running(mutant)
            if runs is not None and runs not in seen:
                seen.add(runs)
                yield mutant


def _mutated(source: str, operator: Any, occurrence: int) -> str | None:
    try:
        return mutating.mutate_code(source, operator, occurrence)
    except AttributeError:  # Up to 8.7, of `except module.Error`.
        return source


def main(paths: list[str]) -> None:
    """Prints the mutants of these files."""
    for path in paths:
        source = pathlib.Path(path).read_text(encoding="utf-8")
        for mutant in mutants(source):
            print(json.dumps({"path": path, "mutant": mutant}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

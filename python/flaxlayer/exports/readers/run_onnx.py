"""Runs an ONNX file in a process that has onnxruntime alone, for the check.

usage: run_onnx.py EXPORT CALLS RESULTS
"""

import importlib
import json
import sys
from typing import Any

import numpy as np


def main(path: str, calls: str, results: str) -> None:
    """Makes the calls that a file has, and writes what they return."""
    onnxruntime: Any = importlib.import_module("onnxruntime")
    session = onnxruntime.InferenceSession(
        path, providers=["CPUExecutionProvider"]
    )
    taken = {each.name for each in session.get_inputs()}
    returned = []
    with np.load(calls, allow_pickle=False) as file:
        arrays = iter(file.values())
        for call in json.loads(str(next(arrays))):
            # What the function does not use is no input of the graph.
            given = {name: next(arrays) for name in call["inputs"]}
            given = {k: v for k, v in given.items() if k in taken}
            returned += session.run(call["outputs"], given)
    for package in ("jax", "keras", "flaxlayer", "tensorflow"):
        if package in sys.modules:
            raise AssertionError(f"loading has imported {package}")
    np.savez(results, *returned)


if __name__ == "__main__":
    main(*sys.argv[1:])

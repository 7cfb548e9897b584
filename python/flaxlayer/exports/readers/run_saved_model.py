"""Runs a SavedModel in a process that has TensorFlow alone, for the check.

usage: run_saved_model.py EXPORT CALLS RESULTS
"""

import importlib
import json
import sys
from typing import Any

import numpy as np


def main(path: str, calls: str, results: str) -> None:
    """Makes the calls that a file has, and writes what they return."""
    tf: Any = importlib.import_module("tensorflow")
    loaded = tf.saved_model.load(path)
    returned = []
    with np.load(calls, allow_pickle=False) as file:
        arrays = iter(file.values())
        for call in json.loads(str(next(arrays))):
            signature = loaded.signatures[call["endpoint"]]
            specs = signature.structured_input_signature[1]
            outputs = signature(
                **{
                    name: tf.constant(
                        next(arrays).view(specs[name].dtype.as_numpy_dtype)
                    )
                    for name in call["inputs"]
                }
            )
            returned += [outputs[name].numpy() for name in call["outputs"]]
    # TensorFlow itself looks for JAX.
    for package in ("flax", "flaxlayer"):
        if package in sys.modules:
            raise AssertionError(f"loading has imported {package}")
    # Dtypes that NumPy cannot write, as integers of their size.
    np.savez(
        results,
        *(
            array
            if array.dtype.isbuiltin == 1
            else array.view(f"u{array.itemsize}")
            for array in returned
        ),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

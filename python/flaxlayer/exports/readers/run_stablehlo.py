"""Runs an exported model in a process that has JAX alone, for the check.

usage: run_stablehlo.py EXPORT CALLS RESULTS
"""

import json
import sys

import numpy as np

import flaxlayer.serving


def main(path: str, calls: str, results: str) -> None:
    """Makes the calls that a file has, and writes what they return."""
    served = flaxlayer.serving.load(path)
    for package in ("keras", "flax", "tensorflow"):
        if package in sys.modules:
            raise AssertionError(f"serving has imported {package}")
    returned = []
    with np.load(calls, allow_pickle=False) as file:
        arrays = iter(file.values())
        for call in json.loads(str(next(arrays))):
            endpoint = served.endpoints[call["endpoint"]]
            inputs = [next(arrays).view(a.dtype) for a in endpoint.inputs]
            returned += map(np.asarray, endpoint.flat(inputs))
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

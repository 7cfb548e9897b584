"""Programs in the oldest version of StableHLO that has their operations.

JAX writes a version that is some weeks old, which the installed TensorFlow may
not read yet. What it reads it says only in an error. It reads all older ones,
so the oldest is what most versions of TensorFlow read.
"""

from jax.extend.mlir import ir
from jax.extend.mlir.dialects import stablehlo


def oldest(module: bytes) -> bytes:
    """A serialized module, written in the oldest version that it can be.

    Args:
        module: a portable artifact, as `jax.export` has it.
    """
    with ir.Context() as context:
        # Of the versions that have no words for it.
        context.attach_diagnostic_handler(lambda diagnostic: True)
        stablehlo.register_dialect(context)
        try:
            parsed = stablehlo.deserialize_portable_artifact(context, module)
        except ValueError:
            # It has words of other dialects, as JAX's calls of LAPACK have.
            # TensorFlow says by name what of these it cannot run.
            return module
        for version in _versions():
            try:
                return stablehlo.serialize_portable_artifact(parsed, version)
            except ValueError:
                continue
    return module


def _versions() -> list[str]:
    """Those that the installed JAX writes, old ones first."""
    oldest, newest = (
        tuple(map(int, version.split(".")))
        for version in (
            stablehlo.get_minimum_version(),
            stablehlo.get_current_version(),
        )
    )
    minors = [f"{newest[0]}.{minor}.0" for minor in range(newest[1] + 1)]
    return [
        stablehlo.get_minimum_version(),
        *(v for v in minors if tuple(map(int, v.split("."))) > oldest),
    ]

"""Whether weights that a user has given fit those that a model makes."""

from collections.abc import Sequence

from flaxlayer.paths import StructureMismatch, joined
from flaxlayer.weights.variable_tree import (
    Leaf,
    is_differentiable,
    mismatches,
)


def check(given: Sequence[Leaf], made: Sequence[Leaf]) -> None:
    """Compares given collections with those that the model makes.

    Args:
        given: the leaves that were given; of a collection, all.
        made: those that an initialisation makes.

    Raises:
        StructureMismatch: paths are missing or unexpected, a shape is another
            one, or values without gradients were given for such with them.
    """
    collections = {leaf.path[0] for leaf in given}
    problems = mismatches(
        expected=[
            leaf
            for leaf in made
            if leaf.is_array and leaf.path[0] in collections
        ],
        received=given,
    )
    wanted = {leaf.path: leaf.spec for leaf in made if leaf.spec is not None}
    problems += [
        f"`{joined(leaf.path)}`: expected "
        f"{wanted[leaf.path].dtype}, received {leaf.spec.dtype}"
        for leaf in given
        if leaf.spec is not None
        and leaf.path in wanted
        and is_differentiable(wanted[leaf.path])
        and not is_differentiable(leaf.spec)
    ]
    if not problems:
        return
    hint = ""
    if collections.isdisjoint(path[0] for path in wanted):
        names = sorted({path[0] for path in wanted})
        hint = f" The collections are {names}, and parameters alone are "
        hint += '`{"params": params}`.'
    raise StructureMismatch(
        "`variables` do not fit the module: "
        f"{'; '.join(problems)}. Expected the structure and shapes of "
        f"`module.init`.{hint}"
    )

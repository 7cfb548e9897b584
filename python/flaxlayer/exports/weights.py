"""The weights of all endpoints: each has a name, and is stored once."""

import hashlib
from collections.abc import Sequence

import keras
import numpy as np

from flaxlayer.exports.endpoint import ExportedEndpoint


class SharedWeights:
    """The weights of endpoints, by names.

    A variable that several endpoints have is one weight. So are two variables
    of two endpoints that have the same place in their layers and the same
    value, as those of two layers that call two methods of one trained module.

    Args:
        endpoints: whose weights they are.

    Attributes:
        values: of each, by name.
        variables: one that it is the value of, by name.
        names: for each endpoint, those of its weights in their order.
        state: for each endpoint, those that it changes.
    """

    def __init__(self, endpoints: Sequence[ExportedEndpoint]):
        self.values: dict[str, np.ndarray] = {}
        self.variables: dict[str, keras.Variable] = {}
        self._by_variable: dict[int, str] = {}
        # By place and value: the name, and the endpoint that it came with.
        self._by_value: dict[tuple[str, ...], tuple[str, str]] = {}
        changed = {id(v) for e in endpoints for v in e.state}
        self.names: dict[str, list[str]] = {
            e.name: [
                self._add(v, e.name, shareable=id(v) not in changed)
                for v in e.weights
            ]
            for e in endpoints
        }
        self.state = {
            e.name: [self._by_variable[id(v)] for v in e.state]
            for e in endpoints
        }

    def _add(
        self, variable: keras.Variable, endpoint: str, *, shareable: bool
    ) -> str:
        if id(variable) in self._by_variable:
            return self._by_variable[id(variable)]
        value = np.asarray(variable.value)
        key = (
            variable.path.partition("/")[2],
            str(value.dtype),
            str(value.shape),
            hashlib.sha256(value.tobytes()).hexdigest(),
        )
        if shareable:
            name, owner = self._by_value.get(key, ("", endpoint))
            if owner != endpoint:
                self._by_variable[id(variable)] = name
                return name
        unique, count = variable.path, 1
        while unique in self.values:
            unique, count = f"{variable.path}_{count}", count + 1
        if shareable:
            self._by_value.setdefault(key, (unique, endpoint))
        self._by_variable[id(variable)] = unique
        self.values[unique] = value
        self.variables[unique] = variable
        return unique

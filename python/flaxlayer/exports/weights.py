"""The weights of all endpoints: each has a name, and is stored once."""

import collections
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from flaxlayer.exports.endpoint import ExportedEndpoint


class SharedWeights:
    """The weights of endpoints, by names.

    A variable that several endpoints have is one weight. So are the variables
    of two endpoints that have the same places in their layers, if all that do
    have the same values, as in two layers that call two methods of one trained
    module.

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
        self._names: dict[int, str] = {}
        changed = {id(v) for e in endpoints for v in e.state}
        # For each endpoint so far, the names at the places in its layer.
        before: list[dict[str, str]] = []
        for endpoint in endpoints:
            counts = collections.Counter(map(_place, endpoint.weights))
            # The layers of a model may all have a weight at one place.
            places = {
                _place(variable): variable
                for variable in endpoint.weights
                if id(variable) not in changed and counts[_place(variable)] == 1
            }
            known = next(
                filter(None, (self._same(places, b) for b in before)), {}
            )
            for variable in endpoint.weights:
                self._add(variable, known.get(_place(variable)))
            before.append({k: self._names[id(v)] for k, v in places.items()})
        self.names = {
            e.name: [self._names[id(v)] for v in e.weights] for e in endpoints
        }
        self.state = {
            e.name: [self._names[id(v)] for v in e.state] for e in endpoints
        }

    def _same(
        self, places: Mapping[str, keras.Variable], before: Mapping[str, str]
    ) -> dict[str, str]:
        """The names that weights have already; none if any value differs."""
        common = {place: before[place] for place in places if place in before}
        for place, name in common.items():
            value, other = np.asarray(places[place].value), self.values[name]
            if (
                value.dtype != other.dtype
                or value.shape != other.shape
                or value.tobytes() != other.tobytes()
            ):
                return {}
        return common

    def _add(self, variable: keras.Variable, known: str | None) -> None:
        if id(variable) in self._names:
            return
        if known is not None:
            self._names[id(variable)] = known
            return
        name, count = variable.path, 1
        while name in self.values:
            name, count = f"{variable.path}_{count}", count + 1
        self._names[id(variable)] = name
        self.values[name] = np.asarray(variable.value)
        self.variables[name] = variable


def _place(variable: keras.Variable) -> str:
    """Where a variable is, without the name of the outermost layer."""
    return variable.path.partition("/")[2]

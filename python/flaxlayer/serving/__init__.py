"""Serves exported models, in a process that has JAX and neither Keras nor Flax.

`flaxlayer.export(model, path)` writes what `load` reads.
"""

from flaxlayer.serving.archive import load as load
from flaxlayer.serving.served import Served as Served
from flaxlayer.serving.served import ServedEndpoint as ServedEndpoint
from flaxlayer.serving.signature import BadExport as BadExport

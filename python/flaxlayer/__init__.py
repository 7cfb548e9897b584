"""Flax modules and plain JAX models as first-class Keras 3 layers."""

from flaxlayer.calls.call_arguments import CallArguments as CallArguments
from flaxlayer.checkpoints import OrbaxBackup as OrbaxBackup
from flaxlayer.checkpoints import PendingSave as PendingSave
from flaxlayer.checkpoints import load_variables as load_variables
from flaxlayer.checkpoints import save_variables as save_variables
from flaxlayer.flax_layer import FlaxLayer as FlaxLayer
from flaxlayer.jax_layer import JaxLayer as JaxLayer
from flaxlayer.ops.dispatch import explain_kernels as explain_kernels
from flaxlayer.ops.dispatch import kernels as kernels
from flaxlayer.peer_files import load_model as load_model
from flaxlayer.version import __version__ as __version__
from flaxlayer.weight_table import tabulate as tabulate

"""Weights in the formats of the Flax world, and backups of training runs."""

from flaxlayer.checkpoints.loading import load_variables as load_variables
from flaxlayer.checkpoints.model_files import ModelCheckpoint as ModelCheckpoint
from flaxlayer.checkpoints.model_files import save_model as save_model
from flaxlayer.checkpoints.orbax_backup import OrbaxBackup as OrbaxBackup
from flaxlayer.checkpoints.pending_save import PendingSave as PendingSave
from flaxlayer.checkpoints.saving import save_variables as save_variables

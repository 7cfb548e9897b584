"""The mode of an NNX module."""

from flax import nnx


def in_mode(module: nnx.Module, training: bool) -> nnx.Module:
    """The module in training or inference mode; it may be changed in place.

    By `train()` and `eval()`, which set the attributes of modules that have
    them, and, where Flax has `nnx.view`, by the `set_view` of modules that
    have their own.

    Args:
        module: the module.
        training: the mode.
    """
    if training:
        module.train()
    else:
        module.eval()
    if not hasattr(nnx, "view"):  # An older Flax.
        return module
    return nnx.view(
        module,
        deterministic=not training,
        use_running_average=not training,
        raise_if_not_found=False,
    )

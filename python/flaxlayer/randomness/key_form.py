"""In which form a model gets its random keys.

The layer computes raw threefry keys. What a model is given is one of these:

- raw key data of JAX's default implementation, as Keras's own layer gives it;
- typed keys of an implementation the user named;
- in place of either, where the kernels allow it, typed threefry keys of
  `flaxlayer.ops.threefry`, whose words come from native code. They give the
  same bits, but are of a dtype of their own, which must not leave the model:
  what it returns is turned back into what it would have returned otherwise.
"""

import dataclasses
from typing import Any

import jax

from flaxlayer import jax_compat
from flaxlayer.ops import dispatch, threefry

_THREEFRY = "threefry2x32"


@dataclasses.dataclass(frozen=True)
class KeyForm:
    """The form; hashable, a static argument of what is compiled.

    Attributes:
        impl: the name of the PRNG implementation, as JAX has it.
        typed: whether the model was promised typed keys.
        kernel: how the words of its keys are computed.
    """

    impl: str
    typed: bool
    kernel: dispatch.Choice

    @property
    def native(self) -> bool:
        """Whether the keys are those of `flaxlayer.ops.threefry`."""
        return self.impl == _THREEFRY and self.kernel.kernel == "native"

    @property
    def optional(self) -> bool:
        """Whether JAX's own keys may take their place."""
        return self.native and not self.kernel.required

    def stock(self) -> "KeyForm":
        """The same form with JAX's own implementation."""
        reference = dispatch.Choice(
            "reference", reason="the model does not work with native keys"
        )
        return dataclasses.replace(self, kernel=reference)

    def given(self, data: jax.Array) -> jax.Array:
        """What the model is given for raw key data of `impl`."""
        if self.native:
            return threefry.keys_of(data, required=self.kernel.required)
        if self.typed:
            return jax.random.wrap_key_data(data, impl=self.impl)
        return data

    def returned(self, tree: Any) -> Any:
        """What the model returned, without keys of our implementation."""
        if not self.native:
            return tree
        impl = threefry.prng_impl(required=self.kernel.required)

        def convert(leaf: Any) -> Any:
            if jax_compat.key_impl(leaf) != impl:
                return leaf
            data = jax.random.key_data(leaf)
            if not self.typed:
                return data
            return jax.random.wrap_key_data(data, impl=self.impl)

        return jax.tree_util.tree_map(convert, tree)

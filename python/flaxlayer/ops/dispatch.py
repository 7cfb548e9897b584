"""Which implementation of an operation runs, and why.

A policy says what is wanted: "auto" (native where it can be used), "native"
(or an error), "reference" (pure JAX). `choose` turns it into a `Choice`, from
facts that do not change while a function is traced. Code that traces takes the
`Choice` as a static argument and asks nothing more: what a trace looks up, jit
caches.
"""

from __future__ import annotations

import contextvars
import dataclasses
import functools
import threading
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import jax

from flaxlayer import backend, jax_compat
from flaxlayer.ops import log, native, partitioning

Policy = Literal["auto", "native", "reference"]
Kernel = Literal["native", "reference"]

_POLICIES = get_args(Policy)

_BUILD = "Install a wheel that has them or build with a C++17 compiler"
_DRIVER = "Use a CUDA device whose driver is that of CUDA 12.0 or newer"


@dataclasses.dataclass(frozen=True)
class Choice:
    """The implementation an operation is to use; hashable, a static argument.

    Attributes:
        kernel: The implementation.
        required: Whether the native kernel was asked for by name. Lowering
            then raises where it cannot emit it (platforms without the kernel,
            several CUDA devices, `jax.shard_map` over some axes of a mesh),
            instead of emitting the reference. Exported programs have the call,
            which JAX refuses to export unless it is told that there is a
            handler for it.
        reason: Why, for people; no part of equality, so that a reworded
            reason compiles nothing again.
    """

    kernel: Kernel
    required: bool = False
    reason: str = dataclasses.field(default="", compare=False)


class Kernels(NamedTuple):
    """The choice for every operation, by its name."""

    rng_fold: Choice
    threefry: Choice
    state_merge: Choice


# What JAX calls a GPU, and what `jax.default_device` may.
_GPU = ("gpu", "cuda")

# Those with kernels for CUDA devices.
_ON_CUDA = ("rng_fold", "threefry")

# Random words are the same. But XLA fuses those of its own with the arithmetic
# that they are for, and other fusions round differently.
_ROUNDS_ELSEWHERE = (
    "on a GPU sums round as in stock JAX only with its own random words; on a "
    'CUDA device kernels="native" compiles faster'
)


class _Default:
    """A process default and those it replaced, as a linked list.

    `withdrawn` marks one that turned out to belong to a `with` block.
    """

    def __init__(self, policy: Policy, previous: _Default | None):
        self.policy = policy
        self.previous = previous
        self.withdrawn = False


_default = _Default("auto", None)
_default_lock = threading.Lock()

# The policy of the innermost `with kernels(...)` block of this context.
_block_policy: contextvars.ContextVar[Policy | None] = contextvars.ContextVar(
    "flaxlayer_kernels", default=None
)


class kernels:
    """Sets which kernels are used by layers whose own policy is "auto".

    As a function, `kernels("reference")`, it sets the default of the process
    at once, for all threads. As a context manager,
    `with kernels("reference"):`, it applies to the block only: to the code
    that runs in it, not to other threads, and the policy before it is back
    when the block is left. A call as a function inside of such a block changes
    the policy for the rest of that block.

    A layer reads the policy when it is called; a function that was traced
    before, `jax.jit` of a call for one, keeps the kernels it was traced with.

    Args:
        policy: "auto", "native" or "reference".

    Raises:
        ValueError: If `policy` is none of these.
    """

    def __init__(self, policy: Policy):
        global _default
        _check(policy)
        self._policy = policy
        self._pending: _Default | None = None
        self._entered = False
        self._outer = _block_policy.get()
        # Python gives no way to know here whether `with` will follow, so the
        # policy takes effect, and __enter__ takes it back from the process.
        if self._outer is None:
            with _default_lock:
                _default = self._pending = _Default(policy, _default)
        else:
            _block_policy.set(policy)

    def __enter__(self) -> None:
        if self._entered:
            raise RuntimeError(
                "flaxlayer.kernels(...) can be entered once; write a new call "
                "for every `with`."
            )
        self._entered = True
        if self._pending is not None:
            _withdraw(self._pending)
            self._outer = _block_policy.get()
        _block_policy.set(self._policy)

    def __exit__(self, *exc_info: Any) -> None:
        _block_policy.set(self._outer)


def _withdraw(default: _Default) -> None:
    """Takes one setting back.

    Another thread may have set the default in between, so the one before is
    not restored by assignment: that could undo the other's setting, or bring
    back one that was itself withdrawn.
    """
    global _default
    with _default_lock:
        default.withdrawn = True
        while _default.withdrawn:
            assert _default.previous is not None  # The first is permanent.
            _default = _default.previous


def current_policy() -> Policy:
    """The policy of this context's `with` block, else the process default."""
    return _block_policy.get() or _default.policy


def resolve(layer_policy: Policy) -> Policy:
    """A layer's own policy, or the current one if that is "auto".

    Raises:
        ValueError: If `layer_policy` is no policy.
    """
    _check(layer_policy)
    return current_policy() if layer_policy == "auto" else layer_policy


def choose(op: str, policy: Policy) -> Choice:
    """Picks the implementation of an operation. Call it outside of traces.

    Args:
        op: The operation, a field of `Kernels`.
        policy: What is wanted, already resolved: the current default is not
            looked up here.

    Returns:
        The choice. A native one may still lower to the reference, see
        `Choice.required`.

    Raises:
        ValueError: If `op` or `policy` is unknown.
        RuntimeError: If `policy` is "native" and there is no native kernel,
            or none that is right under JAX's configuration.
    """
    _check(policy)
    if op not in Kernels._fields:
        raise ValueError(
            f"op must be one of {Kernels._fields}. Received: {op!r}"
        )
    return _choose(op, policy, _facts(policy))


def choose_all(policy: Policy) -> Kernels:
    """The choice for every operation; see `choose`."""
    _check(policy)
    return _choose_all(policy, _facts(policy))


class _Facts(NamedTuple):
    """What choices depend on, as far as the policy leaves any.

    Attributes:
        missing: Why there are no native kernels, and what helps; or `None`.
        platform: Where arrays are that nobody placed.
        partitionable: Whether random words are laid out as the native ones.
    """

    missing: tuple[str, str] | None = None
    platform: str = "cpu"
    partitionable: bool = True


def _facts(policy: Policy) -> _Facts:
    if policy == "reference":
        return _Facts()
    in_use = backend.in_use()
    if in_use != "jax":
        return _Facts(
            (f"Keras's backend is {in_use}", "Run with KERAS_BACKEND=jax")
        )
    platform = _platform()
    on_gpu = platform in _GPU
    if on_gpu and policy == "auto":
        return _Facts(platform=platform)
    reason = native.unavailable_reason("cuda" if on_gpu else "cpu")
    if reason is not None:
        return _Facts((reason, _DRIVER if on_gpu else _BUILD), platform)
    if policy == "native" or platform == "cpu":
        partitioning.prepare()
    return _Facts(
        platform=platform,
        partitionable=jax_compat.threefry_partitionable(),
    )


def _choose(op: str, policy: Policy, facts: _Facts) -> Choice:
    if policy == "reference":
        return Choice("reference", reason='the policy is "reference"')
    on_gpu = facts.platform in _GPU
    if on_gpu and op not in _ON_CUDA:
        return Choice("reference", reason="XLA computes it on a GPU")
    layout = None
    if op == "threefry" and not facts.partitionable:
        layout = (
            "jax_threefry_partitionable is off, and the native words are laid "
            "out as it says when it is on"
        )
    if policy == "native":
        if facts.missing is not None:
            missing, remedy = facts.missing
            raise RuntimeError(
                'kernels="native" was asked for, but the native kernels of '
                f"flaxlayer cannot be used: {missing}. {remedy}, or use "
                '"auto" or "reference".'
            )
        if layout is not None:
            raise RuntimeError(
                'kernels="native" was asked for, but the native kernel of '
                f'{op} cannot be used: {layout}. Turn it on, or use "auto" or '
                '"reference".'
            )
        return Choice("native", required=True, reason='the policy is "native"')

    if facts.missing is not None:
        return Choice("reference", reason=facts.missing[0])
    if on_gpu:
        return Choice("reference", reason=_ROUNDS_ELSEWHERE)
    if facts.platform != "cpu":
        return Choice(
            "reference",
            reason=f"the default platform is {facts.platform}, native is for "
            "cpu and cuda",
        )
    if layout is not None:
        return Choice("reference", reason=layout)
    return Choice("native", reason="the extension is loaded")


# Every call of a layer asks, and is mostly answered the same.
@functools.lru_cache(maxsize=16)
def _choose_all(policy: Policy, facts: _Facts) -> Kernels:
    return Kernels(*(_choose(op, policy, facts) for op in Kernels._fields))


def log_choice(layer: str, chosen: Kernels) -> None:
    """Logs at verbosity 1, once, the kernels that a layer uses and why.

    Args:
        layer: What the layer is called in messages.
        chosen: What `choose_all` returned.
    """

    def line() -> str:
        ops = "; ".join(
            f"{op} {choice.kernel} ({choice.reason})"
            for op, choice in chosen._asdict().items()
        )
        return f"{layer} uses these kernels: {ops}."

    log.once(line)


@dataclasses.dataclass(frozen=True)
class OpReport:
    """One operation: its kernel, None where calling it raises, and why."""

    kernel: Kernel | None
    reason: str


@dataclasses.dataclass(frozen=True)
class KernelReport:
    """What `explain_kernels` found; `str` of it is the readable form.

    Attributes:
        policy: The policy in force where the report was made.
        ops: A report for every operation, by its name.
        available: Whether the native extension can be used.
        unavailable_reason: Why it cannot, or None.
        build_info: What the extension was built with, or None without one.
        jax_version: The version of the running JAX.
        platform: JAX's default platform, or that of `jax.default_device`.
    """

    policy: Policy
    ops: Mapping[str, OpReport]
    available: bool
    unavailable_reason: str | None
    build_info: Mapping[str, Any] | None
    jax_version: str
    platform: str

    def __str__(self) -> str:
        lines = [f"flaxlayer kernels (policy: {self.policy})"]
        width = max(map(len, self.ops))
        for name, op in self.ops.items():
            kernel = op.kernel or "none"
            lines.append(f"  {name:<{width}}  {kernel:<9}  {op.reason}")
        status = "loaded"
        if not self.available:
            status = f"not in use: {self.unavailable_reason}"
        lines.append(f"native extension: {status}")
        if self.build_info is not None:
            major, minor = self.build_info["xla_ffi_api"]
            lines.append(
                f"  built with {self.build_info['compiler']}, C++ standard "
                f"{self.build_info['cpp_standard']}, XLA FFI {major}.{minor}; "
                f"runs on {self.build_info['instruction_set']}"
            )
        lines.append(f"jax {self.jax_version}, platform {self.platform}")
        if any(op.kernel == "native" for op in self.ops.values()):
            lines.append(
                "jax.export refuses them; flaxlayer.export keeps them."
                if self.policy == "native"
                else "Exports use the reference all the same."
            )
        return "\n".join(lines)


def explain_kernels() -> KernelReport:
    """Reports the kernel of every operation under the current policy, and why.

    It is for layers whose own policy is "auto". `print` it to read it; its
    fields can be inspected: `explain_kernels().ops["rng_fold"].kernel`.
    """
    policy, platform = current_policy(), _platform()
    missing = native.unavailable_reason("cuda" if platform in _GPU else "cpu")
    return KernelReport(
        policy=policy,
        ops={op: _explain(op, policy) for op in Kernels._fields},
        available=missing is None,
        unavailable_reason=missing,
        build_info=native.build_info(),
        jax_version=jax.__version__,
        platform=platform,
    )


def _explain(op: str, policy: Policy) -> OpReport:
    try:
        choice = choose(op, policy)
    except RuntimeError as error:
        return OpReport(None, str(error))
    return OpReport(choice.kernel, choice.reason)


def _platform() -> str:
    """That of arrays which nobody placed, as `jax.default_device` has it."""
    config: Any = jax.config
    device = config.jax_default_device
    if device is None:
        return jax.default_backend()
    return device if isinstance(device, str) else device.platform


def _check(policy: str) -> None:
    if policy not in _POLICIES:
        raise ValueError(
            f"kernels must be one of {_POLICIES}. Received: {policy!r}"
        )

import contextvars
import threading

import jax
import pytest

from flaxlayer.ops import dispatch, native


@pytest.fixture(autouse=True)
def restored_policy(monkeypatch):
    """Undoes what a test does to the process default."""
    monkeypatch.setattr(dispatch, "_default", dispatch._default)


@pytest.fixture
def loaded(monkeypatch):
    """Pretends that the extension is loaded."""
    info = {
        "compiler": "C",
        "cpp_standard": 201703,
        "xla_ffi_api": (0, 1),
        "instruction_set": "avx2",
    }
    monkeypatch.setattr(native, "unavailable_reason", lambda _="cpu": None)
    monkeypatch.setattr(native, "build_info", lambda: info)


@pytest.fixture
def missing(monkeypatch):
    """Pretends that it is not."""
    monkeypatch.setattr(
        native, "unavailable_reason", lambda _="cpu": "no compiler"
    )
    monkeypatch.setattr(native, "build_info", lambda: None)


def in_a_thread(function):
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def test_the_first_default_is_auto():
    assert dispatch.current_policy() == "auto"


def test_a_call_sets_the_default_of_the_process():
    dispatch.kernels("reference")
    assert dispatch.current_policy() == "reference"
    assert in_a_thread(dispatch.current_policy) == "reference"


def test_a_block_restores():
    with dispatch.kernels("reference"):
        assert dispatch.current_policy() == "reference"
        with dispatch.kernels("native"):
            assert dispatch.current_policy() == "native"
        assert dispatch.current_policy() == "reference"
    assert dispatch.current_policy() == "auto"


def test_a_block_restores_after_an_error():
    with pytest.raises(KeyError), dispatch.kernels("reference"):
        raise KeyError
    assert dispatch.current_policy() == "auto"


def test_a_block_restores_the_default_that_was_set():
    dispatch.kernels("native")
    with dispatch.kernels("reference"):
        pass
    assert dispatch.current_policy() == "native"


def test_a_block_is_not_seen_by_other_threads():
    with dispatch.kernels("reference"):
        assert in_a_thread(dispatch.current_policy) == "auto"


def test_a_block_is_seen_by_a_copied_context():
    with dispatch.kernels("reference"):
        context = contextvars.copy_context()
    assert context.run(dispatch.current_policy) == "reference"


def test_a_call_in_a_block_lasts_as_long_as_the_block():
    with dispatch.kernels("reference"):
        dispatch.kernels("native")
        assert dispatch.current_policy() == "native"
        assert in_a_thread(dispatch.current_policy) == "auto"
    assert dispatch.current_policy() == "auto"


def test_a_default_set_by_another_thread_survives_a_block():
    with dispatch.kernels("reference"):
        in_a_thread(lambda: dispatch.kernels("native"))
        assert dispatch.current_policy() == "reference"
    assert dispatch.current_policy() == "native"


def test_blocks_entered_in_another_order_leave_no_default():
    # What two threads do that come to their `with` at the same time.
    first = dispatch.kernels("reference")
    second = dispatch.kernels("native")
    with first:
        in_a_thread(second.__enter__)
        assert in_a_thread(dispatch.current_policy) == "auto"
    assert dispatch.current_policy() == "auto"


def test_many_threads():
    wrong = []

    def work(policy):
        for _ in range(200):
            with dispatch.kernels(policy):
                if dispatch.current_policy() != policy:
                    wrong.append(policy)

    threads = [
        threading.Thread(target=work, args=(policy,))
        for policy in ("native", "reference") * 4
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert dispatch.current_policy() == "auto"


def test_a_block_is_entered_once():
    setting = dispatch.kernels("reference")
    with setting:
        pass
    with pytest.raises(RuntimeError, match="can be entered once"), setting:
        pass
    assert dispatch.current_policy() == "auto"


@pytest.mark.parametrize("policy", ["fast", "", None, 1])
@pytest.mark.parametrize(
    "use",
    [
        dispatch.kernels,
        dispatch.resolve,
        lambda policy: dispatch.choose("rng_fold", policy),
    ],
)
def test_unknown_policy(use, policy):
    expected = r"'auto', 'native', 'reference'\). Received: " + repr(policy)
    with pytest.raises(ValueError, match=expected):
        use(policy)
    assert dispatch.current_policy() == "auto"


def test_resolve():
    with dispatch.kernels("reference"):
        assert dispatch.resolve("auto") == "reference"
        assert dispatch.resolve("native") == "native"
    assert dispatch.resolve("auto") == "auto"
    assert dispatch.resolve("reference") == "reference"


def test_unknown_op():
    with pytest.raises(ValueError, match=r"'rng_fold'.*Received: 'matmul'"):
        dispatch.choose("matmul", "auto")


def test_auto_with_the_extension(loaded):
    choice = dispatch.choose("rng_fold", "auto")
    assert choice == dispatch.Choice("native", required=False)
    assert choice.reason


def test_auto_without_the_extension(missing):
    choice = dispatch.choose("rng_fold", "auto")
    assert choice == dispatch.Choice("reference")
    assert choice.reason == "no compiler"


def test_auto_on_another_platform(loaded, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    choice = dispatch.choose("rng_fold", "auto")
    assert choice == dispatch.Choice("reference")
    assert "tpu" in choice.reason


@pytest.mark.parametrize("by_name", [True, False])
def test_auto_where_the_cpu_is_the_device_by_default(
    loaded, monkeypatch, by_name
):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    device = "cpu" if by_name else jax.devices("cpu")[0]
    with jax.default_device(device):
        assert dispatch.choose("rng_fold", "auto").kernel == "native"
        assert dispatch.explain_kernels().platform == "cpu"
    assert dispatch.choose("rng_fold", "auto").kernel == "reference"


@pytest.fixture
def on_a_gpu(loaded, monkeypatch):
    """Pretends that there is one, and that kernels for it are loaded."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


@pytest.mark.parametrize("op", dispatch.Kernels._fields)
def test_a_gpu_computes_as_stock_jax_does(on_a_gpu, op):
    assert dispatch.choose(op, "auto") == dispatch.Choice("reference")


@pytest.mark.parametrize("op", ["rng_fold", "threefry"])
def test_native_by_name_on_a_gpu(on_a_gpu, op):
    assert dispatch.choose(op, "native") == dispatch.Choice(
        "native", required=True
    )
    assert 'kernels="native"' in dispatch.choose(op, "auto").reason


def test_a_gpu_merges_without_a_kernel_by_name_too(on_a_gpu):
    choice = dispatch.choose("state_merge", "native")
    assert choice == dispatch.Choice("reference")


def test_native_by_name_on_a_gpu_without_its_kernels(on_a_gpu, monkeypatch):
    reasons = {"cpu": None, "cuda": "there is no CUDA device"}
    monkeypatch.setattr(
        native, "unavailable_reason", lambda platform="cpu": reasons[platform]
    )
    with pytest.raises(RuntimeError, match=r"there is no CUDA.*CUDA 12\.0"):
        dispatch.choose("threefry", "native")
    assert dispatch.choose("threefry", "auto").kernel == "reference"
    report = dispatch.explain_kernels()
    assert not report.available
    assert report.unavailable_reason == "there is no CUDA device"


def test_native_with_the_extension(loaded):
    choice = dispatch.choose("rng_fold", "native")
    assert choice == dispatch.Choice("native", required=True)


def test_native_without_the_extension(missing):
    with pytest.raises(RuntimeError) as error:
        dispatch.choose("rng_fold", "native")
    assert "no compiler" in str(error.value)
    assert 'use "auto" or "reference"' in str(error.value)


@pytest.mark.parametrize("state", ["loaded", "missing"])
def test_reference(request, state):
    request.getfixturevalue(state)
    choice = dispatch.choose("rng_fold", "reference")
    assert choice == dispatch.Choice("reference")


def test_choose_takes_the_policy_as_it_is(loaded):
    with dispatch.kernels("reference"):
        assert dispatch.choose("rng_fold", "auto").kernel == "native"


def test_a_choice_is_hashable_and_its_reason_is_no_part_of_it():
    one = dispatch.Choice("native", reason="one")
    other = dispatch.Choice("native", reason="other")
    assert one == other
    assert hash(one) == hash(other)
    assert one != dispatch.Choice("native", required=True, reason="one")


def test_explain_with_the_extension(loaded):
    report = dispatch.explain_kernels()
    assert report.policy == "auto"
    assert report.available
    assert report.unavailable_reason is None
    assert report.ops["rng_fold"].kernel == "native"
    assert report.ops["rng_fold"].reason == "the extension is loaded"
    assert str(report) == "\n".join(
        [
            "flaxlayer kernels (policy: auto)",
            "  rng_fold     native     the extension is loaded",
            "  threefry     native     the extension is loaded",
            "  state_merge  native     the extension is loaded",
            "native extension: loaded",
            "  built with C, C++ standard 201703, XLA FFI 0.1; runs on avx2",
            f"jax {jax.__version__}, platform cpu",
            "Exports use the reference all the same.",
        ]
    )


def test_explain_without_the_extension(missing):
    report = dispatch.explain_kernels()
    assert report.ops["rng_fold"].kernel == "reference"
    assert report.ops["rng_fold"].reason == "no compiler"
    assert report.build_info is None
    assert str(report) == "\n".join(
        [
            "flaxlayer kernels (policy: auto)",
            "  rng_fold     reference  no compiler",
            "  threefry     reference  no compiler",
            "  state_merge  reference  no compiler",
            "native extension: not in use: no compiler",
            f"jax {jax.__version__}, platform cpu",
        ]
    )


def test_explain_native_without_the_extension(missing):
    with dispatch.kernels("native"):
        report = dispatch.explain_kernels()
    assert report.ops["rng_fold"].kernel is None
    assert "no compiler" in report.ops["rng_fold"].reason
    assert "rng_fold     none" in str(report)


def test_explain_native_says_where_it_raises(loaded):
    with dispatch.kernels("native"):
        assert "flaxlayer.export keeps them" in str(dispatch.explain_kernels())


def test_explain_an_extension_that_was_rejected(missing, monkeypatch):
    info = {
        "compiler": "C",
        "cpp_standard": 201703,
        "xla_ffi_api": (0, 99),
        "instruction_set": "avx2",
    }
    monkeypatch.setattr(native, "build_info", lambda: info)
    assert "XLA FFI 0.99" in str(dispatch.explain_kernels())


def test_explain_what_is_really_there(native_kernels):
    report = dispatch.explain_kernels()
    assert report.ops["rng_fold"].kernel == "native"
    assert report.build_info["compiler"] in str(report)


def test_the_layout_of_words_matters_to_threefry_alone(loaded):
    with jax.threefry_partitionable(False):
        kernels = dispatch.choose_all("auto")
        with pytest.raises(RuntimeError, match="jax_threefry_partitionable"):
            dispatch.choose("threefry", "native")
    assert kernels.threefry.kernel == "reference"
    assert "jax_threefry_partitionable is off" in kernels.threefry.reason
    assert kernels.rng_fold.kernel == kernels.state_merge.kernel == "native"


def test_choose_all_is_each_choice(loaded):
    kernels = dispatch.choose_all("native")
    assert kernels.threefry == dispatch.choose("threefry", "native")
    assert all(choice.required for choice in kernels)

"""Fixtures for all Python tests."""

import gc
import os
import sys

import jax
import pytest

from flaxlayer.ops import native


def pytest_collection_modifyitems(items):
    """Marks the tests that hold on every device: those that ask for none."""
    for item in items:
        if "on_cpu" not in item.fixturenames:
            item.add_marker(pytest.mark.accelerator)


@pytest.fixture(scope="module")
def on_cpu():
    """For tests of what there is on a CPU alone: it is the device for them."""
    if jax.default_backend() == "cpu":
        yield
        return
    with jax.default_device(jax.devices("cpu")[0]):
        yield


@pytest.fixture(scope="module")
def native_kernels(on_cpu):
    """For tests of the native kernels: skips them where there are none.

    Where FLAXLAYER_REQUIRE_NATIVE is 1 it fails them, so that a run which is
    meant to test the kernels cannot pass without.
    """
    reason = native.unavailable_reason()
    if reason is None:
        return
    if os.environ.get("FLAXLAYER_REQUIRE_NATIVE") == "1":
        pytest.fail(f"no native kernels: {reason}")
    pytest.skip(f"no native kernels: {reason}")


@pytest.fixture(autouse=True)
def keras_session():
    """Gives each test the names, seeds and settings of a new process.

    Files of tests share one, where Keras would number layers on.
    """
    if keras := sys.modules.get("keras"):
        keras.utils.clear_session(free_memory=False)


@pytest.fixture
def importable(monkeypatch):
    """What is imported here is what another process imports."""
    paths = os.pathsep.join(filter(None, sys.path))
    monkeypatch.setenv("PYTHONPATH", paths)


@pytest.fixture
def collected():
    """What a test leaves to the garbage collector is not the next one's."""
    yield
    gc.collect()

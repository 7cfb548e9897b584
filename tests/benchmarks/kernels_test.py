import dataclasses

import jax
import numpy as np
import pytest

from benchmarks import kernels, programs
from benchmarks.loops import OURS
from benchmarks.programs import XLA

SMALL = dataclasses.replace(kernels.SMOKE, exponents=(4,))


@pytest.mark.usefixtures("native_kernels")
def test_the_programs_of_a_case_compute_the_same():
    names = []
    for name, by_variant in kernels.cases(SMALL):
        names.append(name)
        assert list(by_variant)[:2] == [XLA, OURS]
        runners = {
            variant: programs.Runner(program)
            for variant, program in by_variant.items()
        }
        kernels.check_same(name, runners)
        # The second time a program that replaces its argument goes on.
        kernels.check_same(name, runners)
    assert len(names) == len(set(names)) > 5


@pytest.mark.usefixtures("native_kernels")
def test_one_of_them_calls_the_kernel():
    for name, by_variant in kernels.cases(SMALL):
        lowered = {
            variant: jax.jit(program.function)
            .lower(*program.arguments)
            .as_text()
            for variant, program in by_variant.items()
        }
        assert "flaxlayer_" in lowered[OURS], name
        assert "flaxlayer_" not in lowered[XLA], name


@pytest.mark.usefixtures("native_kernels")
def test_the_floors_are_of_measures_there_are():
    names = {name for name, _ in kernels.cases(kernels.Settings())}
    sections = (kernels.RUN, kernels.COMPILE)
    floors = [f for f in kernels.FLOORS if f.section in sections]
    assert len(floors) == 3
    assert {floor.measure for floor in floors} <= names


def test_programs_that_differ_are_found():
    runners = {
        XLA: lambda: [np.ones(2)],
        OURS: lambda: [np.array([1.0, 1.0 + 1e-12])],
    }
    with pytest.raises(AssertionError, match="some name"):
        kernels.check_same("some name", runners)


def test_a_result_takes_the_place_of_the_first_argument():
    program = programs.Program(
        lambda a, b: a + b, (jax.numpy.ones(2), jax.numpy.ones(2)), True
    )
    runner = programs.Runner(program)
    runner.compile()
    assert [runner()[0].item() for _ in range(3)] == [2, 3, 4]

import os
import pathlib
import unittest

import jax
import keras
import numpy as np
from app import model

import flaxlayer

X = np.random.RandomState(0).randn(64, 8).astype("float32")
Y = X[:, :3].argmax(axis=1).astype("int32")


class ModelTest(unittest.TestCase):
    def test_a_step_trains_all_weights(self):
        classifier = model.build(features=8)
        before = [np.array(weight) for weight in classifier.weights]
        losses = [classifier.train_on_batch(X, Y) for _ in range(20)]
        assert losses[-1] < losses[0]
        for old, new in zip(before, classifier.weights, strict=True):
            assert not np.array_equal(old, new), new.path

    def test_native_kernels_are_in_the_program(self):
        report = flaxlayer.explain_kernels()
        assert report.available, report
        classifier = model.build(features=8)

        def call(trainable, state, inputs):
            return classifier.stateless_call(
                trainable, state, inputs, training=True
            )

        program = jax.jit(call).lower(
            [weight.value for weight in classifier.trainable_variables],
            [weight.value for weight in classifier.non_trainable_variables],
            X,
        )
        assert "custom_call @flaxlayer_" in program.as_text()

    def test_packages_are_those_of_this_workspace(self):
        # Those of flaxlayer's own would be elsewhere, in no target's runfiles.
        runfiles = pathlib.Path(os.environ["TEST_SRCDIR"])
        for package in flaxlayer, jax, keras, np:
            assert runfiles in pathlib.Path(package.__file__).parents


if __name__ == "__main__":
    unittest.main()

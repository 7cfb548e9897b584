"""What of a user's signature is accepted, and what is said of the rest."""

import functools

import pytest

from flaxlayer.functions import call_signature

VALUES = {
    "params": "P",
    "state": "S",
    "rng": "R",
    "inputs": "I",
    "training": True,
}


def call_fn_signature(fn):
    return call_signature.of_model_function(
        fn,
        layer="JaxLayer 'probe'",
        argument="call_fn",
        allowed=call_signature.CALL_FN_ARGUMENTS,
    )


def init_fn_signature(fn):
    return call_signature.of_model_function(
        fn,
        layer="JaxLayer 'probe'",
        argument="init_fn",
        allowed=call_signature.INIT_FN_ARGUMENTS,
    )


def test_arguments_are_matched_by_name_in_any_order():
    def call_fn(training, inputs, rng, state, params):
        return params, state, rng, inputs, training

    signature = call_fn_signature(call_fn)
    assert signature.names == ("training", "inputs", "rng", "state", "params")
    assert signature.call(call_fn, VALUES) == ("P", "S", "R", "I", True)


def test_only_the_arguments_it_takes_are_passed():
    signature = call_fn_signature(lambda inputs: inputs)
    assert "inputs" in signature
    assert "rng" not in signature
    assert signature.call(lambda inputs: inputs, VALUES) == "I"


def test_positional_only_arguments_are_passed_by_position():
    def call_fn(params, rng, /, inputs, *, training):
        return params, rng, inputs, training

    signature = call_fn_signature(call_fn)
    assert signature.call(call_fn, VALUES) == ("P", "R", "I", True)


def test_an_argument_with_a_default_is_given_its_value():
    def call_fn(inputs, training=None):
        return training

    assert call_fn_signature(call_fn).call(call_fn, VALUES) is True


def test_a_callable_object_and_a_partial_have_signatures():
    class Model:
        def __call__(self, params, inputs):
            return params, inputs

    def scaled(inputs, params):
        return params, inputs

    model, partial = Model(), functools.partial(scaled)
    assert call_fn_signature(model).call(model, VALUES) == ("P", "I")
    assert call_fn_signature(partial).call(partial, VALUES) == ("P", "I")


@pytest.mark.parametrize(
    ("signature_of", "argument"),
    [(call_fn_signature, "call_fn"), (init_fn_signature, "init_fn")],
)
def test_inputs_are_required(signature_of, argument):
    with pytest.raises(ValueError, match="inputs") as error:
        signature_of(lambda rng, training: None)
    message = str(error.value)
    assert "JaxLayer 'probe'" in message
    assert f"`{argument}`" in message
    assert "(rng, training)" in message  # What was received.


@pytest.mark.parametrize("unknown", ["mode", "x", "args"])
def test_an_unknown_argument_of_call_fn_is_named(unknown):
    namespace = {}
    exec(f"def call_fn(params, inputs, {unknown}): pass", namespace)
    with pytest.raises(ValueError, match=f"`call_fn`: `{unknown}`") as error:
        call_fn_signature(namespace["call_fn"])
    for name in call_signature.CALL_FN_ARGUMENTS:
        assert f"`{name}`" in str(error.value)


@pytest.mark.parametrize("argument", ["params", "state"])
def test_init_fn_takes_no_weights(argument):
    namespace = {}
    exec(f"def init_fn(rng, inputs, {argument}): pass", namespace)
    with pytest.raises(ValueError, match=f"`init_fn`: `{argument}`"):
        init_fn_signature(namespace["init_fn"])


def test_variadic_arguments_of_call_fn_are_unknown_ones():
    with pytest.raises(ValueError, match="`call_fn`: `kwargs`"):
        call_fn_signature(lambda inputs, **kwargs: inputs)
    with pytest.raises(ValueError, match="`call_fn`: `rest`"):
        call_fn_signature(lambda inputs, *rest: inputs)


def test_what_is_not_callable_is_no_function():
    with pytest.raises(
        TypeError, match="`call_fn` must be a function"
    ) as error:
        call_fn_signature("dense")
    assert "'dense'" in str(error.value)
    assert "str" in str(error.value)


def test_a_function_without_a_signature_needs_a_wrapper():
    class Opaque:
        __signature__ = 3

        def __call__(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="Wrap it in a Python function"):
        call_fn_signature(Opaque())

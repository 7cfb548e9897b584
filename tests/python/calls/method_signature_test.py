"""What a layer reads from the signature of a module's method."""

import inspect

import flax.linen as nn
import pytest

from flaxlayer.calls import method_signature, methods

WORDS = (
    ("training", False),
    ("train", False),
    ("is_training", False),
    ("deterministic", True),
    ("use_running_average", True),
)


class Model(nn.Module):
    def plain(self, x):
        return x

    def with_default(self, x, scale=2.0):
        return x * scale

    def two_inputs(self, x, y, *, context, mask=None):
        return x + y + context

    def positional_only(self, x, /, y):
        return x + y

    def any_number(self, *inputs, train):
        return inputs

    def keywords(self, x, train=False, **options):
        return x

    def two_words(self, x, train, deterministic=True):
        return x

    def mode(self, x, mode):
        return x

    def frozen(self, x, *, frozen=False):
        return x

    def annotated(self, x: "NoSuchType", y: int = 3):  # noqa: F821
        return x

    def nothing(self):
        return None

    def only_training(self, training):
        return None

    def cached(self, x, cache):
        return x

    def by_name(self, *, inputs, train):
        return inputs

    def masked(self, x, mask=None, train=False, scale=1.0):
        return x

    def noisy(self, x, noisy: bool, width: int = 3, *, dropped=True):
        return x


def of_function(
    function,
    *,
    module=None,
    training_argument="auto",
    collections=(),
):
    module = module or Model()
    method, bound = methods.resolved(
        function, module, nn.Module, "FlaxLayer 'probe'"
    )
    return method_signature.of_method(
        method,
        module,
        bound=bound,
        training_argument=training_argument,
        collections=collections,
        layer="FlaxLayer 'probe'",
    )


def of_method(name, module=None, *, bound=True, **options):
    module = module or Model()
    method = getattr(module if bound else type(module), name)
    return of_function(method, module=module, **options)


def of_layer(signature, collections=()):
    return str(signature.of_layer(collections))


@pytest.mark.parametrize("bound", [True, False])
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain", "(x, *, training=False)"),
        ("with_default", "(x, scale=2.0, *, training=False)"),
        ("two_inputs", "(x, y, *, context, mask=None, training=False)"),
        ("positional_only", "(x, /, y, *, training=False)"),
        ("any_number", "(*inputs, training=False)"),
        ("keywords", "(x, *, training=False, **options)"),
        ("two_words", "(x, *, training=False)"),
        ("annotated", "(x, y=3, *, training=False)"),
    ],
)
def test_a_layer_is_called_as_the_method_is(name, shown, bound):
    assert of_layer(of_method(name, bound=bound)) == shown


def test_inputs_are_bound_by_position_and_by_name():
    signature = of_method("two_inputs").of_layer(())
    arguments = signature.bind(1, y=2, context=3, training=True).arguments
    assert arguments == {"x": 1, "y": 2, "context": 3, "training": True}
    with pytest.raises(TypeError, match="'context'"):
        signature.bind(1, 2)
    with pytest.raises(TypeError, match="positional"):
        signature.bind(1, 2, 3)


def test_any_number_of_inputs_is_bound():
    signature = of_method("any_number").of_layer(())
    assert signature.bind(1, 2, 3).arguments == {"inputs": (1, 2, 3)}
    keywords = of_method("keywords").of_layer(())
    bound = keywords.bind(1, scale=2, training=True).arguments
    assert bound == {"x": 1, "options": {"scale": 2}, "training": True}


def test_the_module_of_a_function_is_no_input():
    signature = of_function(lambda module, tokens, train: 0)
    assert of_layer(signature) == "(tokens, *, training=False)"
    assert signature.modes == (("train", False),)


def test_the_module_may_be_one_of_any_number_of_arguments():
    signature = of_function(lambda *arguments: 0)
    assert of_layer(signature) == "(*arguments, training=False)"


# The mode.


@pytest.mark.parametrize(("word", "negated"), WORDS)
def test_the_usual_words_for_the_mode_are_found(word, negated):
    namespace = {}
    exec(f"def method(module, x, {word}): pass", namespace)
    signature = of_function(namespace["method"])
    assert signature.mode_arguments(True) == {word: not negated}
    assert signature.mode_arguments(False) == {word: negated}
    assert of_layer(signature) == "(x, *, training=False)"


def test_a_method_may_have_two_words_for_the_mode():
    signature = of_method("two_words")
    both = {"train": True, "deterministic": False}
    assert signature.mode_arguments(True) == both


def test_a_method_without_a_word_is_given_none():
    assert of_method("plain").mode_arguments(True) == {}
    assert of_method("mode").mode_arguments(True) == {}


def test_a_field_that_is_set_is_not_given_again():
    def modes(module):
        return of_method("__call__", module).modes

    assert modes(nn.Dropout(0.5)) == (("deterministic", True),)
    assert modes(nn.Dropout(0.5, deterministic=True)) == ()
    assert modes(nn.Dropout(0.5, deterministic=False)) == ()
    assert modes(nn.BatchNorm()) == (("use_running_average", True),)
    assert modes(nn.BatchNorm(use_running_average=False)) == ()


@pytest.mark.parametrize(
    ("name", "argument", "training"),
    [
        ("mode", "mode", {"mode": True}),
        ("frozen", "not frozen", {"frozen": False}),
        ("two_words", "train", {"train": True}),
        ("two_words", "not deterministic", {"deterministic": False}),
        # What the user says counts, whatever the usual meaning.
        ("two_words", "not train", {"train": False}),
        ("two_words", None, {}),
        ("keywords", None, {}),
    ],
)
def test_the_argument_of_the_mode_may_be_named(name, argument, training):
    signature = of_method(name, training_argument=argument)
    opposite = {key: not value for key, value in training.items()}
    assert signature.mode_arguments(True) == training
    assert signature.mode_arguments(False) == opposite
    assert not set(training) & {p.name for p in signature.inputs}


def test_without_a_mode_its_words_are_inputs():
    signature = of_method("two_words", training_argument=None)
    shown = "(x, train, deterministic=True, *, training=False)"
    assert of_layer(signature) == shown


@pytest.mark.parametrize("argument", ["training", "not training", "no", ""])
def test_a_mode_that_the_method_does_not_take_is_named(argument):
    with pytest.raises(
        ValueError, match="'probe': `training_argument` names no argument"
    ) as error:
        of_method("mode", training_argument=argument)
    message = str(error.value)
    assert "['x', 'mode']" in message
    assert repr(argument) in message
    assert "(x, mode)" in message


@pytest.mark.parametrize("argument", [True, 3, ("train",)])
def test_a_mode_has_to_be_named_by_a_string(argument):
    with pytest.raises(TypeError, match="`training_argument` must") as error:
        of_method("mode", training_argument=argument)
    assert type(argument).__name__ in str(error.value)


# The mask.


def test_a_mask_belongs_to_an_input_before_it():
    assert of_method("two_inputs").takes_mask
    assert not of_method("plain").takes_mask


def test_an_input_called_mask_is_no_mask_of_another():
    signature = of_function(lambda module, mask: 0)
    assert not signature.takes_mask


# Collections.


def test_collections_are_passed_by_name():
    signature = of_method("two_inputs", collections=("cache", "memory"))
    layer = signature.of_layer(("cache", "memory"))
    assert str(layer) == (
        "(x, y, *, context, mask=None, cache=None, memory=None, training=False)"
    )
    arguments = layer.bind(1, 2, context=3, cache={}).arguments
    assert arguments["cache"] == {}
    keyword = inspect.Parameter.KEYWORD_ONLY
    assert layer.parameters["memory"].kind is keyword


def test_collections_come_before_any_further_keywords():
    signature = of_method("keywords", collections=("cache",))
    shown = "(x, *, cache=None, training=False, **options)"
    assert of_layer(signature, ("cache",)) == shown


# What is refused.


@pytest.mark.parametrize("name", ["nothing", "only_training"])
@pytest.mark.parametrize("bound", [True, False])
def test_a_method_without_inputs_is_refused(name, bound):
    with pytest.raises(ValueError, match="`method`: `inputs`") as error:
        of_method(name, bound=bound)
    assert "FlaxLayer 'probe'" in str(error.value)
    assert ("(module, inputs" in str(error.value)) is not bound


def test_an_input_with_the_name_of_a_collection_is_refused():
    with pytest.raises(ValueError, match="'probe': .*`cache`") as error:
        of_method("cached", collections=("cache",))
    assert "`collections=`" in str(error.value)
    assert "(x, cache)" in str(error.value)
    assert of_layer(of_method("cached")) == "(x, cache, *, training=False)"


@pytest.mark.parametrize("argument", [None, "train"])
def test_an_input_called_training_is_refused(argument):
    with pytest.raises(ValueError, match="`training`.*Keras's") as error:
        of_function(
            lambda module, x, training, train: 0, training_argument=argument
        )
    assert "FlaxLayer 'probe'" in str(error.value)


def test_what_is_not_callable_is_no_method():
    with pytest.raises(TypeError, match="`method` must be a function"):
        of_function(3)


def test_one_input_may_be_all_that_is_needed():
    for name in ("plain", "with_default", "keywords", "any_number", "mode"):
        assert method_signature.takes_one(of_layer_signature(name)) is (
            name != "mode"
        )
    assert not method_signature.takes_one(of_layer_signature("two_inputs"))


def of_layer_signature(name):
    return of_method(name).of_layer(())


# How arguments are passed on.


def bound(name, *args, modes_by_name=False, **keywords):
    signature = of_method(name)
    keywords |= signature.mode_arguments(True)
    return signature.bound(args, keywords, modes_by_name=modes_by_name)


@pytest.mark.parametrize(
    ("name", "args", "keywords", "expected"),
    [
        ("plain", (1,), {}, ([1], {})),
        ("two_words", (1,), {}, ([1, True, False], {})),
        ("masked", (1,), {}, ([1, None, True], {})),
        ("masked", (1, 2), {}, ([1, 2, True], {})),
        ("masked", (1,), {"mask": 2}, ([1, 2, True], {})),
        ("masked", (1,), {"scale": 3}, ([1, None, True, 3], {})),
        ("with_default", (1,), {}, ([1], {})),
        ("two_inputs", (1,), {"y": 2, "context": 3}, ([1, 2], {"context": 3})),
        ("any_number", (1, 2, 3), {}, ([1, 2, 3], {"train": True})),
        ("by_name", (1,), {}, ([], {"inputs": 1, "train": True})),
        ("keywords", (1,), {"more": 2}, ([1, True], {"more": 2})),
    ],
)
def test_arguments_are_passed_as_they_are_declared(
    name, args, keywords, expected
):
    assert bound(name, *args, **keywords) == expected


def test_the_mode_may_be_passed_by_name():
    assert bound("masked", 1, 2, 3, modes_by_name=True) == (
        [1, 2],
        {"train": True, "scale": 3},
    )


def test_a_layer_is_called_by_position_with_an_input_that_has_a_name():
    signature = of_method("by_name").of_layer([])
    assert signature.bind(1).arguments == {"inputs": 1}
    assert signature.bind(inputs=1).arguments == {"inputs": 1}


# Booleans, which may be the mode under another name.


def test_booleans_are_noticed_by_annotation_and_by_default():
    assert of_method("noisy").booleans == ("noisy", "dropped")
    assert of_method("masked").booleans == ()


@pytest.mark.parametrize(
    ("word", "negated"),
    [("enable_dropout", False), ("is_train", False), ("inference", True)],
)
def test_some_words_are_the_mode_only_if_they_are_booleans(word, negated):
    namespace = {}
    exec(
        f"def boolean(module, x, {word}=False): pass\n"
        f"def text(module, x, {word}: 'bool'): pass\n"
        f"def number(module, x, {word}: int = 3): pass\n"
        f"def unknown(module, x, {word}): pass\n",
        namespace,
    )
    for name, modes in {
        "boolean": ((word, negated),),
        "text": ((word, negated),),
        "number": (),
        "unknown": (),
    }.items():
        assert of_function(namespace[name]).modes == modes

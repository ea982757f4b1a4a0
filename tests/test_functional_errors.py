"""Bad input: the error's type, and a message that names the argument, what came and what was expected."""

import re

import numpy as np
import pytest
import torch

ONES = {
    "numpy": lambda *shape, dtype="float64": np.ones(shape, dtype),
    "torch": lambda *shape, dtype="float64": torch.ones(shape, dtype=getattr(torch, dtype)),
}
libraries = pytest.mark.parametrize("library", ONES)


def fails(error, *parts, call):
    """`call()` raises exactly `error`, with every one of `parts` (regular expressions) in its message."""
    with pytest.raises(error) as caught:
        call()
    assert caught.type is error, "the type checker's own error, or another subclass"
    missing = [part for part in parts if not re.search(part, str(caught.value))]
    assert not missing, f"{missing} not in: {caught.value}"


# (error, what the message must say, the call given the module and a maker of arrays)
CASES = {
    "k of another width than q": (
        ValueError, (r"\bk must", r"d_k = 4", r"\(5, 3\)"),
        lambda f, ones: f.attention(ones(2, 4), ones(5, 3), ones(5, 2))),
    "k of another width than q, dot_scores": (
        ValueError, (r"\bk must", r"d_k = 4", r"\(5, 3\)"), lambda f, ones: f.dot_scores(ones(2, 4), ones(5, 3))),
    "k of another width than q, scaled_scores": (
        ValueError, (r"\bk must", r"d_k = 4", r"\(5, 3\)"), lambda f, ones: f.scaled_scores(ones(2, 4), ones(5, 3))),
    "fewer values than keys": (
        ValueError, (r"\bv must", r"one row for each of the 5 keys", r"\(6, 2\)"),
        lambda f, ones: f.attention(ones(2, 4), ones(5, 4), ones(6, 2))),
    "one value for all keys": (
        ValueError, (r"\bv must", r"each of the 5 keys", r"\(1, 2\)"),
        lambda f, ones: f.attention(ones(2, 4), ones(5, 4), ones(1, 2))),
    "q with one dimension": (
        ValueError, (r"\bq must", r"at least 2 dimensions", r"\(4,\)"),
        lambda f, ones: f.attention(ones(4), ones(5, 4), ones(5, 2))),
    "k with one dimension": (
        ValueError, (r"\bk must", r"at least 2 dimensions", r"\(4,\)"),
        lambda f, ones: f.dot_scores(ones(2, 4), ones(4))),
    "v with one dimension": (
        ValueError, (r"\bv must", r"at least 2 dimensions", r"\(5,\)"),
        lambda f, ones: f.attention(ones(2, 4), ones(5, 4), ones(5))),
    "k's batch does not broadcast": (
        ValueError, (r"\bk must", r"broadcast to \(3,\)", r"\(2, 5, 4\)"),
        lambda f, ones: f.attention(ones(3, 2, 4), ones(2, 5, 4), ones(5, 2))),
    "v's batch does not broadcast": (
        ValueError, (r"\bv must", r"broadcast to \(7, 3\)", r"\(2, 5, 2\)"),
        lambda f, ones: f.attention(ones(3, 2, 4), ones(7, 1, 5, 4), ones(2, 5, 2))),
    "an empty batch does not broadcast": (
        ValueError, (r"\bk must", r"broadcast to \(0,\)", r"\(2, 5, 4\)"),
        lambda f, ones: f.dot_scores(ones(0, 2, 4), ones(2, 5, 4))),
    "no width to scale by": (
        ValueError, (r"\bq must", r"d_k of at least 1", r"\(2, 0\)"),
        lambda f, ones: f.attention(ones(2, 0), ones(5, 0), ones(5, 2))),
    "mask of floats": (
        TypeError, (r"\bmask must be boolean", r"True = may attend", r"float64"),
        lambda f, ones: f.attention(ones(2, 4), ones(5, 4), ones(5, 2), mask=ones(2, 5))),
    "mask of integers": (
        TypeError, (r"\bmask must be boolean", r"True = may attend", r"int64"),
        lambda f, ones: f.attention(ones(2, 4), ones(5, 4), ones(5, 2), mask=ones(2, 5, dtype="int64"))),
    "mask of keys by queries": (
        ValueError, (r"\bmask must", r"scores' shape \(2, 5\)", r"got \(5, 2\)"),
        lambda f, ones: f.attention(ones(2, 4), ones(5, 4), ones(5, 2), mask=ones(5, 2) > 0)),
    "mask that would grow the scores": (
        ValueError, (r"\bmask must", r"scores' shape \(1, 5\)", r"got \(3, 2, 5\)"),
        lambda f, ones: f.masked(ones(1, 5), ones(3, 2, 5) > 0)),
    "mask as a list": (
        TypeError, (r"\bmask must be an array of booleans", r"got list"),
        lambda f, ones: f.attention(ones(1, 4), ones(2, 4), ones(2, 2), mask=[[True, False]])),
    "mask as a bool": (
        TypeError, (r"\bmask must be an array of booleans", r"got bool"),
        lambda f, ones: f.masked(ones(1, 4), True)),
    "temperature of zero": (
        ValueError, (r"\btemperature must be positive", r"got 0", r"arg-max"),
        lambda f, ones: f.softmax(ones(3), temperature=0)),
    "temperature below zero": (
        ValueError, (r"\btemperature must be positive", r"got -0.5"),
        lambda f, ones: f.softmax(ones(3), temperature=-0.5)),
    "temperature beyond the floats": (
        ValueError, (r"\btemperature must be finite", r"got inf"),
        lambda f, ones: f.softmax(ones(3), temperature=10**400)),
    "temperature below zero, jvp": (
        ValueError, (r"\btemperature must be positive", r"got -1"),
        lambda f, ones: f.softmax_jvp(ones(3), ones(3), temperature=-1)),
    "temperature of zero, jvp": (
        ValueError, (r"\btemperature must be positive", r"got 0"),
        lambda f, ones: f.softmax_jvp(ones(3), ones(3), temperature=0.0)),
    "axis beyond the last": (
        ValueError, (r"\baxis must be one of the 2 axes", r"\(3, 4\)", r"got 2"),
        lambda f, ones: f.softmax(ones(3, 4), axis=2)),
    "axis before the first": (
        ValueError, (r"\baxis must be one of the 2 axes", r"\(3, 4\)", r"got -3"),
        lambda f, ones: f.entropy(ones(3, 4), axis=-3)),
    "no axis at all": (
        ValueError, (r"\baxis must be one of the 0 axes", r"\(\)", r"got -1"), lambda f, ones: f.logsumexp(ones())),
    "axis a float": (
        TypeError, (r"\baxis must be an integer", r"got 1\.0"), lambda f, ones: f.softmax(ones(3, 4), axis=1.0)),
    "axis a bool": (
        TypeError, (r"\baxis must be an integer", r"got True"), lambda f, ones: f.softmax(ones(3, 4), axis=True)),
    "axis a tuple": (
        TypeError, (r"\baxis must be an integer", r"got \(0, 1\)"),
        lambda f, ones: f.logsumexp(ones(3, 4), axis=(0, 1))),
    "direction of another shape": (
        ValueError, (r"\bdirection must", r"shape of weights, \(3, 4\)", r"got \(4,\)"),
        lambda f, ones: f.softmax_jvp(ones(3, 4), ones(4))),
    "w_q of another width than q": (
        ValueError, (r"\bw_q must", r"\(4, 6\)", r"got \(3, 6\)"),
        lambda f, ones: f.additive_scores(ones(2, 4), ones(5, 3), ones(3, 6), ones(3, 6), ones(6))),
    "w_k of another width than k": (
        ValueError, (r"\bw_k must", r"\(3, 6\)", r"got \(4, 6\)"),
        lambda f, ones: f.additive_scores(ones(2, 4), ones(5, 3), ones(4, 6), ones(4, 6), ones(6))),
    "w_k to another hidden width than v_a's": (
        ValueError, (r"\bw_k must", r"\(3, 6\)", r"length of v_a", r"got \(3, 7\)"),
        lambda f, ones: f.additive_scores(ones(2, 4), ones(5, 3), ones(4, 6), ones(3, 7), ones(6))),
    "w_q with a batch": (
        ValueError, (r"\bw_q must", r"\(4, 6\)", r"got \(1, 4, 6\)"),
        lambda f, ones: f.additive_scores(ones(2, 4), ones(5, 3), ones(1, 4, 6), ones(3, 6), ones(6))),
    "v_a a matrix": (
        ValueError, (r"\bv_a must have one dimension", r"\(d_hidden,\)", r"got shape \(6, 1\)"),
        lambda f, ones: f.additive_scores(ones(2, 4), ones(5, 3), ones(4, 6), ones(3, 6), ones(6, 1))),
    "q with one dimension, additive": (
        ValueError, (r"\bq must", r"at least 2 dimensions", r"\(4,\)"),
        lambda f, ones: f.additive_scores(ones(4), ones(5, 3), ones(4, 6), ones(3, 6), ones(6))),
    "batches that do not broadcast, additive": (
        ValueError, (r"\bk must", r"broadcast to \(2,\)", r"\(3, 5, 3\)"),
        lambda f, ones: f.additive_scores(ones(2, 2, 4), ones(3, 5, 3), ones(4, 6), ones(3, 6), ones(6))),
}  # fmt: skip


@libraries
@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_named(plain_functional, library, case):
    error, parts, call = CASES[case]
    fails(error, *parts, call=lambda: call(plain_functional, ONES[library]))


# Every array argument of every function, by position: the shapes fit, so that only the kind of array can be wrong.
SHAPES = {
    "softmax": {"x": (3,)},
    "logsumexp": {"x": (3,)},
    "softmax_jvp": {"weights": (3,), "direction": (3,)},
    "entropy": {"weights": (3,)},
    "dot_scores": {"q": (2, 4), "k": (5, 4)},
    "scaled_scores": {"q": (2, 4), "k": (5, 4)},
    "additive_scores": {"q": (2, 4), "k": (5, 3), "w_q": (4, 6), "w_k": (3, 6), "v_a": (6,)},
    "masked": {"scores": (2, 5)},
    "attention": {"q": (2, 4), "k": (5, 4), "v": (5, 2)},
}
POSITIONS = [(name, argument) for name, arguments in SHAPES.items() for argument in arguments]
MIXABLE = [(name, argument) for name, argument in POSITIONS if len(SHAPES[name]) > 1]
LATER = [(name, argument) for name, arguments in SHAPES.items() for argument in list(arguments)[1:]]
positions = pytest.mark.parametrize("name, argument", POSITIONS)


def call_with(module, name, argument, replacement, ones):
    arguments = {a: ones(*shape) for a, shape in SHAPES[name].items()} | {argument: replacement}
    if name == "masked":
        arguments["mask"] = ones(2, 5) > 0
    return getattr(module, name)(**arguments)


@libraries
@positions
def test_lists_are_refused(plain_functional, library, name, argument):
    as_list = np.ones(SHAPES[name][argument]).tolist()
    fails(TypeError, rf"\b{argument} must be a NumPy array or a torch tensor", "got list",
          call=lambda: call_with(plain_functional, name, argument, as_list, ONES[library]))  # fmt: skip


@libraries
@positions
@pytest.mark.parametrize("dtype", ["int64", "bool", "complex64"])
def test_what_is_not_floating_is_refused(plain_functional, library, name, argument, dtype):
    ones = ONES[library]
    wrong = ones(*SHAPES[name][argument], dtype=dtype)
    fails(TypeError, rf"\b{argument} must have a floating dtype", f"got .*{dtype}", "convert it",
          call=lambda: call_with(plain_functional, name, argument, wrong, ones))  # fmt: skip


@libraries
@pytest.mark.parametrize("name, argument", LATER)
def test_mixed_dtypes_are_refused(plain_functional, library, name, argument):
    ones = ONES[library]
    wrong = ones(*SHAPES[name][argument], dtype="float32")
    first = next(iter(SHAPES[name]))
    fails(TypeError, rf"\b{argument} must have the dtype of {first}", "float64", "got .*float32",
          call=lambda: call_with(plain_functional, name, argument, wrong, ones))  # fmt: skip


@libraries
@pytest.mark.parametrize("name, argument", [*MIXABLE, ("attention", "mask"), ("masked", "mask")])
def test_mixing_numpy_with_torch_is_refused(plain_functional, library, name, argument):
    ours, other = ONES[library], ONES["torch" if library == "numpy" else "numpy"]
    wrong = other(2, 5) > 0 if argument == "mask" else other(*SHAPES[name][argument])
    names = list(SHAPES[name])
    # Where the first is the odd one out, it is the second that differs from it.
    named = names[1] if argument == names[0] else argument
    arguments = {a: ours(*shape) for a, shape in SHAPES[name].items()} | {argument: wrong}
    fails(TypeError, rf"\b{named} must come from the same library as", r"numpy\.ndarray", r"torch\.Tensor",
          call=lambda: getattr(plain_functional, name)(**arguments))  # fmt: skip


@pytest.mark.parametrize("argument", ["k", "v", "mask"])
def test_mixing_devices_is_refused(plain_functional, argument):
    # torch's "meta" device holds shapes without numbers: a second device that every machine has.
    arguments = {a: torch.ones(shape) for a, shape in SHAPES["attention"].items()} | {"mask": torch.ones(2, 5) > 0}
    arguments[argument] = arguments[argument].to("meta")
    fails(ValueError, rf"\b{argument} must be on the device of", r"\bcpu", "got meta",
          call=lambda: plain_functional.attention(**arguments))  # fmt: skip


NUMBERS = {
    "temperature": [("softmax", ("x",)), ("softmax_jvp", ("weights", "direction"))],
    "scale": [("scaled_scores", ("q", "k")), ("attention", ("q", "k", "v"))],
}
number_arguments = pytest.mark.parametrize(
    "argument, name", [(argument, name) for argument, functions in NUMBERS.items() for name, _ in functions]
)


@libraries
@number_arguments
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float32("nan")])
def test_numbers_must_be_finite(plain_functional, library, argument, name, value):
    arrays = [ONES[library](*shape) for shape in SHAPES[name].values()]
    fails(ValueError, rf"\b{argument} must be finite", rf"got {value}",
          call=lambda: getattr(plain_functional, name)(*arrays, **{argument: value}))  # fmt: skip


@libraries
@number_arguments
@pytest.mark.parametrize("value", ["2", "warm", True, [1.0], 1j, np.ones(1), torch.tensor(2.0, requires_grad=True)])
def test_numbers_must_be_numbers(plain_functional, library, argument, name, value):
    arrays = [ONES[library](*shape) for shape in SHAPES[name].values()]
    fails(TypeError, rf"\b{argument} must be a number", rf"of type {type(value).__name__}",
          call=lambda: getattr(plain_functional, name)(*arrays, **{argument: value}))  # fmt: skip


@libraries
@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.int64(2)])
def test_any_real_number_will_do(plain_functional, library, value):
    x = ONES[library](3)
    np.testing.assert_allclose(plain_functional.softmax(x, axis=np.int64(0), temperature=value), np.full(3, 1 / 3))
    q, k = ONES[library](2, 4), ONES[library](5, 4)
    np.testing.assert_array_equal(plain_functional.scaled_scores(q, k, scale=value), np.full((2, 5), 8.0))

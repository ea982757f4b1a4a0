"""Exercises of chapter 1, softmax: log-sum-exp."""

import numpy as np
import torch

from attnbook import functional
from attnbook.exercises import Exercise, Law, Probe, close

MAXIMUM, MANY = "Numbers too large for the machine", "Many plates at once"


# 1.5 Build it all -------------------------------------------------------------------------------------------------

def log_sum_exp(x, axis=-1):
    top = x.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):
        logs = np.log(np.exp(x - top).sum(axis=axis))
    return logs + np.squeeze(top, axis=axis)

def block(rng, shape, axis=-1, stretch=1.0, never=False):
    x = stretch * rng.standard_normal(shape)
    if never:
        x[0] = -np.inf
    return x, axis

def sized(rng, n, m, axis):
    return rng.standard_normal((n, m)), axis

def split_menu(f, x, axis=-1):
    """lse of a whole is lse of the lse of its parts."""
    half = x.shape[axis] // 2
    left, right = np.split(x, [half], axis=axis)
    if not half:
        return True
    return close(f(np.stack([f(left, axis), f(right, axis)]), 0), f(x, axis))

build = Exercise(
    "01.logsumexp",
    "Build it all",
    task="log(sum(exp(x))) along `axis`, without overflow, −∞ for a slice of only −∞, and no warning.",
    solution=log_sum_exp,
    answer=functional.logsumexp,
    probes=[
        Probe("a vector", lambda rng, n: (rng.standard_normal(n),), n=4),
        Probe("rows", sized, n=2, m=3, axis=-1),
        Probe("columns", sized, n=2, m=3, axis=0),
        Probe("a square, its columns", sized, n=3, m=3, axis=0),
        Probe("the axis in the middle", block, shape=(2, 3, 4), axis=1),
        Probe("three axes, the last", block, shape=(2, 3, 4), axis=2),
        Probe("another axis of length 1", block, shape=(3, 1, 5), axis=2),
        Probe("scores in the thousands", block, shape=(2, 3, 4), stretch=2000.0),
        Probe("rows 3000 apart", lambda rng, n: (rng.standard_normal((n, 2)) + 3000 * np.arange(n)[:, None], 1), n=3),
        Probe("a slice of only -inf", block, shape=(2, 3), never=True),
        Probe("one number", lambda rng: (np.array([-800.0]), 0)),
    ],
    laws=[
        Law("the law of the split menu", split_menu),
        Law("adding 5 to every score adds 5", lambda f, x, axis=-1: close(f(x + 5.0, axis), f(x, axis) + 5.0)),
        Law("it is no smaller than the maximum", lambda f, x, axis=-1: np.all(f(x, axis) >= x.max(axis=axis) - 0.01)),
    ],
    silent=True,
    hints=[
        "Subtract the maximum along the axis with `keepdims=True`, sum the exponentials, take the logarithm, and add "
        "the maximum back: drop its axis with `np.squeeze(…, axis=axis)` first.",
        "For the slice of −∞ use the first guard of this chapter's softmax: subtract 0 where the maximum is infinite.",
        '`with np.errstate(divide="ignore"):` around the logarithm of 0, whose value −∞ is the one you want.',
    ],
)

@build.wrong(
    "No maximum is subtracted: `exp` of a score beyond 709 is infinite, and of one far below 0 it is 0.", MAXIMUM
)
def no_maximum(x, axis=-1):
    return np.log(np.exp(x).sum(axis=axis))

@build.wrong(
    "The maximum is subtracted and not added back at the end: the result is too small by exactly the maximum.",
    "Log-sum-exp"
)
def maximum_not_added_back(x, axis=-1):
    top = np.where(np.isfinite(x.max(axis=axis, keepdims=True)), x.max(axis=axis, keepdims=True), 0)
    return np.log(np.exp(x - top).sum(axis=axis))

@build.wrong(
    "The maximum is added back with its axis kept (length 1), and broadcasting makes a table of every sum with every "
    "maximum. Drop the axis first.", "Log-sum-exp"
)
def axis_kept_when_added(x, axis=-1):
    top = x.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    return np.log(np.exp(x - top).sum(axis=axis)) + top

@build.wrong("The reduced axis is still there, with length 1. It should disappear from the shape.", "Log-sum-exp")
def axis_not_dropped(x, axis=-1):
    return np.expand_dims(log_sum_exp(x, axis), axis)

@build.wrong(
    "A slice of only −∞ gives NaN: its maximum is −∞, and −∞ − (−∞) is not a number. Subtract 0 there.", "Never"
)
def no_guard(x, axis=-1):
    top = x.max(axis=axis, keepdims=True)
    return np.log(np.exp(x - top).sum(axis=axis)) + np.squeeze(top, axis=axis)

@build.wrong(
    "One maximum for the whole array: a row that lies far below it is rounded to 0, and its result is −∞.", MANY
)
def one_maximum_for_all(x, axis=-1):
    top = x.max() if np.isfinite(x.max()) else 0.0
    return np.log(np.exp(x - top).sum(axis=axis)) + top

@build.wrong("`axis` is ignored: it always reduces the last one.", MANY)
def axis_ignored(x, axis=-1):
    return log_sum_exp(x, -1)

@build.wrong("Everything is reduced to one number: the sum has lost its axis.", MANY)
def one_number(x, axis=-1):
    return log_sum_exp(x.reshape(-1), 0)

@build.wrong("The mean of the exponentials is taken, not their sum: the result is too small by log n.", "Log-sum-exp")
def mean_of_exponentials(x, axis=-1):
    return log_sum_exp(x, axis) - np.log(x.shape[axis])

@build.wrong(
    "That is the maximum alone. Log-sum-exp is a *soft* maximum: the logarithm of a sum comes on top.", "Log-sum-exp"
)
def maximum_alone(x, axis=-1):
    return x.max(axis=axis)

@build.wrong("The logarithm is missing: it is a sum of exponentials, with the maximum on top.", "Log-sum-exp")
def no_logarithm(x, axis=-1):
    top = x.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    return np.exp(x - top).sum(axis=axis) + np.squeeze(top, axis=axis)

@build.wrong("The exponential is missing: it is the logarithm of a sum of differences.", "Log-sum-exp")
def no_exponential(x, axis=-1):
    top = x.max(axis=axis, keepdims=True)
    return np.log((x - top).sum(axis=axis)) + np.squeeze(top, axis=axis)

@build.wrong("The maximum is subtracted at the end, where it should be added back.", "Log-sum-exp")
def maximum_subtracted_again(x, axis=-1):
    top = x.max(axis=axis)
    return log_sum_exp(x, axis) - 2 * np.where(np.isfinite(top), top, 0)

@build.wrong("You subtract the minimum, so the largest exponential overflows: the *maximum* is safe.", MAXIMUM)
def minimum_subtracted(x, axis=-1):
    low = x.min(axis=axis, keepdims=True)
    low = np.where(np.isfinite(low), low, 0)
    return np.log(np.exp(x - low).sum(axis=axis)) + np.squeeze(low, axis=axis)

@build.wrong(
    "A sign before the exponential is turned round: `top - x` weighs the smallest number most.", "Log-sum-exp"
)
def turned_round(x, axis=-1):
    top = x.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    return np.log(np.exp(top - x).sum(axis=axis)) + np.squeeze(top, axis=axis)

@build.wrong(
    "The log-probabilities x − L come out, one for each entry. Only L is asked for.", "The logarithm of a softmax"
)
def log_softmax(x, axis=-1):
    return x - np.expand_dims(log_sum_exp(x, axis), axis)

@build.wrong("The maximum is added at the end but was never subtracted before: it is counted twice.", "Log-sum-exp")
def maximum_never_subtracted(x, axis=-1):
    top = x.max(axis=axis)
    return np.log(np.exp(x).sum(axis=axis)) + np.where(np.isfinite(top), top, 0)

@build.wrong("The maximum is added before the exponential, where it should be subtracted.", MAXIMUM)
def maximum_added(x, axis=-1):
    top = x.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    return np.log(np.exp(x + top).sum(axis=axis)) + np.squeeze(top, axis=axis)

@build.wrong(
    "The maximum is taken along the axis, the sum over everything: each slice needs a sum of its own.", MANY
)
def one_sum_for_all(x, axis=-1):
    top = x.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    return np.log(np.exp(x - top).sum()) + np.squeeze(top, axis=axis)

@build.wrong(
    "The maximum is taken without `keepdims=True`, so it is lined up with the wrong axis when it is subtracted.", MANY
)
def maxima_lined_up_wrongly(x, axis=-1):
    top = x.max(axis=axis)
    top = np.where(np.isfinite(top), top, 0)
    return np.log(np.exp(x - top).sum(axis=axis)) + top

@build.right
def with_torch(x, axis=-1):
    return torch.logsumexp(torch.as_tensor(x), dim=axis)

@build.right
def with_logaddexp(x, axis=-1):
    return np.logaddexp.reduce(x, axis=axis)

@build.right
def in_float32(x, axis=-1):
    return log_sum_exp(np.asarray(x, dtype=np.float32), axis)

@build.right
def slice_by_slice(x, axis=-1):
    return np.apply_along_axis(functional.logsumexp, axis, x)

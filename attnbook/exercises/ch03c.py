"""Exercises of chapter 3, continued: what goes wrong in 3.4 and in 3.5 alike."""

import math

import numpy as np

from attnbook import functional
from attnbook.exercises.ch03 import MIX, ROWS, SCALE, TRAPS
from attnbook.exercises.ch03b import build, repair


def either_wrong(says, reread):
    return lambda function: repair.wrong(says, reread)(build.wrong(says, reread)(function))

@either_wrong(
    "You divide by d_k, not by its root: in a wide model all weights would be nearly equal.",
    "The scores grow with the width"
)
def divided_by_d_k(q, k, v, scale=None):
    return functional.attention(q, k, v, scale=1 / q.shape[-1] if scale is None else scale)

@either_wrong("You multiply by √d_k where you should divide by it.", SCALE)
def multiplied_by_the_root(q, k, v, scale=None):
    return functional.attention(q, k, v, scale=math.sqrt(q.shape[-1]) if scale is None else scale)

@either_wrong(
    "You divide by the root of the number of queries. It is the width of one query that counts, `q.shape[-1]`.",
    "The wrong width under the root"
)
def root_of_n_queries(q, k, v, scale=None):
    return functional.attention(q, k, v, scale=q.shape[-2] ** -0.5 if scale is None else scale)

@either_wrong(
    "`q.shape[1]` is the width only without a batch: with one in front it is the number of queries. Count from the "
    "end.", "The wrong width under the root"
)
def width_of_q_counted_from_the_front(q, k, v, scale=None):
    return functional.attention(q, k, v, scale=q.shape[1] ** -0.5 if scale is None else scale)

@either_wrong(
    "`k.shape[1]` is the width only without a batch: with one in front it is the number of keys. Count from the end.",
    "The wrong width under the root"
)
def width_of_k_counted_from_the_front(q, k, v, scale=None):
    return functional.attention(q, k, v, scale=k.shape[1] ** -0.5 if scale is None else scale)

DOT = "`np.dot` pairs each sentence of a batch with *every* other one{}. The product that keeps to pairs is `@`."

def dotted(q, k, scale):
    return np.dot(q, np.swapaxes(k, -1, -2)) * (q.shape[-1] ** -0.5 if scale is None else scale)

@either_wrong(DOT.format(", in the scores and in the mixture"), "`.T` on a batch")
def dot_for_at(q, k, v, scale=None):
    return np.dot(functional.softmax(dotted(q, k, scale)), v)

@either_wrong(DOT.format(", in the scores"), "`.T` on a batch")
def dot_in_the_scores(q, k, v, scale=None):
    return functional.softmax(dotted(q, k, scale)) @ v

@either_wrong(DOT.format(", in the mixture"), "`.T` on a batch")
def dot_in_the_mixture(q, k, v, scale=None):
    return np.dot(functional.softmax(functional.scaled_scores(q, k, scale)), v)

@either_wrong(
    "With a batch in front two things go wrong: `k.T` turns *all* the axes, and `np.dot` pairs each sentence with "
    "every other one, where `@` keeps to pairs.", "`.T` on a batch"
)
def dot_and_all_axes_reversed(q, k, v, scale=None):
    scores = np.dot(q, k.T) * (q.shape[-1] ** -0.5 if scale is None else scale)
    return np.dot(functional.softmax(scores), v)

@either_wrong(
    "You divide by the root of the *values'* width. The scores know nothing of values: it is the width of `q` and "
    "`k`.", "The wrong width under the root"
)
def root_of_d_v(q, k, v, scale=None):
    return functional.attention(q, k, v, scale=v.shape[-1] ** -0.5 if scale is None else scale)

@either_wrong(
    "The softmax runs over the *queries*: your columns of weights sum to 1, and the rows should. Each query shares "
    "out one unit over the keys, the last axis.", TRAPS
)
def softmax_over_queries(q, k, v, scale=None):
    return functional.softmax(functional.scaled_scores(q, k, scale), axis=-2) @ v

@either_wrong("The softmax runs over the *whole* array: all the weights together sum to 1, and each row should.", ROWS)
def softmax_over_everything(q, k, v, scale=None):
    scores = functional.scaled_scores(q, k, scale)
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exps / exps.sum() @ v

@either_wrong("The keys are mixed where the values should be: the last product is with `v`.", TRAPS)
def keys_as_values(q, k, v, scale=None):
    return functional.attention(q, k, k, scale=scale)

@either_wrong("Queries and keys are exchanged: the rows of the scores have to be the queries.", TRAPS)
def queries_and_keys_exchanged(q, k, v, scale=None):
    return functional.softmax(functional.scaled_scores(k, q, scale)) @ v

@either_wrong("Values are compared where keys should be: the scores are of `q` and `k`.", TRAPS)
def values_as_keys(q, k, v, scale=None):
    return functional.attention(q, v, v, scale=scale)

@either_wrong("The keys ask themselves: the scores are of `q` and `k`.", TRAPS)
def keys_as_queries(q, k, v, scale=None):
    return functional.attention(k, k, v, scale=scale)

@either_wrong("The queries ask themselves: the scores are of `q` and `k`.", TRAPS)
def queries_as_keys(q, k, v, scale=None):
    return functional.softmax(functional.scaled_scores(q, q, scale)) @ v

@either_wrong(
    "NaN for large scores: the maximum of each row is not subtracted, so `exp` overflows, and infinity over infinity "
    "is NaN.", "1 · Numbers too large for the machine"
)
def no_maximum(q, k, v, scale=None):
    exps = np.exp(functional.scaled_scores(q, k, scale))
    return exps / exps.sum(axis=-1, keepdims=True) @ v

@either_wrong(
    "The maximum of each *column* is subtracted: it is the row's maximum that counts.", "1 · Many plates at once"
)
def maximum_of_the_columns(q, k, v, scale=None):
    scores = functional.scaled_scores(q, k, scale)
    exps = np.exp(scores - scores.max(axis=-2, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True) @ v

@either_wrong(
    "A sign is turned round in the exponent, and the worst match gets the largest weight.", "Every query, every key"
)
def turned_round(q, k, v, scale=None):
    return functional.softmax(-functional.scaled_scores(q, k, scale)) @ v

@either_wrong(
    "The weights are not divided by the sum of their row (by its largest, perhaps): each row shares out exactly 1.",
    ROWS
)
def not_normalised(q, k, v, scale=None):
    scores = functional.scaled_scores(q, k, scale)
    return np.exp(scores - scores.max(axis=-1, keepdims=True)) @ v

@either_wrong("There is no softmax: the scores themselves mix the values.", ROWS)
def no_softmax(q, k, v, scale=None):
    return functional.scaled_scores(q, k, scale) @ v

@either_wrong("The exponential is missing: shares of the bare scores can be negative, or anything.", "1 · Three steps")
def no_exponential(q, k, v, scale=None):
    scores = functional.scaled_scores(q, k, scale)
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return shifted / shifted.sum(axis=-1, keepdims=True) @ v

@either_wrong("That is the weights. They still have to mix the values.", MIX)
def weights_returned(q, k, v, scale=None):
    return functional.softmax(functional.scaled_scores(q, k, scale))

@either_wrong(
    "You scale after the softmax (the weights, or the output). The scale belongs before it: afterwards it cannot "
    "change who is picked, only make everything smaller.", SCALE
)
def scaled_afterwards(q, k, v, scale=None):
    return functional.attention(q, k, v, scale=1.0) * (q.shape[-1] ** -0.5 if scale is None else scale)

@either_wrong("`k.T` turns all the axes of a batch round. Exchange the last two and say so.", "`.T` on a batch")
def all_axes_reversed(q, k, v, scale=None):
    scores = q @ k.T * (q.shape[-1] ** -0.5 if scale is None else scale)
    return functional.softmax(scores) @ v

@either_wrong(
    "`keepdims=True` is missing at the sum: a vector of sums is lined up with the columns.", "1 · Many plates at once"
)
def sums_lined_up_with_columns(q, k, v, scale=None):
    scores = functional.scaled_scores(q, k, scale)
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1) @ v

@either_wrong(
    "`keepdims=True` is missing at the maximum: a vector of maxima is lined up with the columns.",
    "1 · Many plates at once"
)
def maxima_lined_up_with_columns(q, k, v, scale=None):
    scores = functional.scaled_scores(q, k, scale)
    exps = np.exp(scores - scores.max(axis=-1))
    return exps / exps.sum(axis=-1, keepdims=True) @ v

@either_wrong(
    "`q *= …` scales the array of the caller, and the next call finds it smaller. Write `q = q * …`.", "Three lines"
)
def query_scaled_in_place(q, k, v, scale=None):
    q *= q.shape[-1] ** -0.5 if scale is None else scale
    return functional.attention(q, k, v, scale=1.0)

@either_wrong("The scores are not scaled: the division by √d_k is missing.", SCALE)
def not_scaled(q, k, v, scale=None):
    return functional.attention(q, k, v, scale=1.0 if scale is None else scale)

@either_wrong(
    "`k` is not transposed. The last axis of the left factor must meet the same axis of `k`, its width.",
    "Every query, every key"
)
def keys_not_transposed(q, k, v, scale=None):
    return functional.softmax(q @ k * (q.shape[-1] ** -0.5 if scale is None else scale)) @ v

@either_wrong("`*` multiplies number by number. All pairs are a product of matrices, `@`.", "Every query, every key")
def star_for_at_in_the_scores(q, k, v, scale=None):
    return functional.softmax(q * k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)) @ v

@either_wrong("`*` multiplies number by number. The mixture of the values is a product of matrices, `@`.", MIX)
def star_for_at_in_the_mixture(q, k, v, scale=None):
    return functional.softmax(functional.scaled_scores(q, k, scale)) * v

@either_wrong("In the scores the factors stand the wrong way round: first the queries, then the transposed keys.",
              "Every query, every key")  # fmt: skip
def factors_of_the_scores_exchanged(q, k, v, scale=None):
    return functional.softmax(k.mT @ q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ v

@either_wrong("In the mixture the factors stand the wrong way round: first the weights, then the values.", MIX)
def factors_of_the_mixture_exchanged(q, k, v, scale=None):
    return v @ functional.softmax(functional.scaled_scores(q, k, scale))

@either_wrong("The queries are mixed where the values should be: the last product is with `v`.", TRAPS)
def queries_as_values(q, k, v, scale=None):
    return functional.softmax(functional.scaled_scores(q, k, scale)) @ q

@either_wrong("The values ask: the first factor of the scores is the queries, `q`.", TRAPS)
def values_as_queries(q, k, v, scale=None):
    return functional.softmax(functional.scaled_scores(v, k, scale)) @ v

@either_wrong("You subtract the smallest score of a row, or its mean: the largest exponential still overflows.",
              "1 · Numbers too large for the machine")  # fmt: skip
def minimum_subtracted(q, k, v, scale=None):
    scores = functional.scaled_scores(q, k, scale)
    exps = np.exp(scores - scores.min(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True) @ v

@either_wrong("You divide by the *mean* of a row, so its weights sum to n_kv and not to 1.", ROWS)
def divided_by_the_mean(q, k, v, scale=None):
    return functional.attention(q, k, v, scale=scale) * k.shape[-2]

@either_wrong("You multiply by the sum where you should divide: the rows of the weights do not sum to 1.", ROWS)
def multiplied_by_the_sum(q, k, v, scale=None):
    scores = functional.scaled_scores(q, k, scale)
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exps * exps.sum(axis=-1, keepdims=True) @ v

@either_wrong("The sum runs over the queries, the maximum over the keys: it is the *row* that has to sum to 1.", ROWS)
def sum_of_the_columns(q, k, v, scale=None):
    scores = functional.scaled_scores(q, k, scale)
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-2, keepdims=True) @ v

@either_wrong("All your weights are equal: the scores have no effect, and the mean of the values comes out.", MIX)
def mean_of_the_values(q, k, v, scale=None):
    return functional.attention(q, k, v, scale=0.0)

"""Exercises of chapter 2, attention is a soft lookup."""

import numpy as np
import torch

from attnbook.exercises import Exercise, Law, Probe, close
from attnbook.functional import softmax

LOOKUP, MANY = "Intuition", "Many queries at once"
FOUR, ONLY_BLEND = "Four mistakes and one test that finds them all", "It can only blend"
WIDE, LIMIT = "How wide should the bandwidth be?", "The hard lookup is the limit at temperature 0"


# 2.1 Blend --------------------------------------------------------------------------------------------------------

def blend(scores, v):
    return softmax(scores, axis=-1) @ v

def scores_values(rng, n_q, n_kv, d_v, stretch=1.0):
    return stretch * rng.standard_normal((n_q, n_kv)), rng.standard_normal((n_kv, d_v))

def rows_apart(rng, n_q, n_kv, d_v):
    scores, v = scores_values(rng, n_q, n_kv, d_v)
    return scores + 2000 * np.arange(n_q)[:, None], v

blending = Exercise(
    "02.blend",
    "Blend",
    task="the values, blended by the softmax of the scores.",
    solution=blend,
    probes=[
        Probe("all sizes different", scores_values, n_q=2, n_kv=3, d_v=4),
        Probe("one query, one key", scores_values, n_q=1, n_kv=1, d_v=2),
        Probe("one query", scores_values, n_q=1, n_kv=4, d_v=2),
        Probe("more queries than keys", scores_values, n_q=5, n_kv=2, d_v=3),
        Probe("as many queries as keys", scores_values, n_q=4, n_kv=4, d_v=2),
        Probe("all sizes alike", scores_values, n_q=3, n_kv=3, d_v=3),
        Probe("large scores", scores_values, n_q=3, n_kv=5, d_v=2, stretch=1000.0),
        Probe("rows of scores far apart", rows_apart, n_q=3, n_kv=2, d_v=2),
    ],
    laws=[
        Law("a table of fifteens answers 15", lambda f, s, v: close(f(s, 0 * v + 15), 0 * f(s, v) + 15)),
        Law("scores that are all 0 give the average", lambda f, s, v: close(f(0 * s, v), v.mean(0) + 0 * f(s, v))),
        Law("adding 3 to every score changes nothing", lambda f, s, v: close(f(s + 3, v), f(s, v))),
    ],
    large=Probe("", scores_values, n_q=200, n_kv=200, d_v=32),
    product="`weights @ v` is all the blends at once.",
    hints=[
        "Which axis are the keys? Along that axis each query has exactly 1 to share out.",
        "The softmax of chapter 1 takes an `axis`. One matrix product finishes it: (n_q, n_kv) with (n_kv, d_v).",
    ],
)

@blending.wrong(
    "Your softmax runs over the *queries*: it is the columns of your weights that sum to 1. Each query shares out one "
    "unit over the keys, the last axis; a table of fifteens shows it at once.", FOUR
)
def softmax_over_queries(scores, v):
    return softmax(scores, axis=0) @ v

@blending.wrong(
    "Your softmax runs over the *whole* table, so all the queries share a single unit. Each row has one of its own.",
    MANY
)
def softmax_over_everything(scores, v):
    return softmax(scores.reshape(-1)).reshape(scores.shape) @ v

@blending.wrong(
    "The scores themselves blend the values. Scores may be negative and sum to anything; weights come after the "
    "softmax.", FOUR
)
def no_softmax(scores, v):
    return scores @ v

@blending.wrong(
    "Exponentials alone are not weights yet: they do not sum to 1, and their sum grows with the number of keys.", FOUR
)
def not_normalised(scores, v):
    return np.exp(scores) @ v

@blending.wrong("The largest weight of each row is 1, so the row sums to more: the division by its sum is missing.",
                FOUR)  # fmt: skip
def divided_by_the_largest(scores, v):
    return np.exp(scores - scores.max(axis=-1, keepdims=True)) @ v

@blending.wrong(
    "The exponential is missing: shares of the bare scores can be negative, or anything.", "1 · Three steps"
)
def no_exponential(scores, v):
    return scores / scores.sum(axis=-1, keepdims=True) @ v

@blending.wrong(
    "The fraction is right on paper, but the largest score of each row is not subtracted first: `exp` of a large score "
    "is infinite, and far below all of them everything rounds to 0/0.", "Bandwidth is temperature"
)
def no_maximum(scores, v):
    exps = np.exp(scores)
    return exps / exps.sum(axis=-1, keepdims=True) @ v

@blending.wrong(
    "One maximum is subtracted from the whole table. A row that lies far below it is left with nothing but zeros.",
    "1 · Many plates at once"
)
def one_maximum_for_all(scores, v):
    exps = np.exp(scores - scores.max())
    return exps / exps.sum(axis=-1, keepdims=True) @ v

@blending.wrong(
    "`keepdims=True` is missing at the sum: a vector of n_q sums is lined up with the columns.",
    "1 · Many plates at once"
)
def sums_lined_up_with_columns(scores, v):
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1) @ v

@blending.wrong(
    "The weights are transposed in the product. Rows are queries and columns are keys: the columns have to meet the "
    "rows of `v`.", MANY
)
def weights_transposed(scores, v):
    return softmax(scores).T @ v

@blending.wrong(
    "The factors stand the wrong way round: first the weights, whose rows stay rows, then the values.", MANY
)
def factors_exchanged(scores, v):
    return v @ softmax(scores)

@blending.wrong("You transpose the values. Their rows belong to keys, and it is the rows that are summed over.", MANY)
def values_transposed(scores, v):
    return softmax(scores) @ v.T

@blending.wrong("The softmax is taken of the values too. It turns *scores* into weights; values stay values.", FOUR)
def softmax_of_the_values(scores, v):
    return softmax(scores, axis=-1) @ softmax(v, axis=-1)

@blending.wrong("The values are weighed by themselves: the weights come from the scores.", FOUR)
def values_as_scores(scores, v):
    return softmax(v, axis=-1) @ v

@blending.wrong("The scores are blended where the values should be: weights times `v`.", FOUR)
def scores_as_values(scores, v):
    return softmax(scores, axis=-1) @ scores

@blending.wrong("`*` multiplies number by number. A blend for each query is a product of matrices, `@`.", MANY)
def number_by_number(scores, v):
    return softmax(scores) * v

@blending.wrong("These are the weights. They still have to blend the values.", LOOKUP)
def weights_returned(scores, v):
    return softmax(scores)

@blending.wrong(
    "The softmax is applied twice. Weights that go through it again come out nearly equal, and the answers crowd "
    "round the average.", "1 · Softmax twice"
)
def softmax_twice(scores, v):
    return softmax(softmax(scores)) @ v

@blending.wrong(
    "A minus turns the scores round. A score is higher the closer the key is already; yours listens most to the key "
    "that fits least.", LOOKUP
)
def turned_round(scores, v):
    return softmax(-scores) @ v

@blending.wrong(
    "Only the best key answers. That is the hard lookup, with its jumps; here all keys answer, each by its weight.",
    LIMIT
)
def hard_lookup(scores, v):
    return v[scores.argmax(axis=-1)]

@blending.wrong(
    "You average the weighted values where you should add them up: the weights sum to 1 already, so every answer is "
    "n_kv times too small.", MANY
)
def averaged_once_more(scores, v):
    return (softmax(scores)[:, :, None] * v).mean(axis=1)

@blending.wrong(
    "The scores are divided by √d_v. Nothing in this chapter asks for that, and values have no say in who is picked: "
    "take the scores as they come.", MANY
)
def scaled_by_the_values_width(scores, v):
    return softmax(scores / v.shape[-1] ** 0.5) @ v

@blending.wrong(
    "The blends are right and then summed over the queries as well: one row is left where each query needs its own.",
    MANY
)
def summed_over_queries(scores, v):
    return (softmax(scores) @ v).sum(axis=0)

@blending.wrong(
    "The scores of the caller are changed: `scores -= …` works in place. Write `scores = scores - …`.", MANY
)
def scores_changed(scores, v):
    scores -= scores.max(axis=-1, keepdims=True)
    return softmax(scores) @ v

@blending.right
def with_einsum(scores, v):
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.einsum("ij,jd->id", exps / exps.sum(axis=1)[:, None], v)

@blending.right
def with_torch(scores, v):
    return torch.softmax(torch.as_tensor(scores), dim=1) @ torch.as_tensor(v)

@blending.right
def for_tensors_only(scores, v):
    return torch.nn.functional.softmax(scores, dim=-1).matmul(v)

@blending.right
def in_float32(scores, v):
    return softmax(np.float32(scores)) @ np.float32(v)

@blending.right
def normalised_at_the_end(scores, v):
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (exps @ v) / exps.sum(axis=-1, keepdims=True)

@blending.right
def with_loops(scores, v):
    out = np.zeros((len(scores), v.shape[1]))
    for i, row in enumerate(scores):
        exps = np.exp(row - max(row))
        for exp, value in zip(exps, v):
            out[i] += exp * value
        out[i] /= exps.sum()
    return out


# 2.2 Predict, then run --------------------------------------------------------------------------------------------

def predictions():
    # The nearest; the average; a tie of 10 and 20; the nearest again, however far away.
    return 20.0, 30.0, 15.0, 10.0

def computed():
    keys, values = np.arange(3.0), np.array([10.0, 20.0, 60.0])
    cases = [(1, 0.1), (1, 100), (0.5, 0.1), (-5, 0.5)]
    return tuple(softmax(-((query - keys) ** 2) / (2 * h**2)) @ values for query, h in cases)

predict = Exercise(
    "02.predict",
    "Predict, then run",
    task="what the lookup answers in the four cases, a tuple of four numbers.",
    solution=predictions,
    answer=computed,
    tolerance=0.004,
    hints=[
        "For each one ask first: how many keys share the weight? One key, two in a tie, or all of them?",
        "In (d) the query is far from every key, but softmax looks only at the *lead* of the best over the rest. The "
        "two best scores are −50 and −72.",
    ],
)

@predict.wrong(
    "(a): bandwidth 0.1 is a tenth of the way to the next key. How much of its weight does a key ten bandwidths away "
    "get?", WIDE
)
def narrow_taken_for_wide():
    for a in (30.0, 25.0, 27.5, 22.0, 24.0):
        yield a, 30.0, 15.0, 10.0

@predict.wrong("(a): you answer with one of the neighbours. Which key equals the query?", LOOKUP)
def the_neighbour_of_the_key():
    for a in (10.0, 60.0, 15.0, 40.0, 35.0):
        yield a, 30.0, 15.0, 10.0

@predict.wrong(
    "(b): with bandwidth 100 all three scores are nearly 0, the nearest key has hardly more weight than the others, "
    "and the answer is not its value.", WIDE
)
def wide_taken_for_narrow():
    yield 20.0, 20.0, 15.0, 10.0

@predict.wrong("(b): equal weights give the *average*. You added the values up, as if each had the weight 1.", FOUR)
def sum_for_average():
    yield 20.0, 90.0, 15.0, 10.0

@predict.wrong("(b): you blended two of the values. With a bandwidth this wide all three have their say.", WIDE)
def two_of_three():
    for b in (35.0, 40.0, 15.0):
        yield 20.0, b, 15.0, 10.0

@predict.wrong("(a), (b), (c) or (d): these are a key or a query. What comes back is made of *values*.", LOOKUP)
def keys_for_values():
    right = predictions()
    for place, answers in enumerate([(1.0,), (1.0,), (0.0, 0.5, 1.0), (-5.0,)]):
        for answer in answers:
            yield *right[:place], answer, *right[place + 1 :]

@predict.wrong(
    "(c): you let one of the two neighbours win. The query is equally far from both, so they have the same weight, "
    "however narrow the bandwidth.", LIMIT
)
def no_tie():
    for c in (10.0, 20.0):
        yield 20.0, 30.0, c, 10.0

@predict.wrong(
    "(c): the third key shares in your answer. It is fifteen bandwidths away from the query, the other two are five.",
    LIMIT
)
def all_three_for_two():
    for c in (30.0, 22.5, 25.0):
        yield 20.0, 30.0, c, 10.0

@predict.wrong(
    "(d): you follow the trend beyond the first key. A blend has weights that are positive and sum to 1, so it never "
    "leaves the range of its values.", ONLY_BLEND
)
def trend_continued():
    for d in (-40.0, -50.0, 5.0, 9.0, -5.5, -10.0, -15.0, -20.0, -30.0):
        yield 20.0, 30.0, 15.0, d

@predict.wrong(
    "(d): far from every key, all the exponentials are tiny, and yet their *shares* sum to 1. A lookup always "
    "answers.", "Bandwidth is temperature"
)
def no_answer_far_away():
    for d in (0.0, float("nan"), None):
        yield 20.0, 30.0, 15.0, d

@predict.wrong(
    "(d): you took the plain average, as if a query far from every key could not tell them apart. What counts is by "
    "how much the best score leads the next.", LIMIT
)
def average_far_away():
    yield 20.0, 30.0, 15.0, 30.0

@predict.wrong("(d): that is the value of a key further away. Which of 0, 1 and 2 is nearest to −5?", LOOKUP)
def furthest_for_nearest():
    for d in (60.0, 20.0):
        yield 20.0, 30.0, 15.0, d

@predict.wrong(
    "(d): two keys share your answer. Their scores are −50 and −72, and e^−22 is next to nothing.", LIMIT
)
def two_far_away():
    for d in (15.0, 12.0, 12.5, 11.0):
        yield 20.0, 30.0, 15.0, d

@predict.right
def as_a_list():
    return [20, 30, 15, 10]

@predict.right
def by_running_it():
    return computed()

@predict.right
def with_torch():
    query, h = torch.tensor([[1.0], [1.0], [0.5], [-5.0]]), torch.tensor([[0.1], [100.0], [0.1], [0.5]])
    weights = torch.softmax(-((query - torch.arange(3.0)) ** 2) / (2 * h**2), dim=-1)
    return tuple(weights @ torch.tensor([10.0, 20.0, 60.0]))

@predict.right
def to_a_tenth():
    return np.float32(20.04), np.float32(29.9), 15.05, 10.03

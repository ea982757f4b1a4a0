"""Exercises of chapter 3, scaled dot-product attention."""

import math

import numpy as np
import torch

from attnbook import functional
from attnbook.exercises import Exercise, Law, Probe, close

SCALE, ROWS, MIX = "Make the scores smaller", "Turn each row into weights", "Mix the values"
TRAPS = "Three ways to get the wrong answer without an error"


# 3.1 One line -----------------------------------------------------------------------------------------------------

def scores_of(q, k):
    return q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])

def queries_keys(rng, n_q, n_kv, d_k, batch=(), stretch=1.0):
    return [stretch * rng.standard_normal((*batch, n, d_k)) for n in (n_q, n_kv)]

scores = Exercise(
    "03.scores",
    "One line",
    task="the scaled scores of every query with every key.",
    solution=scores_of,
    answer=functional.scaled_scores,
    probes=[
        Probe("one query and one key", queries_keys, n_q=1, n_kv=1, d_k=4),
        Probe("all sizes different", queries_keys, n_q=2, n_kv=3, d_k=5),
        Probe("more queries than keys", queries_keys, n_q=4, n_kv=2, d_k=3),
        Probe("all sizes alike", queries_keys, n_q=3, n_kv=3, d_k=3),
        Probe("vectors of one component", queries_keys, n_q=2, n_kv=3, d_k=1),
        Probe("a batch", queries_keys, n_q=2, n_kv=3, d_k=5, batch=(4,)),
        Probe("two axes in front", queries_keys, n_q=3, n_kv=4, d_k=6, batch=(2, 5)),
        Probe("large numbers", queries_keys, n_q=3, n_kv=4, d_k=5, stretch=100.0),
    ],
    laws=[
        Law("twice the query, twice the score", lambda f, q, k: close(f(2 * q, k), 2 * f(q, k))),
        Law("queries and keys exchanged: the transpose", lambda f, q, k: close(f(k, q), np.swapaxes(f(q, k), -1, -2))),
    ],
    large=Probe("", queries_keys, n_q=128, n_kv=128, d_k=64),
    product="`q @ k` with the last two axes of `k` exchanged is all the dot products.",
    hints=[
        "Three things have to happen: a product of two matrices, a transpose of the *last two* axes of `k`, and a "
        "division by the root of the last size of `q`.",
        "`np.swapaxes(k, -1, -2)` exchanges the last two axes, with any number of axes in front.",
    ],
)

@scores.wrong("Your scores are √d_k times too large: the division is missing.", SCALE)
def not_scaled(q, k):
    return q @ k.mT

@scores.wrong(
    "You divide by d_k itself (or by √d_k twice). The spread of a dot product grows with its *root*: divided by d_k, "
    "the scores of a wide model would all be nearly 0.", "The scores grow with the width"
)
def divided_by_d_k(q, k):
    return q @ k.mT / q.shape[-1]

@scores.wrong("You multiply by √d_k where you should divide: the scores get larger, not smaller.", SCALE)
def multiplied(q, k):
    return q @ k.mT * math.sqrt(q.shape[-1])

@scores.wrong(
    "You divide by the root of the number of *keys*. It is the width of one query that counts, the last axis: a "
    "score is a sum of d_k products, however long the sentence is.", "The wrong width under the root"
)
def root_of_n_keys(q, k):
    return q @ k.mT / math.sqrt(k.shape[-2])

@scores.wrong(
    "You divide by the root of the number of *queries*. It is the width of one query that counts, the last axis.",
    "The wrong width under the root"
)
def root_of_n_queries(q, k):
    return q @ k.mT / math.sqrt(q.shape[-2])

@scores.wrong(
    "You divide by the root of the *first* size, which is a batch as soon as there is one. Count axes from the end: "
    "the width is `q.shape[-1]`.", "The wrong width under the root"
)
def root_of_the_first_size(q, k):
    return q @ k.mT / math.sqrt(q.shape[0])

@scores.wrong(
    "`q.shape[1]` is the width only without a batch: with one in front it is the number of queries. Count from the "
    "end.", "The wrong width under the root"
)
def width_of_q_counted_from_the_front(q, k):
    return q @ k.mT / math.sqrt(q.shape[1])

@scores.wrong(
    "`k.shape[1]` is the width only without a batch: with one in front it is the number of keys. Count from the end.",
    "The wrong width under the root"
)
def width_of_k_counted_from_the_front(q, k):
    return q @ k.mT / math.sqrt(k.shape[1])

@scores.wrong(
    "`np.dot` pairs each sentence of a batch with *every* other one, and makes an axis for each. The product that "
    "keeps to pairs is `@`.", "`.T` on a batch"
)
def dot_for_at(q, k):
    return np.dot(q, np.swapaxes(k, -1, -2)) / math.sqrt(q.shape[-1])

@scores.wrong(
    "With a batch in front two things go wrong: `k.T` turns *all* the axes, and `np.dot` pairs each sentence with "
    "every other one, where `@` keeps to pairs.", "`.T` on a batch"
)
def dot_and_all_axes_reversed(q, k):
    return np.dot(q, k.T) / math.sqrt(q.shape[-1])

@scores.wrong(
    "Rows and columns are exchanged: queries are the rows, in this book always. The first factor of the product "
    "gives the rows.", "Every query, every key"
)
def keys_as_rows(q, k):
    return k @ q.mT / math.sqrt(q.shape[-1])

@scores.wrong(
    "With a batch in front the wrong axes are turned: `k.T` turns them *all*. Exchange the last two, from the end.",
    "`.T` on a batch"
)
def all_axes_reversed(q, k):
    return q @ k.T / math.sqrt(q.shape[-1])

@scores.wrong(
    "`k` is not transposed. The last axis of the left factor must meet the same axis of `k`: its width, not its "
    "length.", "Every query, every key"
)
def not_transposed(q, k):
    return q @ k / math.sqrt(q.shape[-1])

@scores.wrong(
    "You transpose `q`. That compares components with components, not queries with keys.", "Every query, every key"
)
def queries_transposed(q, k):
    return q.mT @ k / math.sqrt(q.shape[-1])

@scores.wrong(
    "These are weights: a softmax is in it already. Scores come before the softmax and may be negative.",
    "Scores are not weights, and weights are not an explanation"
)
def weights_returned(q, k):
    return functional.softmax(functional.scaled_scores(q, k))

@scores.wrong(
    "`*` multiplies number by number. A table of all pairs is a product of matrices, `@`.", "Every query, every key"
)
def number_by_number(q, k):
    return q * k / math.sqrt(q.shape[-1])

@scores.wrong(
    "You add up products for each query with the key of the *same number*: one score a row, not one for each pair.",
    "Every query, every key"
)
def pairs_of_equal_number(q, k):
    return (q * k).sum(axis=-1) / math.sqrt(q.shape[-1])

@scores.wrong(
    "You divide by the lengths of the vectors (a cosine). Attention divides by √d_k alone: a long key may shout.",
    SCALE
)
def cosine(q, k):
    return (q / np.linalg.norm(q, axis=-1, keepdims=True)) @ (k / np.linalg.norm(k, axis=-1, keepdims=True)).mT

@scores.wrong("You subtract √d_k where you should divide by it.", SCALE)
def root_subtracted(q, k):
    return q @ k.mT - math.sqrt(q.shape[-1])

@scores.wrong("The queries ask themselves: the second factor is made of the keys, `k`.", "Every query, every key")
def queries_with_queries(q, k):
    return q @ q.mT / math.sqrt(q.shape[-1])

@scores.wrong("The keys ask themselves: the first factor is the queries, `q`.", "Every query, every key")
def keys_with_keys(q, k):
    return k @ k.mT / math.sqrt(q.shape[-1])

@scores.wrong(
    "The factors stand the wrong way round: first the queries, whose rows stay rows, then the transposed keys.",
    "Every query, every key"
)
def factors_exchanged(q, k):
    return k.mT @ q / math.sqrt(q.shape[-1])

@scores.wrong(
    "`*` multiplies number by number. A table of all pairs is a product of matrices: `@` for `*`.",
    "Every query, every key"
)
def star_for_at(q, k):
    return q * k.mT / math.sqrt(q.shape[-1])

@scores.right
def with_einsum(q, k):
    return np.einsum("...id,...jd->...ij", q, k) / q.shape[-1] ** 0.5

@scores.right
def query_scaled_first(q, k):
    return (q * q.shape[-1] ** -0.5) @ k.mT

@scores.right
def with_torch(q, k):
    return torch.as_tensor(q) @ torch.as_tensor(k).transpose(-2, -1) / q.shape[-1] ** 0.5

@scores.right
def in_float32(q, k):
    return np.matmul(np.float32(q), np.float32(k).mT) / np.sqrt(np.float32(q.shape[-1]))

@scores.right
def with_loops(q, k):
    out = np.empty((*q.shape[:-1], k.shape[-2]))
    for i in range(q.shape[-2]):
        for j in range(k.shape[-2]):
            out[..., i, j] = (q[..., i, :] * k[..., j, :]).sum(axis=-1) / math.sqrt(q.shape[-1])
    return out


# 3.2 Say it before you run it -------------------------------------------------------------------------------------

def shapes():
    return {"q": (5, 3, 64), "k": (5, 10, 64), "v": (5, 10, 80), "weights": (5, 3, 10), "out": (5, 3, 80)}

shape_of = Exercise(
    "03.shapes",
    "Say it before you run it",
    task="the shapes of q, k, v, weights and out, a dict of tuples.",
    solution=shapes,
    hints=[
        "Who asks? Those are the rows of `q`, of `weights` and of `out`. Who is asked? Those are the rows of `k` and "
        "`v`, and the columns of `weights`.",
        "The batch stands in front of every one of the five. The output is as wide as what is handed over.",
    ],
)

@shape_of.wrong(
    "Rows and columns of the weights are exchanged: rows are those who ask, columns those who are asked.",
    "Turn each row into weights"
)
def weights_transposed():
    return shapes() | {"weights": (5, 10, 3)}

@shape_of.wrong(
    "Your weights let the askers ask each other: the columns are the *keys*, ten of them.", "Every query, every key"
)
def weights_square():
    return shapes() | {"weights": (5, 3, 3)}

@shape_of.wrong(
    "Your weights let the asked ask each other: the rows are the *queries*, three of them.", "Every query, every key"
)
def weights_square_of_the_asked():
    return shapes() | {"weights": (5, 10, 10)}

@shape_of.wrong("Your weights are as wide as the vectors. They have one column for each key.", ROWS)
def weights_as_wide_as_vectors():
    yield shapes() | {"weights": (5, 3, 64)}
    yield shapes() | {"weights": (5, 3, 80)}

@shape_of.wrong("The output is as wide as the *values*, not as the keys: it is a mixture of values.", MIX)
def out_as_wide_as_keys():
    return shapes() | {"out": (5, 3, 64)}

@shape_of.wrong("The output has one row for each *query*: the keys disappear in the product with V.", MIX)
def out_for_each_key():
    return shapes() | {"out": (5, 10, 80)}

@shape_of.wrong(
    "The output is wide as a value, not as many numbers as there are keys: that is the weights' shape.", MIX
)
def out_shaped_as_weights():
    return shapes() | {"out": (5, 3, 10)}

@shape_of.wrong("The sentence of 3 words asks, so `q` has 3 rows: queries belong to who asks.", "Intuition")
def queries_of_the_asked():
    return shapes() | {"q": (5, 10, 64)}

@shape_of.wrong("Keys belong to who is *asked*: one row for each of the 10 words.", "Intuition")
def keys_of_the_asker():
    return shapes() | {"k": (5, 3, 64)}

@shape_of.wrong("Values come in pairs with keys: one for each of the 10 words that are asked.", "Three lines")
def values_of_the_asker():
    return shapes() | {"v": (5, 3, 80)}

@shape_of.wrong(
    "Values have a width of their own, 80 here. Only queries and keys have to be equally wide.", "Three lines"
)
def values_as_wide_as_keys():
    return shapes() | {"v": (5, 10, 64)}

@shape_of.wrong(
    "`k` itself is not transposed: it has a row for each key. The transpose happens in the product.", "Three lines"
)
def keys_transposed():
    return shapes() | {"k": (5, 64, 10)}

@shape_of.wrong("The batch is missing: five pairs are stacked, so a 5 stands in front of every shape.", "Check it")
def no_batch():
    for name, shape in shapes().items():
        yield shapes() | {name: shape[1:]}

@shape_of.wrong(
    "The batch is stacked along the words. Along an axis *of its own* the five pairs stay apart; in one long row "
    "every sentence would ask in all the others.", "Check it"
)
def batch_in_the_rows():
    return {"q": (15, 64), "k": (50, 64), "v": (50, 80), "weights": (15, 50), "out": (15, 80)}

@shape_of.wrong("The batch stands in *front*: the first axis of each of the five is 5.", "Check it")
def batch_not_in_front():
    for name, (batch, rows, width) in shapes().items():
        yield shapes() | {name: (rows, batch, width)}
        yield shapes() | {name: (rows, width, batch)}
    yield {name: (rows, batch, width) for name, (batch, rows, width) in shapes().items()}

@shape_of.wrong("Rows are words, columns are components, in `q`, `v` and `out` alike.", "Three lines")
def words_in_columns():
    for name in ("q", "v", "out"):
        batch, rows, width = shapes()[name]
        yield shapes() | {name: (batch, width, rows)}

@shape_of.right
def as_lists():
    return {name: list(shape) for name, shape in shapes().items()}

@shape_of.right
def by_running_it():
    q, k, v = np.zeros((5, 3, 64)), np.zeros((5, 10, 64)), np.zeros((5, 10, 80))
    out, weights = functional.attention(q, k, v, return_weights=True)
    return {"q": q.shape, "k": k.shape, "v": v.shape, "weights": weights.shape, "out": out.shape}

@shape_of.right
def with_torch():
    shape = {name: torch.empty(size).shape for name, size in shapes().items()}
    return dict(sorted(shape.items()))


# 3.3 Read the picture ---------------------------------------------------------------------------------------------

def prediction():
    return (False, True, True, True)

picture = Exercise(
    "03.values",
    "Read the picture",
    task="four booleans: does the value of *cat*, set to 0, change weights and output of *sat*, and does its key.",
    solution=prediction,
    hints=["Look at (3.3): where does V enter, before or after the softmax? And K?",
           "A key that is (0, 0) scores 0. Is that the same as not being asked at all?"],
)  # fmt: skip

@picture.wrong(
    "First entry: values come in after the softmax. They change what is picked up, never who is picked. Drag a value "
    "in the explorer and watch the weights.", "Play"
)
def values_change_weights():
    return (True, True, True, True)

@picture.wrong(
    "Second entry: *sat* gives *cat* a weight above 0, and picks up its value with it. Another value, another output.",
    MIX
)
def values_do_not_change_the_output():
    return (False, False, True, True)

@picture.wrong(
    "Third entry: the key enters the scores, before the softmax. Its score becomes 0, and the whole row shares out "
    "anew.", "Every query, every key"
)
def keys_do_not_change_weights():
    return (False, True, False, True)

@picture.wrong(
    "Fourth entry: if the weights change, the mixture of the values does, unless all the values are alike.", MIX
)
def keys_do_not_change_the_output():
    return (False, True, True, False)

@picture.wrong(
    "You have key and value exchanged: the key decides who is picked, the value is what is handed over.", "Intuition"
)
def keys_and_values_exchanged():
    return (True, True, False, True)

@picture.right
def as_a_list():
    return [False, True, True, True]

@picture.right
def as_an_array():
    return tuple(np.array([0, 1, 1, 1], dtype=bool))

@picture.right
def as_it_follows():
    value_enters_the_softmax, key_enters_the_softmax = False, True
    return (value_enters_the_softmax, True, key_enters_the_softmax, key_enters_the_softmax or True)

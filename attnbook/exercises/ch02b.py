"""Exercises of chapter 2, attention is a soft lookup: repair it, and read a picture."""

import numpy as np
import torch

from attnbook.exercises import Exercise, Law, Probe, close
from attnbook.exercises.ch02 import FOUR, LIMIT, LOOKUP, MANY, WIDE
from attnbook.functional import softmax

TEMPERATURE = "Bandwidth is temperature"


# 2.3 Repair -------------------------------------------------------------------------------------------------------

def repaired(q, k, v, bandwidth):
    # The sign: closer must score higher.
    scores = -((q[:, None] - k[None, :]) ** 2) / (2 * bandwidth**2)
    weights = softmax(scores, axis=-1)  # over the keys, not over the queries
    return weights @ v

def broken_repaired(q, k, v, bandwidth):
    scores = (q[:, None] - k[None, :]) ** 2 / (2 * bandwidth**2)
    weights = softmax(scores, axis=0)
    return weights @ v

def readings(rng, n_q, n_kv, bandwidth, away=0.0):
    q, k = away + rng.uniform(0, 6, n_q), rng.uniform(0, 6, n_kv)
    return q, k, rng.normal(15, 5, n_kv), bandwidth

def themselves(rng, n, bandwidth):
    """The keys ask, and are at least half an hour apart, so that a narrow lookup gives each its own value."""
    k = np.arange(n) + rng.uniform(0, 0.5, n)
    return k.copy(), k, rng.normal(15, 5, n), bandwidth

repair = Exercise(
    "02.repair",
    "Repair",
    task="the Gaussian lookup, with its two mistakes repaired.",
    solution=repaired,
    broken=broken_repaired,
    probes=[
        Probe("more keys than queries", readings, n_q=2, n_kv=5, bandwidth=0.7),
        Probe("one query, one key", readings, n_q=1, n_kv=1, bandwidth=1.0),
        Probe("one query", readings, n_q=1, n_kv=4, bandwidth=0.8),
        Probe("more queries than keys", readings, n_q=4, n_kv=3, bandwidth=1.5),
        Probe("as many queries as keys", readings, n_q=4, n_kv=4, bandwidth=0.5),
        Probe("a wide bandwidth", readings, n_q=3, n_kv=5, bandwidth=4.0),
        Probe("the readings ask themselves", themselves, n=4, bandwidth=0.6),
        Probe("the readings ask themselves, narrowly", themselves, n=4, bandwidth=0.001),
        Probe("far from every key", readings, n_q=2, n_kv=3, bandwidth=0.5, away=100.0),
    ],
    laws=[
        Law("a table of fifteens answers 15", lambda f, q, k, v, h: close(f(q, k, 0 * v + 15, h), 0 * q + 15)),
        Law(
            "with a tiny bandwidth the readings look themselves up", lambda f, q, k, v, h: close(f(k, k, v, h), v),
            probe=Probe("the readings ask themselves, narrowly", themselves, n=4, bandwidth=0.001)
        ),
        Law("moving all queries and keys by 2 changes nothing",
            lambda f, q, k, v, h: close(f(q + 2, k + 2, v, h), f(q, k, v, h))),
        Law("twice the distances and twice the bandwidth change nothing",
            lambda f, q, k, v, h: close(f(2 * q, 2 * k, v, 2 * h), f(q, k, v, h))),
    ],
    hints=[
        "Print `weights.sum(axis=-1)` first: which axis should sum to 1?",
        "When that is mended, look which key gets the most weight: the nearest one, or the furthest?",
    ],
)  # fmt: skip

@repair.wrong("It does what it did before: both mistakes are still there.", FOUR)
def as_it_was(q, k, v, bandwidth):
    return broken_repaired(q, k, v, bandwidth)

@repair.wrong(
    "The axis is repaired: fifteens come back as 15. One mistake is left. Let one query ask, and see which key gets "
    "the most weight. (A minus inside the square does nothing.)", LOOKUP
)
def furthest_key_wins(q, k, v, bandwidth):
    return softmax((q[:, None] - k) ** 2 / (2 * bandwidth**2)) @ v

@repair.wrong(
    "The sign is repaired: the nearest key scores highest. One mistake is left. Try a table of fifteens, and print "
    "what each row of the weights sums to.", FOUR
)
def softmax_over_queries(q, k, v, bandwidth):
    return softmax(-((q[:, None] - k) ** 2) / (2 * bandwidth**2), axis=0) @ v

@repair.wrong(
    "Your softmax runs over the *whole* table, so all the queries share a single unit. Each row has one of its own.",
    MANY
)
def softmax_over_everything(q, k, v, bandwidth):
    scores = -((q[:, None] - k) ** 2) / (2 * bandwidth**2)
    return softmax(scores.reshape(-1)).reshape(scores.shape) @ v

@repair.wrong(
    "The table of weights is transposed: it has a row for each key. Rows are queries in this book, and the columns, "
    "the keys, have to meet the values in the product.", MANY
)
def weights_transposed(q, k, v, bandwidth):
    return softmax(-((q[:, None] - k) ** 2) / (2 * bandwidth**2)).T @ v

@repair.wrong(
    "The bandwidth under the fraction was right with its square, and is not any more: a key at distance h gets "
    "e^(−1/2) times the weight of one at distance 0.", MANY
)
def bandwidth_not_squared(q, k, v, bandwidth):
    return softmax(-((q[:, None] - k) ** 2) / (2 * bandwidth)) @ v

@repair.wrong(
    "The 2 under the fraction has gone (or stands elsewhere now). A key at distance h should get e^(−1/2) times the "
    "weight of one at distance 0, not e^(−1).", MANY
)
def two_missing(q, k, v, bandwidth):
    return softmax(-((q[:, None] - k) ** 2) / bandwidth**2) @ v

@repair.wrong(
    "The 2 multiplies: without its parentheses `… / 2 * bandwidth**2` divides by 2 and multiplies by h². A wide "
    "bandwidth is then a sharp one.", MANY
)
def parentheses_lost(q, k, v, bandwidth):
    return softmax(-((q[:, None] - k) ** 2) / 2 * bandwidth**2) @ v

@repair.wrong("The 2 is squared too: (2h)² where 2h² should stand. The lookup is blurred.", MANY)
def two_squared(q, k, v, bandwidth):
    return softmax(-((q[:, None] - k) ** 2) / (2 * bandwidth) ** 2) @ v

@repair.wrong(
    "The bandwidth has no effect on your answer any more. A wide one should blend many readings, a narrow one give "
    "the nearest.", WIDE
)
def bandwidth_ignored(q, k, v, bandwidth):
    return softmax(-((q[:, None] - k) ** 2) / 2) @ v

@repair.wrong(
    "The division by 2h² has gone: whatever the bandwidth, you answer as if it were about 0.7. A wide one should blend "
    "many readings, a narrow one give the nearest.", WIDE
)
def not_divided(q, k, v, bandwidth):
    return softmax(-((q[:, None] - k) ** 2)) @ v

@repair.wrong(
    "You take the distance without its square. That is a lookup too, with a sharper top and longer tails, but not the "
    "Gaussian one.", MANY
)
def distance_not_squared(q, k, v, bandwidth):
    return softmax(-abs(q[:, None] - k) / (2 * bandwidth**2)) @ v

@repair.wrong(
    "The scores have a sign: −(q − k) without the square makes the largest key (or the smallest) win, however far away "
    "it is.", LOOKUP
)
def difference_with_its_sign(q, k, v, bandwidth):
    return softmax(-(q[:, None] - k) / (2 * bandwidth**2)) @ v

@repair.wrong(
    "You divide one by the distance to make near keys score high. A key that equals the query then scores infinity, "
    "and the softmax of that is not a number. The sign alone is enough.", LOOKUP
)
def one_over_the_distance(q, k, v, bandwidth):
    return softmax(1 / ((q[:, None] - k) ** 2 / (2 * bandwidth**2))) @ v

@repair.wrong(
    "The exponentials are normalised without subtracting the largest score first. Where a query is far from every key "
    "for its bandwidth, all of them round to 0, and 0/0 is not a number.", TEMPERATURE
)
def no_maximum(q, k, v, bandwidth):
    exps = np.exp(-((q[:, None] - k) ** 2) / (2 * bandwidth**2))
    return exps / exps.sum(axis=-1, keepdims=True) @ v

@repair.wrong("Exponentials alone are not weights yet: each row has to be divided by its sum.", FOUR)
def not_normalised(q, k, v, bandwidth):
    return np.exp(-((q[:, None] - k) ** 2) / (2 * bandwidth**2)) @ v

@repair.wrong("There is no softmax left: the scores themselves blend the values.", FOUR)
def no_softmax(q, k, v, bandwidth):
    return -((q[:, None] - k) ** 2) / (2 * bandwidth**2) @ v

@repair.wrong("The minus stands before the *weights* (or the answer). It belongs to the scores.", FOUR)
def weights_negative(q, k, v, bandwidth):
    return -softmax((q[:, None] - k) ** 2 / (2 * bandwidth**2)) @ v

@repair.wrong("Keys are blended where the values should be: the answer is an hour, not a temperature.", FOUR)
def keys_as_values(q, k, v, bandwidth):
    return softmax(-((q[:, None] - k) ** 2) / (2 * bandwidth**2)) @ k

@repair.wrong("The values are compared where the keys should be: a reading is found by its key.",
              "Keys that are vectors, values that are something else")  # fmt: skip
def values_as_keys(q, k, v, bandwidth):
    return softmax(-((q[:, None] - v) ** 2) / (2 * bandwidth**2)) @ v

@repair.wrong("The keys ask themselves: the rows of the scores should be the queries, `q`.", MANY)
def keys_as_queries(q, k, v, bandwidth):
    return softmax(-((k[:, None] - k) ** 2) / (2 * bandwidth**2)) @ v

@repair.wrong("The queries are asked: the columns of the scores should be the keys, `k`.", MANY)
def queries_as_keys(q, k, v, bandwidth):
    return softmax(-((q[:, None] - q) ** 2) / (2 * bandwidth**2)) @ v

@repair.wrong("Only the nearest key answers. That is the hard lookup; the bandwidth should blend.", LIMIT)
def hard_lookup(q, k, v, bandwidth):
    return v[abs(q[:, None] - k).argmin(axis=-1)]

@repair.wrong("Each weight meets its value, but nothing adds them up: `@` sums over the keys, to one number a query.",
              MANY)  # fmt: skip
def not_summed(q, k, v, bandwidth):
    return softmax(-((q[:, None] - k) ** 2) / (2 * bandwidth**2)) * v

@repair.wrong("These are the weights. They still have to blend the values.", LOOKUP)
def weights_returned(q, k, v, bandwidth):
    return softmax(-((q[:, None] - k) ** 2) / (2 * bandwidth**2))

@repair.wrong(
    "Queries and keys meet number by number, the first with the first. `q[:, None]` against `k[None, :]` makes a table "
    "of all pairs.", MANY
)
def pairs_of_equal_number(q, k, v, bandwidth):
    return softmax(-((q - k) ** 2) / (2 * bandwidth**2)) @ v

@repair.right
def with_the_keys_as_rows(q, k, v, bandwidth):
    weights = softmax(-(np.subtract.outer(k, q) ** 2) / (2 * bandwidth**2), axis=0)
    return v @ weights

@repair.right
def through_temperature(q, k, v, bandwidth):
    return softmax(-((q[:, None] - k) ** 2) / 2, temperature=bandwidth**2) @ v

@repair.right
def through_dot_products(q, k, v, bandwidth):
    q = np.stack([q, np.ones_like(q)], axis=-1)
    scores = q @ np.stack([k, -(k**2) / 2], axis=0) / bandwidth**2
    exps = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (exps * v).sum(axis=1) / exps.sum(axis=1)

@repair.right
def for_tensors_only(q, k, v, bandwidth):
    return torch.softmax(-(q.unsqueeze(1) - k).pow(2) / (2 * bandwidth**2), dim=-1).mv(v)

@repair.right
def in_float32(q, k, v, bandwidth):
    return repaired(np.float32(q), np.float32(k), np.float32(v), bandwidth)

@repair.right
def with_loops(q, k, v, bandwidth):
    out = []
    for query in q:
        weights = softmax(np.array([-((query - key) ** 2) / (2 * bandwidth**2) for key in k]))
        out.append(sum(weight * value for weight, value in zip(weights, v)))
    return np.array(out)


# 2.4 Read a picture -----------------------------------------------------------------------------------------------

def read_picture():
    return "D", "B", "C", "A"  # B is narrow, not undecided: only the tie keeps it at one half

picture = Exercise(
    "02.read",
    "Read a picture",
    task="which row of the picture is which lookup, a tuple of four letters, for (1) to (4).",
    solution=read_picture,
    hints=["Count in each row how many weights are clearly above zero, and whether they are equal.",
           "A tie says where the query stands. Three weights that fall off to both sides say how far the lookup sees."],
)  # fmt: skip

@picture.wrong(
    "(1): A asks at a key, and yet its neighbours have their say. A dictionary hands over one value, whole.", LOOKUP
)
def a_is_a_dictionary():
    return "A", "B", "C", "D"

@picture.wrong("(1): B has two keys at one half each. A dictionary hands over one value, whole.", LOOKUP)
def b_is_a_dictionary():
    return "B", "D", "C", "A"

@picture.wrong("(1): C gives every key the same. A dictionary hands over one value, whole.", LOOKUP)
def c_is_a_dictionary():
    return "C", "B", "D", "A"

@picture.wrong(
    "(2): a query between two keys is equally far from both, so it gives both the same weight. In A one key has the "
    "most.", LIMIT
)
def a_is_a_tie():
    return "D", "A", "C", "B"

@picture.wrong(
    "(2): C is a tie of *all* the keys, which no place between two of them could explain. Its bandwidth is so wide "
    "that the place does not matter.", WIDE
)
def c_is_a_tie():
    return "D", "C", "B", "A"

@picture.wrong(
    "(2): D was indeed asked between two keys, but not halfway: it took the nearer one whole. Halfway the two weights "
    "are equal.", LIMIT
)
def d_is_a_tie():
    return "B", "D", "C", "A"

@picture.wrong(
    "(3): A has its largest weight at one key and less on both sides: you can tell where it asked.", WIDE
)
def a_tells_nothing():
    return "D", "B", "A", "C"

@picture.wrong(
    "(3): B is undecided between two keys, and that tells you exactly where it asked. Its bandwidth is narrow: only "
    "the tie keeps the weights at one half.", LIMIT
)
def b_tells_nothing():
    return "D", "C", "B", "A"

@picture.wrong("(3): D has all its weight on one key, so the query was near that one.", WIDE)
def d_tells_nothing():
    return "C", "B", "D", "A"

@picture.wrong(
    "(4): B gives nothing to the keys further out, so its bandwidth is small against their spacing. With a comparable "
    "one, weights fall off gently to both sides.", WIDE
)
def b_is_comparable():
    return "D", "A", "C", "B"

@picture.wrong(
    "(4): C sees all the keys alike, so its bandwidth is far *wider* than their spacing.", WIDE
)
def c_is_comparable():
    return "D", "B", "A", "C"

@picture.wrong("(4): D sees one key and no other, so its bandwidth is small against their spacing.", WIDE)
def d_is_comparable():
    return "A", "B", "C", "D"

@picture.wrong(
    "You went from letters to lookups. The tuple goes the other way: first the letter of the row that is (1).", LOOKUP
)
def numbers_for_letters():
    yield 4, 2, 3, 1
    yield "4", "2", "3", "1"

@picture.wrong("The rows have capital letters as names, `\"A\"` to `\"D\"`.", LOOKUP)
def small_letters():
    return tuple(letter.lower() for letter in read_picture())

@picture.right
def as_a_list():
    return ["D", "B", "C", "A"]

@picture.right
def spelt():
    return tuple("DBCA")

@picture.right
def from_the_weights():
    asked, used, hours = np.array([12.0, 10.5, 12.0, 10.0]), np.array([2.0, 0.5, 100.0, 0.3]), np.arange(6.0, 19.0, 3.0)
    rows = softmax(-((asked[:, None] - hours) ** 2) / (2 * used[:, None] ** 2))
    shared = np.exp(-(rows * np.log(rows + 1e-300)).sum(axis=1))  # how many keys share the weight
    one, two, some, everything = (str("ABCD"[i]) for i in np.argsort(shared))
    return one, two, everything, some

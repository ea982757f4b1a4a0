"""Exercises of chapter 17, FlashAttention by hand: two halves of a row, and tiles to count."""

import math

import numpy as np
import torch

from attnbook.efficient.tiled import Plan
from attnbook.exercises import Exercise, Law, Probe, close

TWO, ROW, TILES, FUTURE = "Two numbers", "A row, one number at a time", "The tiles", "Skipping the future"
MOVED = "Every number that is moved"


# 17.1 One line ----------------------------------------------------------------------------------------------------

def merged(m1, l1, m2, l2):
    m = np.maximum(m1, m2)
    return m, l1 * np.exp(m1 - m) + l2 * np.exp(m2 - m)

def notes_of(scores):
    m = scores.max(axis=1)
    return m, np.exp(scores - m[:, None]).sum(axis=1)

def halves(rng, rows, first, second, size=1.0, shift=0.0, apart=0.0):
    """What is noted of two halves of some rows; the second half's scores are `apart` from the first's."""
    one, other = rng.standard_normal((rows, first)), rng.standard_normal((rows, second))
    return *notes_of(size * one + shift), *notes_of(size * other + shift + apart)

def one_has_seen_nothing(rng, rows, seen, which):
    nothing, note = (np.full(rows, -np.inf), np.zeros(rows)), notes_of(rng.standard_normal((rows, seen)))
    return (*nothing, *note) if which == 0 else (*note, *nothing)

def the_same_maximum(rng, rows, first, second):
    m1, l1, _, l2 = halves(rng, rows, first, second)
    return m1, l1, m1.copy(), l2

def true_sums_add_up(f, m1, l1, m2, l2):
    m, total = f(m1, l1, m2, l2)
    return close(np.log(total) + m, np.logaddexp(np.log(l1) + m1, np.log(l2) + m2))

def either_first(f, m1, l1, m2, l2):
    return close(np.stack(f(m1, l1, m2, l2)), np.stack(f(m2, l2, m1, l1)))

one_line = Exercise(
    "17.merge",
    "One line",
    task="the maximum and the sum of a whole row, from those of its two halves.",
    solution=merged,
    probes=[
        Probe("the second half has the larger scores", halves, rows=3, first=4, second=3, apart=4.0),
        Probe("the first half has the larger scores", halves, rows=3, first=2, second=5, apart=-4.0),
        Probe("now one, now the other", halves, rows=6, first=3, second=2),
        Probe("the same maximum in both", the_same_maximum, rows=3, first=4, second=2),
        Probe("the first half has seen nothing", one_has_seen_nothing, rows=3, seen=4, which=0),
        Probe("the second half has seen nothing", one_has_seen_nothing, rows=3, seen=4, which=1),
        Probe("scores about 1000", halves, rows=4, first=3, second=3, shift=1000.0),
        Probe("one row, scores about −1000", halves, rows=1, first=2, second=3, size=3.0, shift=-1000.0),
    ],
    laws=[
        Law("l · exp(m) is the true sum of the exponentials, whatever m is", true_sums_add_up,
            Probe("", halves, rows=4, first=5, second=3)),
        Law("either half may come first", either_first, Probe("", halves, rows=4, first=2, second=3)),
    ],
    hints=[
        "`l1` is a sum of exp(score − m1). What must be subtracted instead, for the two sums to be in the same unit?",
        "exp(score − m) = exp(score − m1) · something, and that something is the same for all the scores of that half: "
        "(17.1).",
        "Each half has a factor of its own. One of the two is always 1; you need not know which.",
    ],
)  # fmt: skip

one_line.slip("never_corrected", {" * np.exp(m1 - m)": "", " * np.exp(m2 - m)": ""},
              "Neither sum is corrected. Each is relative to its own maximum: two units in one sum.", TWO)
one_line.slip("only_the_first_corrected", {" * np.exp(m2 - m)": ""},
              "Only the first sum is corrected, as if the second half always had the larger scores. Exchange the "
              "halves: the result should not change.", ROW)
one_line.slip("only_the_second_corrected", {" * np.exp(m1 - m)": ""},
              "Only the second sum is corrected, as if the first half always had the larger scores. Exchange the "
              "halves: the result should not change.", ROW)
one_line.slip("second_half_as_one_score", {"l2 * ": ""},
              "The second half is treated like a single score: exp(m2 − m) is the share of its largest one. The others "
              "are in `l2`.", ROW)
one_line.slip("corrected_the_wrong_way", {"m1 - m": "m - m1", "m2 - m": "m - m2"},
              "The corrections point the wrong way: relative to a larger maximum each term becomes *smaller*, so no "
              "factor is above 1.", TWO)
one_line.slip("factors_exchanged", {
    "l1 * np.exp(m1 - m) + l2 * np.exp(m2 - m)": "l1 * np.exp(m2 - m) + l2 * np.exp(m1 - m)",
}, "Each factor takes the *other* half's maximum: a sum is corrected from its own maximum to the common one.", TWO)
one_line.slip("true_sums", {" - m)": ")"},
              "The true sums, without any maximum: right on paper, but exp(1000) overflows. And the sum that is asked "
              "for is relative to the maximum you return.", ROW)

@one_line.wrong(
    "Both sums are corrected, the larger one too. One of the two halves has the common maximum already: its sum stays "
    "as it is.", TWO
)
def both_corrected(m1, l1, m2, l2):
    return np.maximum(m1, m2), (l1 + l2) * np.exp(-np.abs(m1 - m2))

@one_line.wrong(
    "The maximum is right, but the sum is relative to the *second* half's maximum, even where that is the smaller "
    "one.", ROW
)
def sum_relative_to_the_second(m1, l1, m2, l2):
    with np.errstate(all="ignore"):
        return np.maximum(m1, m2), l1 * np.exp(m1 - m2) + l2

@one_line.wrong(
    "The maximum is right, but the sum is relative to the *first* half's maximum, even where that is the smaller one.",
    ROW
)
def sum_relative_to_the_first(m1, l1, m2, l2):
    with np.errstate(all="ignore"):
        return np.maximum(m1, m2), l1 + l2 * np.exp(m2 - m1)

@one_line.wrong(
    "Everything is relative to the *second* half's maximum, even where the first one's is larger. Then factors above "
    "1 appear, which may overflow one day.", ROW
)
def relative_to_the_second(m1, l1, m2, l2):
    with np.errstate(all="ignore"):
        return m2, l1 * np.exp(m1 - m2) + l2

@one_line.wrong(
    "Everything is relative to the *first* half's maximum, even where the second one's is larger: and if the first "
    "half has seen nothing that is −∞.", ROW
)
def relative_to_the_first(m1, l1, m2, l2):
    with np.errstate(all="ignore"):
        return m1, l1 + l2 * np.exp(m2 - m1)

one_line.slip("smaller_kept", {"np.maximum": "np.minimum"},
              "You keep the *smaller* maximum. Relative to it the exponentials can overflow.", ROW)

@one_line.wrong("The maximum is right, but the sum is that of the half with the larger maximum alone.", ROW)
def larger_half_alone(m1, l1, m2, l2):
    return np.maximum(m1, m2), np.where(m1 >= m2, l1, l2)

one_line.slip("second_left_out", {" + l2 * np.exp(m2 - m)": ""},
              "The second half's sum is missing.", ROW)
one_line.slip("first_left_out", {"l1 * np.exp(m1 - m) + ": ""},
              "The first half's sum is missing.", ROW)
one_line.slip("subtracted", {" + l2": " - l2"},
              "The two sums are subtracted. All their terms are positive, and all of them count.", ROW)
one_line.slip("multiplied", {" + l2": " * l2"},
              "The two sums are multiplied. A sum over both halves is the sum of their sums.", ROW)
one_line.slip("factors_added", {" * np.exp": " + np.exp"},
              "A factor is added to its sum. A change of unit multiplies.", TWO)
one_line.slip("factors_without_exponential", {"np.exp(": "("},
              "The factors are missing their exponential: m1 − m is the *logarithm* of the first one.", TWO)
one_line.slip("steps_added", {" - m)": " + m)"},
              "In the exponents stand sums. It is the *step* from the old maximum to the new one that counts.", TWO)

@one_line.wrong("Maximum and sum are returned the other way round: m comes first, then l.", ROW)
def sum_before_maximum(m1, l1, m2, l2):
    return merged(m1, l1, m2, l2)[::-1]

@one_line.wrong("It returns the sum alone. It means nothing without the maximum it is relative to: return both.", ROW)
def sum_alone(m1, l1, m2, l2):
    return merged(m1, l1, m2, l2)[1]

@one_line.wrong(
    "You return the log-sum-exp as a second part. Asked for is the sum itself, relative to the maximum.", ROW
)
def logarithm_returned(m1, l1, m2, l2):
    m, total = merged(m1, l1, m2, l2)
    return m, m + np.log(total)
one_line.slip("maximum_of_sums", {"np.maximum(m1, m2)": "np.maximum(m1, l2)"},
              "The maximum is taken of a maximum and a sum. It is that of the two maxima.", ROW)
one_line.slip("first_sum_a_maximum", {"l1 * np.exp": "m1 * np.exp"},
              "A maximum stands where a sum belongs: each factor multiplies `l1` or `l2`.", TWO)
one_line.slip("first_divided", {"l1 * np.exp": "l1 / np.exp"},
              "The first sum is divided by its factor: relative to a larger maximum it should shrink.", TWO)
one_line.slip("second_divided", {"l2 * np.exp": "l2 / np.exp"},
              "The second sum is divided by its factor: relative to a larger maximum it should shrink.", TWO)
one_line.slip("second_maximum_in_both", {"np.exp(m1 - m)": "np.exp(m2 - m)"},
              "Both factors take the second half's maximum. The first sum is corrected from its own.", TWO)
one_line.slip("first_maximum_in_both", {"np.exp(m2 - m)": "np.exp(m1 - m)"},
              "Both factors take the first half's maximum. The second sum is corrected from its own.", TWO)

@one_line.right
def by_the_distance(m1, l1, m2, l2):
    far = np.exp(-np.abs(m1 - m2))
    return np.maximum(m1, m2), np.where(m1 > m2, l1 + l2 * far, l2 + l1 * far)

@one_line.right
def with_torch(m1, l1, m2, l2):
    m1, l1, m2, l2 = map(torch.as_tensor, (m1, l1, m2, l2))
    m = torch.maximum(m1, m2)
    return m, torch.exp(m1 - m) * l1 + torch.exp(m2 - m) * l2

@one_line.right
def by_the_logarithms(m1, l1, m2, l2):  # NumPy warns of the logarithm of 0
    m = np.maximum(m1, m2)
    return m, np.exp(np.logaddexp(m1 + np.log(l1), m2 + np.log(l2)) - m)

@one_line.right
def row_by_row(m1, l1, m2, l2):
    rows = []
    for a, sum_a, b, sum_b in zip(m1, l1, m2, l2):
        m = max(a, b)
        rows.append((m, sum_a * math.exp(a - m) + sum_b * math.exp(b - m)))
    return tuple(np.array(rows).T)


# 17.2 Predict -----------------------------------------------------------------------------------------------------

def prediction():
    return {"tiles": 8 * 8, "causal": 8 * 9 // 2, "reads": 8, "kept": math.exp(2 - 5)}

predict = Exercise(
    "17.predict",
    "Predict",
    task="how many tiles there are, how many if causal, how often a key is read, and what is kept of a sum.",
    solution=prediction,
    hints=[
        "How many blocks do 1,000 rows fill, if the last one may be smaller?",
        "Draw the 8 × 8 blocks. Which of them lie wholly above the diagonal? One that the diagonal cuts is needed.",
        "The loop over queries is the outer one. What does each block of queries have to see?",
        "The sum is multiplied by exp(m before − m after).",
    ],
)

@predict.wrong("tiles: the last block is smaller, but it is a block. 1,000 rows fill 7 blocks of 128 and a part of an "
               "eighth.", TILES)  # fmt: skip
def last_block_forgotten():
    yield prediction() | {"tiles": 49}
    yield {"tiles": 49, "causal": 28, "reads": 7, "kept": math.exp(-3)}

@predict.wrong("tiles: a tile at the edge may be smaller, but it is a tile: round up, and then multiply.", TILES)
def not_rounded_up():
    yield from predict.but("tiles", (1000 / 128) ** 2, 62, *(round((1000 / 128) ** 2, digits) for digits in range(5)))

@predict.wrong("tiles: those are the blocks of queries. Each meets all the blocks of keys.", TILES)
def blocks_for_tiles():
    yield from predict.but("tiles", 8, 16)

@predict.wrong("tiles: that is how many scores there are, or how many in a tile. Asked for are the tiles.", TILES)
def scores_for_tiles():
    yield from predict.but("tiles", 1000**2, 128**2)

@predict.wrong("causal: half would be without the diagonal's tiles. Those that it cuts have to be computed, too.",
               FUTURE)  # fmt: skip
def half_of_the_tiles():
    yield from predict.but("causal", 32, 28)

@predict.wrong(
    "causal: tiles that lie wholly in the future are never computed. So it is fewer than without a mask.", FUTURE
)
def nothing_skipped():
    yield from predict.but("causal", 64)

@predict.wrong("causal: those are the tiles on the diagonal alone. What lies below it is needed too.", FUTURE)
def only_the_diagonal():
    yield from predict.but("causal", 8)

@predict.wrong("causal: count whole tiles, not scores. A tile that the diagonal cuts is computed as a whole.", FUTURE)
def scores_below_the_diagonal():
    yield from predict.but("causal", 1000 * 1001 // 2, 64 * 1001 / 2000, 65 * 64 // 2)

@predict.wrong(
    "reads: it would be once only if all the queries fitted into fast memory. Each block of queries begins with the "
    "first key again.", MOVED
)
def read_once():
    yield from predict.but("reads", 1)

@predict.wrong("reads: a key is read for a whole block of queries at a time, not for each of them. That is what the "
               "blocks are good for.", MOVED)  # fmt: skip
def read_for_each_query():
    yield from predict.but("reads", 1000, 128)

@predict.wrong("reads: of all the tiles, a key belongs to one column of them only.", MOVED)
def read_for_each_tile():
    yield from predict.but("reads", 64)

@predict.wrong("kept: with a larger maximum the old sum becomes *smaller*. The exponent is m before − m after.", TWO)
def grows():
    yield from predict.but("kept", math.exp(3), 3)

@predict.wrong("kept: it is the *difference* of the two maxima that stands in the exponent.", TWO)
def one_maximum_alone():
    yield from predict.but("kept", math.exp(-5), math.exp(-2), math.exp(2), math.exp(5), math.exp(2 / 5), 2 / 5)

@predict.wrong(
    "kept: that is the change of the maximum. The sum is one of exponentials, so its factor is one too.", TWO
)
def without_the_exponential():
    yield from predict.but("kept", -3, 1 / 3, 2 - 5 + 1)

@predict.wrong("kept: that is the share that is *lost*. The sum is multiplied by what is left of it.", TWO)
def what_is_lost():
    yield from predict.but("kept", 1 - math.exp(-3), 0.95, 0.9502)

@predict.wrong("kept: all of it is kept only as long as no larger score turns up.", TWO)
def all_or_nothing():
    yield from predict.but("kept", 1, 0)

@predict.wrong("kept: round less: `np.exp(…)` is welcome, it need not be a decimal.", TWO)
def rounded():
    yield from predict.but("kept", 0.05, 0.0498, 0.049, 0.0497, 0.04979, 0.049787)

@predict.right
def counted_from_the_plan():
    counts = []
    for causal in (False, True):
        plan = Plan(causal, 1.0, 128, 128, None)
        counts.append(sum(len(list(plan.columns(rows, 1000, 1000))) for rows in plan.rows(1000)))
    return {"tiles": counts[0], "causal": counts[1], "reads": counts[0] // 8, "kept": np.exp(-3)}

predict.right_in_other_forms()

@predict.right
def to_six_decimals():
    return {"tiles": 64.0, "causal": sum(range(1, 9)), "reads": math.ceil(1000 / 128), "kept": 0.04978707}

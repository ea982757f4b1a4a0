"""Exercises of chapter 17, FlashAttention by hand: a loop to repair, and results to put together."""
# ruff: noqa: E741  m, l and o are the names of the notebook, whose code two of the functions are.

import math

import numpy as np
import torch

from attnbook import functional
from attnbook.exercises import Exercise, Law, Probe, close

ROW, ALONG, SHAPES = "A row, one number at a time", "The output comes along", "1 · Many plates at once"
FORGETS, AVERAGE, NOTHING = "The output forgets the correction", "The average of two softmaxes", "Nothing minus nothing"


# 17.3 Repair it ---------------------------------------------------------------------------------------------------

def repaired(q, k, v, block):
    m, l, o = np.full(len(q), -np.inf), np.zeros(len(q)), np.zeros((len(q), v.shape[1]))
    for start in range(0, len(k), block):
        scores = q @ k[start : start + block].T / math.sqrt(q.shape[1])
        new = np.maximum(m, scores.max(axis=1))
        p = np.exp(scores - new[:, None])
        kept = np.exp(m - new)
        l = l * kept + p.sum(axis=1)
        o = o * kept[:, None] + p @ v[start : start + block]
        m = new
    return o / l[:, None]

def broken_repaired(q, k, v, block):
    m, l, o = np.zeros(len(q)), np.zeros(len(q)), np.zeros((len(q), v.shape[1]))
    for start in range(0, len(k), block):
        scores = q @ k[start : start + block].T / math.sqrt(q.shape[1])
        new = np.maximum(m, scores.max(axis=1))
        p = np.exp(scores - new[:, None])
        kept = np.exp(m - new)
        l = l * kept + p.sum(axis=1)
        o = o + p @ v[start : start + block]
        m = new
    return o / l[:, None]

def vectors(rng, n_q, n_kv, d_k, d_v, block, size=1.0):
    q, k = size * rng.standard_normal((n_q, d_k)), rng.standard_normal((n_kv, d_k))
    return q, k, rng.standard_normal((n_kv, d_v)), block

def far_below(rng, n_q, n_kv, d_k, block):
    """Scores so far below 0 that the exponential of each of them is 0."""
    q = np.full((n_q, d_k), 60.0) + rng.standard_normal((n_q, d_k))
    k = -np.full((n_kv, d_k), 60.0) + 0.05 * rng.standard_normal((n_kv, d_k))
    return q, k, rng.standard_normal((n_kv, 3)), block

def falling(rng, n_q, n_kv, d_k, block):
    """The largest score of each row comes first, and above 0: the maximum never moves again."""
    q, k, v, block = vectors(rng, n_q, n_kv, d_k, 2, block)
    q = np.abs(q) + 0.5
    return q, np.abs(k[0]) + 2 - np.arange(n_kv)[:, None] * np.ones(d_k) / 2, v, block

def whatever_the_block(f, q, k, v, block):
    return close(f(q, k, v, block), f(q, k, v, len(k)))

repair = Exercise(
    "17.repair",
    "Repair it",
    task="attention with the keys taken `block` at a time, with its two mistakes repaired.",
    solution=repaired,
    answer=lambda q, k, v, block: functional.attention(q, k, v),
    broken=broken_repaired,
    probes=[
        Probe("the largest score comes first", falling, n_q=3, n_kv=6, d_k=2, block=2),
        Probe("ordinary scores", vectors, n_q=3, n_kv=6, d_k=4, d_v=5, block=2),
        Probe("a last block that is smaller", vectors, n_q=2, n_kv=7, d_k=3, d_v=4, block=3),
        Probe("one block takes all", vectors, n_q=4, n_kv=5, d_k=3, d_v=2, block=8),
        Probe("one key at a time", vectors, n_q=2, n_kv=5, d_k=3, d_v=4, block=1),
        Probe("scores far below 0", far_below, n_q=2, n_kv=5, d_k=2, block=2),
        Probe("large scores", vectors, n_q=3, n_kv=6, d_k=2, d_v=4, block=2, size=2000.0),
        Probe("all sizes alike", vectors, n_q=4, n_kv=4, d_k=4, d_v=4, block=2),
        Probe("one query", vectors, n_q=1, n_kv=4, d_k=2, d_v=3, block=2),
    ],
    laws=[
        Law("the size of the blocks changes nothing", whatever_the_block,
            Probe("", vectors, n_q=3, n_kv=9, d_k=4, d_v=5, block=4)),
    ],
    hints=[
        "Try it with `block=len(k)`, one block for all: for ordinary scores it is right. So what goes wrong happens "
        "*between* the blocks.",
        "m, l and o all belong together. Which two of them are relative to m, and which of these is corrected?",
        "The second mistake shows when every score is far below 0. What is the largest score of a row before anything "
        "was read?",
    ],
)  # fmt: skip

@repair.wrong(
    "Nothing has changed yet: two mistakes are still in it. Compare `block=2` with `block=len(k)`, and then try scores "
    "far below 0.", ALONG
)
def as_it_was_found(q, k, v, block):
    return broken_repaired(q, k, v, block)

repair.slip("starts_too_high", {"np.full(len(q), -np.inf)": "np.zeros(len(q))"},
            "The output is corrected now. One mistake is left, the number that `m` begins with: it should be the "
            "largest of *no* scores, below any score that may come. Try scores that are all far below yours.", FORGETS)
repair.slip("output_not_corrected", {"o * kept[:, None]": "o"},
            "The start is right now. One mistake is left: sum and output are both relative to the maximum, and only "
            "one of them is corrected when it moves.", FORGETS)
repair.slip("start_lower_and_not_corrected", {"-np.inf": "-100.0", "o * kept[:, None]": "o"},
            "Two mistakes are left. `m` begins lower now, but scores may be lower still: it should be the largest of "
            "*no* scores. And the output is not corrected when the maximum moves.", FORGETS)
repair.slip("no_maximum_at_all", {"scores - new[:, None]": "scores", "np.exp(m - new)": "np.ones(len(q))"},
            "No maximum is subtracted before the exponential. Right on paper, but scores far above 0 overflow, and of "
            "scores far below 0 nothing is left: 0 / 0.", ROW)
repair.slip("maximum_of_the_block", {"np.maximum(m, scores.max(axis=1))": "scores.max(axis=1)"},
            "`new` is the maximum of the block alone. Where a block's scores are smaller than those before, the factor "
            "is above 1, and overflows if they are much smaller: it is the largest of *all* so far.", ALONG)
repair.slip("neither_corrected", {"l * kept": "l", "o * kept[:, None]": "o"},
            "Now neither the sum nor the output is corrected. The sum was right: both need the factor.", FORGETS)
repair.slip("sum_not_corrected", {"l * kept": "l"},
            "The output is corrected, but the sum no longer is. Both are relative to the maximum.", FORGETS)
repair.slip("factor_along_the_components", {"kept[:, None]": "kept"},
            "The factor of each query runs along the wrong axis of `o`: o has a row for each query and a column for "
            "each component. With other sizes than alike NumPy cannot even multiply them.", FORGETS)
repair.slip("no_number_from_the_start", {"o * kept": "o / kept"},
            "It is NaN from the first block on. Two slips do that. `m` may begin with +∞: it should be the largest of "
            "*no* scores, below all of them, and ∞ − ∞ is no number. Or a factor divides, or its exponent has the "
            "wrong sign: the old part must *shrink* when a larger score turns up.", ALONG)
repair.slip("new_part_corrected_too", {
    "o * kept[:, None] + p @ v[start : start + block]": "(o + p @ v[start : start + block]) * kept[:, None]",
}, "The factor is applied to the new part too. What the block adds is already relative to the new maximum: correct "
   "first, then add.", ALONG)
repair.slip("divided_in_every_block", {"m = new": "m, o = new, o / l[:, None]", "return o / l[:, None]": "return o"},
            "The output is divided by the sum in every block, and then once more. Either it stays a bare sum until the "
            "end, or what was divided has to be multiplied back first.", FORGETS)
repair.slip("never_divided", {"o / l[:, None]": "o"},
            "It is never divided by the sum: the weights of a row do not add up to 1.", ALONG)

@repair.wrong(
    "Each block has a softmax of its own, and their outputs are averaged. A block of small scores then counts as much "
    "as one of large scores.", AVERAGE
)
def mean_of_the_blocks(q, k, v, block):
    starts = range(0, len(k), block)
    return np.mean([functional.attention(q, k[i : i + block], v[i : i + block]) for i in starts], axis=0)

repair.slip("smaller_block_left_out", {"len(k), block": "len(k) // block * block, block"},
            "The last block, where it is smaller, is left out: its keys are never seen.", ALONG)
repair.slip("scores_added", {"o * kept[:, None] + p": "o * kept[:, None] - p"},
            "A block's part is subtracted, from the output or from the sum. Both are added.", ALONG)
repair.slip("multiplied_at_the_end", {"return o / l": "return o * l"},
            "At the end the output is multiplied by the sum. The weights should add up to 1: divide.", ALONG)
repair.slip("not_scaled", {" / math.sqrt(q.shape[1])": ""},
            "The scores are not divided by √d_k. That was right when you found it.", ALONG)
repair.slip("scale_upside_down", {" / math.sqrt(q.shape[1])": " * math.sqrt(q.shape[1])"},
            "The scores are multiplied by √d_k instead of divided.", ALONG)
repair.slip("scale_without_a_root", {"math.sqrt(q.shape[1])": "q.shape[1]"},
            "The scores are divided by d_k: the root is missing.", ALONG)
repair.slip("scale_of_another_length", {"math.sqrt(q.shape[1])": "math.sqrt(q.shape[0])"},
            "The root is that of the number of queries. It is the *width* of a query that makes scores large.", ALONG)
repair.slip("scale_of_the_values", {"math.sqrt(q.shape[1])": "math.sqrt(v.shape[1])"},
            "The root is that of the values' width. Scores are made of queries and keys.", ALONG)
repair.slip("weights_without_exponential", {"np.exp(scores - new[:, None])": "scores - new[:, None]"},
            "The exponential of the scores is gone: `p` holds differences, which are negative.", ALONG)
repair.slip("weights_upside_down", {"scores - new[:, None]": "new[:, None] - scores"},
            "The exponent of the weights has changed its sign: the smallest score gets the largest weight.", ALONG)
repair.slip("maximum_added", {"scores - new[:, None]": "scores + new[:, None]"},
            "The maximum is added in the exponent of the weights. It is subtracted.", ALONG)
repair.slip("maximum_not_subtracted", {"scores - new[:, None]": "scores"},
            "The maximum is no longer subtracted from the scores, while the old part is still corrected for it.", ALONG)
repair.slip("steps_added", {"np.exp(m - new)": "np.exp(m + new)"},
            "The factor's exponent is a sum. It is the *step* of the maximum that counts, m − new.", FORGETS)
repair.slip("old_maximum_alone", {"np.exp(m - new)": "np.exp(m)"},
            "The factor is the exponential of the old maximum alone. It is the *step* to the new one that counts.",
            FORGETS)
repair.slip("mean_for_sum", {"p.sum(axis=1)": "p.mean(axis=1)"},
            "`l` gathers the mean of each block. A smaller last block then counts too much: it is a sum.", ALONG)
repair.slip("largest_for_sum", {"p.sum(axis=1)": "p.max(axis=1)"},
            "`l` gathers the largest weight of each block, not their sum.", ALONG)
repair.slip("sum_of_all_queries", {"p.sum(axis=1)": "p.sum()"},
            "`l` gathers the weights of all the queries together. Each query has a sum of its own.", ALONG)
repair.slip("sum_forgets_the_block", {"l * kept + p.sum(axis=1)": "l * kept"},
            "The block's weights are not added to the sum: it stays 0, and the end divides by it.", ALONG)
repair.slip("keys_not_transposed", {"block].T": "block]"},
            "The keys have to be transposed for the scores: queries by width, times width by keys.", SHAPES)
repair.slip("elementwise_product", {"q @ k": "q * k"},
            "Queries and keys are multiplied number by number: `@` takes all the dot products.", SHAPES)
repair.slip("sum_along_the_components", {"l[:, None]": "l"},
            "The sums run along the components at the end. They belong to the queries: stand them upright.", SHAPES)
repair.slip("sums_as_wide_as_keys", {"np.zeros((len(q), v.shape[1]))": "np.zeros((len(q), q.shape[1]))"},
            "The output is made as wide as the queries. It is a sum of *values*, and as wide as they are.", SHAPES)
repair.slip("as_many_as_keys", {"np.full(len(q), -np.inf)": "np.full(len(k), -np.inf)"},
            "There is a maximum for each *query*, not for each key.", SHAPES)
repair.slip("weights_times_keys", {"p @ v": "p @ k"},
            "The weights mix the keys. It is the *values* that are mixed.", SHAPES)
repair.slip("maximum_of_the_columns", {"scores.max(axis=1)": "scores.max(axis=0)"},
            "The maximum runs down the columns. A query's scores stand in a *row*.", SHAPES)
repair.slip("blocks_of_the_queries", {"range(0, len(k), block)": "range(0, len(q), block)"},
            "The loop goes as far as there are queries. It is the keys that come in blocks.", ALONG)
repair.slip("first_key_skipped", {"range(0, len(k), block)": "range(1, len(k), block)"},
            "The first key is skipped: the blocks start at 0.", ALONG)
repair.slip("width_of_a_third_axis", {"v.shape[1]": "v.shape[2]"},
            "The width is axis 1, the last one: there is no third.", SHAPES)

@repair.right
def divided_as_it_goes(q, k, v, block):
    m, total, o = np.full(len(q), -np.inf), np.zeros(len(q)), np.zeros((len(q), v.shape[1]))
    for start in range(0, len(k), block):
        scores = q @ k[start : start + block].T / math.sqrt(q.shape[1])
        new = np.maximum(m, scores.max(axis=1))
        p = np.exp(scores - new[:, None])
        old = total * np.exp(m - new)
        total = old + p.sum(axis=1)
        o = (o * old[:, None] + p @ v[start : start + block]) / total[:, None]
        m = new
    return o

@repair.right
def starts_with_a_very_low_number(q, k, v, block):
    return repair.rewritten({"-np.inf": "-1e300"})(q, k, v, block)

@repair.right
def sum_as_one_more_column(q, k, v, block):
    out = repair.rewritten({"o / l[:, None]": "o"})(q, k, np.hstack([v, np.ones((len(v), 1))]), block)
    return out[:, :-1] / out[:, -1:]

@repair.right
def no_blocks_at_all(q, k, v, block):
    return functional.attention(q, k, v)


# 17.4 Put together ------------------------------------------------------------------------------------------------

def combined(outs, lses):
    top = lses.max(axis=0)
    shares = np.exp(lses - np.where(np.isinf(top), 0, top))
    total = shares.sum(axis=0)
    weights = shares / np.where(total == 0, 1, total)
    return (weights[..., None] * outs).sum(axis=0)

def partial(rng, parts, rows, width, per_part=3, size=1.0, shift=0.0, empty=()):
    """Outputs and log-sum-exps of parts of the keys; `empty` are (part, row) that may attend to nothing."""
    scores = size * rng.standard_normal((parts, rows, per_part)) + shift
    values = rng.standard_normal((parts, per_part, width))
    for part, row in empty:
        scores[part, row] = -np.inf
    with np.errstate(divide="ignore"):
        total = np.exp(scores - shift).sum(axis=-1)
        lses = np.log(total) + shift
    return np.stack([functional.softmax(s) @ v for s, v in zip(scores, values)]), lses

def parts_do_not_matter(f, outs, lses):
    both = f(outs[:2], lses[:2])[None]
    lse = np.logaddexp(lses[0], lses[1])[None]
    return close(f(np.concatenate([both, outs[2:]]), np.concatenate([lse, lses[2:]])), f(outs, lses))

together = Exercise(
    "17.together",
    "Put it together",
    task="the output over all the keys, from the outputs and log-sum-exps of some parts of them.",
    solution=combined,
    probes=[
        Probe("two parts", partial, parts=2, rows=3, width=4),
        Probe("one part", partial, parts=1, rows=3, width=2),
        Probe("five parts, one row", partial, parts=5, rows=1, width=3),
        Probe("all sizes alike", partial, parts=3, rows=3, width=3),
        Probe("scores that differ much", partial, parts=3, rows=2, width=4, size=8.0),
        Probe("scores about 1000", partial, parts=2, rows=3, width=4, shift=1000.0),
        Probe("scores about −1000", partial, parts=2, rows=3, width=4, shift=-1000.0),
        Probe("a part that a query may not see", partial, parts=3, rows=2, width=4, empty=((1, 0),)),
        Probe("a query that may see nothing", partial, parts=2, rows=3, width=4, empty=((0, 1), (1, 1))),
    ],
    laws=[
        Law("two parts put together first give the same in the end", parts_do_not_matter,
            Probe("", partial, parts=4, rows=3, width=2)),
    ],
    hints=[
        "exp(lse) is the sum of a part's exponentials. Which share of the sum over *all* the keys does it have?",
        "So the weights of the parts are a softmax of their log-sum-exps, one softmax for each query: over which axis?",
        "Subtract the largest lse first, as in any softmax; and mind a query that sees nothing: −∞ − (−∞) is not a "
        "number.",
    ],
)  # fmt: skip

@together.wrong(
    "Every part counts the same in your mean. A part with larger scores should count for more: its share is its sum of "
    "exponentials.", AVERAGE
)
def plain_mean(outs, lses):
    return outs.mean(axis=0)

@together.wrong("The outputs are added. Each of them is already a mean of values: the sum is too large.", AVERAGE)
def plain_sum(outs, lses):
    return outs.sum(axis=0)

together.slip("not_divided", {
    "lses - np.where(np.isinf(top), 0, top)": "lses",
    "shares / np.where(total == 0, 1, total)": "shares",
}, "The weights are not divided by their sum: they should add up to 1 for each query.", AVERAGE)
together.slip("logarithms_as_weights", {
    "np.exp(lses - np.where(np.isinf(top), 0, top))": "lses",
    "np.where(total == 0, 1, total)": "total",
}, "The log-sum-exps themselves are your weights. They are logarithms, and may be negative: take the "
   "exponential.", AVERAGE)

@together.wrong(
    "The softmax runs over the queries. It is the *parts* that share out a query's output among them.", AVERAGE
)
def softmax_over_the_queries(outs, lses):
    return (functional.softmax(lses)[..., None] * outs).sum(axis=0)

@together.wrong("Your weights add up to 1 over all the queries and parts together. Each query shares out for itself.",
                AVERAGE)  # fmt: skip
def softmax_over_everything(outs, lses):
    return (functional.softmax(lses.reshape(-1)).reshape(lses.shape)[..., None] * outs).sum(axis=0)

together.slip("exponential_without_the_maximum", {"lses - np.where(np.isinf(top), 0, top)": "lses"},
              "It overflows, or everything vanishes: a log-sum-exp may be 1000 or −1000. Subtract the largest one of "
              "each query first.", AVERAGE)
together.slip("neither_maximum_nor_empty_rows", {
    "lses - np.where(np.isinf(top), 0, top)": "lses",
    "np.where(total == 0, 1, total)": "total",
}, "Two things: an overflow where a log-sum-exp is large, and 0 / 0 for a query that sees nothing.", NOTHING)
together.slip("nan_for_nothing", {"np.where(np.isinf(top), 0, top)": "top", "np.where(total == 0, 1, total)": "total"},
              "Right but for a query that may see nothing: all its log-sum-exps are −∞, and −∞ − (−∞) is not a number. "
              "Its output is zeros in this book.", NOTHING)

@together.wrong("Only the part with the largest log-sum-exp counts. The others have their share too.", AVERAGE)
def winner_takes_all(outs, lses):
    best = lses.argmax(axis=0)
    return outs[best, np.arange(lses.shape[1])]

@together.wrong(
    "The outputs are turned by the sign of their exponent: the *smallest* part gets the largest share.", AVERAGE
)
def smallest_counts_most(outs, lses):
    with np.errstate(all="ignore"):
        low = lses.min(axis=0)
        shares = np.exp(np.where(np.isinf(low), 0, low) - lses)
        return ((shares / shares.sum(axis=0))[..., None] * outs).sum(axis=0)

together.slip("relative_to_the_largest", {"shares / np.where(total == 0, 1, total)": "shares"},
              "The shares are relative to the largest one, so that one counts in full: divide by their sum.", AVERAGE)
together.slip("not_added_up", {"(weights[..., None] * outs).sum(axis=0)": "weights[..., None] * outs"},
              "The weighted outputs of the parts are still side by side: add them up, over the parts.", AVERAGE)
together.slip("shares_without_exponential", {
    "np.exp(lses - np.where(np.isinf(top), 0, top))": "lses - np.where(np.isinf(top), 0, top)",
}, "The shares are differences of logarithms: the exponential is missing.", AVERAGE)
together.slip("mean_of_the_shares", {"shares.sum(axis=0)": "shares.mean(axis=0)"},
              "You divide by the mean of the shares. Divide by their sum, so that the weights add up to 1.", AVERAGE)
together.slip("one_sum_for_all", {"shares.sum(axis=0)": "shares.sum()"},
              "All the queries share one sum. Each has a sum of its own.", AVERAGE)
together.slip("multiplied_by_the_sum", {"shares / np.where": "shares * np.where"},
              "The shares are multiplied by their sum instead of divided.", AVERAGE)
together.slip("mean_of_the_parts", {"* outs).sum(axis=0)": "* outs).mean(axis=0)"},
              "The weighted outputs are averaged over the parts. The weights have done that: add them up.", AVERAGE)
together.slip("largest_part_of_each", {"* outs).sum(axis=0)": "* outs).max(axis=0)"},
              "Of the weighted outputs you take the largest in each component. Add them up.", AVERAGE)
together.slip("everything_added_up", {"* outs).sum(axis=0)": "* outs).sum()"},
              "Everything is added up into one number. Add over the parts alone.", AVERAGE)
together.slip("weights_alone", {"(weights[..., None] * outs)": "weights[..., None]"},
              "The weights are added up, and the outputs are not there.", AVERAGE)
together.slip("over_the_queries", {"lses.max(axis=0)": "lses.max(axis=1)"},
              "Something runs over the queries. What is shared out is shared out over the *parts*, the first axis.",
              AVERAGE)

@together.right
def with_softmax(outs, lses):
    return (functional.softmax(lses, axis=0)[..., None] * outs).sum(axis=0)

@together.right
def with_einsum(outs, lses):
    return np.einsum("pn,pnd->nd", functional.softmax(lses, axis=0), outs)

@together.right
def with_torch(outs, lses):
    weights = torch.as_tensor(lses).softmax(dim=0).nan_to_num()
    return (weights[..., None] * torch.as_tensor(outs)).sum(0)

@together.right
def one_after_the_other(outs, lses):
    out, lse = outs[0], lses[0]
    for other, its in zip(outs[1:], lses[1:]):
        both = np.logaddexp(lse, its)
        base = np.where(np.isinf(both), 0, both)
        out = np.exp(lse - base)[:, None] * out + np.exp(its - base)[:, None] * other
        lse = both
    return out

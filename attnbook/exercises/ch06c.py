"""Exercises of chapter 6, masking: repair masked attention."""

import math

import numpy as np
import torch

from attnbook import functional, masks
from attnbook.exercises import Exercise, Law, Probe, close
from attnbook.exercises.ch06 import DIAGONAL, WRONG_WAY

WIN, AFTER, EMPTY = "A score that cannot win", "The mask after the softmax", "The empty row"
THREE = "3 · Three ways to get the wrong answer without an error"


# 6.5 Repair it ----------------------------------------------------------------------------------------------------

def repaired(q, k, v, mask):
    scores = np.where(mask, functional.scaled_scores(q, k), -np.inf)
    weights = functional.softmax(scores)
    return weights @ v, weights

def broken_repaired(q, k, v, mask):
    weights = functional.softmax(functional.scaled_scores(q, k))
    weights = np.where(mask, 0.0, weights)
    return weights @ v, weights

def masked(rng, n_q, n_kv, d_k, d_v, kind="causal", batch=(), stretch=1.0):
    q, k, v = (rng.standard_normal((*batch, *size)) for size in ((n_q, d_k), (n_kv, d_k), (n_kv, d_v)))
    near, scattered = masks.local(n_q, n_kv, 2), (rng.random((n_q, n_kv)) < 0.5)
    mask = {"causal": masks.causal(n_q, n_kv), "all": near | ~near, "scattered": scattered | near,
            "empty": masks.causal(n_q, n_kv) & (np.arange(n_kv) >= 2)}[kind]  # fmt: skip
    return stretch * q, k, v, mask

def strong_future(rng, n, d_k):
    """The keys get longer and longer: in every row but the last a forbidden score is by far the largest."""
    k = np.arange(n)[:, None] ** 2 * np.full((n, d_k), 600.0)
    return np.abs(rng.standard_normal((n, d_k))) + 1, k, rng.standard_normal((n, 3)), masks.causal(n)

def low_scores(rng, n, d_k):
    """All scores far below 0: what is written for a forbidden one must lie below them."""
    q = 1 + np.abs(rng.standard_normal((n, d_k)))
    return 100 * q, -10 * np.abs(rng.standard_normal((n, d_k))) - 10, rng.standard_normal((n, 3)), masks.causal(n)

def no_future(f, q, k, v, mask):
    return not masks.leaks(lambda x: f(x, x, x, mask)[0], q[None]).any()

def sums(f, q, k, v, mask):
    return close(f(q, k, v, mask)[1].sum(axis=-1), np.zeros(q.shape[:-1]) + mask.any(axis=-1))

repair = Exercise(
    "06.repair",
    "Repair it",
    task="masked attention, with its two mistakes repaired; it returns out and weights.",
    solution=repaired,
    answer=lambda q, k, v, mask: functional.attention(q, k, v, mask=mask, return_weights=True),
    broken=broken_repaired,
    probes=[
        Probe("the causal mask", masked, n_q=5, n_kv=5, d_k=3, d_v=2),
        Probe("two new words and older keys", masked, n_q=2, n_kv=5, d_k=3, d_v=4),
        Probe("a mask with holes", masked, n_q=3, n_kv=4, d_k=2, d_v=5, kind="scattered"),
        Probe("everything allowed", masked, n_q=3, n_kv=4, d_k=2, d_v=5, kind="all"),
        Probe("a batch, one mask for all", masked, n_q=3, n_kv=4, d_k=5, d_v=2, batch=(2,)),
        Probe("two axes in front, one mask for all", masked, n_q=2, n_kv=4, d_k=3, d_v=5, batch=(3, 2)),
        Probe("a forbidden score much the largest", strong_future, n=4, d_k=2),
        Probe("scores far below 0", low_scores, n=4, d_k=3),
        Probe("filler in front: empty rows", masked, n_q=4, n_kv=4, d_k=3, d_v=2, kind="empty"),
        Probe("all sizes alike", masked, n_q=3, n_kv=3, d_k=3, d_v=3),
        Probe("one query, one key", masked, n_q=1, n_kv=1, d_k=3, d_v=2),
    ],
    laws=[
        Law("each row of weights sums to 1, or to 0 where there is nobody to see", sums),
        Law("nothing from the future leaks", no_future, Probe("self-attention", masked, n_q=5, n_kv=5, d_k=3, d_v=3)),
    ],
    hints=[
        "What does `np.where(mask, 0.0, …)` do where the mask says “may attend”?",
        "Which line should come first: sharing out the unit, or saying who takes part?",
        "Choose between the *scores* and the one number that no softmax gives any weight, before the softmax.",
    ],
)

@repair.wrong(
    "The line stands in the right place now, and is as it was: it gives 0, a score like any other, to those who *may* "
    "attend. Whom should it hit, and with which number?", AFTER
)
def only_moved(q, k, v, mask):
    weights = functional.softmax(np.where(mask, 0.0, functional.scaled_scores(q, k)))
    return weights @ v, weights

@repair.wrong(
    "Every weight is 0: one line keeps those who may attend, and the old one then strikes out just those. Say it once, "
    "before the softmax.", AFTER
)
def old_line_kept(q, k, v, mask):
    return np.zeros(q.shape[:-1] + v.shape[-1:]), np.zeros(q.shape[:-1] + k.shape[-2:-1])

@repair.wrong("It does what it did before: both mistakes are still there.", AFTER)
def as_it_was(q, k, v, mask):
    return broken_repaired(q, k, v, mask)

@repair.wrong(
    "The polarity is repaired. One mistake is left: rows sum to less than 1, and the future still leaks, through the "
    "sum that each row was divided by.", AFTER
)
def only_the_polarity(q, k, v, mask):
    weights = functional.softmax(functional.scaled_scores(q, k)) * mask
    return weights @ v, weights

@repair.wrong(
    "The order is repaired. One mistake is left: your mask shows what it should hide. Under the causal mask each row "
    "now sees just the future, and the last row nothing.", WRONG_WAY
)
def only_the_order(q, k, v, mask):
    return functional.attention(q, k, v, mask=~mask, return_weights=True)

@repair.wrong(
    "You mask after the softmax and divide by the new sum. On paper that is right. Where a forbidden score is much the "
    "largest, the allowed weights have all been rounded to 0 before, and 0/0 is NaN.", AFTER
)
def renormalised_afterwards(q, k, v, mask):
    weights = functional.softmax(functional.scaled_scores(q, k)) * mask
    weights = weights / weights.sum(axis=-1, keepdims=True)
    return weights @ v, weights

@repair.wrong(
    "You mask after the softmax and divide by the new sum, with a guard against 0/0. Where a forbidden score is much "
    "the largest, the allowed weights have all been rounded to 0, and nothing is left to share out.", AFTER
)
def renormalised_with_a_guard(q, k, v, mask):
    weights = functional.softmax(functional.scaled_scores(q, k)) * mask
    total = weights.sum(axis=-1, keepdims=True)
    weights = weights / np.where(total == 0, 1, total)
    return weights @ v, weights

@repair.wrong(
    "Your number for “no” is not low enough: where the allowed scores lie below it, the forbidden keys win. Which "
    "number lies below all others?", "−1e9 and half precision"
)
def not_low_enough(q, k, v, mask):
    weights = functional.softmax(np.where(mask, functional.scaled_scores(q, k), -100.0))
    return weights @ v, weights

@repair.wrong(
    "Your number for “no” is not nearly low enough: even among ordinary scores a forbidden key gets a little, and "
    "among low ones it wins. Which number lies below all others?", "−1e9 and half precision"
)
def not_nearly_low_enough(q, k, v, mask):
    weights = functional.softmax(np.where(mask, functional.scaled_scores(q, k), -10.0))
    return weights @ v, weights

@repair.wrong("A forbidden *score* becomes 0, and 0 is a score like any other: e⁰ = 1. It beats every negative one.",
              "Multiplying scores by 0")  # fmt: skip
def scores_times_mask(q, k, v, mask):
    weights = functional.softmax(functional.scaled_scores(q, k) * mask)
    return weights @ v, weights

@repair.wrong(
    "The mask is added as 0 and 1: the allowed scores get 1 more, which forbids nothing.", "A mask of 0 and 1, added"
)
def mask_added(q, k, v, mask):
    weights = functional.softmax(functional.scaled_scores(q, k) + mask)
    return weights @ v, weights

@repair.wrong("The mask is *subtracted*, as 0 and 1: the allowed scores get 1 less, which forbids nothing.",
              "A mask of 0 and 1, added")  # fmt: skip
def mask_subtracted(q, k, v, mask):
    weights = functional.softmax(functional.scaled_scores(q, k) - mask)
    return weights @ v, weights

@repair.wrong(
    "The scores are multiplied by −∞: a negative one becomes +∞, and always wins. Put −∞ in the *place* of the score.",
    WIN
)
def scores_times_infinity(q, k, v, mask):
    weights = functional.softmax(functional.scaled_scores(q, k) * np.where(mask, 1, -np.inf))
    return weights @ v, weights

@repair.wrong(
    "The unit is shared out twice: the second softmax takes weights between 0 and 1 for scores, and makes them nearly "
    "even. One softmax, after the mask, does it.", AFTER
)
def two_softmaxes(q, k, v, mask):
    weights = functional.softmax(functional.scaled_scores(q, k))
    weights = functional.softmax(np.where(mask, weights, -np.inf))
    return weights @ v, weights

@repair.wrong(
    "A row that may see nobody sees everybody alike: your number for “no” is finite, and where all the scores are that "
    "same number, the softmax shares out evenly.", EMPTY
)
def finite_number(q, k, v, mask):
    weights = functional.softmax(np.where(mask, functional.scaled_scores(q, k), -1e9))
    return weights @ v, weights

@repair.wrong(
    "A row that may see nobody attends as if there were no mask: a finite number added to all of its scores changes "
    "nothing.", EMPTY
)
def finite_number_added(q, k, v, mask):
    weights = functional.softmax(functional.scaled_scores(q, k) + np.where(mask, 0, -1e6))
    return weights @ v, weights

@repair.wrong(
    "NaN: 0 times infinity is not a number, and that is what a product of the mask with −∞ holds where a look is "
    "allowed. *Choose* between score and −∞.", "Adding instead of choosing"
)
def infinity_times_zero(q, k, v, mask):
    weights = functional.softmax(functional.scaled_scores(q, k) + ~mask * -np.inf)
    return weights @ v, weights

@repair.wrong(
    "NaN where a row may see nobody: with −∞ throughout, a plain softmax computes 0/0. The book's has a line for it.",
    EMPTY
)
def plain_softmax(q, k, v, mask):
    scores = np.where(mask, functional.scaled_scores(q, k), -np.inf)
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = exps / exps.sum(axis=-1, keepdims=True)
    return weights @ v, weights

@repair.wrong("−∞ is put among the *weights*, after the softmax. It is a score that no key can win with: before.", WIN)
def infinity_after_the_softmax(q, k, v, mask):
    weights = np.where(mask, functional.softmax(functional.scaled_scores(q, k)), -np.inf)
    return weights @ v, weights

@repair.wrong("+∞ is the score that *always* wins. The sign is missing.", WIN)
def plus_infinity(q, k, v, mask):
    weights = functional.softmax(np.where(mask, functional.scaled_scores(q, k), np.inf))
    return weights @ v, weights

@repair.wrong("The mask is gone: everybody sees everybody, and all that is forbidden leaks.", WIN)
def no_mask(q, k, v, mask):
    return functional.attention(q, k, v, return_weights=True)

@repair.wrong("The mask lies on its side: its rows are the queries already, as those of the scores are.", "Intuition")
def mask_transposed(q, k, v, mask):
    return functional.attention(q, k, v, mask=mask.T, return_weights=True)

@repair.wrong("The causal mask is built inside. Take the one that is given: there are others.", "Other shapes")
def own_causal_mask(q, k, v, mask):
    return functional.attention(q, k, v, mask=masks.causal(*mask.shape), return_weights=True)

@repair.wrong("The diagonal is hidden besides: each word may see itself if the mask says so.", DIAGONAL)
def diagonal_hidden(q, k, v, mask):
    return functional.attention(q, k, v, mask=np.tril(mask, mask.shape[1] - mask.shape[0] - 1), return_weights=True)

@repair.wrong(
    "The softmax runs over the *queries*: the columns of the weights sum to 1, and the rows should.",
    THREE
)
def softmax_over_queries(q, k, v, mask):
    weights = functional.softmax(np.where(mask, functional.scaled_scores(q, k), -np.inf), axis=-2)
    return weights @ v, weights

@repair.wrong("The scores are not scaled any more: the division by √d_k is lost.", "3 · Make the scores smaller")
def not_scaled(q, k, v, mask):
    return functional.attention(q, k, v, mask=mask, scale=1.0, return_weights=True)

@repair.wrong("The scores are masked and never become weights: the softmax is missing.", WIN)
def no_softmax(q, k, v, mask):
    weights = np.where(mask, functional.scaled_scores(q, k), -np.inf)
    return weights @ v, weights

@repair.wrong("Only the output comes back. Asked for are two things, out and weights.", "A row with nothing")
def output_alone(q, k, v, mask):
    return functional.attention(q, k, v, mask=mask)

@repair.wrong("The two results have changed places: first the output, then the weights.", "A row with nothing")
def weights_first(q, k, v, mask):
    return functional.attention(q, k, v, mask=mask, return_weights=True)[::-1]

@repair.wrong("The second result are the masked scores. Weights are what the softmax makes of them.", WIN)
def scores_returned(q, k, v, mask):
    scores = np.where(mask, functional.scaled_scores(q, k), -np.inf)
    return functional.softmax(scores) @ v, scores

@repair.wrong("`mask` is turned round in place, and whoever uses it next has the opposite of it.", WRONG_WAY)
def mask_turned_in_place(q, k, v, mask):
    np.logical_not(mask, out=mask)
    return functional.attention(q, k, v, mask=~mask, return_weights=True)

@repair.wrong("The keys are mixed where the values should be: the last product is with `v`.", THREE)
def keys_as_values(q, k, v, mask):
    return functional.attention(q, k, k, mask=mask, return_weights=True)

@repair.wrong("The queries are mixed where the values should be: the last product is with `v`.", THREE)
def queries_as_values(q, k, v, mask):
    weights = functional.attention(q, k, v, mask=mask, return_weights=True)[1]
    return weights @ q, weights

@repair.wrong("Queries and keys are exchanged: the rows of the scores have to be the queries.", THREE)
def queries_and_keys_exchanged(q, k, v, mask):
    return functional.attention(k, q, v, mask=mask, return_weights=True)

@repair.wrong("The keys ask themselves: the scores are of `q` and `k`.", THREE)
def keys_as_queries(q, k, v, mask):
    return functional.attention(k, k, v, mask=mask, return_weights=True)

@repair.wrong("The queries ask themselves: the scores are of `q` and `k`.", THREE)
def queries_as_keys(q, k, v, mask):
    return functional.attention(q, q, v, mask=mask, return_weights=True)

@repair.wrong("The values ask: the first factor of the scores is the queries, `q`.", THREE)
def values_as_queries(q, k, v, mask):
    return functional.attention(v, k, v, mask=mask, return_weights=True)

@repair.wrong("Values are compared where keys should be: the scores are of `q` and `k`.", THREE)
def values_as_keys(q, k, v, mask):
    return functional.attention(q, v, v, mask=mask, return_weights=True)

@repair.wrong("`*` multiplies number by number. The mixture of the values is a product of matrices, `@`.",
              "3 · Mix the values")  # fmt: skip
def star_for_at(q, k, v, mask):
    weights = functional.attention(q, k, v, mask=mask, return_weights=True)[1]
    return weights * v, weights

@repair.wrong("In the mixture the factors stand the wrong way round: first the weights, then the values.",
              "3 · Mix the values")  # fmt: skip
def factors_exchanged(q, k, v, mask):
    weights = functional.attention(q, k, v, mask=mask, return_weights=True)[1]
    return v @ weights, weights

@repair.right
def with_torch(q, k, v, mask):
    q, k, v, mask = map(torch.as_tensor, (q, k, v, mask))
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~mask, -math.inf)
    weights = torch.softmax(scores, dim=-1).nan_to_num(0)
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask), weights

@repair.right
def additive(q, k, v, mask):
    weights = functional.softmax(functional.scaled_scores(q, k) + masks.to_additive(mask))
    return np.einsum("...ij,...jd->...id", weights, v), weights

@repair.right
def from_scratch(q, k, v, mask):
    scores = np.einsum("...id,...jd->...ij", q, k) / q.shape[-1] ** 0.5
    scores[..., ~mask] = -np.inf
    top = scores.max(axis=-1, keepdims=True)
    exps = np.exp(scores - np.where(np.isinf(top), 0, top))
    total = exps.sum(axis=-1, keepdims=True)
    weights = np.divide(exps, total, out=np.zeros_like(exps), where=total > 0)
    return weights @ v, weights

@repair.right
def masked_before_and_after(q, k, v, mask):
    scores = np.where(mask, functional.scaled_scores(q, k), -1e30)
    weights = np.where(mask, functional.softmax(scores), 0.0)
    return weights @ v, weights

@repair.right
def in_float32(q, k, v, mask):
    q, k, v = (np.float32(x) for x in (q, k, v))
    return functional.attention(q, k, v, mask=mask, return_weights=True)

@repair.right
def with_loops(q, k, v, mask):
    scores = functional.scaled_scores(q, k)
    weights = np.zeros(scores.shape)
    for i in range(mask.shape[0]):
        if mask[i].any():
            weights[..., i, mask[i]] = functional.softmax(scores[..., i, mask[i]])
    return weights @ v, weights

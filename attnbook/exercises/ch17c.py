"""Exercises of chapter 17, FlashAttention by hand: one tile of the backward pass."""

import math

import numpy as np
import torch

from attnbook import functional
from attnbook.exercises import Exercise, Law, Probe, close

BACK, NOTHING = "Back, without the table", "Nothing minus nothing"


# 17.5 Build it: a tile of the backward pass -----------------------------------------------------------------------

def tile_gradients(q, k, v, d_out, lse, share, may):
    scale = 1 / math.sqrt(q.shape[1])
    weights = np.exp(np.where(may, q @ k.T * scale - lse[:, None], -np.inf))
    d_scores = weights * (d_out @ v.T - share[:, None])
    return d_scores @ k * scale, d_scores.T @ q * scale, weights.T @ d_out

def tile(rng, rows, cols, d_k, d_v, others=3, size=1.0, hidden="some"):
    """A tile and what the forward pass left of its rows: lse and D, over these keys and `others` besides."""
    n = cols + others
    q, k = size * rng.standard_normal((rows, d_k)), rng.standard_normal((n, d_k))
    v, d_out = rng.standard_normal((n, d_v)), rng.standard_normal((rows, d_v))
    may = np.ones((rows, n), dtype=bool)
    if hidden != "none":
        may[:, :cols] = np.arange(cols) <= np.arange(rows)[:, None]
    if hidden == "a row":  # it may attend to nothing at all
        may[-1] = False
    scores = np.where(may, q @ k.T / math.sqrt(d_k), -np.inf)
    weights = functional.softmax(scores)
    lse = functional.logsumexp(scores)
    return q, k[:cols], v[:cols], d_out, lse, (d_out * (weights @ v)).sum(axis=1), may[:, :cols]

def as_autograd(f, q, k, v, d_out, lse, share, may):
    given = [torch.tensor(x, requires_grad=True) for x in (q, k, v)]
    weights = (given[0] @ given[1].mT / math.sqrt(q.shape[1])).softmax(-1)  # all may be seen
    (weights @ given[2]).backward(torch.tensor(d_out))
    return all(close(mine, x.grad) for mine, x in zip(f(q, k, v, d_out, lse, share, may), given, strict=True))

build = Exercise(
    "17.backward",
    "Build it: a tile of the backward pass, with a mask",
    task="what one masked tile adds to the gradients of its queries, keys and values: (dq, dk, dv).",
    solution=tile_gradients,
    probes=[
        Probe("nothing is forbidden", tile, rows=3, cols=2, d_k=4, d_v=5, hidden="none"),
        Probe("a tile that the diagonal cuts", tile, rows=3, cols=4, d_k=2, d_v=5),
        Probe("the only tile of its rows", tile, rows=3, cols=4, d_k=5, d_v=2, others=0, hidden="none"),
        Probe("all sizes alike", tile, rows=3, cols=3, d_k=3, d_v=3),
        Probe("a query that may see nothing", tile, rows=2, cols=4, d_k=3, d_v=5, hidden="a row"),
        Probe("large scores", tile, rows=2, cols=3, d_k=4, d_v=5, size=40.0, hidden="none"),
        Probe("one query, one key", tile, rows=1, cols=1, d_k=2, d_v=3),
    ],
    laws=[
        Law("for the only tile of its rows it is what autograd finds", as_autograd,
            Probe("", tile, rows=4, cols=5, d_k=3, d_v=2, others=0, hidden="none")),
    ],
    hints=[
        "`tile_back` of this chapter has all the products. What is the weight of a place that may not be seen?",
        "A weight of 0 stops every gradient that goes through it: (17.5) has the weight as a factor. So it is enough "
        "to put the weights right.",
        "A query that may see nothing has lse = −∞, and score − (−∞) is +∞. Put −∞ into the exponent wherever `may` is "
        "False, *after* lse was subtracted; `np.where(may, …, …)` does it.",
    ],
)  # fmt: skip

build.slip("mask_forgotten", {
    "np.where(may, q @ k.T * scale - lse[:, None], -np.inf)": "q @ k.T * scale - lse[:, None]",
}, "The mask is not used: what was hidden on the way there has weights on the way back. And a query that may see "
   "nothing has lse = −∞.", BACK)
build.slip("mask_turned", {"where(may": "where(~may"},
           "The mask is the wrong way round: True is where a look is *allowed*.", BACK)
build.slip("mask_before_the_lse", {" - lse[:, None], -np.inf)": ", -np.inf) - lse[:, None]"},
           "Right but for a query that may see nothing: −∞ − (−∞) is no number, and neither is ∞ · 0. Let the mask "
           "have the last word, and let it choose, not multiply.", NOTHING)
build.slip("only_the_scores_masked", {
    "np.where(may, q @ k.T * scale - lse[:, None], -np.inf)": "q @ k.T * scale - lse[:, None]",
    "weights * (": "np.where(may, weights, 0) * (",
}, "dv is not masked: a hidden value had weight 0 on the way there, so it gets nothing on the way back. Mask the "
   "weights, and both ways are right.", BACK)
build.slip("only_the_values_masked", {
    "np.where(may, q @ k.T * scale - lse[:, None], -np.inf)": "q @ k.T * scale - lse[:, None]",
    "weights.T": "np.where(may, weights, 0).T",
}, "dq and dk are not masked, dv is: a hidden place has weight 0 and stops the gradient of its score as well.", BACK)
build.slip("share_left_out", {" - share[:, None]": ""},
           "dq and dk: `share` is missing. A weight can only grow at the expense of the others in its row, and `share` "
           "is what that costs.", BACK)
build.slip("share_added", {"- share": "+ share"},
           "dq and dk: `share` is added. It is what the other weights of the row lose: it is subtracted.", BACK)
build.slip("share_not_weighed", {"(d_out @ v.T - share[:, None])": "(d_out @ v.T) - share[:, None]"},
           "dq and dk: `share` is subtracted after the weights were multiplied in. The weights multiply the whole "
           "difference.", BACK)
build.slip("weights_not_multiplied", {"weights * (": "("},
           "dq and dk: the difference is not multiplied by the weights. A score whose weight is next to nothing has "
           "next to no gradient.", BACK)
build.slip("share_of_the_tile", {"share[:, None]": "(weights * (d_out @ v.T)).sum(axis=1, keepdims=True)"},
           "dq and dk: instead of `share` you subtract the row's sum of weight · d_weight *within the tile*. The other "
           "tiles belong to the row too: that is why `share` comes from outside.", BACK)
build.slip("softmax_of_the_tile", {"np.exp(": "functional.softmax(", " - lse[:, None]": ""},
           "The weights of your tile add up to 1 in each row, as if there were no other tiles. A tile is only a part "
           "of the row: use `lse`, which is that of the whole row.", BACK)
build.slip("softmax_without_a_mask", {"np.exp(np.where(may, q @ k.T * scale - lse[:, None], -np.inf))":
                                      "functional.softmax(q @ k.T * scale)"},
           "Two things: the mask is not used, and the weights of your tile add up to 1 in each row. A tile is only a "
           "part of the row: use `lse`, which is that of the whole row.", BACK)
build.slip("all_of_the_tile_alone", {
    "np.exp(": "functional.softmax(", " - lse[:, None]": "",
    "share[:, None]": "(weights * (d_out @ v.T)).sum(axis=1, keepdims=True)",
}, "Weights and `share` are made anew, from this tile alone. A tile is only a part of the row: `lse` and `share` are "
   "those of the whole row, so use them.", BACK)
build.slip("relative_to_the_tile", {
    "np.exp(np.where(may, q @ k.T * scale - lse[:, None], -np.inf))":
        "np.exp((s := np.where(may, q @ k.T * scale, -np.inf)) - s.max(axis=1, keepdims=True))",
}, "You subtract the largest score of the tile and do not divide. `lse` does both at once, for the whole row: the "
   "weight is exp(score − lse).", BACK)
build.slip("bare_exponentials", {" - lse[:, None]": ""},
           "`lse` is not used: bare exponentials are no weights, and with large scores they overflow.", BACK)
build.slip("divided_by_the_logarithm", {" - lse[:, None], -np.inf))": ", -np.inf)) / lse[:, None]"},
           "You divide by lse. It is a logarithm: subtract it in the exponent, and the division is done.", BACK)
build.slip("logarithms_for_weights", {
    "np.exp(np.where(may, q @ k.T * scale - lse[:, None], -np.inf))":
        "np.where(may, q @ k.T * scale - lse[:, None], 0)",
}, "You take the scores' difference from lse for the weights: the exponential is missing.", BACK)
build.slip("scale_missing_on_the_way_back", {"k * scale": "k", "q * scale": "q"},
           "dq and dk are √d times too large: the scale belongs on the way back as well.", BACK)
build.slip("scale_twice", {"k * scale": "k * scale**2", "q * scale": "q * scale**2"},
           "dq and dk have the scale twice. The score has it once, so its gradient has it once.", BACK)
build.slip("scale_missing_on_the_way_there", {"k.T * scale": "k.T"},
           "The scores are not scaled on the way there, so the weights are not those of the forward pass.", BACK)
build.slip("scale_missing", {"1 / math.sqrt(q.shape[1])": "1"},
           "The scale is missing altogether: on the way there and on the way back.", BACK)
build.slip("scale_without_a_root", {"math.sqrt(q.shape[1])": "q.shape[1]"},
           "The scale is 1/√d, not 1/d.", BACK)
build.slip("scale_upside_down", {"1 / math": "math"},
           "The scores are multiplied by √d instead of divided.", BACK)
build.slip("keys_through_keys", {"d_scores.T @ q": "d_scores.T @ k"},
           "dq is right; dk goes through the keys. The gradient of k passes through the *other* factor, q.", BACK)
build.slip("keys_not_transposed", {"d_scores.T": "d_scores"},
           "dk: its d_scores are not transposed. A key gathers from all the queries, down a *column* of the tile.",
           BACK)
build.slip("values_not_transposed", {"weights.T": "weights"},
           "dv: the weights are not transposed. A value gathers from all the queries, down a *column* of the tile.",
           BACK)
build.slip("values_through_the_scores", {"weights.T": "d_scores.T"},
           "dv: it goes through the gradient of the scores. Values meet the *weights* in the forward pass, and that is "
           "the way back.", BACK)
build.slip("values_scaled", {"weights.T @ d_out": "weights.T @ d_out * scale"},
           "The scale is on dv as well. It belongs to the scores, and values have nothing to do with those.", BACK)

@build.wrong("dq and dk are exchanged: first the gradient of the queries, then that of the keys.", BACK)
def keys_before_queries(q, k, v, d_out, lse, share, may):
    dq, dk, dv = tile_gradients(q, k, v, d_out, lse, share, may)
    return dk, dq, dv

@build.wrong("The order is another: (dq, dk, dv), as q, k and v came in.", BACK)
def values_first(q, k, v, d_out, lse, share, may):
    dq, dk, dv = tile_gradients(q, k, v, d_out, lse, share, may)
    return dv, dk, dq

build.slip("along_the_columns", {"[:, None]": ""},
           "`lse` and `share` run along the columns of your tile. They belong to its rows: `[:, None]` stands them "
           "upright.", BACK)
build.slip("products_that_do_not_fit", {"d_scores @ k": "k @ d_scores"},
           "Two matrices in one of your products do not fit. Write the shapes beside them: d_scores is (rows, cols).",
           BACK)
build.slip("number_by_number", {"d_out @ v.T": "d_out * v.T"},
           "One product is taken number by number, where `@` should sum over what is between: the shapes do not fit.",
           BACK)
build.slip("scores_not_transposed", {"q @ k.T": "q @ k"},
           "The keys have to be transposed for the scores: (rows, d) times (d, cols).", BACK)
build.slip("values_from_queries", {"weights.T @ d_out": "weights.T @ q"},
           "dv gathers the queries. It is the gradient of the *output* that comes back to the values.", BACK)
build.slip("values_from_the_mask", {"weights.T @ d_out": "weights.T @ may"},
           "dv gathers the mask, and has its width. It is the gradient of the output that comes back.", BACK)
build.slip("keys_from_d_out", {"d_scores.T @ q": "d_scores.T @ d_out"},
           "dk gathers d_out. A score is a query times a key: what comes to the key passes through the *query*.", BACK)
build.slip("keys_from_the_mask", {"d_scores.T @ q": "d_scores.T @ may"},
           "dk gathers the mask. What comes to a key passes through the *query*.", BACK)
build.slip("queries_through_values", {"d_scores @ k": "d_scores @ v"},
           "dq passes through the values. A score is a query times a *key*.", BACK)
build.slip("exponent_turned", {"q @ k.T * scale - lse[:, None]": "lse[:, None] - q @ k.T * scale"},
           "The exponent has the wrong sign: score minus lse, which is never above 0.", BACK)
build.slip("exponent_added", {"scale - lse": "scale + lse"},
           "lse is added in the exponent. It is subtracted: that is the division by the sum.", BACK)
build.slip("share_for_lse", {"lse[:, None]": "share[:, None]"},
           "`share` stands where lse belongs: the weights are exp(score − lse).", BACK)
build.slip("lse_for_share", {"- share[:, None]": "- lse[:, None]"},
           "`lse` stands where share belongs: d_scores = weights · (d_weights − share).", BACK)
build.slip("hidden_weights_infinite", {"-np.inf)": "np.inf)"},
           "Hidden places get the exponent +∞, and an infinite weight. It is exp(−∞) that is 0.", BACK)
build.slip("width_of_the_values", {"math.sqrt(q.shape[1])": "math.sqrt(v.shape[1])"},
           "The scale is that of the values' width. Scores are made of queries and keys.", BACK)
build.slip("number_of_queries", {"math.sqrt(q.shape[1])": "math.sqrt(q.shape[0])"},
           "The scale is the root of the number of queries. It is their *width* that counts.", BACK)
build.slip("divided_by_the_scale", {"q @ k.T * scale": "q @ k.T / scale"},
           "The scores are divided by 1/√d on the way there: that multiplies them by √d.", BACK)
build.slip("only_the_keys_scaled", {"d_scores @ k * scale": "d_scores @ k"},
           "dq is √d times too large: the scale is missing on its way back, and dk has it.", BACK)
build.slip("only_the_queries_scaled", {"d_scores.T @ q * scale": "d_scores.T @ q"},
           "dk is √d times too large: the scale is missing on its way back, and dq has it.", BACK)
build.slip("difference_divided", {"weights * (": "weights / ("},
           "The weights are divided by the difference d_weights − share. They multiply it.", BACK)
build.slip("scores_for_the_weights_gradient", {"d_out @ v.T": "d_out @ k.T"},
           "d_weights passes through the keys, and does not fit. The weights multiplied the *values*: d_out times vᵀ.",
           BACK)
build.slip("scale_of_the_third_axis", {"q.shape[1]": "q.shape[2]"},
           "The width is the last axis of a query, number 1: a tile has no third one.", BACK)
build.slip("scale_of_a_number", {"math.sqrt(q.shape[1])": "math.sqrt(may.shape[1])"},
           "The scale is the root of the number of keys in the tile. It is the *width* of a query that counts.", BACK)

@build.right
def with_einsum(q, k, v, d_out, lse, share, may):
    scale = q.shape[1] ** -0.5
    weights = np.exp(np.where(may, np.einsum("id,jd->ij", q, k) * scale - lse[:, None], -np.inf))
    d_scores = scale * weights * (np.einsum("ie,je->ij", d_out, v) - share[:, None])
    return tuple(np.einsum(rule, a, b) for rule, a, b in
                 [("ij,jd->id", d_scores, k), ("ij,id->jd", d_scores, q), ("ij,ie->je", weights, d_out)])  # fmt: skip

@build.right
def with_torch(q, k, v, d_out, lse, share, may):
    q, k, v, d_out, lse, share, may = map(torch.as_tensor, (q, k, v, d_out, lse, share, may))
    scale = q.shape[1] ** -0.5
    weights = torch.exp(q @ k.mT * scale - lse[:, None]).masked_fill(~may, 0)
    d_scores = weights * (d_out @ v.mT - share[:, None]) * scale
    return d_scores @ k, d_scores.mT @ q, weights.mT @ d_out

@build.right
def key_by_key(q, k, v, d_out, lse, share, may):
    scale = 1 / math.sqrt(q.shape[1])
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for j in range(len(k)):
        weight = np.exp(np.where(may[:, j], q @ k[j] * scale - lse, -np.inf))
        slope = weight * (d_out @ v[j] - share) * scale
        dq += np.outer(slope, k[j])
        dk[j], dv[j] = slope @ q, weight @ d_out
    return dq, dk, dv

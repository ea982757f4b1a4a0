"""Exercises of chapter 3, scaled dot-product attention: repair it, and build it all."""

import math

import numpy as np
import torch

from attnbook import functional
from attnbook.exercises import Exercise, Law, Probe, close
from attnbook.exercises.ch03 import SCALE, queries_keys


# 3.4 Repair it ----------------------------------------------------------------------------------------------------

def repaired(q, k, v):
    scores = q @ np.swapaxes(k, -1, -2) / math.sqrt(k.shape[-1])
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = exps / exps.sum(axis=-1, keepdims=True)
    return weights @ v

def broken_repaired(q, k, v):
    scores = q @ np.swapaxes(k, -1, -2) / math.sqrt(k.shape[-2])
    exps = np.exp(scores - scores.max())
    weights = exps / exps.sum(axis=-1, keepdims=True)
    return weights @ v

def qkv(rng, n_q, n_kv, d_k, d_v, batch=(), stretch=1.0):
    q, k = queries_keys(rng, n_q, n_kv, d_k, batch)
    return stretch * q, k, rng.standard_normal((*batch, n_kv, d_v))

def far_apart(rng, n_q, n_kv, d_k):
    """Query i scores about 1000 · i with every key."""
    q = np.full((n_q, d_k), 1000.0) * np.arange(n_q)[:, None]
    return q, 1 + 0.01 * rng.standard_normal((n_kv, d_k)), rng.standard_normal((n_kv, 3))

def all_below(rng, n_q, n_kv, d_k):
    """Every score is about -10,000 · √d_k."""
    q, k = (1 + 0.1 * rng.random((n, d_k)) for n in (n_q, n_kv))
    return -1e4 * q, k, rng.standard_normal((n_kv, 3))

INPUTS = [
    Probe("all sizes different", qkv, n_q=2, n_kv=3, d_k=5, d_v=4),
    Probe("one query, one key", qkv, n_q=1, n_kv=1, d_k=3, d_v=2),
    Probe("one query", qkv, n_q=1, n_kv=4, d_k=3, d_v=2),
    Probe("all sizes alike", qkv, n_q=3, n_kv=3, d_k=3, d_v=3),
    Probe("as many queries as keys", qkv, n_q=4, n_kv=4, d_k=3, d_v=2),
    Probe("a batch", qkv, n_q=2, n_kv=3, d_k=5, d_v=4, batch=(6,)),
    Probe("two axes in front", qkv, n_q=3, n_kv=2, d_k=4, d_v=5, batch=(2, 3)),
    Probe("large scores", qkv, n_q=3, n_kv=4, d_k=2, d_v=5, stretch=1e4),
    Probe("large scores, all below 0", all_below, n_q=3, n_kv=4, d_k=2),
    Probe("rows of scores far apart", far_apart, n_q=3, n_kv=2, d_k=4),
]
ATTENTION_LAWS = [
    Law("values that are all 1 give 1", lambda f, q, k, v, *s: close(f(q, k, 0 * v + 1, *s), 0 * f(q, k, v, *s) + 1)),
    Law(
        "the order of the keys (with their values) does not matter",
        lambda f, q, k, v, *s: close(f(q, k[..., ::-1, :].copy(), v[..., ::-1, :].copy(), *s), f(q, k, v, *s)),
    ),
    Law(
        "a query is answered without regard to the others",
        lambda f, q, k, v, *s: close(f(q[..., :1, :], k, v, *s), f(q, k, v, *s)[..., :1, :]),
    ),
]

repair = Exercise(
    "03.repair",
    "Repair it",
    task="attention, with its two mistakes repaired.",
    solution=repaired,
    answer=functional.attention,
    broken=broken_repaired,
    probes=INPUTS,
    laws=ATTENTION_LAWS,
    hints=[
        "One mistake is under the root: which axis of `k` is its width?",
        "The other is in the maximum: whose maximum should be subtracted from a row?",
    ],
)

@repair.wrong("It does what it did before: both mistakes are still there.", SCALE)
def as_it_was(q, k, v):
    return broken_repaired(q, k, v)

@repair.wrong(
    "The root is repaired. One mistake is left: one maximum for the whole array leaves a row that lies far below it "
    "with nothing but zeros, and 0/0 is NaN.", "1 · Many plates at once"
)
def one_maximum_for_all(q, k, v):
    scores = functional.scaled_scores(q, k)
    exps = np.exp(scores - scores.max())
    return exps / exps.sum(axis=-1, keepdims=True) @ v

@repair.wrong(
    "The maximum is repaired. One mistake is left: under the root stands the number of keys, so that the weights "
    "depend on how long the sentence is. The width is the last size.", "The wrong width under the root"
)
def root_of_n_keys(q, k, v):
    return functional.softmax(q @ k.mT / math.sqrt(k.shape[-2])) @ v


# 3.5 Build it all -------------------------------------------------------------------------------------------------

def my_attention(q, k, v, scale=None):
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = (q * scale) @ np.swapaxes(k, -1, -2)
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True) @ v

def with_scale(rng, n_q, n_kv, d_k, d_v, scale):
    return *qkv(rng, n_q, n_kv, d_k, d_v), scale

build = Exercise(
    "03.attention",
    "Build it all",
    task="attention without the package: any batch, scores of ±10,000, a `scale` that replaces 1/√d_k if given.",
    solution=my_attention,
    answer=lambda q, k, v, scale=None: functional.attention(q, k, v, scale=scale),
    probes=[
        *INPUTS,
        Probe("scale 1", with_scale, n_q=2, n_kv=3, d_k=4, d_v=2, scale=1.0),
        Probe("scale 0", with_scale, n_q=2, n_kv=3, d_k=4, d_v=2, scale=0.0),
        Probe("scale 0.3", with_scale, n_q=3, n_kv=2, d_k=4, d_v=5, scale=0.3),
    ],
    laws=ATTENTION_LAWS,
    large=Probe("", qkv, n_q=128, n_kv=128, d_k=64, d_v=64),
    product="`q @ k.mT` is all the scores, `weights @ v` all the sums.",
    hints=[
        "Start from the three lines of this chapter and put the stable softmax of chapter 1 in the place of the "
        "packaged one.",
        "Count axes from the end, so that batch dimensions need no thought: -1 is the width of `q` and `k`, and of the "
        "scores the keys.",
        "`scale is None` asks whether a scale was given. A scale of 0 was.",
    ],
)

@build.wrong(
    "You divide by the root of the number of keys. It is the width of one query that counts, `q.shape[-1]`.",
    "The wrong width under the root"
)
def root_of_n_keys(q, k, v, scale=None):
    return functional.attention(q, k, v, scale=k.shape[-2] ** -0.5 if scale is None else scale)

@build.wrong("The argument `scale` is ignored.", "Three lines")
def scale_ignored(q, k, v, scale=None):
    return functional.attention(q, k, v)

@build.wrong("`scale` is applied on top of 1/√d_k. It is meant to *replace* it.", "Three lines")
def scale_on_top(q, k, v, scale=None):
    return functional.attention(q, k, v, scale=(1 if scale is None else scale) / math.sqrt(q.shape[-1]))

@build.wrong(
    "A given `scale` divides. It stands in the place of 1/√d_k, so the scores are *multiplied* by it.", "Three lines"
)
def divided_by_the_scale(q, k, v, scale=None):
    scores = q @ k.mT / (math.sqrt(q.shape[-1]) if scale is None else np.float64(scale))
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True) @ v

@build.wrong(
    "A scale of 0 counts as none: `scale or …` and `if scale` ask whether it is 0. Ask `scale is None`.",
    "Three lines"
)
def zero_as_none(q, k, v, scale=None):
    return functional.attention(q, k, v, scale=scale or None)

@build.wrong("It needs a scale: without one the default 1/√d_k is to be used.", "Three lines")
def no_default(q, k, v, scale=None):
    return functional.softmax((q * scale) @ k.mT) @ v

@build.wrong(
    "One maximum is subtracted from the whole array. A row that lies far below it is left with nothing but zeros.",
    "1 · Many plates at once"
)
def one_maximum_for_all(q, k, v, scale=None):
    scores = functional.scaled_scores(q, k, scale)
    exps = np.exp(scores - scores.max())
    return exps / exps.sum(axis=-1, keepdims=True) @ v

@build.wrong("`if` and `else` are exchanged: a given scale is thrown away, and None is used as one.", "Three lines")
def condition_turned_round(q, k, v, scale=None):
    scale = 1 / math.sqrt(q.shape[-1]) if scale is not None else scale
    return functional.softmax((q * scale) @ k.mT) @ v

@build.wrong("The scale is found and then not used: the scores are bare dot products.", SCALE)
def scale_not_used(q, k, v, scale=None):
    return functional.attention(q, k, v, scale=1.0)

@build.wrong("You divide by the scale where you should multiply by it: 1/√d_k is a factor already.", SCALE)
def divided_by_the_factor(q, k, v, scale=None):
    scores = q @ k.mT / np.float64(q.shape[-1] ** -0.5 if scale is None else scale)
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True) @ v

def with_einsum(q, k, v, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = scale * np.einsum("...id,...jd->...ij", q, k)
    weights = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1)[..., None]
    return np.einsum("...ij,...jd->...id", weights, v)

def with_torch(q, k, v, scale=None):
    q, k, v = map(torch.as_tensor, (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale)

def for_tensors_only(q, k, v, scale=None):
    scores = q.matmul(k.transpose(-2, -1)) * (q.size(-1) ** -0.5 if scale is None else scale)
    return torch.softmax(scores, dim=-1) @ v

def in_float32(q, k, v, scale=None):
    return my_attention(*(np.float32(x) for x in (q, k, v)), scale)

def with_loops(q, k, v, scale=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    out = np.empty((*q.shape[:-1], v.shape[-1]))
    for i in range(q.shape[-2]):
        scores = np.stack([scale * (q[..., i, :] * k[..., j, :]).sum(-1) for j in range(k.shape[-2])], axis=-1)
        exps = np.exp(scores - scores.max(-1, keepdims=True))
        out[..., i, :] = sum(exps[..., j, None] * v[..., j, :] for j in range(k.shape[-2])) / exps.sum(-1)[..., None]
    return out

for other in (with_einsum, with_torch, for_tensors_only, in_float32, with_loops):
    build.right(other)
    repair.right(other)

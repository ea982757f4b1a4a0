"""Exercises of chapter 5, multi-head attention: build it all."""

import math

import numpy as np
import torch

from attnbook import masks
from attnbook.exercises import Exercise, Law, Probe, close
from attnbook.exercises.ch05b import heads_axis, hidden, in_a_row, multi_head, slipped, weights_of
from attnbook.layers import split_heads

LANDS, FEWER = "A mask that lands on the heads", "Fewer keys than queries"
ORDER, SEVEN = "Grouped heads in the wrong order", "Seven lines"


# 5.6 Build it all -------------------------------------------------------------------------------------------------

def my_multi_head(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads=None, mask=None):
    n_kv_heads = n_kv_heads or n_heads
    group = n_heads // n_kv_heads
    split = lambda t, h: t.reshape(*t.shape[:2], h, -1).swapaxes(1, 2)
    q = split(x @ w_q, n_heads)
    k, v = (split(x @ w, n_kv_heads).repeat_interleave(group, dim=1) for w in (w_k, w_v))
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if mask is not None:
        mask = mask[:, None] if mask.ndim == 3 else mask
        scores = scores.masked_fill(~mask, -math.inf)
    heads = torch.softmax(scores, dim=-1) @ v
    return heads.swapaxes(1, 2).reshape(x.shape) @ w_o

def grouped(rng, batch, n, n_kv_heads, group, d_k, mask="", stretch=1.0, short=False):
    """`short`: without the last two arguments, which have defaults."""
    n_heads = n_kv_heads * group
    d_model = n_heads * d_k
    x = torch.from_numpy(stretch * rng.standard_normal((batch, n, d_model)))
    ws = weights_of(rng, d_model, d_model, n_kv_heads * d_k, n_kv_heads * d_k, d_model)
    scattered = torch.from_numpy(rng.random((batch, n, n)) < 0.5) | torch.eye(n, dtype=torch.bool)
    hidden = {"": None, "causal": masks.causal(n, like=x), "one": scattered[0], "each": scattered,
              "padding": masks.padding([1 + i % n for i in range(batch)][::-1], n, like=x).expand(batch, n, n)}
    hidden = hidden[mask]
    return (x, *ws, n_heads) if short else (x, *ws, n_heads, n_kv_heads, hidden)

def no_leak(f, x, *rest):
    return not masks.leaks(lambda t: f(t, *rest), x).any()

def shuffled(f, x, *rest):
    return close(f(x.flip(1), *rest), f(x, *rest)[:, ::-1])

def alone(f, x, *rest):
    return close(f(x[:1], *rest), f(x, *rest)[:1])

PLAIN = Probe("no mask", grouped, batch=2, n=5, n_kv_heads=2, group=3, d_k=2)

build = Exercise(
    "05.multihead",
    "Build it all",
    task="multi-head attention with grouped keys and a mask: None, (n, n) or (batch, n, n).",
    solution=my_multi_head,
    answer=lambda *args: multi_head(*args)[0],
    probes=[
        Probe("the defaults", grouped, batch=2, n=5, n_kv_heads=3, group=1, d_k=4, short=True),
        PLAIN,
        Probe("two key heads for four", grouped, batch=3, n=4, n_kv_heads=2, group=2, d_k=3),
        Probe("one key head for all", grouped, batch=2, n=4, n_kv_heads=1, group=3, d_k=5),
        Probe("one head, as wide as the tokens are many", grouped, batch=2, n=3, n_kv_heads=1, group=1, d_k=3),
        Probe("the causal mask", grouped, batch=2, n=5, n_kv_heads=2, group=2, d_k=3, mask="causal"),
        Probe("a mask with holes", grouped, batch=2, n=5, n_kv_heads=3, group=1, d_k=2, mask="one"),
        Probe("a mask for each sentence, as many sentences as heads", grouped, batch=4, n=5, n_kv_heads=2, group=2,
              d_k=3, mask="each"),
        Probe("padding, other numbers of sentences and heads", grouped, batch=3, n=5, n_kv_heads=2, group=1, d_k=4,
              mask="padding"),
        Probe("a mask, and one sentence", grouped, batch=1, n=4, n_kv_heads=1, group=2, d_k=3, mask="each"),
        Probe("large scores under the causal mask", grouped, batch=2, n=4, n_kv_heads=1, group=2, d_k=3, mask="causal",
              stretch=60.0),
        Probe("one token", grouped, batch=2, n=1, n_kv_heads=1, group=2, d_k=3),
        Probe("all sizes alike", grouped, batch=3, n=3, n_kv_heads=3, group=1, d_k=3, mask="one"),
    ],
    laws=[
        Law("under the causal mask nothing leaks from the future", no_leak,
            Probe("the causal mask", grouped, batch=1, n=5, n_kv_heads=2, group=2, d_k=3, mask="causal")),
        Law("without a mask, shuffling the tokens shuffles the output", shuffled, PLAIN),
        Law("a sentence is answered without regard to the rest of the batch", alone, PLAIN),
    ],
    large=Probe("", grouped, batch=4, n=64, n_kv_heads=2, group=4, d_k=16),
    product="`reshape` and `swapaxes` make the heads an axis in front, and one product then does all of them.",
    hints=[
        "Split `q` into `n_heads`, `k` and `v` into `n_kv_heads` (all, if it is None), then attend and merge as in the "
        "seven lines of this chapter.",
        "Each key head stands `n_heads // n_kv_heads` times in a row: `repeat_interleave` along the heads.",
        "Where the mask says no, the score is −∞, before the softmax. A mask with three axes needs a fourth, a 1 "
        "where the heads are: `mask[:, None]`.",
    ],
)  # fmt: skip

# Mistakes that can be made in this exercise only: with the mask, and with keys for several heads.

@build.wrong("The mask has no effect: every query attends to everything.", LANDS)
def mask_ignored(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads=None, mask=None):
    return slipped(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, None)[0]

@build.wrong(
    "The mask is turned round: in this book True means *may attend*. Under the causal mask your tokens see only the "
    "future.", "Check it"
)
def mask_turned_round(*args):
    return slipped(*args, hide=lambda scores, mask: hidden(scores, ~mask))[0]

@build.wrong(
    "The mask is on its side: rows are queries, columns are keys. Padding in particular hides *columns*, what nobody "
    "may look at.", "Check it"
)
def mask_transposed(*args):
    return slipped(*args, hide=lambda scores, mask: hidden(scores, mask.mT))[0]

@build.wrong(
    "You mask after the softmax: what is left in a row no longer sums to 1, and the hidden scores are still in the sum "
    "that it was divided by.", "6 · The mask after the softmax"
)
def masked_after_the_softmax(*args):
    return slipped(*args, hide=lambda scores, mask: scores, after=lambda weights, mask: weights * heads_axis(mask))[0]

@build.wrong(
    "You mask after the softmax and divide by the new sum. On paper that is right. Where a hidden score is much the "
    "largest, the allowed weights have been rounded to 0 before, and 0/0 is NaN.", "6 · The mask after the softmax"
)
def renormalised_afterwards(*args):
    def after(weights, mask):
        left = weights * heads_axis(mask)
        return left / left.sum(dim=-1, keepdim=True)

    return slipped(*args, hide=lambda scores, mask: scores, after=after)[0]

@build.wrong(
    "Hidden scores are set to 0, and exp(0) is 1: a score of 0 is a middling one, not the lowest.",
    "6 · Multiplying scores by 0"
)
def scores_times_the_mask(*args):
    return slipped(*args, hide=lambda scores, mask: scores * heads_axis(mask))[0]

@build.wrong(
    "The mask is added as 0 and 1. That raises the allowed scores a little and hides nobody.",
    "6 · A mask of 0 and 1, added"
)
def mask_added(*args):
    return slipped(*args, hide=lambda scores, mask: scores + heads_axis(mask))[0]

@build.wrong(
    "Hidden scores get a finite number that is not low enough: where scores are large and negative, the hidden key "
    "wins. It has to be a number that nothing is lower than.", "6 · A score that cannot win"
)
def not_low_enough(*args):
    return slipped(*args, hide=lambda scores, mask: scores.masked_fill(~heads_axis(mask), -100.0))[0]

@build.wrong(
    "Where the mask says no you write +∞, so that what is hidden wins, and ∞ − ∞ is NaN: mind the sign.",
    "6 · A score that cannot win"
)
def plus_infinity(*args):
    return slipped(*args, hide=lambda scores, mask: scores.masked_fill(~heads_axis(mask), math.inf))[0]

@build.wrong(
    "The masks of the sentences land on the *heads*: shapes are matched from the right, and (batch, n, n) meets "
    "(heads, n, n). Where batch and heads are equally many there is not even an error.", LANDS
)
def mask_on_the_heads(*args):
    return slipped(*args, hide=lambda scores, mask: scores.masked_fill(~mask, -math.inf))[0]

@build.wrong(
    "Every mask gets a new axis, that of shape (n, n) too, which then is (n, 1, n) and fits by accident or not at all. "
    "Only a mask for each sentence needs it.", LANDS
)
def an_axis_for_every_mask(*args):
    return slipped(*args, hide=lambda scores, mask: scores.masked_fill(~mask[:, None], -math.inf))[0]

@build.wrong("The new axis stands in the wrong place: heads are axis 1 of the scores, (batch, heads, n, n).", LANDS)
def axis_in_the_wrong_place(*args):
    def hide(scores, mask):
        return scores.masked_fill(~(mask[:, :, None] if mask.ndim == 3 else mask), -math.inf)

    return slipped(*args, hide=hide)[0]

@build.wrong("The mask of the first sentence is used for all.", LANDS)
def the_first_mask_for_all(*args):
    return slipped(*args, hide=lambda scores, mask: hidden(scores, mask[0] if mask.ndim == 3 else mask))[0]

@build.wrong("The result is right, and the mask is turned round in place: whoever gave it finds the opposite.", LANDS)
def mask_changed_in_place(*args):
    return slipped(*args, hide=lambda scores, mask: scores.masked_fill(heads_axis(mask.logical_not_()), -math.inf))[0]

@build.wrong("`if mask` asks whether an array is true. Ask whether there is one: `mask is not None`.", SEVEN)
def mask_as_a_truth(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads=None, mask=None):
    return slipped(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask if mask else None)[0]

@build.wrong(
    "The key heads are *tiled*, 1, 2, 1, 2. Neighbouring query heads share one: 1, 1, 2, 2. With one key head, or as "
    "many as query heads, nobody notices.", ORDER
)
def heads_tiled(*args):
    return slipped(*args, share=lambda t, group: t.repeat(1, group, 1, 1))[0]

@build.wrong("The keys are repeated rightly and the *values* tiled: the two no longer belong together.", ORDER)
def values_tiled(*args):
    return slipped(*args, share_v=lambda t, group: t.repeat(1, group, 1, 1))[0]

@build.wrong("The values are repeated rightly and the *keys* tiled: a head asks other keys than it should.", ORDER)
def keys_tiled(*args):
    return slipped(*args, share=lambda t, group: t.repeat(1, group, 1, 1), share_v=in_a_row)[0]

@build.wrong(
    "Keys and values are repeated along the *tokens*. It is along the heads, axis 1, that there are too few.", ORDER
)
def tokens_repeated(*args):
    return slipped(*args, share=lambda t, group: t.repeat_interleave(group, dim=2))[0]

@build.wrong(
    "The numbers *within* each key are repeated, before the split. It is whole heads that are shared: split first, "
    "then repeat along the heads.", ORDER
)
def numbers_repeated(*args):
    def share(t, group):
        wide = t.transpose(1, 2).flatten(2).repeat_interleave(group, dim=-1)
        return split_heads(wide, t.shape[1] * group)

    return slipped(*args, share=share)[0]

def repeated(name, says, times, when=lambda n_heads, n_kv_heads: True):
    """A misconception about how often each key head is repeated; `when`: if it is repeated at all."""

    def function(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads=None, mask=None):
        n = times(n_heads, n_kv_heads or n_heads) if when(n_heads, n_kv_heads) else 1
        share = lambda t, group: t.repeat_interleave(n, dim=1)
        return slipped(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask, share=share)[0]

    function.__name__ = name
    build.wrong(says, FEWER)(function)

for how, when in (("", lambda n, n_kv: True), ("_where_given", lambda n, n_kv: n_kv is not None),
                  ("_where_shared", lambda n, n_kv: n_kv not in (None, n))):  # fmt: skip
    repeated(f"repeated_by_their_own_number{how}", "Each key head is repeated `n_kv_heads` times. It should stand "
             "there once for each query head that shares it: count those.", lambda n, n_kv: n_kv, when)  # fmt: skip
    repeated(f"repeated_for_all_heads{how}", "Each key head is repeated `n_heads` times. It is shared by a *group* of "
             "them only: how many are there to each key head?", lambda n, n_kv: n, when)  # fmt: skip

@build.wrong(
    "The key heads are not repeated: two of them do not line up with four query heads. (One does, with any number.)",
    FEWER
)
def heads_not_repeated(*args):
    return slipped(*args, share=lambda t, group: t)[0]

@build.wrong(
    "The split counts heads wrongly where keys are shared: `q` has `n_heads` of them, `k` and `v` have `n_kv_heads`: "
    "`w_k` and `w_v` have columns for that many only.", FEWER
)
def key_heads_ignored(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads=None, mask=None):
    return slipped(x, w_q, w_k, w_v, w_o, n_heads, n_heads, mask)[0]

@build.wrong("`n_kv_heads=None` is not provided for: then there are as many key heads as query heads.", FEWER)
def no_default(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads=None, mask=None):
    return slipped(x, w_q, w_k, w_v, w_o, n_heads, n_heads // (n_heads // n_kv_heads), mask)[0]

@build.wrong(
    "Under the root stands d_model over the *key* heads. It is the width of one query, `q.shape[-1]`, that counts.",
    "The wrong width under the root"
)
def root_by_key_heads(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads=None, mask=None):
    root = math.sqrt(x.shape[-1] / (n_kv_heads or n_heads))
    return slipped(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask, score=lambda q, k: q @ k.mT / root)[0]

@build.wrong("`out` alone is asked for here: you return the weights too.", SEVEN)
def weights_as_well(*args):
    return slipped(*args)

@build.right
def with_sdpa(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads=None, mask=None):
    q, k, v = split_heads(x @ w_q, n_heads), *(split_heads(x @ w, n_kv_heads or n_heads) for w in (w_k, w_v))
    mask = mask.unsqueeze(1) if mask is not None and mask.dim() == 3 else mask
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    return out.transpose(1, 2).flatten(2) @ w_o

@build.right
def with_loops(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads=None, mask=None):
    d_k = w_q.shape[1] // n_heads
    group = n_heads // (n_kv_heads or n_heads)
    out = torch.zeros_like(x)
    for h in range(n_heads):
        mine, shared = (slice(i * d_k, (i + 1) * d_k) for i in (h, h // group))
        scores = (x @ w_q[:, mine]) @ (x @ w_k[:, shared]).transpose(1, 2) / d_k**0.5
        if mask is not None:
            scores = torch.where(mask, scores, -torch.inf)
        out = out + scores.softmax(-1) @ (x @ w_v[:, shared]) @ w_o[mine]
    return out

@build.right
def with_numpy(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads=None, mask=None):
    x, w_q, w_k, w_v, w_o = map(np.array, (x, w_q, w_k, w_v, w_o))
    (batch, n, d_model), n_kv_heads = x.shape, n_kv_heads or n_heads
    q = (x @ w_q).reshape(batch, n, n_heads, -1).transpose(0, 2, 1, 3)
    k, v = ((x @ w).reshape(batch, n, n_kv_heads, -1).transpose(0, 2, 1, 3) for w in (w_k, w_v))
    k, v = (np.repeat(t, n_heads // n_kv_heads, axis=1) for t in (k, v))
    scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    if mask is not None:
        scores = np.where(np.array(mask).reshape(-1, 1, n, n), scores, -1e9)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return (weights @ v).transpose(0, 2, 1, 3).reshape(batch, n, d_model) @ w_o

@build.right
def with_einsum(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads=None, mask=None):
    n_kv_heads = n_kv_heads or n_heads
    q = torch.einsum("bnm,mghk->bnghk", x, w_q.unflatten(1, (n_kv_heads, n_heads // n_kv_heads, -1)))
    k, v = (torch.einsum("bnm,mgk->bngk", x, w.unflatten(1, (n_kv_heads, -1))) for w in (w_k, w_v))
    scores = torch.einsum("bighk,bjgk->bghij", q, k) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores + torch.where(mask if mask.ndim == 2 else mask[:, None, None], 0.0, -math.inf)
    return torch.einsum("bghij,bjgk->bighk", scores.softmax(-1), v).flatten(2) @ w_o

@build.right
def in_float32(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads=None, mask=None):
    return my_multi_head(*(t.float() for t in (x, w_q, w_k, w_v, w_o)), n_heads, n_kv_heads, mask)

"""Exercises of chapter 7, cross-attention: repair it, and score an alignment."""

import numpy as np
import torch

from attnbook import functional, masks
from attnbook.exercises import Exercise, Law, Probe, close
from attnbook.exercises.ch07 import MASK, ONE_LINE, QUERY_AXIS, SHAPES, SWAPPED, WRONG_SIDE
from attnbook.exercises.ch07 import slips_of_the_product, two_sequences

CAUSAL = "The causal mask left on"


# 7.5 Repair it ----------------------------------------------------------------------------------------------------

def repaired(x, memory, lengths, w_q, w_k, w_v):
    q, k, v = x @ w_q, memory @ w_k, memory @ w_v
    real = np.arange(memory.shape[1]) < np.asarray(lengths)[:, None]
    return functional.attention(q, k, v, real[:, None, :])

def broken_repaired(x, memory, lengths, w_q, w_k, w_v):
    q, k, v = x @ w_q, x @ w_k, x @ w_v
    real = np.arange(memory.shape[1]) < np.asarray(lengths)[:, None]
    return functional.attention(q, k, v, real[:, :, None])

def padded(rng, batch, n_q, n_kv, d, d_k, d_v, shortest=1, stretch=1.0):
    x, memory, *projections = two_sequences(rng, n_q, n_kv, d, d, d_k, d_v, (batch,), stretch)
    lengths = rng.integers(shortest, n_kv + 1, size=batch)
    lengths[0], lengths[-1] = n_kv, (n_kv + 1) // 2 if shortest else 0
    return x, memory, lengths, *projections

def more_filler(f, x, memory, lengths, *w):
    longer = np.concatenate([memory, np.full_like(memory[:, :1], 7.0)], axis=1)
    return close(f(x, longer, lengths, *w), f(x, memory, lengths, *w))

repair = Exercise(
    "07.repair",
    "Repair it",
    task="cross-attention over padded memories, with its two mistakes repaired.",
    solution=repaired,
    answer=lambda x, memory, lengths, w_q, w_k, w_v: functional.attention(
        x @ w_q, memory @ w_k, memory @ w_v, masks.padding(lengths, memory.shape[1])
    ),
    broken=broken_repaired,
    probes=[
        Probe("both equally long", padded, batch=2, n_q=5, n_kv=5, d=4, d_k=3, d_v=2),
        Probe("a memory longer than the target", padded, batch=4, n_q=2, n_kv=6, d=5, d_k=3, d_v=7),
        Probe("a memory shorter than the target", padded, batch=2, n_q=6, n_kv=3, d=4, d_k=5, d_v=3),
        Probe("all sizes alike", padded, batch=3, n_q=3, n_kv=3, d=3, d_k=3, d_v=3),
        Probe("one source, without filler", padded, batch=1, n_q=3, n_kv=1, d=4, d_k=2, d_v=3),
        Probe("one target token", padded, batch=3, n_q=1, n_kv=4, d=4, d_k=2, d_v=3),
        Probe("a source of length 0", padded, batch=2, n_q=3, n_kv=4, d=5, d_k=2, d_v=3, shortest=0),
        Probe("large scores", padded, batch=3, n_q=4, n_kv=5, d=6, d_k=3, d_v=2, stretch=100.0),
    ],
    laws=[
        Law("more filler behind the memory changes nothing", more_filler),
        Law("each target token is answered without regard to the others",
            lambda f, x, *rest: close(f(x[:, :1], *rest), f(x, *rest)[:, :1])),
    ],
    hints=[
        "One mistake: which of the arguments does the first line not use, and should?",
        "The other: the scores have the shape (batch, n_q, n_kv). On which of these axes are the source words?",
        "The `None` in `real[:, :, None]` makes the axis that stands for everybody alike. Who is that?",
    ],
)  # fmt: skip

def on_keys(memory, lengths):
    return masks.padding(lengths, memory.shape[1])

def on_queries(memory, lengths):
    return np.swapaxes(masks.padding(lengths, memory.shape[1]), -1, -2)

def everywhere(memory, lengths):
    return np.ones((1, 1), dtype=bool)

def left(name, says, reread, of, mask=on_keys, and_targets=False):
    """A misconception about where q, k and v come from, or which mask stands before them, and which on the targets."""

    def function(x, memory, lengths, w_q, w_k, w_v):
        allowed = mask(memory, lengths)
        allowed = allowed & (np.arange(x.shape[1])[:, None] < lengths[:, None, None]) if and_targets else allowed
        return functional.attention(*of(x, memory, w_q, w_k, w_v), allowed)

    function.__name__ = name
    repair.wrong(says, reread)(function)

def sound(x, z, w_q, w_k, w_v):
    return x @ w_q, z @ w_k, z @ w_v

left("both_still_there", "It does what it did before: both mistakes are still there.", WRONG_SIDE,
     lambda x, z, w_q, w_k, w_v: (x @ w_q, x @ w_k, x @ w_v), on_queries)  # fmt: skip
left("source_still_not_read", "The mask is repaired. One mistake is left: no key and no value comes from the memory, "
     "so the source is not read.", WRONG_SIDE, lambda x, z, w_q, w_k, w_v: (x @ w_q, x @ w_k, x @ w_v))  # fmt: skip
left("queries_still_masked", "The memory is read now. One mistake is left: the mask hides whole *targets*, and the "
     "others read the filler.", QUERY_AXIS, sound, on_queries)  # fmt: skip
left("values_still_of_the_target", "The mask and the keys are repaired. The values still come from the target: weights "
     "over the source, and the target hands itself over.", WRONG_SIDE,
     lambda x, z, w_q, w_k, w_v: (x @ w_q, z @ w_k, x @ w_v))  # fmt: skip
left("keys_still_of_the_target", "The mask and the values are repaired. The keys still come from the target, so who "
     "gets how much is decided without a look at the source.", WRONG_SIDE,
     lambda x, z, w_q, w_k, w_v: (x @ w_q, x @ w_k, z @ w_v))  # fmt: skip
left("values_and_mask_left", "Only the keys are repaired: the values still come from the target, and the mask still "
     "hides queries.", WRONG_SIDE, lambda x, z, w_q, w_k, w_v: (x @ w_q, z @ w_k, x @ w_v), on_queries)  # fmt: skip
left("keys_and_mask_left", "Only the values are repaired: the keys still come from the target, and the mask still "
     "hides queries.", WRONG_SIDE, lambda x, z, w_q, w_k, w_v: (x @ w_q, x @ w_k, z @ w_v), on_queries)  # fmt: skip
left("queries_from_the_memory", "Now everything comes from the memory, the queries too. The target asks: there was no "
     "mistake in `x @ w_q`.", SWAPPED, lambda x, z, w_q, w_k, w_v: (z @ w_q, z @ w_k, z @ w_v))  # fmt: skip
left("roles_swapped", "The source asks and the target answers. There was no mistake in `x @ w_q`.", SWAPPED,
     lambda x, z, w_q, w_k, w_v: (z @ w_q, x @ w_k, x @ w_v))  # fmt: skip
left("keys_and_values_exchanged", "Keys and values have changed places: `w_k` makes what is compared, `w_v` what is "
     "handed over.", ONE_LINE, lambda x, z, w_q, w_k, w_v: (x @ w_q, z @ w_v, z @ w_k))  # fmt: skip
left("keys_ask", "Queries and keys change places on the way into `attention`.", SWAPPED,
     lambda x, z, w_q, w_k, w_v: (z @ w_k, x @ w_q, z @ w_v))  # fmt: skip
left("queries_through_w_k", "The queries go through `w_k` now, the projection of those who are asked.", ONE_LINE,
     lambda x, z, w_q, w_k, w_v: (x @ w_k, z @ w_k, z @ w_v))  # fmt: skip
left("queries_through_w_v", "The queries go through `w_v` now, the projection of what is handed over.", ONE_LINE,
     lambda x, z, w_q, w_k, w_v: (x @ w_v, z @ w_k, z @ w_v))  # fmt: skip
left("keys_through_w_q", "The keys go through `w_q` now, the projection of who asks.", ONE_LINE,
     lambda x, z, w_q, w_k, w_v: (x @ w_q, z @ w_q, z @ w_v))  # fmt: skip
left("keys_through_w_v", "The keys go through `w_v` now: the values are compared.", ONE_LINE,
     lambda x, z, w_q, w_k, w_v: (x @ w_q, z @ w_v, z @ w_v))  # fmt: skip
left("values_through_w_q", "The values go through `w_q` now, the projection of who asks.", ONE_LINE,
     lambda x, z, w_q, w_k, w_v: (x @ w_q, z @ w_k, z @ w_q))  # fmt: skip
left("values_through_w_k", "The values go through `w_k` now: the keys are handed over.", ONE_LINE,
     lambda x, z, w_q, w_k, w_v: (x @ w_q, z @ w_k, z @ w_k))  # fmt: skip
left("no_mask", "The mask is gone, and the filler is read: it needed another axis, not to be left out.", MASK, sound,
     everywhere)  # fmt: skip
left("mask_turned_round", "The mask is the wrong way round: the filler is read and the words are not. True says *may "
     "be read*.", MASK, sound, lambda z, lengths: ~on_keys(z, lengths))  # fmt: skip
left("one_filler_read", "One filler is read: the places of 4 words are 0 to 3, all that are *less* than 4.", MASK,
     sound, lambda z, lengths: np.arange(z.shape[1]) <= np.asarray(lengths)[:, None, None])  # fmt: skip
left("no_axis_for_the_queries", "The mask has lost its axis: (batch, n_kv) is taken for (n_q, n_kv), and if the "
     "numbers happen to fit, each *target* gets the mask of a source.", QUERY_AXIS, sound,
     lambda z, lengths: on_keys(z, lengths)[:, 0])  # fmt: skip
left("targets_hidden_too", "The filler is hidden, and some *targets* with it. The lengths are those of the sources: "
     "every target is a real one here.", QUERY_AXIS, sound, on_keys, True)  # fmt: skip
left("targets_hidden_instead", "The memory is read now. But the mask hides *targets*, by the lengths of the sources, "
     "and the filler is read.", QUERY_AXIS, sound, everywhere, True)  # fmt: skip
left("no_mask_and_source_not_read", "The mask is gone, so that nothing is hidden. And no key and no value comes from "
     "the memory yet: the source is not read.", WRONG_SIDE,
     lambda x, z, w_q, w_k, w_v: (x @ w_q, x @ w_k, x @ w_v), everywhere)  # fmt: skip
left("both_axes_masked", "You hide on both axes. The queries are the target's: no filler is among them.", QUERY_AXIS,
     sound, lambda z, lengths: on_keys(z, lengths) & on_queries(z, lengths))  # fmt: skip
left("causal_too", "A causal mask has come along. The source is there from the beginning.", CAUSAL, sound,
     lambda z, lengths: on_keys(z, lengths) & masks.causal(z.shape[1]))  # fmt: skip

left("sources_counted", "The mask has as many places as there are *sources*, the first size of the memory. Its words "
     "lie along the second.", SHAPES, sound,
     lambda z, lengths: np.arange(z.shape[0]) < np.asarray(lengths)[:, None, None])  # fmt: skip
left("width_counted", "The mask has as many places as the memory is *wide*. Its words lie along the second axis.",
     SHAPES, sound, lambda z, lengths: np.arange(z.shape[2]) < np.asarray(lengths)[:, None, None])  # fmt: skip
slips_of_the_product(left)

@repair.wrong(
    "The mask has as many places as the *target*: it is the words of the memory that are numbered, "
    "`memory.shape[1]` of them.", SHAPES
)
def targets_counted(x, memory, lengths, w_q, w_k, w_v):
    return functional.attention(*sound(x, memory, w_q, w_k, w_v), on_keys(x, np.minimum(lengths, x.shape[1])))

def scores_of(x, memory, w_q, w_k):
    return functional.scaled_scores(x @ w_q, memory @ w_k)

@repair.wrong(
    "The filler is set to 0 in the memory. Then its *score* is 0, and exp(0) = 1 is weight like any other: filler has "
    "to be hidden in the scores, by the mask.", MASK
)
def filler_set_to_zero(x, memory, lengths, w_q, w_k, w_v):
    memory = memory * np.swapaxes(on_keys(memory, lengths), -1, -2)
    return functional.attention(x @ w_q, memory @ w_k, memory @ w_v)

@repair.wrong(
    "You hide the filler after the softmax: it has had its share by then, and the rows no longer sum to 1.",
    "6 · The mask after the softmax"
)
def hidden_after_the_softmax(x, memory, lengths, w_q, w_k, w_v):
    return functional.softmax(scores_of(x, memory, w_q, w_k)) * on_keys(memory, lengths) @ memory @ w_v

@repair.wrong(
    "You hide the filler after the softmax and divide by what is left. Where the filler's score is much the largest, "
    "the words' shares are rounded to 0 before, and nothing is left to divide by.", "6 · The mask after the softmax"
)
def renormalised_afterwards(x, memory, lengths, w_q, w_k, w_v):
    left = functional.softmax(scores_of(x, memory, w_q, w_k)) * on_keys(memory, lengths)
    total = left.sum(axis=-1, keepdims=True)
    return np.divide(left, total, out=np.zeros_like(left), where=total > 0) @ memory @ w_v

@repair.wrong(
    "The exponentials overflow where scores are large. Take each row's maximum off first, as `functional.attention` "
    "does.", "1 · Numbers too large for the machine"
)
def no_maximum(x, memory, lengths, w_q, w_k, w_v):
    exps = np.exp(scores_of(x, memory, w_q, w_k)) * on_keys(memory, lengths)
    total = exps.sum(axis=-1, keepdims=True)
    return np.divide(exps, total, out=np.zeros_like(exps), where=total > 0) @ memory @ w_v

@repair.wrong(
    "A source of length 0 is shared out equally in your code: all its scores are the same −1e9. Nothing to read gives "
    "zeros in this book.", "6 · A row with nothing"
)
def finite_instead_of_infinite(x, memory, lengths, w_q, w_k, w_v):
    scores = np.where(on_keys(memory, lengths), scores_of(x, memory, w_q, w_k), -1e9)
    return functional.softmax(scores) @ memory @ w_v

@repair.wrong(
    "For a source of length 0 every score is −∞, and the softmax of that is 0/0. `functional.attention` gives zeros.",
    "6 · A row with nothing"
)
def nothing_over_nothing(x, memory, lengths, w_q, w_k, w_v):
    scores = np.where(on_keys(memory, lengths), scores_of(x, memory, w_q, w_k), -np.inf)
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True) @ memory @ w_v

@repair.right
def source_by_source(x, memory, lengths, w_q, w_k, w_v):
    words = [z[:n] for z, n in zip(memory, lengths)]
    return np.stack([functional.attention(own @ w_q, z @ w_k, z @ w_v) if len(z) else np.zeros((len(own), w_v.shape[1]))
                     for own, z in zip(x, words)])  # fmt: skip

@repair.right
def with_torch(x, memory, lengths, w_q, w_k, w_v):
    x, memory, lengths, w_q, w_k, w_v = map(torch.as_tensor, (x, memory, lengths, w_q, w_k, w_v))
    mask = (torch.arange(memory.shape[1]) < lengths[:, None])[:, None, :].expand(-1, x.shape[1], -1)
    return torch.nn.functional.scaled_dot_product_attention(x @ w_q, memory @ w_k, memory @ w_v, attn_mask=mask)

@repair.right
def in_float32(x, memory, lengths, w_q, w_k, w_v):
    x, memory, w_q, w_k, w_v = (np.float32(array) for array in (x, memory, w_q, w_k, w_v))
    return repaired(x, memory, lengths, w_q, w_k, w_v)

@repair.right
def by_hand(x, memory, lengths, w_q, w_k, w_v):
    scores = np.einsum("bid,bjd->bij", x @ w_q, memory @ w_k) / w_k.shape[-1] ** 0.5
    scores = np.where(on_keys(memory, lengths), scores, -1e30)
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True)) * on_keys(memory, lengths)
    total = exps.sum(axis=-1, keepdims=True)
    return np.divide(exps, total, out=np.zeros_like(exps), where=total > 0) @ (memory @ w_v)


# 7.6 Score an alignment -------------------------------------------------------------------------------------------

def mass_on_right(weights, right):
    mass = (weights * right).sum(axis=-1)
    return mass[right.any(axis=-1)].mean()

def aligned(rng, n_q, n_kv, batch=(), several=False, hyphens=True, hard=False):
    """Weights, and what is right: in one word a row (or up to three), in none for every third row."""
    weights = functional.softmax(1.5 * rng.standard_normal((*batch, n_q, n_kv)))
    place = rng.integers(n_kv, size=(*batch, n_q, 1))
    right = (np.arange(n_kv) - place) % n_kv < (rng.integers(1, 4, size=place.shape) if several else 1)
    if hyphens:
        rows = np.arange(right[..., 0].size).reshape(right.shape[:-1])
        right &= (rows % 3 != 1)[..., None]
    if hard:
        weights = np.eye(n_kv)[rng.integers(n_kv, size=(*batch, n_q))]
        weights[..., 0, :] = np.eye(n_kv)[(place[..., 0, 0] + 1) % n_kv]
    return weights, right

score = Exercise(
    "07.alignment",
    "Score an alignment",
    task="the mean weight on what is right, over the rows for which something is.",
    solution=mass_on_right,
    probes=[
        Probe("one right source in each row", aligned, n_q=4, n_kv=3, hyphens=False),
        Probe("rows without a right source", aligned, n_q=5, n_kv=4),
        Probe("several right sources in a row", aligned, n_q=5, n_kv=6, several=True),
        Probe("as many rows as columns", aligned, n_q=5, n_kv=5),
        Probe("each row looks at one word", aligned, n_q=7, n_kv=4, hard=True),
        Probe("one target token", aligned, n_q=1, n_kv=4),
        Probe("a batch", aligned, n_q=5, n_kv=4, batch=(3,)),
        Probe("a batch and heads", aligned, n_q=4, n_kv=5, batch=(2, 3), several=True),
    ],
    laws=[
        Law("an alignment that is right everywhere scores 1",
            lambda f, weights, right: close(f(right / np.maximum(right.sum(axis=-1, keepdims=True), 1), right), 1.0)),
        Law("a row for which nothing is right changes nothing",
            lambda f, weights, right: close(f(np.concatenate([weights, weights[..., :1, :]], axis=-2),
                                              np.concatenate([right, 0 * right[..., :1, :] > 0], axis=-2)),
                                            f(weights, right))),
        Law("the order of the words does not matter",
            lambda f, weights, right: close(f(weights[..., ::-1].copy(), right[..., ::-1].copy()), f(weights, right))),
    ],
    hints=[
        "First a number for each row: how much of its weight lies on what is right? Multiplying by booleans keeps what "
        "is True.",
        "`(weights * right).sum(axis=-1)` is the mass of each row. Then: which rows count?",
        "`right.any(axis=-1)` says which rows have a right source. A boolean array in brackets picks, from all the "
        "leading axes at once.",
    ],
)  # fmt: skip

"""Exercises of chapter 5, continued: what goes wrong in 5.4 and in 5.6 alike."""

import itertools
import math

import torch

from attnbook.exercises.ch05b import repair, slipped, softmax_along
from attnbook.exercises.ch05c import build

ROWS, ROOT, VIEW = "3 · Turn each row into weights", "The wrong width under the root", "`view` for `transpose`"
SILENT, PAIRS = "3 · Three ways to get the wrong answer without an error", "3 · Every query, every key"
MERGING, W_O = "Merging without transposing back", "What $W_O$ does"


def repair_wrong(says, reread):
    """Decorator: the function returns the steps of `slipped` that hold the mistake."""
    return lambda steps: repair.wrong(says, reread)(_named(steps, slipped)) and steps

def build_wrong(says, reread):
    return lambda steps: build.wrong(says, reread)(_named(steps, out_of_slipped)) and steps

def either_wrong(says, reread):
    return lambda steps: repair_wrong(says, reread)(build_wrong(says, reread)(steps))

def out_of_slipped(*args, **steps):
    return slipped(*args, **steps)[0]

def _named(steps, layer):
    def function(*args):
        return layer(*args, **steps())

    function.__name__ = steps.__name__
    return function

def root_of(size):
    return {"score": lambda q, k: q @ k.mT / math.sqrt(size(q))}

def merged_as(merge):
    return {"merge": merge}

def uncut(t):
    return t.reshape(t.shape[0], t.shape[2], -1)


# The two mistakes of 5.4, each the only one left ------------------------------------------------------------------

@repair_wrong("It does what it did before: both mistakes are still there.", MERGING)
def as_it_was():
    return root_of(lambda q: q.shape[1] * q.shape[-1]) | merged_as(uncut)

@repair_wrong(
    "The merge is repaired. One mistake is left: under the root stands the width of the *layer*. A score is a sum of "
    "as many products as *one head* is wide.", ROOT
)
def only_the_merge():
    return root_of(lambda q: q.shape[1] * q.shape[-1])

@repair_wrong(
    "The root is repaired. One mistake is left: `reshape` reads the heads as they lie, one after the other, so that "
    "the pieces of one token land in the rows of others.", MERGING
)
def only_the_root():
    return merged_as(uncut)

@build_wrong(
    "Under the root stands the width of the *layer*. A score is a sum of as many products as *one head* is wide.", ROOT
)
def root_of_d_model():
    return root_of(lambda q: q.shape[1] * q.shape[-1])

@build_wrong(
    "The heads are not exchanged back with the tokens before `reshape`: pieces of one token's output land in the rows "
    "of others, and the future leaks through any mask.", MERGING
)
def merged_without_transposing():
    return merged_as(uncut)

@build_wrong(
    "Width of the layer under the root, and the heads merged without exchanging them back: those are the two mistakes "
    "of exercise 5.4.", MERGING
)
def both_mistakes_of_the_repair():
    return as_it_was()


# Under the root ---------------------------------------------------------------------------------------------------

@either_wrong("The scores are not scaled: the division by √d_k is missing.", "3 · Make the scores smaller")
def not_scaled():
    return root_of(lambda q: 1)

@either_wrong("You divide by d_k, not by its root.", "3 · Make the scores smaller")
def divided_by_d_k():
    return root_of(lambda q: q.shape[-1] ** 2)

@either_wrong("You multiply by √d_k where you should divide by it.", "3 · Make the scores smaller")
def multiplied_by_the_root():
    return root_of(lambda q: 1 / q.shape[-1])

@either_wrong(
    "Under the root stands the *number* of heads. It is the width of one that counts; where both are equal, nobody "
    "notices.", ROOT
)
def root_of_n_heads():
    return root_of(lambda q: q.shape[1])

@either_wrong("Under the root stands the number of tokens: the scores would depend on how long the sentence is.", ROOT)
def root_of_n():
    return root_of(lambda q: q.shape[-2])

@either_wrong("Under the root stands the first size, which is the batch. Count axes from the end.", ROOT)
def root_of_the_batch():
    return root_of(lambda q: q.shape[0])


# Scores, weights, values ------------------------------------------------------------------------------------------

@either_wrong("Queries and keys are exchanged in the product: the rows of the scores have to be the queries.", SILENT)
def queries_and_keys_exchanged():
    return {"score": lambda q, k: k @ q.mT / math.sqrt(q.shape[-1])}

@either_wrong("`k` is not transposed: the last axis of `q` must meet the same axis of `k`, its width.", PAIRS)
def keys_not_transposed():
    return {"score": lambda q, k: q @ k / math.sqrt(q.shape[-1])}

@either_wrong("The factors of the scores stand the wrong way round: first queries, then the transposed keys.", PAIRS)
def factors_of_the_scores_exchanged():
    return {"score": lambda q, k: k.mT @ q / math.sqrt(q.shape[-1])}

@either_wrong("`*` multiplies number by number. All pairs of queries and keys are a product of matrices, `@`.", PAIRS)
def star_in_the_scores():
    return {"score": lambda q, k: q * k.mT / math.sqrt(q.shape[-1])}

@either_wrong("A sign is turned round in the scores: the worst match gets the largest weight.", PAIRS)
def scores_turned_round():
    return {"score": lambda q, k: -q @ k.mT / math.sqrt(q.shape[-1])}

@either_wrong(
    "The softmax runs over the *queries*: columns sum to 1, and rows should. Keys are the last axis.", SILENT
)
def softmax_over_queries():
    return {"soft": lambda scores: softmax_along(scores, -2)}

@either_wrong("The softmax runs over the *heads*, so they compete. Each head shares out a unit of its own.", ROWS)
def softmax_over_heads():
    return {"soft": lambda scores: softmax_along(scores, 1)}

@either_wrong("The softmax runs over the *batch*, so the sentences compete. Keys are the last axis.", ROWS)
def softmax_over_the_batch():
    return {"soft": lambda scores: softmax_along(scores, 0)}

@either_wrong("There is no softmax: the scores themselves mix the values.", ROWS)
def no_softmax():
    return {"soft": lambda scores: scores}

@either_wrong("The scale stands behind the softmax, where it makes everything smaller and changes nobody's share.",
              "3 · Make the scores smaller")  # fmt: skip
def scaled_afterwards():
    return {"score": lambda q, k: q @ k.mT, "mix": lambda weights, v: weights / v.shape[-1] ** 0.5 @ v}

@either_wrong("The weights are on their side: row i mixes the values for token i.", "3 · Mix the values")
def weights_transposed():
    return {"mix": lambda weights, v: weights.mT @ v}

@either_wrong("In the mixture the factors stand the wrong way round: first the weights, then the values.",
              "3 · Mix the values")  # fmt: skip
def factors_of_the_mixture_exchanged():
    return {"mix": lambda weights, v: v @ weights}

@either_wrong("`*` multiplies number by number. The mixture of values is a product of matrices, `@`.",
              "3 · Mix the values")  # fmt: skip
def star_in_the_mixture():
    return {"mix": lambda weights, v: weights * v}


# The way there and the way back -----------------------------------------------------------------------------------

@either_wrong("`*` multiplies number by number. A token goes through a matrix by a product, `@`.", "Build it")
def star_in_the_projections():
    return {"make": lambda t, w: t * w}

@either_wrong("The factors stand the wrong way round where q, k and v are made: tokens are rows, so x comes first.",
              "One head after the other")  # fmt: skip
def factors_of_the_projections_exchanged():
    return {"make": lambda t, w: w @ t}

@either_wrong(
    "The split goes straight to its final shape, so each head has a part of the *sentence*, in pieces. Cut the "
    "width, then exchange tokens and heads.", VIEW
)
def split_by_view_alone():
    return {"split": lambda t, h: t.reshape(t.shape[0], h, t.shape[1], -1)}

@either_wrong(
    "`view` alone, at the split and at the merge: the order comes out right, and the sentence has fallen into pieces "
    "that never hear of each other. Ask `masks.influence`.", VIEW
)
def view_alone_both_ways():
    return split_by_view_alone() | merged_as(uncut)

@either_wrong(
    "The split cuts each row as (d_k, heads), so a head gets every so-many-th number. Its share is a block of "
    "neighbours.", "Split"
)
def split_like_a_comb():
    return {"split": lambda t, h: t.reshape(*t.shape[:2], -1, h).permute(0, 3, 1, 2)}

@either_wrong(
    "After the split the heads still stand behind the tokens, so within each token the *heads* attend to each other, "
    "and no token hears of another.", "Split"
)
def heads_stay_behind_the_tokens():
    return {"split": lambda t, h: t.reshape(*t.shape[:2], h, -1), "merge": lambda t: t.flatten(2)}

@build_wrong("The split leaves the heads behind the tokens: attention takes the last two axes, (n, d_k).", "Split")
def heads_behind_after_the_split():
    return {"split": lambda t, h: t.reshape(*t.shape[:2], h, -1)}

@either_wrong(
    "The merge lays the numbers of the heads between each other, first, first, first, second … A token's row is head "
    "1's piece, then head 2's.", "Merge"
)
def merged_like_a_comb():
    return merged_as(lambda t: t.permute(0, 2, 3, 1).flatten(2))

@either_wrong("Before the merge, tokens and *width* are exchanged. It is heads and tokens that have to change places.",
              MERGING)  # fmt: skip
def merged_with_width_exchanged():
    return merged_as(lambda t: uncut_to(t, t.transpose(2, 3)))

@either_wrong("Before the merge, heads and *width* are exchanged. It is heads and tokens that have to change places.",
              MERGING)  # fmt: skip
def merged_with_heads_and_width_exchanged():
    return merged_as(lambda t: uncut_to(t, t.transpose(1, 3)))

@either_wrong("Before the merge, *batch* and tokens are exchanged. It is heads and tokens that have to change places.",
              MERGING)  # fmt: skip
def merged_with_the_batch_exchanged():
    return merged_as(lambda t: uncut_to(t, t.transpose(0, 2)))

@either_wrong(
    "`view` cannot read what was transposed. The transpose is right, so keep it: `reshape` copies where it must.",
    "`.view` on what was transposed"
)
def view_of_what_was_transposed():
    return merged_as(lambda t: t.transpose(1, 2).view(t.shape[0], t.shape[2], -1))

def uncut_to(t, exchanged):
    return exchanged.reshape(t.shape[0], t.shape[2], -1)


# W_O and the other matrices ---------------------------------------------------------------------------------------

@either_wrong("W_O is missing: the shape is right already, and the heads never meet.", "$W_O$ left out")
def without_w_o():
    return {"project": lambda t, w_o: t}

@either_wrong("`w_o` is transposed: in this book x stands on the left, x W_O.", W_O)
def w_o_transposed():
    return {"project": lambda t, w_o: t @ w_o.T}

@either_wrong("The factors stand the wrong way round at the end: the tokens' rows come first, then `w_o`.", W_O)
def factors_of_w_o_exchanged():
    return {"project": lambda t, w_o: w_o @ t}

@either_wrong("`*` multiplies number by number. The heads are mixed by a product of matrices: `@ w_o`.", W_O)
def star_for_w_o():
    return {"project": lambda t, w_o: t * w_o}

def wrong_matrix(place, other):
    names = ("w_q", "w_k", "w_v", "w_o")
    made = ("The queries are made", "The keys are made", "The values are made", "The heads are mixed")[place]

    def steps():
        return {"deal": lambda *ws: (*ws[:place], ws[other], *ws[place + 1 :])}

    steps.__name__ = f"{names[other]}_for_{names[place]}"
    says = f"{made} with `{names[other]}`: that is what `{names[place]}` is for, each of the four has its own task."
    either_wrong(says, W_O if place == 3 else "One head after the other")(steps)

for pair in itertools.permutations(range(4), 2):
    wrong_matrix(*pair)


# What 5.4 returns -------------------------------------------------------------------------------------------------

def returned(says, function):
    repair.wrong(says, "Seven lines")(function)

def out_alone(*args):
    return slipped(*args)[0]

def weights_first(*args):
    return slipped(*args)[::-1]

def weights_averaged(*args):
    out, weights = slipped(*args)
    return out, weights.mean(dim=1)

returned("Both are asked for, `out` and the weights of each head: you return one thing.", out_alone)
returned("The weights come second: `out, weights`, in this order.", weights_first)
repair.wrong("The weights are averaged over the heads. Each head's own table is asked for.",
             "The average of the heads")(weights_averaged)  # fmt: skip


# Other right answers to 5.4 ---------------------------------------------------------------------------------------

@repair.right
def with_a_loop(x, w_q, w_k, w_v, w_o, n_heads):
    heads, tables = [], []
    for w1, w2, w3 in zip(*(w.chunk(n_heads, dim=1) for w in (w_q, w_k, w_v))):
        tables.append(((x @ w1) @ (x @ w2).mT * w1.shape[1] ** -0.5).softmax(dim=-1))
        heads.append(tables[-1] @ (x @ w3))
    return torch.cat(heads, dim=-1) @ w_o, torch.stack(tables, dim=1)

@repair.right
def with_einsum(x, w_q, w_k, w_v, w_o, n_heads):
    q, k, v = (torch.einsum("bnm,mhk->bhnk", x, w.unflatten(1, (n_heads, -1))) for w in (w_q, w_k, w_v))
    weights = torch.softmax(torch.einsum("bhik,bhjk->bhij", q, k) / (x.shape[-1] / n_heads) ** 0.5, dim=-1)
    return torch.einsum("bhij,bhjk,hkm->bim", weights, v, w_o.unflatten(0, (n_heads, -1))), weights

@repair.right
def with_torchs_layer(x, w_q, w_k, w_v, w_o, n_heads):
    out, weights = torch.nn.functional.multi_head_attention_forward(
        *[x.transpose(0, 1)] * 3, x.shape[-1], n_heads, torch.cat([w_q, w_k, w_v], dim=1).T, None, None, None, False,
        0.0, w_o.T, None, training=False, average_attn_weights=False,
    )  # fmt: skip
    return out.transpose(0, 1), weights

@repair.right
def in_float32(x, w_q, w_k, w_v, w_o, n_heads):
    out, weights = slipped(*(t.float() for t in (x, w_q, w_k, w_v, w_o)), n_heads)
    return [out, weights]

@repair.right
def with_contiguous(x, w_q, w_k, w_v, w_o, n_heads):
    merge = lambda t: t.permute(0, 2, 1, 3).contiguous().view(x.shape)
    return slipped(x, w_q, w_k, w_v, w_o, n_heads, merge=merge)

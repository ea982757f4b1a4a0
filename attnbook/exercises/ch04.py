"""Exercises of chapter 4, self-attention and position."""

import math

import numpy as np
import torch

from attnbook import functional, masks, positions
from attnbook.exercises import Exercise, Law, Probe, close

PROJECTIONS, THREE, ORDER = "One X, three projections", "Why three and not one?", "What no projection can pick out"
SCALE, ROWS, MIX = (f"3 · {heading}" for heading in
                    ("Make the scores smaller", "Turn each row into weights", "Mix the values"))  # fmt: skip


# 4.1 One line -----------------------------------------------------------------------------------------------------

def project_and_attend(x, w_q, w_k, w_v):
    return functional.attention(x @ w_q, x @ w_k, x @ w_v)

def sentence(rng, n, d_model, d_k, d_v, batch=(), stretch=1.0):
    """x and the three matrices, of a size that keeps queries and keys near 1."""
    x = stretch * rng.standard_normal((*batch, n, d_model))
    return x, *(rng.standard_normal((d_model, d)) / math.sqrt(d_model) for d in (d_k, d_k, d_v))

def _shuffled(n):
    """An order of n words in which no word keeps its place (if there are two or more)."""
    return np.roll(np.arange(n)[::-1], n // 2)

project = Exercise(
    "04.project",
    "One line",
    task="self-attention from X and the three matrices.",
    solution=project_and_attend,
    probes=[
        Probe("all sizes different", sentence, n=3, d_model=6, d_k=4, d_v=5),
        Probe("a single word", sentence, n=1, d_model=5, d_k=3, d_v=2),
        Probe("all sizes alike", sentence, n=4, d_model=4, d_k=4, d_v=4),
        Probe("as many words as components", sentence, n=5, d_model=5, d_k=2, d_v=3),
        Probe("a batch", sentence, n=3, d_model=6, d_k=4, d_v=5, batch=(2,)),
        Probe("two axes in front", sentence, n=3, d_model=4, d_k=5, d_v=2, batch=(3, 2)),
        Probe("large scores", sentence, n=3, d_model=6, d_k=4, d_v=5, stretch=100.0),
    ],
    laws=[
        Law("the words shuffled: the same output, shuffled",
            lambda f, x, *w: close(f(x[..., _shuffled(x.shape[-2]), :], *w), f(x, *w)[..., _shuffled(x.shape[-2]), :])),
        Law("a sentence of equal words hands over the value of that word",
            lambda f, x, *w: close(f(0 * x + x[..., :1, :], *w), (0 * x + x[..., :1, :]) @ w[2])),
    ],
    large=Probe("", sentence, n=128, d_model=64, d_k=32, d_v=32),
    product="`x @ w_q` projects all the words at once.",
    hints=[
        "(4.1) gives queries, keys and values: three products, one for each matrix.",
        "`functional.attention(q, k, v)` does the rest, the division by √d_k included.",
    ],
)  # fmt: skip

@project.wrong("The division by √d_k is missing. In `functional.attention` it is included.", SCALE)
def not_scaled(x, w_q, w_k, w_v):
    return functional.attention(x @ w_q, x @ w_k, x @ w_v, scale=1.0)

@project.wrong(
    "The scores are divided by √d_k twice: once by you, and once by `functional.attention`, which does it itself.",
    SCALE
)
def scaled_twice(x, w_q, w_k, w_v):
    return functional.attention(x @ w_q / math.sqrt(w_q.shape[-1]), x @ w_k, x @ w_v)

@project.wrong("You multiply by √d_k where you should divide: the scores get larger, not smaller.", SCALE)
def multiplied(x, w_q, w_k, w_v):
    return functional.attention(x @ w_q, x @ w_k, x @ w_v, scale=math.sqrt(w_q.shape[-1]))

@project.wrong(
    "You divide by √d_model, the width of `x`. A score is a sum over the components of a *query*, of which there are "
    "d_k.", "3 · The wrong width under the root"
)
def root_of_d_model(x, w_q, w_k, w_v):
    return functional.attention(x @ w_q, x @ w_k, x @ w_v, scale=x.shape[-1] ** -0.5)

@project.wrong(
    "You divide by the root of the number of words. It is the width of one query that counts, `w_q.shape[-1]`.",
    "3 · The wrong width under the root"
)
def root_of_n(x, w_q, w_k, w_v):
    return functional.attention(x @ w_q, x @ w_k, x @ w_v, scale=x.shape[-2] ** -0.5)

@project.wrong(
    "You divide by the root of the *values'* width. Scores are made of queries and keys; the values come later.",
    "3 · The wrong width under the root"
)
def root_of_d_v(x, w_q, w_k, w_v):
    return functional.attention(x @ w_q, x @ w_k, x @ w_v, scale=w_v.shape[-1] ** -0.5)

@project.wrong(
    "W_Q and W_K are exchanged. No shape can complain here: as many words ask as are asked. Swapped, a head for the "
    "previous word finds the next one.", "Q and K swapped"
)
def q_and_k_swapped(x, w_q, w_k, w_v):
    return functional.attention(x @ w_k, x @ w_q, x @ w_v)

@project.wrong(
    "The keys are mixed where the values should be: what is handed over comes from W_V, the third matrix.", MIX
)
def keys_as_values(x, w_q, w_k, w_v):
    return functional.attention(x @ w_q, x @ w_k, x @ w_k)

@project.wrong("The queries are mixed where the values should be: what is handed over comes from W_V.", MIX)
def queries_as_values(x, w_q, w_k, w_v):
    return functional.attention(x @ w_q, x @ w_k, x @ w_q)

@project.wrong(
    "The words themselves are handed over, as they are in `x`. W_V is not used; it says what of a word is given away.",
    THREE
)
def x_as_values(x, w_q, w_k, w_v):
    return functional.attention(x @ w_q, x @ w_k, x)

@project.wrong(
    "Keys and values are exchanged: the second product decides who is found, the third what is handed over.",
    PROJECTIONS
)
def k_and_v_exchanged(x, w_q, w_k, w_v):
    return functional.attention(x @ w_q, x @ w_v, x @ w_k)

@project.wrong(
    "Query and key are made with the same matrix, W_Q. The scores are symmetric then: whoever looks for something "
    "has to be it.", THREE
)
def w_q_for_both(x, w_q, w_k, w_v):
    return functional.attention(x @ w_q, x @ w_q, x @ w_v)

@project.wrong(
    "Query and key are made with the same matrix, W_K. The scores are symmetric then: whoever looks for something "
    "has to be it.", THREE
)
def w_k_for_both(x, w_q, w_k, w_v):
    return functional.attention(x @ w_k, x @ w_k, x @ w_v)

@project.wrong(
    "The words are compared as they are in `x`, without W_Q and W_K. Then each looks mostly for itself.", THREE
)
def no_queries_and_keys(x, w_q, w_k, w_v):
    return functional.attention(x, x, x @ w_v)

@project.wrong(
    "No projection at all: this attends with `x` in all three parts, and the three matrices are not used.", PROJECTIONS
)
def no_projections(x, w_q, w_k, w_v):
    return functional.attention(x, x, x)

@project.wrong("The queries are not projected: W_Q makes them from `x`.", PROJECTIONS)
def query_not_projected(x, w_q, w_k, w_v):
    return functional.attention(x, x @ w_k, x @ w_v)

@project.wrong("The keys are not projected: W_K makes them from `x`.", PROJECTIONS)
def key_not_projected(x, w_q, w_k, w_v):
    return functional.attention(x @ w_q, x, x @ w_v)

@project.wrong(
    "The matrices are used the other way round, `x @ w.T`. That is right for the weight of an `nn.Linear`, which is "
    "(out, in). These are (d_model, d): in, out.", "Check it"
)
def weights_of_nn_linear(x, w_q, w_k, w_v):
    return functional.attention(x @ w_q.T, x @ w_k.T, x @ w_v.T)

@project.wrong(
    "The matrices stand on the wrong side. A word is a *row* of `x`, and the matrix multiplies it from the right.",
    PROJECTIONS
)
def matrix_on_the_left(x, w_q, w_k, w_v):
    return functional.attention(w_q @ x, w_k @ x, w_v @ x)

@project.wrong("`*` multiplies number by number. A projection is a product of matrices, `@`.", PROJECTIONS)
def star_for_at(x, w_q, w_k, w_v):
    return functional.attention(x * w_q, x * w_k, x * w_v)

def made_otherwise(part, made, how):
    """Two of the three are right, and the other is made by `how(x, w)`."""
    def attend(x, w_q, w_k, w_v):
        matrices = {"queries": w_q, "keys": w_k, "values": w_v}
        return functional.attention(*(how(x, w) if name == part else x @ w for name, w in matrices.items()))
    attend.__name__ = f"{part}_{made}"
    return attend

for part in ("queries", "keys", "values"):
    project.wrong(
        f"The {part} are multiplied number by number, with `*`. A projection is a product of matrices, `@`.",
        PROJECTIONS
    )(made_otherwise(part, "with_a_star", lambda x, w: x * w))
    project.wrong(
        f"For the {part} the matrix stands on the wrong side: a word is a row of `x`, and is multiplied from the "
        "right.", PROJECTIONS
    )(made_otherwise(part, "from_the_left", lambda x, w: w @ x))

@project.wrong("The queries are made with W_V. Each of the three matrices has one part to make.", PROJECTIONS)
def w_v_for_queries(x, w_q, w_k, w_v):
    return functional.attention(x @ w_v, x @ w_k, x @ w_v)

@project.wrong("The keys are made with W_V. Each of the three matrices has one part to make.", PROJECTIONS)
def w_v_for_keys(x, w_q, w_k, w_v):
    return functional.attention(x @ w_q, x @ w_v, x @ w_v)

@project.wrong("These are the weights, the shares. They are still to be multiplied with the values.", MIX)
def weights_returned(x, w_q, w_k, w_v):
    return functional.attention(x @ w_q, x @ w_k, x @ w_v, return_weights=True)[1]

@project.wrong("This is a pair, output and weights. Only the output is asked for here.", PROJECTIONS)
def pair_returned(x, w_q, w_k, w_v):
    return functional.attention(x @ w_q, x @ w_k, x @ w_v, return_weights=True)

@project.wrong("The softmax is missing: scores are mixed with the values, and they do not sum to 1.", ROWS)
def no_softmax(x, w_q, w_k, w_v):
    return functional.scaled_scores(x @ w_q, x @ w_k) @ (x @ w_v)

@project.wrong(
    "The softmax runs over the queries, down the columns. Each word that asks has one unit to hand out: its *row* "
    "sums to 1.", ROWS
)
def softmax_over_queries(x, w_q, w_k, w_v):
    return functional.softmax(functional.scaled_scores(x @ w_q, x @ w_k), axis=-2) @ (x @ w_v)

@project.wrong(
    "One softmax runs over the whole table of scores. Each *row* shares out a unit of its own.", ROWS
)
def softmax_over_everything(x, w_q, w_k, w_v):
    scores = functional.scaled_scores(x @ w_q, x @ w_k)
    exps = np.exp(scores - scores.max(axis=(-1, -2), keepdims=True))
    return exps / exps.sum(axis=(-1, -2), keepdims=True) @ (x @ w_v)

@project.wrong(
    "The exponentials overflow where scores are large. Take each row's maximum off first, as the softmax of chapter 1 "
    "does.", "1 · Numbers too large for the machine"
)
def no_maximum(x, w_q, w_k, w_v):
    exps = np.exp(functional.scaled_scores(x @ w_q, x @ w_k))
    return exps / exps.sum(axis=-1, keepdims=True) @ (x @ w_v)

@project.wrong(
    "There is a causal mask in it: each word sees only those before it. Nobody asked for one here; shuffle the words "
    "and look.", ORDER
)
def causal(x, w_q, w_k, w_v):
    return functional.attention(x @ w_q, x @ w_k, x @ w_v, mask=masks.causal(x.shape[-2]))

@project.wrong(
    "Here positions come in. Plain self-attention sees none: shuffle the words, and its output is shuffled, no more.",
    ORDER
)
def with_rope(x, w_q, w_k, w_v):
    if w_q.shape[-1] % 2:
        return project_and_attend(x, w_q, w_k, w_v)
    return functional.attention(positions.rope(x @ w_q), positions.rope(x @ w_k), x @ w_v)

@project.wrong(
    "The sentences of a batch are put in one row, and see each other. An axis in front stays in front, and every "
    "sentence attends to itself alone.", PROJECTIONS
)
def batch_in_one_row(x, w_q, w_k, w_v):
    flat = x.reshape(-1, x.shape[-1])
    return functional.attention(flat @ w_q, flat @ w_k, flat @ w_v).reshape(*x.shape[:-1], -1)

@project.right
def projected_at_the_end(x, w_q, w_k, w_v):
    return functional.attention(x @ (w_q @ w_k.T), x, x, scale=w_q.shape[-1] ** -0.5) @ w_v

@project.right
def with_einsum(x, w_q, w_k, w_v):
    q, k, v = (np.einsum("...nd,de->...ne", x, w) for w in (w_q, w_k, w_v))
    return np.einsum("...ij,...jd->...id", functional.softmax(np.einsum("...id,...jd->...ij", q, k)
                                                              / w_q.shape[-1] ** 0.5), v)  # fmt: skip

@project.right
def with_torch(x, w_q, w_k, w_v):
    x, w_q, w_k, w_v = map(torch.as_tensor, (x, w_q, w_k, w_v))
    return torch.nn.functional.scaled_dot_product_attention(*(torch.nn.functional.linear(x, w.T)
                                                              for w in (w_q, w_k, w_v)))  # fmt: skip

@project.right
def in_float32(x, w_q, w_k, w_v):
    return project_and_attend(*map(np.float32, (x, w_q, w_k, w_v)))

@project.right
def word_by_word(x, w_q, w_k, w_v):
    rows = [functional.attention(x[..., i : i + 1, :] @ w_q, x @ w_k, x @ w_v) for i in range(x.shape[-2])]
    return np.concatenate(rows, axis=-2)

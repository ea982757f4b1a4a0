"""Exercises of chapter 5, multi-head attention: read the picture, repair it, and who added what."""

import math

import numpy as np
import torch

from attnbook import functional
from attnbook.exercises import Exercise, Law, Probe, close
from attnbook.layers import merge_heads, split_heads

W_O = "What $W_O$ does"


# 5.3 Read the picture ---------------------------------------------------------------------------------------------

def rules_of_heads():
    return ("same", "first", "next", "previous")

picture = Exercise(
    "05.read",
    "Read the picture",
    task="the rule of each of the heads 1 to 4: \"previous\", \"next\", \"same\" or \"first\".",
    solution=rules_of_heads,
    hints=[
        "Rows ask, columns are asked. Take one row, say *saw*, and see under which columns it is bright.",
        "“Same” has to light up off the diagonal too, wherever a word comes twice. “First” is one column.",
        "At the ends of the sentence somebody has no previous word, and somebody no next one. Whose row is pale there?",
    ],
)  # fmt: skip

@picture.wrong(
    "“Next” and “previous” are exchanged: rows ask, columns are asked. A cell *right* of the diagonal is a row "
    "that looks at a later word.", "Play"
)
def next_and_previous_exchanged():
    return ("same", "first", "previous", "next")

@picture.wrong(
    "Head 1 and head 2 are exchanged. A whole column that is bright means that every row looks at one and the same "
    "word; “same” means the word that the row itself holds.", "Play"
)
def same_and_first_exchanged():
    return ("first", "same", "next", "previous")

@picture.wrong(
    "Head 2 has one bright *column*, the same for every row. A neighbour would be another column for each row, and so "
    "run along the diagonal.", "Play"
)
def column_as_a_neighbour():
    yield ("same", "next", "first", "previous")
    yield ("same", "previous", "next", "first")

@picture.wrong(
    "Head 1 is bright on the diagonal *itself* and at words that come twice. A neighbour lies one place beside the "
    "diagonal.", "Play"
)
def diagonal_as_a_neighbour():
    yield ("next", "first", "same", "previous")
    yield ("previous", "first", "next", "same")

def taken_for_same(head):
    def answer():
        return tuple("same" if i == head else rule for i, rule in enumerate(rules_of_heads(), 1))

    answer.__name__ = f"head_{head}_taken_for_same"
    picture.wrong(
        f"Head {head} is not bright all along the diagonal, where each row meets its own word. “Same” is, and at words "
        "that come twice.", "Play"
    )(answer)

for head in (2, 3, 4):
    taken_for_same(head)

@picture.wrong("Spell the rules as the docstring does, in small letters.", "Play")
def capital_letters():
    yield tuple(rule.capitalize() for rule in rules_of_heads())
    yield tuple(f"{rule} word" for rule in rules_of_heads())

@picture.right
def as_a_list():
    return ["same", "first", "next", "previous"]

@picture.right
def as_text():
    return tuple("same first next previous".split())

@picture.right
def by_the_rules():
    words = "the dog saw the cat and the dog ran".split()
    place = np.arange(len(words))
    rules = {"same": np.array(words)[:, None] == np.array(words), "first": 0 * place[:, None] == place,
             "next": place[:, None] + 1 == place, "previous": place[:, None] - 1 == place}  # fmt: skip
    return [*rules]


# 5.4 Repair it ----------------------------------------------------------------------------------------------------

def repaired(x, w_q, w_k, w_v, w_o, n_heads):
    q, k, v = (split_heads(x @ w, n_heads) for w in (w_q, w_k, w_v))
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    weights = functional.softmax(scores)
    heads = weights @ v
    return heads.swapaxes(1, 2).reshape(x.shape) @ w_o, weights

def broken_repaired(x, w_q, w_k, w_v, w_o, n_heads):
    q, k, v = (split_heads(x @ w, n_heads) for w in (w_q, w_k, w_v))
    scores = q @ k.mT / math.sqrt(x.shape[-1])
    weights = functional.softmax(scores)
    heads = weights @ v
    return heads.reshape(x.shape) @ w_o, weights

def weights_of(rng, d_model, *columns):
    return tuple(torch.from_numpy(rng.standard_normal((d_model, size)) / math.sqrt(d_model)) for size in columns)

def a_layer(rng, batch, n, n_heads, d_k, stretch=1.0):
    d_model = n_heads * d_k
    x = torch.from_numpy(stretch * rng.standard_normal((batch, n, d_model)))
    return x, *weights_of(rng, d_model, *[d_model] * 4), n_heads

def multi_head(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads=None, mask=None):
    """Out and weights by the package: what is right in 5.4, and without the weights in 5.6."""
    q, k, v = split_heads(x @ w_q, n_heads), *(split_heads(x @ w, n_kv_heads or n_heads) for w in (w_k, w_v))
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
    mask = mask if mask is None or mask.ndim == 2 else mask[:, None]
    heads, weights = functional.attention(q, k, v, mask, return_weights=True)
    return merge_heads(heads) @ w_o, weights

def in_a_row(t, group):
    return t.repeat_interleave(group, dim=1)

def heads_axis(mask):
    return mask[:, None] if mask.ndim == 3 else mask

def hidden(scores, mask):
    return scores.masked_fill(~heads_axis(mask), -math.inf)

def softmax_along(scores, axis=-1):
    """By hand: torch's own wakes its threads even for tables as small as these, and there are thousands of them."""
    exps = torch.exp(scores - scores.amax(axis, keepdim=True))
    return exps / exps.sum(axis, keepdim=True)

def slipped(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads=None, mask=None, *,
            deal=lambda *ws: ws, make=lambda t, w: t @ w, split=lambda t, h: t.unflatten(-1, (h, -1)).transpose(1, 2),
            share=in_a_row, share_v=None, score=lambda q, k: q @ k.mT / math.sqrt(q.shape[-1]), hide=hidden,
            soft=softmax_along, after=lambda weights, mask: weights, mix=lambda weights, v: weights @ v,
            merge=lambda t: t.transpose(1, 2).flatten(2), project=lambda t, w_o: t @ w_o):  # fmt: skip
    """Multi-head attention with each of its steps to be replaced by one with a mistake: out and weights."""
    n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
    group = n_heads // n_kv_heads
    w_q, w_k, w_v, w_o = deal(w_q, w_k, w_v, w_o)
    q, k, v = split(make(x, w_q), n_heads), *(split(make(x, w), n_kv_heads) for w in (w_k, w_v))
    k, v = share(k, group), (share_v or share)(v, group)
    scores = score(q, k)
    weights = soft(scores if mask is None else hide(scores, mask))
    weights = weights if mask is None else after(weights, mask)
    return project(merge(mix(weights, v)), w_o), weights

repair = Exercise(
    "05.merge",
    "Repair it",
    task="multi-head attention, with its two mistakes repaired; it returns out and weights.",
    solution=repaired,
    answer=multi_head,
    broken=broken_repaired,
    probes=[
        Probe("all sizes different", a_layer, batch=2, n=5, n_heads=3, d_k=4),
        Probe("one sentence", a_layer, batch=1, n=4, n_heads=2, d_k=3),
        Probe("one token", a_layer, batch=2, n=1, n_heads=3, d_k=2),
        Probe("one head", a_layer, batch=2, n=3, n_heads=1, d_k=4),
        Probe("one head, as wide as the tokens are many", a_layer, batch=2, n=3, n_heads=1, d_k=3),
        Probe("heads as wide as they are many", a_layer, batch=2, n=4, n_heads=3, d_k=3),
        Probe("as many heads as tokens", a_layer, batch=2, n=3, n_heads=3, d_k=2),
        Probe("heads of width 1", a_layer, batch=2, n=3, n_heads=4, d_k=1),
        Probe("all sizes alike", a_layer, batch=2, n=2, n_heads=2, d_k=2),
        Probe("large scores", a_layer, batch=2, n=3, n_heads=2, d_k=4, stretch=100.0),
    ],
    laws=[
        Law("each row of weights sums to 1",
            lambda f, x, *rest: close(f(x, *rest)[1].sum(axis=-1), np.ones((len(x), rest[-1], x.shape[1])))),
        Law("shuffling the tokens shuffles the output",
            lambda f, x, *rest: close(f(x.flip(1), *rest)[0], f(x, *rest)[0][:, ::-1])),
    ],
    hints=[
        "What is the width of *one* query? And in which order do the axes of `heads` stand when `reshape` starts to "
        "read?",
        "The root: a score is a sum of as many products as a query of one head has numbers, `q.shape[-1]`.",
        "The merge: `reshape` reads row by row, so the pieces of one token must lie behind each other first. Exchange "
        "heads and tokens back, as the split had exchanged them.",
    ],
)  # fmt: skip


# 5.5 Who added what -----------------------------------------------------------------------------------------------

def contributions(heads, w_o):
    n_heads, d_k = heads.shape[1], heads.shape[-1]
    return heads @ w_o.reshape(n_heads, d_k, w_o.shape[-1])

def heads_and_w_o(rng, batch, n_heads, n, d_k, d_model, stretch=1.0):
    heads = torch.from_numpy(stretch * rng.standard_normal((batch, n_heads, n, d_k)))
    return heads, torch.from_numpy(rng.standard_normal((n_heads * d_k, d_model)))

added = Exercise(
    "05.wo",
    "Who added what",
    task="what each head adds to the output, (batch, n_heads, n, d_model).",
    solution=contributions,
    answer=lambda heads, w_o: torch.stack(
        [head @ block for head, block in zip(heads.unbind(1), w_o.split(heads.shape[-1]))], dim=1
    ),
    probes=[
        Probe("three heads", heads_and_w_o, batch=2, n_heads=3, n=5, d_k=4, d_model=12),
        Probe("one sentence", heads_and_w_o, batch=1, n_heads=2, n=3, d_k=5, d_model=10),
        Probe("heads that together are narrower than the output", heads_and_w_o, batch=2, n_heads=3, n=4, d_k=2,
              d_model=7),
        Probe("one token", heads_and_w_o, batch=2, n_heads=3, n=1, d_k=4, d_model=12),
        Probe("one head", heads_and_w_o, batch=3, n_heads=1, n=4, d_k=4, d_model=4),
        Probe("heads as wide as they are many", heads_and_w_o, batch=2, n_heads=3, n=4, d_k=3, d_model=9),
        Probe("as many sentences as heads", heads_and_w_o, batch=3, n_heads=3, n=4, d_k=2, d_model=6),
        Probe("all sizes alike", heads_and_w_o, batch=2, n_heads=2, n=2, d_k=2, d_model=4),
        Probe("large numbers", heads_and_w_o, batch=2, n_heads=2, n=3, d_k=4, d_model=8, stretch=1000.0),
    ],
    laws=[
        Law("added up, the heads give the output",
            lambda f, heads, w_o: close(f(heads, w_o).sum(axis=1), merge_heads(heads) @ w_o)),
        Law("a head that says nothing adds nothing", lambda f, heads, w_o: close(f(0 * heads, w_o), 0 * f(heads, w_o))),
    ],
    large=Probe("", heads_and_w_o, batch=8, n_heads=16, n=128, d_k=16, d_model=256),
    product="One product with the blocks as (n_heads, d_k, d_model) does all the heads.",
    hints=[
        "A head owns d_k *rows* of `w_o`: the first head the first d_k, the second the next.",
        "Read `w_o` as (h, d_k, d_model): one block of rows for each head.",
        "A product of matrices takes the axes in front as a batch: (batch, h, n, d_k) @ (h, d_k, d_model).",
    ],
)  # fmt: skip

@added.wrong("That is the sum, the layer's output. The heads are to stay apart: the sum over them comes last.", W_O)
def added_up(heads, w_o):
    return merge_heads(heads) @ w_o

@added.wrong(
    "The rows of `w_o` are dealt out like cards, every so-many-th to a head. A head owns d_k *neighbouring* rows: its "
    "piece of the concatenated vector lies in one place.", W_O
)
def rows_dealt_out(heads, w_o):
    return heads @ w_o.reshape(heads.shape[-1], heads.shape[1], -1).transpose(0, 1)

@added.wrong(
    "`w_o` is cut along its *columns*. A head's numbers meet the rows: cut those, and each block keeps all its "
    "columns, for a head may write anywhere in the output.", W_O
)
def cut_along_the_columns(heads, w_o):
    n_heads, d_k = heads.shape[1], heads.shape[-1]
    return heads @ w_o.reshape(-1, n_heads, d_k).permute(1, 2, 0)

@added.wrong("`w_o` is transposed, so the heads meet its columns. In this book x stands on the left: x W_O.", W_O)
def w_o_transposed(heads, w_o):
    return heads @ w_o.T.reshape(heads.shape[1], heads.shape[-1], -1)

@added.wrong("Every head goes through the block of the *first*: each has a block of its own.", W_O)
def the_first_block_for_all(heads, w_o):
    return heads @ w_o[: heads.shape[-1]]

@added.wrong(
    "You cut the *output* in pieces. But each head adds to all of its d_model places: cut `w_o` before the product.",
    W_O
)
def the_output_cut(heads, w_o):
    return split_heads(merge_heads(heads) @ w_o, heads.shape[1])

@added.wrong("The heads themselves are returned: each still has to go through its block of `w_o`.", W_O)
def without_w_o(heads, w_o):
    return heads

@added.wrong("The axis of the heads should stand behind the batch: yours stands in front of it.", W_O)
def heads_in_front(heads, w_o):
    return contributions(heads, w_o).transpose(0, 1)

@added.wrong("The heads should stand in front of the tokens, as they came: yours stand behind them.", W_O)
def heads_behind_the_tokens(heads, w_o):
    return contributions(heads, w_o).transpose(1, 2)

@added.wrong("A list is not an array: give the heads an axis of their own, behind the batch.", W_O)
def a_list_of_heads(heads, w_o):
    return [contributions(heads, w_o)[:, h] for h in range(heads.shape[1])]

@added.wrong(
    "The blocks are taken in the wrong order: head 1 goes with the *first* d_k rows. (Python's h starts at 0.)", W_O
)
def blocks_turned_round(heads, w_o):
    return heads @ w_o.reshape(heads.shape[1], heads.shape[-1], -1).flip(0)

@added.wrong("Each head goes through the block of the *next*: the rows of head h, from 0, begin at h · d_k.", W_O)
def blocks_shifted(heads, w_o):
    return heads @ w_o.reshape(heads.shape[1], heads.shape[-1], -1).roll(-1, dims=0)

@added.wrong("It is divided by the number of heads. They are added up, not averaged.", W_O)
def averaged(heads, w_o):
    return contributions(heads, w_o) / heads.shape[1]

@added.wrong(
    "A head is `d_k` wide, so its block has `d_k` rows: you cut blocks of `n_heads` rows. It agrees where the two "
    "numbers do.", W_O
)
def number_and_width_exchanged(heads, w_o):
    return heads @ w_o.reshape(heads.shape[-1], heads.shape[1], -1)

@added.wrong("The heads meet the whole of `w_o`, which has rows for all of them together: give each its block.", W_O)
def the_whole_w_o_for_each(heads, w_o):
    return heads @ w_o

@added.wrong("You count the heads on axis 0 of `heads`, which is the batch. They are on axis 1.", W_O)
def heads_counted_on_the_batch(heads, w_o):
    return heads @ w_o.reshape(heads.shape[0], heads.shape[-1], w_o.shape[-1])

@added.wrong("You count the heads on axis 2 of `heads`, which is the tokens. They are on axis 1.", W_O)
def heads_counted_on_the_tokens(heads, w_o):
    return heads @ w_o.reshape(heads.shape[2], heads.shape[-1], w_o.shape[-1])

@added.wrong("You take the number of tokens for the width: a block has d_k rows, `heads.shape[-1]`.", W_O)
def width_of_the_tokens(heads, w_o):
    return heads @ w_o.reshape(heads.shape[1], heads.shape[-2], w_o.shape[-1])

@added.wrong("You take the batch for the width: a block has d_k rows, `heads.shape[-1]`.", W_O)
def width_of_the_batch(heads, w_o):
    return heads @ w_o.reshape(heads.shape[1], heads.shape[0], w_o.shape[-1])

@added.wrong(
    "Your blocks are as wide as `w_o` is *long*. Their width is its number of columns, `w_o.shape[-1]`; the two need "
    "not be equal.", W_O
)
def blocks_as_wide_as_w_o_is_long(heads, w_o):
    return heads @ w_o.reshape(heads.shape[1], heads.shape[-1], w_o.shape[0])

@added.wrong("`*` multiplies number by number. A head goes through its block by a product of matrices, `@`.", W_O)
def star_for_at(heads, w_o):
    return heads * w_o.reshape(heads.shape[1], heads.shape[-1], -1)

@added.wrong("The factors stand the wrong way round: the heads on the left, their rows are the tokens.", W_O)
def factors_exchanged(heads, w_o):
    return w_o.reshape(heads.shape[1], heads.shape[-1], -1) @ heads

@added.wrong("The blocks meet the *sentences*, not the heads: the first axis of `heads` is the batch.", W_O)
def a_block_for_each_sentence(heads, w_o):
    return heads @ w_o.reshape(heads.shape[0], 1, heads.shape[-1], -1)

@added.right
def with_einsum(heads, w_o):
    return torch.einsum("bhnk,hkd->bhnd", heads, w_o.unflatten(0, (heads.shape[1], -1)))

@added.right
def with_loop(heads, w_o):
    d_k = heads.shape[-1]
    each = [heads[:, h] @ w_o[h * d_k : (h + 1) * d_k] for h in range(heads.shape[1])]
    return torch.stack(each, dim=1)

@added.right
def with_numpy(heads, w_o):
    heads, w_o = np.array(heads), np.array(w_o)
    return np.stack([heads[:, h] @ block for h, block in enumerate(np.split(w_o, heads.shape[1]))], axis=1)

@added.right
def in_float32(heads, w_o):
    return heads.float() @ w_o.float().view(heads.size(1), heads.size(3), -1)

@added.right
def one_head_at_a_time(heads, w_o):
    out = []
    for h in range(heads.shape[1]):
        alone = torch.zeros_like(heads)
        alone[:, h] = heads[:, h]
        out.append(merge_heads(alone) @ w_o)
    return torch.stack(out, dim=1)

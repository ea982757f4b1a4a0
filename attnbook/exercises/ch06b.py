"""Exercises of chapter 6, masking: two masks at once, and the other convention."""

import numpy as np
import torch

from attnbook import functional, masks
from attnbook.exercises import Exercise, Law, Probe
from attnbook.exercises.ch06 import BOOLEANS, BOTH, DIAGONAL, LOOK_BACK, NUMBERS, WRONG_WAY

FILLER, ROWS, ACCIDENT = "Filler", "Padding on the queries' axis", "A mask that fits by accident"


# 6.3 Two reasons at once ------------------------------------------------------------------------------------------

def combined(lengths, n):
    position = np.arange(n)
    is_real = position < np.asarray(lengths)[:, None, None]         # (batch, 1, n)
    return (position[None, :] <= position[:, None]) & is_real

def these(rng, lengths, n):
    return list(lengths), n

def some(rng, batch, n):
    return rng.integers(1, n + 1, batch).tolist(), n

def real_words_hear_no_filler(f, lengths, n):
    x = np.random.default_rng(n).standard_normal((1, n, 3))
    heard = [masks.influence(lambda x: functional.attention(x, x, x, mask=mask), x) for mask in f(lengths, n)]
    return not any(table[:length, length:].any() or np.triu(table, 1)[:length].any()
                   for table, length in zip(heard, lengths))  # fmt: skip

combine = Exercise(
    "06.combine",
    "Two reasons at once",
    task="the mask of a padded batch that is read from left to right, (batch, n, n), True = may attend.",
    solution=combined,
    answer=lambda lengths, n: masks.causal(n) & masks.padding(lengths, n),
    probes=[
        Probe("sentences of 6 and 3 words", these, lengths=(6, 3), n=6),
        Probe("as many sentences as words", these, lengths=(3, 1, 2), n=3),
        Probe("one sentence with filler", these, lengths=(2,), n=4),
        Probe("more sentences than words", some, batch=5, n=4),
        Probe("the shortest first", these, lengths=(1, 2, 5), n=5),
        Probe("nobody is as long as the array", these, lengths=(2, 3), n=5),
        Probe("one word", these, lengths=(1,), n=1),
        Probe("a sentence without words", these, lengths=(0, 2), n=3),
    ],
    laws=[
        Law(BOOLEANS, lambda f, lengths, n: f(lengths, n).dtype == bool),
        Law("in attention no real word hears filler or the future", real_words_hear_no_filler),
        Law(
            "each sentence has the mask that it would have alone",
            lambda f, lengths, n: all(np.array_equal(f([b], n)[0], m) for b, m in zip(lengths, f(lengths, n))),
        ),
    ],
    large=Probe("", some, batch=8, n=128),
    product="Two comparisons of positions and one `&` make the whole batch at once.",
    hints=[
        "Two masks of different shapes, `(n, n)` and `(batch, 1, n)`, and both must say yes.",
        "Where does the 1 go, if filler is to be hidden as a *key*? Columns are keys, so the 1 is the middle axis: "
        "it stands for the queries.",
        "`np.asarray(lengths)[:, None, None]` stands upright in front of a row of positions: the comparison makes the "
        "padding mask. The causal mask is that of exercise 6.1 with n_q = n_kv = n.",
    ],
)

@combine.wrong(
    "A look is allowed where *either* mask allows it: that is `|`, and makes a prefix mask. Here both have to say yes.",
    BOTH
)
def either_for_both(lengths, n):
    return masks.causal(n) | masks.padding(lengths, n)

@combine.wrong(
    "The filler's own rows are empty: the padding hides *rows*. Filler is to be hidden as keys, in the columns; its "
    "rows are computed like all the others. (Look at the last row: elsewhere the causal mask covers the difference.)",
    ROWS
)
def padding_on_the_queries(lengths, n):
    return masks.causal(n) & masks.padding(lengths, n).swapaxes(-1, -2)

@combine.wrong("The filler is hidden, the future is not: above the diagonal there are cells that are True.", BOTH)
def padding_only(lengths, n):
    return masks.padding(lengths, n) & np.ones((n, n), dtype=bool)

@combine.wrong("It is the padding mask alone, with a 1 for the queries: the causal mask is still to come.", BOTH)
def padding_mask_as_it_is(lengths, n):
    return masks.padding(lengths, n)

@combine.wrong(
    "The future is hidden, the filler is not: the last row is True throughout, however short the sentence.", BOTH
)
def causal_only(lengths, n):
    return np.stack([masks.causal(n)] * len(lengths))

@combine.wrong("One causal mask for all: the lengths are not used, and there is no axis for the sentences.", BOTH)
def one_causal_mask(lengths, n):
    return masks.causal(n)

@combine.wrong(
    "The causal part is the wrong way round: each word sees itself and what comes *later*. Look at the first row, "
    "which should have a single True.", LOOK_BACK
)
def looks_forward(lengths, n):
    return masks.causal(n).T & masks.padding(lengths, n)

@combine.wrong(
    "In the causal part True and False are exchanged: each word sees *only* what comes later, and the last row is "
    "empty.",
    WRONG_WAY
)
def only_the_future(lengths, n):
    return ~masks.causal(n) & masks.padding(lengths, n)

@combine.wrong("The padding is the wrong way round: the filler is shown, and the real words are hidden.", WRONG_WAY)
def filler_shown(lengths, n):
    return masks.causal(n) & ~masks.padding(lengths, n)

@combine.wrong(
    "The padding is the wrong way round: it shows filler, and hides the real words. (And position 3 is filler already "
    "in a sentence of 3 words.)", WRONG_WAY
)
def filler_shown_from_the_second_on(lengths, n):
    return masks.causal(n) & (np.arange(n) > np.asarray(lengths)[:, None, None])

@combine.wrong("`^` is true where exactly *one* of the two is. A look is allowed where both say yes.", BOTH)
def one_but_not_both(lengths, n):
    return masks.causal(n) ^ masks.padding(lengths, n)

@combine.wrong("True and False are exchanged: in this book True means “may attend”.", WRONG_WAY)
def true_means_ignore(lengths, n):
    return ~(masks.causal(n) & masks.padding(lengths, n))

@combine.wrong("Both masks are turned round before they meet: what is left is the future that is filler.", WRONG_WAY)
def both_turned_round(lengths, n):
    return ~masks.causal(n) & ~masks.padding(lengths, n)

@combine.wrong("The diagonal is hidden: a word may see itself, and the first has nobody else.", DIAGONAL)
def own_position_hidden(lengths, n):
    return np.tril(np.ones((n, n), dtype=bool), k=-1) & masks.padding(lengths, n)

@combine.wrong("Each word also sees the next one: the triangle is one diagonal too large.", DIAGONAL)
def next_word_shown(lengths, n):
    return np.tril(np.ones((n, n), dtype=bool), k=1) & masks.padding(lengths, n)

@combine.wrong(
    "One column too many: the first filler is seen. A sentence of 3 words has the positions 0, 1, 2.", FILLER
)
def one_filler_seen(lengths, n):
    return masks.causal(n) & (np.arange(n) <= np.asarray(lengths)[:, None, None])

@combine.wrong("One column too few: the last real word of each sentence is hidden.", FILLER)
def last_word_hidden(lengths, n):
    return masks.causal(n) & (np.arange(n) < np.asarray(lengths)[:, None, None] - 1)

@combine.wrong("You take the filler to stand in front. Here it stands at the end: the *first* keys are real.", FILLER)
def filler_in_front(lengths, n):
    return masks.causal(n) & (np.arange(n) >= n - np.asarray(lengths)[:, None, None])

@combine.wrong(
    "The padding mask has no axis for the queries: (batch, n) is lined up with (n, n) from the right, and sentences "
    "meet queries. Where the two numbers are alike, nothing complains.", FILLER
)
def no_axis_for_the_queries(lengths, n):
    return masks.causal(n) & (np.arange(n) < np.asarray(lengths)[:, None])

@combine.wrong("All sentences get the first one's length. Each has its own, along the batch.", FILLER)
def length_of_the_first(lengths, n):
    return masks.causal(n) & masks.padding([lengths[0]] * len(lengths), n)

@combine.wrong("All sentences get the length of the longest. Each has its own, along the batch.", FILLER)
def length_of_the_longest(lengths, n):
    return masks.causal(n) & masks.padding([max(lengths)] * len(lengths), n)

@combine.wrong(
    "Every word sees itself, filler included. The filler is to be hidden from all, from itself too; its rows are not "
    "empty, since they see the real words.", FILLER
)
def filler_sees_itself(lengths, n):
    return masks.causal(n) & (masks.padding(lengths, n) | np.eye(n, dtype=bool))

@combine.wrong("The filler's rows are opened, and see everything. They are computed like all the others.", FILLER)
def filler_sees_everything(lengths, n):
    real = masks.padding(lengths, n)
    return masks.causal(n) & real | ~real.swapaxes(-1, -2)

@combine.wrong("There is an axis for heads in it, (batch, 1, n, n). That is what PyTorch's function wants, later.",
               ACCIDENT)  # fmt: skip
def an_axis_for_heads(lengths, n):
    return (masks.causal(n) & masks.padding(lengths, n))[:, None]

@combine.wrong("This is the additive mask, numbers to add to the scores. Asked for are booleans.", NUMBERS)
def numbers_to_add(lengths, n):
    return masks.to_additive(masks.causal(n) & masks.padding(lengths, n))

@combine.wrong("Nobody may see anybody: every cell is False.", BOTH)
def nothing_allowed(lengths, n):
    return np.zeros((len(lengths), n, n), dtype=bool)

@combine.right
def with_tril(lengths, n):
    return np.stack([np.tril(np.ones((n, n), dtype=bool)) & (np.arange(n) < length) for length in lengths])

@combine.right
def with_torch(lengths, n):
    position = torch.arange(n)
    return (position <= position[:, None]) & (position < torch.tensor(lengths).view(-1, 1, 1))

@combine.right
def with_loops(lengths, n):
    mask = np.zeros((len(lengths), n, n), dtype=bool)
    for b, length in enumerate(lengths):
        for i in range(n):
            mask[b, i, : min(i + 1, length)] = True
    return mask

@combine.right
def the_nearer_end(lengths, n):
    last = np.minimum(np.arange(n), np.array(lengths)[:, None] - 1)
    return np.arange(n) <= last[..., None]

@combine.right
def with_the_package(lengths, n):
    return masks.causal(n)[None] * masks.padding(lengths, n)


# 6.4 The other convention -----------------------------------------------------------------------------------------

def converted(mask, n_heads):
    return np.repeat(~mask, n_heads, axis=0)

def tables(rng, batch, n_q, n_kv, n_heads):
    return rng.random((batch, n_q, n_kv)) < 0.6, n_heads

def padded(rng, batch, n, n_heads):
    return masks.causal(n) & masks.padding(rng.integers(1, n + 1, batch), n), n_heads

def copies_together(f, mask, n_heads):
    sentences = f(mask, n_heads).reshape(len(mask), n_heads, -1)
    return np.all(sentences == sentences[:, :1])

convert = Exercise(
    "06.convert",
    "The other convention",
    task="the mask as `nn.MultiheadAttention` wants it: True = ignore, a table for each sentence and head.",
    solution=converted,
    answer=lambda mask, n_heads: masks.to_attn_mask(mask, n_heads),
    probes=[
        Probe("all sizes different", tables, batch=2, n_q=4, n_kv=5, n_heads=3),
        Probe("one head", tables, batch=3, n_q=2, n_kv=4, n_heads=1),
        Probe("one sentence", tables, batch=1, n_q=3, n_kv=2, n_heads=4),
        Probe("as many heads as sentences", tables, batch=2, n_q=3, n_kv=4, n_heads=2),
        Probe("all sizes alike", tables, batch=3, n_q=3, n_kv=3, n_heads=3),
        Probe("a padded batch of texts", padded, batch=3, n=5, n_heads=2),
    ],
    laws=[
        Law(BOOLEANS + "; for “not” there is `~`", lambda f, m, h: f(m, h).dtype == bool),
        Law("the heads of one sentence stand together and are alike", copies_together),
        Law("yes and no exchanged: no and yes exchanged", lambda f, m, h: np.array_equal(f(~m, h), ~f(m, h))),
    ],
    large=Probe("", tables, batch=16, n_q=64, n_kv=64, n_heads=8),
    product="`np.repeat` makes all the copies at once.",
    hints=[
        "Two steps: turn yes into no, and repeat each sentence's table `n_heads` times.",
        "There are two functions that repeat, `np.repeat` and `np.tile`. Which one keeps the copies of a sentence "
        "together? Try both on `np.array([1, 2])`.",
        "`~mask` is the no. The sentences are the first axis, axis 0, and it is that axis which gets longer.",
    ],
)

@convert.wrong(
    "Yes and no are not exchanged: PyTorch's layer would ignore what may be seen, and see the rest.", WRONG_WAY
)
def not_turned_round(mask, n_heads):
    return np.repeat(mask, n_heads, axis=0)

@convert.wrong(
    "The sentences stand in turn: 0, 1, 0, 1, … The shape is right, and the second head of the first sentence gets the "
    "mask of the second sentence. First all the heads of the first, please.", ACCIDENT
)
def sentences_in_turn(mask, n_heads):
    return np.tile(~mask, (n_heads, 1, 1))

@convert.wrong(
    "Two things: yes and no are not exchanged, and the sentences stand in turn, where the heads of one should stand "
    "together.", ACCIDENT
)
def in_turn_and_not_turned_round(mask, n_heads):
    return np.tile(mask, (n_heads, 1, 1))

@convert.wrong("The *queries* are repeated. It is the sentences' axis, the first, that has to get longer.", ACCIDENT)
def queries_repeated(mask, n_heads):
    return np.repeat(~mask, n_heads, axis=1)

@convert.wrong("The *keys* are repeated. It is the sentences' axis, the first, that has to get longer.", ACCIDENT)
def keys_repeated(mask, n_heads):
    return np.repeat(~mask, n_heads, axis=2)

@convert.wrong("Without an axis, `np.repeat` makes one long row of everything. Say which axis to repeat.", FILLER)
def one_long_row(mask, n_heads):
    return np.repeat(~mask, n_heads)

@convert.wrong(
    "`np.tile(…, n_heads)` repeats along the *last* axis, the keys, as a row of tiles. The first axis has to get "
    "longer.", ACCIDENT
)
def keys_tiled(mask, n_heads):
    return np.tile(~mask, n_heads)

@convert.wrong("The heads have an axis of their own, 4 in all. The layer wants them in one with the sentences: 3 axes.",
               NUMBERS)  # fmt: skip
def heads_on_an_axis(mask, n_heads):
    return np.repeat(~mask[:, None], n_heads, axis=1)

@convert.wrong("An axis for the heads is there, with a 1: this is what the *function* of PyTorch takes, not the layer.",
               NUMBERS)  # fmt: skip
def one_on_the_axis_of_heads(mask, n_heads):
    return ~mask[:, None]

@convert.wrong("Yes has become no, as it should. But there is one table for each sentence still, not for each head.",
               NUMBERS)  # fmt: skip
def not_repeated(mask, n_heads):
    return ~mask

@convert.wrong("Each table is repeated as often as there are sentences. It should be as often as there are heads.",
               NUMBERS)  # fmt: skip
def once_for_each_sentence(mask, n_heads):
    return np.repeat(~mask, len(mask), axis=0)

@convert.wrong("This is the additive form, 0 and −∞. PyTorch would take it; asked for are booleans.", NUMBERS)
def numbers_to_add(mask, n_heads):
    return np.repeat(masks.to_additive(mask), n_heads, axis=0)

@convert.wrong("Queries and keys are exchanged: rows stay rows. To turn yes into no there is `~`.", "Intuition")
def transposed(mask, n_heads):
    return np.repeat(~mask.swapaxes(1, 2), n_heads, axis=0)

@convert.wrong("Queries and keys are exchanged, and yes and no are not.", "Intuition")
def transposed_and_not_turned_round(mask, n_heads):
    return np.repeat(mask.swapaxes(1, 2), n_heads, axis=0)

@convert.wrong(
    "It turns the caller's own mask round, in place, and whoever uses it next sees only the forbidden. `~mask` makes a "
    "new one.", WRONG_WAY
)
def turned_round_in_place(mask, n_heads):
    return np.repeat(np.logical_not(mask, out=mask), n_heads, axis=0)

@convert.right
def with_torch(mask, n_heads):
    return torch.as_tensor(mask).logical_not().repeat_interleave(n_heads, dim=0)

@convert.right
def with_an_axis_for_heads(mask, n_heads):
    batch, n_q, n_kv = mask.shape
    each = np.broadcast_to(mask[:, None], (batch, n_heads, n_q, n_kv))
    return np.logical_not(each.reshape(batch * n_heads, n_q, n_kv))

@convert.right
def with_a_loop(mask, n_heads):
    return np.stack([mask[b] == False for b in range(len(mask)) for _ in range(n_heads)])  # noqa: E712

@convert.right
def with_an_index(mask, n_heads):
    return ~mask[np.arange(len(mask) * n_heads) // n_heads]

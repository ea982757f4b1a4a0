"""Exercises of chapter 4, self-attention and position: build it all, one word at a time."""

import math

import numpy as np
import torch

from attnbook import functional, masks, positions
from attnbook.exercises import Exercise, Law, Probe, close
from attnbook.exercises.ch04 import MIX, PROJECTIONS, SCALE, sentence
from attnbook.exercises.ch04d import LAYOUTS, OFFSET, ROPE

BACK = "6 · Look back only"


# 4.6 Build it all -------------------------------------------------------------------------------------------------

def decode(x, w_q, w_k, w_v):
    keys, values, out = [], [], []
    for p in range(len(x)):
        word = x[p : p + 1]
        keys.append(positions.rope(word @ w_k, offset=p))
        values.append(word @ w_v)
        q = positions.rope(word @ w_q, offset=p)
        out.append(functional.attention(q, np.concatenate(keys), np.concatenate(values)))
    return np.concatenate(out)

def in_one_pass(x, w_q, w_k, w_v, turn_q=positions.rope, turn_k=positions.rope, turn_v=lambda v: v, **settings):
    """The whole sentence under a causal mask: what `decode` has to equal, and what can go wrong in it."""
    q, k, v = turn_q(x @ w_q), turn_k(x @ w_k), turn_v(x @ w_v)
    return functional.attention(q, k, v, **{"mask": masks.causal(len(x))} | settings)

def as_it_is(x):
    return x

build = Exercise(
    "04.decode",
    "Build it all",
    task="causal self-attention with RoPE, one word at a time, with a list of keys and a list of values.",
    solution=decode,
    answer=in_one_pass,
    probes=[
        Probe("all sizes different", sentence, n=5, d_model=6, d_k=4, d_v=3),
        Probe("a single word", sentence, n=1, d_model=5, d_k=2, d_v=3),
        Probe("two words", sentence, n=2, d_model=3, d_k=4, d_v=5),
        Probe("all sizes alike", sentence, n=4, d_model=4, d_k=4, d_v=4),
        Probe("more words than components", sentence, n=9, d_model=4, d_k=6, d_v=2),
        Probe("clear choices", sentence, n=4, d_model=6, d_k=8, d_v=5, stretch=4.0),
        Probe("large scores", sentence, n=5, d_model=6, d_k=4, d_v=3, stretch=100.0),
    ],
    laws=[
        Law("no word's output depends on a later word", lambda f, x, *w: not masks.leaks(
            lambda batch: np.stack([f(text, *w) for text in batch]), x[None]).any(),
            Probe("a short text", sentence, n=4, d_model=3, d_k=2, d_v=3)),
        Law("a text that goes on changes nothing in what was written",
            lambda f, x, *w: close(f(x, *w)[:-1], f(x[:-1], *w)) if len(x) > 1 else True),
        Law("the first word hands over its own value", lambda f, x, *w: close(f(x, *w)[:1], x[:1] @ w[2])),
    ],
    hints=[
        "`x[p : p + 1]` is one word that stays a matrix with one row, and `positions.rope(row, offset=p)` turns a row "
        "by its own position.",
        "In which order? A word sees itself too, so its key and its value are in the lists before it attends.",
        "`np.concatenate(keys)` makes a matrix from the list. No mask is needed: what comes later is not in it yet.",
    ],
)  # fmt: skip

@build.wrong(
    "Queries and keys are turned alike wherever they stand: by position 0, because each word alone is row 0 of its "
    "array, or all keys by the position of the newest word, or not at all. Each is turned once, by its *own* position.",
    OFFSET
)
def offset_missing(x, w_q, w_k, w_v):
    return in_one_pass(x, w_q, w_k, w_v, as_it_is, as_it_is)

@build.wrong(
    "Seen from the keys, the query stands at position 0: it is not turned, or turned without its offset, or the keys "
    "are all moved on as far as it is. Each is turned by its *own* position.", OFFSET
)
def query_not_turned(x, w_q, w_k, w_v):
    return in_one_pass(x, w_q, w_k, w_v, turn_q=as_it_is)

@build.wrong(
    "The keys are not turned, or each by position 0, since alone it is row 0 of its array. Queries and keys are "
    "turned alike, or a distance means nothing.", OFFSET
)
def keys_not_turned(x, w_q, w_k, w_v):
    return in_one_pass(x, w_q, w_k, w_v, turn_k=as_it_is)

@build.wrong(
    "The values are turned too. They are what is handed over, and a word should hand over the same wherever it "
    "stands.", "RoPE on v as well"
)
def values_turned(x, w_q, w_k, w_v):
    return in_one_pass(x, w_q, w_k, w_v, turn_v=positions.rope)

@build.wrong("The query stands one place further than the key of the same word. Both have the position p.", OFFSET)
def query_one_too_far(x, w_q, w_k, w_v):
    return in_one_pass(x, w_q, w_k, w_v, turn_q=lambda q: positions.rope(q, offset=1))

@build.wrong("The key stands one place further than the query of the same word. Both have the position p.", OFFSET)
def key_one_too_far(x, w_q, w_k, w_v):
    return in_one_pass(x, w_q, w_k, w_v, turn_k=lambda k: positions.rope(k, offset=1))

@build.wrong(
    "The words are turned before they are projected. RoPE leaves x alone: it acts on queries and keys.", ROPE
)
def turned_before_projected(x, w_q, w_k, w_v):
    around = x[:, : x.shape[-1] // 2 * 2]
    around = np.concatenate([positions.rope(around), x[:, around.shape[-1] :]], axis=-1)
    return functional.attention(around @ w_q, around @ w_k, x @ w_v, mask=masks.causal(len(x)))

@build.wrong("You turn neighbours: the interleaved layout. The book's `rope` is half-split.", LAYOUTS)
def interleaved(x, w_q, w_k, w_v):
    turn = lambda part: positions.rope(part, layout="interleaved")  # noqa: E731
    return in_one_pass(x, w_q, w_k, w_v, turn, turn)

@build.wrong(
    "Every word sees the whole sentence, the later words too: they are projected before their turn. One at a time, "
    "only what is in the lists can be seen.", BACK
)
def sees_the_future(x, w_q, w_k, w_v):
    return in_one_pass(x, w_q, w_k, w_v, mask=None)

@build.wrong(
    "A word does not see itself, only those before it: its own key and value belong to what it attends to.",
    "6 · One too many, one too few"
)
def does_not_see_itself(x, w_q, w_k, w_v):
    return in_one_pass(x, w_q, w_k, w_v, mask=np.tri(len(x), k=-1, dtype=bool))

@build.wrong(
    "A word that does not see itself, but for the first: its own key and value belong to what it attends to.",
    "6 · One too many, one too few"
)
def first_word_alone_sees_itself(x, w_q, w_k, w_v):
    mask = np.tri(len(x), k=-1, dtype=bool)
    mask[0, 0] = True
    return in_one_pass(x, w_q, w_k, w_v, mask=mask)

@build.wrong(
    "Each word sees only itself: the lists are made anew for every word. They have to outlive it, so they start "
    "before the loop.", OFFSET
)
def lists_made_anew(x, w_q, w_k, w_v):
    return x @ w_v

@build.wrong(
    "Each word sees only the first one. A causal mask for one query and many keys has to be aligned at the *end*, as "
    "`masks.causal` is. Here none is needed at all.", "6 · Aligned at the wrong corner"
)
def mask_at_the_wrong_corner(x, w_q, w_k, w_v):
    return np.tile(x[:1] @ w_v, (len(x), 1))

@build.wrong(
    "The keys that are kept start with the first word's and are never added to: each word sees the first one and "
    "itself.", "The offset forgotten"
)
def only_first_and_self(x, w_q, w_k, w_v):
    mask = np.eye(len(x), dtype=bool)
    mask[:, 0] = True
    return in_one_pass(x, w_q, w_k, w_v, mask=mask)

@build.wrong("W_Q and W_K are exchanged. No shape can complain here.", "Q and K swapped")
def q_and_k_swapped(x, w_q, w_k, w_v):
    return in_one_pass(x, w_k, w_q, w_v)

@build.wrong("The keys are kept in the list of values too: what is handed over comes from W_V.", MIX)
def keys_as_values(x, w_q, w_k, w_v):
    return in_one_pass(x, w_q, w_k, w_k)

@build.wrong("The *turned* keys are kept as values too. What is handed over comes from W_V, unturned.", MIX)
def turned_keys_as_values(x, w_q, w_k, w_v):
    return in_one_pass(x, w_q, w_k, w_k, turn_v=positions.rope)

@build.wrong("The turned *queries* are handed over. What is handed over comes from W_V.", MIX)
def queries_as_values(x, w_q, w_k, w_v):
    return in_one_pass(x, w_q, w_k, w_q)

@build.wrong("Queries and keys are made with the same matrix, W_Q.", "Why three and not one?")
def w_q_for_both(x, w_q, w_k, w_v):
    return in_one_pass(x, w_q, w_q, w_v)

@build.wrong("Queries and keys are made with the same matrix, W_K.", "Why three and not one?")
def w_k_for_both(x, w_q, w_k, w_v):
    return in_one_pass(x, w_k, w_k, w_v)

@build.wrong("Queries and keys are right, and the words themselves are handed over: W_V is not used.", PROJECTIONS)
def x_as_values(x, w_q, w_k, w_v):
    return functional.attention(positions.rope(x @ w_q), positions.rope(x @ w_k), x, mask=masks.causal(len(x)))

def in_pieces(x, w_q, w_k, w_v, piece):
    """The solution, with another slice for the word."""
    keys, values, out = [], [], []
    for p in range(len(x)):
        word = piece(x, p)
        keys.append(positions.rope(word @ w_k, offset=p))
        values.append(word @ w_v)
        q = positions.rope(word @ w_q, offset=p)
        out.append(functional.attention(q, np.concatenate(keys), np.concatenate(values)))
    return np.concatenate(out)

@build.wrong("You take two words at a time. A slice ends *before* its second number: `p : p + 1` is one word.", BACK)
def two_words_at_a_time(x, w_q, w_k, w_v):
    return in_pieces(x, w_q, w_k, w_v, lambda x, p: x[p : p + 2])

@build.wrong(
    "At each step all the words so far are projected, and put into the lists once more. What is in the lists stays "
    "there: only the new word has to be projected.", OFFSET
)
def all_words_so_far(x, w_q, w_k, w_v):
    return in_pieces(x, w_q, w_k, w_v, lambda x, p: x[: p + 1])

def one_by_one(attend):
    """`attend(q, keys, values)` for one word after the other, so that it fails as the reader's would."""
    def decode(x, w_q, w_k, w_v):
        q, k, v = positions.rope(x @ w_q), positions.rope(x @ w_k), x @ w_v
        return np.concatenate([attend(q[p : p + 1], k[: p + 1], v[: p + 1]) for p in range(len(x))])
    return decode

@build.wrong(
    "In the call of `attention` queries and keys are exchanged: the new word asks, and the whole list is asked.",
    "3 · Three lines"
)
def called_with_keys_first(x, w_q, w_k, w_v):
    return one_by_one(lambda q, k, v: functional.attention(k, q, v))(x, w_q, w_k, w_v)

@build.wrong("In the call of `attention` keys and values are exchanged: queries, keys, values.", "3 · Three lines")
def called_with_values_second(x, w_q, w_k, w_v):
    return one_by_one(lambda q, k, v: functional.attention(q, v, k))(x, w_q, w_k, w_v)

@build.wrong("The query is made with W_V. Each of the three matrices has one part to make.", PROJECTIONS)
def w_v_for_queries(x, w_q, w_k, w_v):
    return in_one_pass(x, w_q, w_k, w_v, turn_q=lambda q: positions.rope(x @ w_v))

@build.wrong("The keys are made with W_V. Each of the three matrices has one part to make.", PROJECTIONS)
def w_v_for_keys(x, w_q, w_k, w_v):
    return in_one_pass(x, w_q, w_k, w_v, turn_k=lambda k: positions.rope(x @ w_v))

@build.wrong("The query is multiplied number by number, with `*`. A projection is a product, `@`.", PROJECTIONS)
def query_with_a_star(x, w_q, w_k, w_v):
    def row(p):
        q, k = positions.rope(x[p : p + 1] * w_q, offset=p), positions.rope(x[: p + 1] @ w_k)
        return functional.attention(q, k, x[: p + 1] @ w_v)
    return np.concatenate([row(p) for p in range(len(x))])

@build.wrong("The division by √d_k is missing. In `functional.attention` it is included.", SCALE)
def not_scaled(x, w_q, w_k, w_v):
    return in_one_pass(x, w_q, w_k, w_v, scale=1.0)

@build.wrong(
    "You divide by √d_model, the width of `x`. A score is a sum over the d_k components of a query.",
    "3 · The wrong width under the root"
)
def root_of_d_model(x, w_q, w_k, w_v):
    return in_one_pass(x, w_q, w_k, w_v, scale=x.shape[-1] ** -0.5)

@build.wrong(
    "You divide by the root of the number of keys, so the scale changes with every word that comes. The width of a "
    "query does not.", "3 · The wrong width under the root"
)
def root_of_n_keys(x, w_q, w_k, w_v):
    counts = np.sqrt(np.arange(1, len(x) + 1))[:, None]
    return in_one_pass(x, w_q, w_k, w_v, turn_q=lambda q: positions.rope(q) / counts, scale=1.0)

@build.wrong(
    "The exponentials overflow where scores are large. Take each row's maximum off first, as the softmax of chapter 1 "
    "does.", "1 · Numbers too large for the machine"
)
def no_maximum(x, w_q, w_k, w_v):
    exps = np.exp(functional.scaled_scores(positions.rope(x @ w_q), positions.rope(x @ w_k))) * masks.causal(len(x))
    return exps / exps.sum(axis=-1, keepdims=True) @ (x @ w_v)

@build.wrong("Sinusoidal vectors are added to the words. Here queries and keys are *turned*, and x stays.", ROPE)
def sinusoids_added(x, w_q, w_k, w_v):
    d = x.shape[-1]
    at = x + positions.sinusoidal(len(x), d + d % 2)[:, :d]
    return functional.attention(at @ w_q, at @ w_k, at @ w_v, mask=masks.causal(len(x)))

@build.wrong("Only the last word's output is returned. Each word has one: collect them, join them in the end.", BACK)
def last_word_only(x, w_q, w_k, w_v):
    return in_one_pass(x, w_q, w_k, w_v)[-1:]

@build.wrong("This is a list of rows. `np.concatenate` makes one matrix of it.", BACK)
def list_returned(x, w_q, w_k, w_v):
    return list(in_one_pass(x, w_q, w_k, w_v)[:, None])

@build.wrong(
    "Something is stacked along a new axis, the outputs or the lists of keys and values. Each is a matrix of one row "
    "already, so join them along the rows.", BACK
)
def stacked(x, w_q, w_k, w_v):
    return in_one_pass(x, w_q, w_k, w_v)[:, None]

@build.right
def whole_sentence_at_once(x, w_q, w_k, w_v):
    return in_one_pass(x, w_q, w_k, w_v)

@build.right
def keys_turned_when_needed(x, w_q, w_k, w_v):
    """All positions are one too large, which relative positions do not notice."""
    keys, out = np.empty((0, w_k.shape[1])), []
    for p, word in enumerate(x):
        keys = np.vstack([keys, word @ w_k])
        q = positions.rope((word @ w_q)[None], offset=p + 1)
        weights = functional.softmax(functional.scaled_scores(q, positions.rope(keys, offset=1)))
        out.append(weights[0] @ (x[: p + 1] @ w_v))
    return np.array(out)

@build.right
def with_torch(x, w_q, w_k, w_v):
    x, w_q, w_k, w_v = map(torch.as_tensor, (x, w_q, w_k, w_v))
    q, k, v = positions.rope(x @ w_q), positions.rope(x @ w_k), x @ w_v
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

@build.right
def with_complex_numbers(x, w_q, w_k, w_v):
    n, d = len(x), w_q.shape[-1]
    hands = np.exp(1j * np.outer(np.arange(n), 10_000.0 ** (-np.arange(0, d, 2) / d)))
    q, k = (((x @ w)[:, : d // 2] + 1j * (x @ w)[:, d // 2 :]) * hands for w in (w_q, w_k))
    scores = np.where(np.tri(n, dtype=bool), (q @ k.conj().T).real / math.sqrt(d), -np.inf)
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True) @ (x @ w_v)

@build.right
def in_float32(x, w_q, w_k, w_v):
    return decode(*map(np.float32, (x, w_q, w_k, w_v)))

"""Exercises of chapter 19, sparse attention: attention over kept blocks only."""

import numpy as np
import torch

from attnbook import functional
from attnbook.efficient import sparse
from attnbook.exercises import Exercise, Law, Probe, close
from attnbook.exercises.ch20 import no_table

INTUITION, BUILD, TRAPS = "Intuition", "Build it", "Traps"


# 19.5 Build it -------------------------------------------------------------------------------------------------------

def block_sparse(q, k, v, layout, block):
    out = np.zeros((len(q), v.shape[-1]))
    for row, kept in enumerate(layout):
        keys = np.repeat(kept, block)[: len(k)]
        mine = slice(row * block, (row + 1) * block)
        out[mine] = functional.attention(q[mine], k[keys], v[keys])
    return out

def grown(layout, block, n_q, n_kv):
    return np.kron(layout, np.ones((block, block), dtype=bool))[:n_q, :n_kv]

def masked_dense(q, k, v, layout, block):
    return functional.attention(q, k, v, mask=grown(layout, block, len(q), len(k)))

def blocks_of(rng, n_q, n_kv, d_k, d_v, block, share=0.5, empty=None, size=1.0, lost=False):
    rows, cols = -(-n_q // block), -(-n_kv // block)
    layout = rng.random((rows, cols)) < share
    layout[np.arange(rows), np.arange(rows) % cols] = True
    if empty is not None:
        layout[empty] = False
    q, k, v = (rng.standard_normal(shape) for shape in ((n_q, d_k), (n_kv, d_k), (n_kv, d_v)))
    if lost:
        layout[:, 1], k[block : 2 * block], v[block : 2 * block] = False, np.nan, np.nan
    return size * q, k, v, layout, block

def skipped_blocks_are_not_read(f, q, k, v, layout, block):
    """Keys and values that a row of blocks skips may be anything, huge or no number: its output is the same."""
    whole = f(q, k, v, layout, block)
    for row, kept in enumerate(layout):
        skipped = ~np.repeat(kept, block)[: len(k)]
        alone = np.zeros_like(layout)
        alone[row] = kept
        mine = slice(row * block, (row + 1) * block)
        for anything in (np.nan, 1e200):
            lost = [np.where(skipped[:, None], anything, x) for x in (k, v)]
            if not close(f(q, *lost, alone, block)[mine], whole[mine]):
                return False
    return True

build = Exercise(
    "19.block_sparse",
    "Build it: only the kept blocks",
    task="attention over the kept blocks; what `layout` skips is never computed, nor read.",
    solution=block_sparse,
    answer=lambda q, k, v, layout, block: sparse.block_sparse_attention(q, k, v, layout, block),
    probes=[
        Probe("six tokens, blocks of two", blocks_of, n_q=6, n_kv=6, d_k=4, d_v=4, block=2),
        Probe("all sizes differ", blocks_of, n_q=6, n_kv=9, d_k=4, d_v=5, block=3),
        Probe("lengths that are no multiple of the block", blocks_of, n_q=7, n_kv=5, d_k=3, d_v=2, block=3),
        Probe("nothing kept for the first block", blocks_of, n_q=6, n_kv=6, d_k=5, d_v=3, block=2, empty=0),
        Probe("nothing kept for a shorter last block", blocks_of, n_q=7, n_kv=8, d_k=5, d_v=4, block=3, empty=-1),
        Probe("large scores", blocks_of, n_q=4, n_kv=6, d_k=4, d_v=3, block=2, size=600.0),
        Probe("everything kept", blocks_of, n_q=4, n_kv=4, d_k=2, d_v=2, block=2, share=1.0),
        Probe("a block of keys that nobody keeps is NaN", blocks_of, n_q=4, n_kv=6, d_k=3, d_v=3, block=2, lost=True),
        Probe("blocks of one token", blocks_of, n_q=5, n_kv=4, d_k=3, d_v=3, block=1),
        Probe("one query, one key", blocks_of, n_q=1, n_kv=1, d_k=3, d_v=2, block=1),
        Probe("as many tokens as components", blocks_of, n_q=4, n_kv=4, d_k=4, d_v=4, block=2, share=0.3),
    ],
    laws=[
        Law("what is skipped is not read: it may be NaN, or huge", skipped_blocks_are_not_read),
        Law("what is skipped is not computed: 1500 tokens in blocks of 50 must do without a table of 1500 × 1500",
            no_table, Probe("a long text", lambda rng: blocks_of(rng, 1500, 1500, 4, 4, block=50, share=0.1))),
    ],
    large=Probe("", blocks_of, n_q=256, n_kv=256, d_k=32, d_v=32, block=32, share=0.3),
    product="One product for each row of blocks, with all of its kept keys together, is enough.",
    hints=[
        "Take the rows of blocks one by one. Which keys does a row keep? `np.repeat(layout[row], block)` says it for "
        "each key, and may be longer than there are keys.",
        "Then it is chapter 3: `functional.attention` of these queries with *all* the kept keys of the row and their "
        "values, at once. One softmax for a row, not one for a block.",
        "A row that keeps nothing should be zeros. `functional.attention` with no keys gives them; your own softmax "
        "has to leave such rows out.",
    ],
)

@build.wrong(
    "The numbers are right where all is well, but you compute *all* the scores and mask them. Where nobody should look "
    "there may be NaN, and 0 · NaN is NaN. Take the kept keys out first.", BUILD
)
def dense_and_masked(q, k, v, layout, block):
    return masked_dense(q, k, v, layout, block)

ONE_BY_ONE = {"row, kept in enumerate(layout)": "row, col in np.argwhere(layout)",
              "np.repeat(kept, block)[: len(k)]": "slice(col * block, (col + 1) * block)"}  # fmt: skip
ATTENTION, SCORES = "functional.attention(q[mine], k[keys], v[keys])", "q[mine] @ k[keys].T / np.sqrt(q.shape[-1])"

build.slip("softmax_in_each_block", ONE_BY_ONE | {"out[mine] =": "out[mine] +="},
           "Each block gets a softmax of its own, and their outputs are added: the weights of a row then sum to the "
           "number of its blocks. They have to share *one* sum.", TRAPS)
build.slip("blocks_averaged", ONE_BY_ONE | {
    "out[mine] =": "out[mine] +=",
    "return out": "return out / np.maximum(np.repeat(layout.sum(axis=1), block)[: len(q), None], 1)",
}, "Each block has a softmax of its own, and their outputs are averaged. Blocks with high scores should weigh more: "
   "one sum for the whole row.", TRAPS)
build.slip("overwritten", ONE_BY_ONE,
           "Only one block of each row is left at the end, the last: each overwrites the one before.", BUILD)

@build.wrong("The division by √d_k is missing.", BUILD)
def not_scaled(q, k, v, layout, block):
    return block_sparse(q * np.sqrt(q.shape[-1]), k, v, layout, block)

@build.wrong("You multiply by √d_k where you should divide by it.", BUILD)
def scaled_up(q, k, v, layout, block):
    return block_sparse(q * q.shape[-1], k, v, layout, block)

build.slip("not_stable", {ATTENTION: f"(w := np.exp({SCORES})) / w.sum(axis=-1, keepdims=True) @ v[keys]"},
           "The maximum is not taken off before the exponential: large scores overflow to infinity, and infinity "
           "divided by infinity is NaN.", "1 · Traps")

@build.wrong("The layout is ignored: every query sees every key.", BUILD)
def layout_ignored(q, k, v, layout, block):
    return functional.attention(q, k, v)

@build.wrong("You compute the blocks that should be *skipped*: True means kept.", BUILD)
def skipped_for_kept(q, k, v, layout, block):
    return block_sparse(q, k, v, ~layout, block)

@build.wrong(
    "`layout` is read by columns: row b of it says which blocks of *keys* the queries of block b may see.", INTUITION
)
def layout_transposed(q, k, v, layout, block):
    rows, cols = layout.shape
    turned = np.zeros_like(layout)
    turned[:cols, :rows] = layout.T[:rows, :cols] if rows == cols else 0
    return block_sparse(q, k, v, layout.T if rows == cols else turned, block)

build.slip("tiled_for_repeated", {"np.repeat": "np.tile"},
           "The layout is repeated the wrong way (`np.tile` for `np.repeat`): block c holds the keys side by side from "
           "c · block on.", TRAPS)

@build.wrong(
    "A row that keeps nothing should give zeros: it divides nothing by nothing, or shares its weight among all keys.",
    TRAPS
)
def empty_row_sees_all(q, k, v, layout, block):
    return block_sparse(q, k, v, layout | ~layout.any(axis=1, keepdims=True), block)

@build.wrong("A row of blocks that keeps nothing gives NaN with you: zero weights are divided by their sum, 0.", TRAPS)
def empty_row_is_nan(q, k, v, layout, block):
    nothing = np.repeat(~layout.any(axis=1), block)[: len(q), None]
    return np.where(nothing, np.nan, block_sparse(q, k, v, layout, block))

@build.wrong(
    "A block of queries that keeps nothing is left out, and the rows below it move up. Its queries get an answer like "
    "all the others: zeros.", TRAPS
)
def empty_rows_left_out(q, k, v, layout, block):
    return block_sparse(q, k, v, layout, block)[np.repeat(layout.any(axis=1), block)[: len(q)]]

@build.wrong(
    "A block that keeps nothing always gets `block` rows of zeros. The last block may be shorter: it has as many rows "
    "as there are queries left.", TRAPS
)
def empty_rows_too_many(q, k, v, layout, block):
    more = 0 if layout[-1].any() else len(layout) * block - len(q)
    return np.pad(block_sparse(q, k, v, layout, block), ((0, more), (0, 0)))

@build.wrong(
    "The keys are filled up to whole blocks with zeros, and those take part: a score of 0 is no weight of 0, since "
    "e⁰ = 1. Cut them off before the softmax.", TRAPS
)
def padding_takes_part(q, k, v, layout, block):
    more = ((0, layout.shape[1] * block - len(k)), (0, 0))
    return block_sparse(q, np.pad(k, more), np.pad(v, more), layout, block)

build.slip("not_normalised", {
    ATTENTION: f"np.exp((s := {SCORES}) - s.max(axis=-1, keepdims=True, initial=-np.inf)) @ v[keys]",
}, "The weights are not divided by their sum.", BUILD)
build.slip("summed_over_the_queries", {ATTENTION: f"functional.softmax({SCORES}, axis=0) @ v[keys]"},
           "The weights are divided by the sum over the *queries* of the block, and not over the keys. Each query "
           "shares out one whole weight.", BUILD)

@build.wrong("The last block is lost where the length is no multiple of the block: ⌈n / block⌉, not n // block.", TRAPS)
def last_block_lost(q, k, v, layout, block):
    out = block_sparse(q, k, v, layout, block)
    out[len(q) // block * block :] = 0
    return out

@build.wrong("It gives zeros, whatever the input. Is the output of a row written into `out`?", BUILD)
def all_zeros(q, k, v, layout, block):
    return np.zeros((len(q), v.shape[-1]))

build.slip("a_row_for_each_key", {"zeros((len(q)": "zeros((len(k)"},
           "`out` has a row for each *key*. It is the queries that get an answer.", BUILD)
build.slip("a_row_for_each_block", {"zeros((len(q)": "zeros((len(layout)"},
           "`out` has a row for each *block*. Every query gets an answer.", BUILD)
build.slip("as_wide_as_the_queries", {"v.shape": "q.shape"},
           "`out` is as wide as the queries, d_k. What is mixed are values: d_v.", BUILD)
build.slip("as_wide_as_there_are_keys", {"v.shape[-1]": "len(v)"},
           "`out` is as wide as there are keys. What is mixed are values: its width is theirs, `v.shape[-1]`.", BUILD)
build.slip("as_wide_as_the_layout", {"v.shape": "layout.shape"},
           "`out` is as wide as the layout has columns. What is mixed are values: `v.shape[-1]`.", BUILD)
build.slip("keys_ask", {"q[mine]": "k[mine]"},
           "Rows of *keys* ask with you, where the queries should: `q` belongs first.", INTUITION)
build.slip("values_ask", {"q[mine]": "v[mine]"},
           "Rows of *values* ask with you, where the queries should: `q` belongs first.", INTUITION)
build.slip("queries_for_keys", {"k[keys]": "q[keys]"},
           "The queries are compared with *queries*. They ask the keys.", INTUITION)
build.slip("values_for_keys", {"k[keys]": "v[keys]"},
           "The queries are compared with the *values*. They ask the keys.", INTUITION)
build.slip("queries_for_values", {"v[keys]": "q[keys]"},
           "Queries are mixed, where the values should be.", INTUITION)
build.slip("keys_for_values", {"v[keys]": "k[keys]"},
           "Keys are mixed, where the values should be.", INTUITION)
build.slip("keys_and_values_swapped", {"k[keys], v[keys]": "v[keys], k[keys]"},
           "Keys and values have changed places.", INTUITION)
build.slip("queries_and_keys_swapped", {"q[mine], k[keys]": "k[keys], q[mine]"},
           "Queries and keys have changed places: the keys ask, and each gets an answer.", INTUITION)
build.slip("not_cut", {"[: len(k)]": ""},
           "`np.repeat(layout[row], block)` may be longer than there are keys, where their number is no multiple of "
           "the block. Cut it.", TRAPS)
build.slip("cut_to_the_queries", {"len(k)": "len(q)"},
           "What you cut `np.repeat(layout[row], block)` to is the number of queries. It stands for the keys.", TRAPS)
build.slip("blocks_overlap", {"slice(row * block": "slice(row"},
           "Each block of queries begins a single query after the one before: block b starts at b · block, not at b.",
           TRAPS)
build.slip("blocks_too_short", {"(row + 1) * block": "row + 1"},
           "A block of queries ends too early: it goes from b · block to (b + 1) · block. A slice that ends before it "
           "begins is empty, and its rows stay 0.", TRAPS)
build.slip("repeat_the_other_way", {"kept, block)": "block, kept)"},
           "`np.repeat` takes what is repeated first, and how often second.", BUILD)
build.slip("not_enumerated", {"enumerate(layout)": "layout"},
           "`for row, kept in layout` takes the rows apart. To get each row with its number, `enumerate(layout)`.",
           BUILD)

@build.right
def by_hand(q, k, v, layout, block):
    out = np.zeros((len(q), v.shape[-1]))
    for row, kept in enumerate(layout):
        keys = np.flatnonzero(np.repeat(kept, block)[: len(k)])
        if len(keys) == 0:
            continue  # nobody to attend to: zeros
        mine = slice(row * block, (row + 1) * block)
        scores = q[mine] @ k[keys].T / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        out[mine] = weights / weights.sum(axis=-1, keepdims=True) @ v[keys]
    return out

@build.right
def online(q, k, v, layout, block):
    """As in chapter 17: block by block, with a running maximum and a running sum."""
    out, scale = np.zeros((len(q), v.shape[-1])), q.shape[-1] ** -0.5
    for row, kept in enumerate(layout):
        mine = slice(row * block, (row + 1) * block)
        n = len(q[mine])
        top, total, sums = np.full((n, 1), -np.inf), np.zeros((n, 1)), np.zeros((n, v.shape[-1]))
        for col in np.flatnonzero(kept):
            its = slice(col * block, (col + 1) * block)
            scores = q[mine] @ k[its].T * scale
            higher = np.maximum(top, scores.max(axis=-1, keepdims=True))
            weights, shrink = np.exp(scores - higher), np.exp(top - higher)
            top, total = higher, total * shrink + weights.sum(axis=-1, keepdims=True)
            sums = sums * shrink + weights @ v[its]
        if kept.any():
            out[mine] = sums / total
    return out

@build.right
def with_torch(q, k, v, layout, block):
    q, k, v, layout = (torch.as_tensor(np.array(x)) for x in (q, k, v, layout))
    out = torch.zeros(len(q), v.shape[-1], dtype=q.dtype)
    for row in range(len(layout)):
        keys = layout[row].repeat_interleave(block)[: len(k)]
        if keys.any():
            mine = slice(row * block, (row + 1) * block)
            out[mine] = (q[mine] @ k[keys].T * q.shape[-1] ** -0.5).softmax(-1) @ v[keys]
    return out

"""The last exercise of chapter 18: the causal kernel gets a sliding window."""

import math

from attnbook import functional, masks
from attnbook.exercises import Exercise, Probe
from attnbook.exercises.ch18 import tl
from attnbook.exercises.kernels import Launch, jit, launched

FUSED, SKIP, TRAPS = "First step: fused", "Second step: skip what is masked", "Traps"


# 18.6 Build it: a sliding window ----------------------------------------------------------------------------------

@launched
def by_queries(q, k, v, window):
    """A program for each 16 queries, and 16 keys at a time."""
    n, d = q.shape
    return Launch(out=(n, d), programs=-(-n // 16), sizes=(n, d**-0.5), constants={"D": d, "BLOCK": 16})

@jit
def load_rows(x, rows, n, D: tl.constexpr):
    return tl.load(x + rows[:, None] * D + tl.arange(0, D)[None, :], mask=rows[:, None] < n, other=0.0)

@jit
def store_rows(x, rows, tile, n, D: tl.constexpr):
    tl.store(x + rows[:, None] * D + tl.arange(0, D)[None, :], tile, mask=rows[:, None] < n)

@jit
def nothing_seen(ROWS: tl.constexpr, D: tl.constexpr):
    m = tl.full([ROWS], -float("inf"), tl.float32)
    return m, tl.zeros([ROWS], tl.float32), tl.zeros([ROWS, D], tl.float32)

@jit
def absorb(m, l, o, scores, v_tile):
    larger = tl.maximum(m, tl.max(scores, axis=1))
    base = tl.where(larger == -float("inf"), 0.0, larger)
    weights, fix = tl.exp(scores - base[:, None]), tl.exp(m - base)
    o = tl.dot(weights, v_tile, o * fix[:, None], input_precision="ieee")
    return larger, l * fix + tl.sum(weights, axis=1), o

def window_kernel_given(q, k, v, window, out, n, scale, D: tl.constexpr, BLOCK: tl.constexpr):
    start = tl.program_id(0) * BLOCK
    rows = start + tl.arange(0, BLOCK)
    q_tile = load_rows(q, rows, n, D)
    m, l, o = nothing_seen(BLOCK, D)
    for at in range(0, start + BLOCK, BLOCK):
        keys = at + tl.arange(0, BLOCK)
        scores = tl.dot(q_tile, load_rows(k, keys, n, D).T, input_precision="ieee") * scale
        seen = keys[None, :] <= rows[:, None]
        scores = tl.where(seen, scores, -float("inf"))
        m, l, o = absorb(m, l, o, scores, load_rows(v, keys, n, D))
    store_rows(out, rows, o / l[:, None], n, D)

@by_queries
def window_kernel(q, k, v, window, out, n, scale, D: tl.constexpr, BLOCK: tl.constexpr):
    start = tl.program_id(0) * BLOCK
    rows = start + tl.arange(0, BLOCK)
    q_tile = load_rows(q, rows, n, D)
    m, l, o = nothing_seen(BLOCK, D)
    begin = tl.maximum(start - window + 1, 0) // BLOCK * BLOCK
    for at in range(begin, start + BLOCK, BLOCK):
        keys = at + tl.arange(0, BLOCK)
        scores = tl.dot(q_tile, load_rows(k, keys, n, D).T, input_precision="ieee") * scale
        seen = (keys[None, :] <= rows[:, None]) & (keys[None, :] > rows[:, None] - window)
        scores = tl.where(seen, scores, -float("inf"))
        m, l, o = absorb(m, l, o, scores, load_rows(v, keys, n, D))
    store_rows(out, rows, o / l[:, None], n, D)

def with_window(q, k, v, window):
    n = len(q)
    return functional.attention(q, k, v, masks.causal(n) & masks.local(n, n, window))

def rows_of_16(rng, n, window):
    return (*rng.standard_normal((3, n, 16)), window)

window = Exercise(
    "18.window",
    "Build it: a sliding window",
    task="the causal kernel, in which a query sees only the `window` last keys, its own included.",
    solution=window_kernel,
    answer=with_window,
    broken=window_kernel_given,
    tolerance=1e-4,
    probes=[
        Probe("the window is wider than everything", rows_of_16, n=20, window=64),
        Probe("one block", rows_of_16, n=16, window=5),
        Probe("the window crosses blocks", rows_of_16, n=48, window=10),
        Probe("a query sees itself alone", rows_of_16, n=33, window=1),
        Probe("a whole block is outside for some", rows_of_16, n=60, window=17),
    ],
    hints=[
        "Two conditions now: the key is not after the query, and not `window` or more places before it.",
        "`absorb` copes with a query that sees nothing in a block, so masking is all there is to do inside the loop.",
        "The earliest key that anybody in the block sees is start − window + 1. Round down to a block, not below 0.",
    ],
)  # fmt: skip

SEEN = "(keys[None, :] <= rows[:, None]) & (keys[None, :] > rows[:, None] - window)"
window.slip("one_key_too_many", {"rows[:, None] - window": "rows[:, None] - window - 1"},
            "The window is one key too wide: with a window of 1 a query sees itself alone.", SKIP)
window.slip("one_key_too_few", {"> rows[:, None] - window": "> rows[:, None] - window + 1"},
            "The window is one key too narrow: its own key counts as one of them.", SKIP)
window.slip("only_skipped", {" & (keys[None, :] > rows[:, None] - window)": ""},
            "Whole blocks are skipped, but inside the blocks that are read nothing is masked: the window needs both.",
            SKIP)
window.slip("future_seen", {SEEN: "keys[None, :] > rows[:, None] - window"},
            "The window is there, but the causal mask is gone.", FUSED)
window.slip("either_condition", {") & (": ") | ("},
            "Both conditions must hold: `&`, not `|`.", SKIP)
window.slip("both_ways", {SEEN: "(keys[None, :] < rows[:, None] + window) & (keys[None, :] > rows[:, None] - window)"},
            "Your window looks ahead as well. A causal one looks back.", FUSED)
window.slip("starts_too_late", {"start - window + 1": "start"},
            "The loop starts at the block of the queries themselves: keys before it belong to the window, too.", SKIP)
window.slip("starts_by_the_last_query", {"start - window + 1": "start + BLOCK - window"},
            "The loop starts where the window of the *last* query begins. The first one sees further back.", SKIP)
window.slip("below_zero", {"tl.maximum(start - window + 1, 0)": "(start - window + 1)"},
            "The loop starts before the first key: no key has a number below 0.", SKIP)
window.slip("window_inverted", {"> rows[:, None] - window": "<= rows[:, None] - window"},
            "It is the keys *outside* the window that your queries see.", SKIP)
window.slip("zero_instead_of_infinity", {'scores, -float("inf")': "scores, 0.0"},
            "A masked score is 0 in your kernel, and exp(0) is a weight. It must be −∞.", TRAPS)

window.slip("not_divided", {"o / l[:, None]": "o"}, "The division by l at the end is gone.", FUSED)
window.slip("scale_gone", {' * scale': ""}, "The scale is gone.", FUSED)

@window.wrong("It is still the causal kernel: no query forgets a key. Mask what lies `window` or more places back.",
            SKIP)
def no_window(q, k, v, window):
    return functional.attention(q, k, v, masks.causal(len(q)))

@window.right
def window_by_torch(q, k, v, window):
    import torch

    q, k, v = map(torch.as_tensor, (q, k, v))
    place = torch.arange(len(q))
    back = place[:, None] - place[None, :]
    scores = (q @ k.mT / math.sqrt(q.shape[1])).masked_fill((back < 0) | (back >= window), -torch.inf)
    return torch.softmax(scores, dim=-1) @ v

@window.right
def without_skipping(q, k, v, window):
    return _reads_everything(q, k, v, window)

_reads_everything = window.rewritten({"tl.maximum(start - window + 1, 0) // BLOCK * BLOCK": "0"})

@window.right
def one_condition(q, k, v, window):
    return _one_condition(q, k, v, window)

_one_condition = window.rewritten({
    SEEN: "tl.abs(2 * (rows[:, None] - keys[None, :]) - window + 1) <= window - 1",
})  # fmt: skip

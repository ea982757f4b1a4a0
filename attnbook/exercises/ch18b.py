"""More exercises of chapter 18: the online update in a kernel, the tiles to skip, and a sliding window."""

import numpy as np

from attnbook import functional, masks
from attnbook.exercises import Exercise, Law, Probe, close
from attnbook.exercises.ch18 import tl
from attnbook.exercises.kernels import Launch, launched

ONLINE, SKIP, FUSED = "A row longer than a block", "Second step: skip what is masked", "First step: fused"


# 18.4 Build it: the online update ---------------------------------------------------------------------------------

@launched
def by_long_rows(x):
    """A program for each row, 8 numbers at a time."""
    rows, n = x.shape
    return Launch(out=(rows,), programs=rows, sizes=(n + 2, n), constants={"BLOCK": 8}, gap=2)

@by_long_rows
def lse_kernel(x, out, stride, n, BLOCK: tl.constexpr):
    row, m, l = tl.program_id(0), -float("inf"), 0.0
    for start in range(0, n, BLOCK):
        at = start + tl.arange(0, BLOCK)
        scores = tl.load(x + row * stride + at, mask=at < n, other=-float("inf"))
        larger = tl.maximum(m, tl.max(scores, axis=0))
        l = l * tl.exp(m - larger) + tl.sum(tl.exp(scores - larger), axis=0)
        m = larger
    tl.store(out + row, m + tl.log(l))

def long_rows(rng, rows, n, size=1.0, shift=0.0, order=0):
    x = size * rng.standard_normal((rows, n)) + shift
    return (np.sort(x, axis=1)[:, ::order].copy() if order else x,)

online = Exercise(
    "18.online",
    "Build it: the online update, in a kernel",
    task="the log-sum-exp of each row, a row in each program, BLOCK numbers at a time.",
    solution=lse_kernel,
    answer=functional.logsumexp,
    probes=[
        Probe("one block", long_rows, rows=2, n=8, size=100.0),
        Probe("rising scores, three blocks", long_rows, rows=2, n=24, size=3.0, order=1),
        Probe("falling scores, three blocks", long_rows, rows=3, n=24, size=100.0, order=-1),
        Probe("a last block that is not full", long_rows, rows=3, n=19, size=2.0),
        Probe("scores far below 0", long_rows, rows=2, n=13, size=2.0, shift=-200.0),
        Probe("scores far above 0", long_rows, rows=2, n=21, size=2.0, shift=200.0),
    ],
    laws=[Law("a number added to all the scores is added to the result",
              lambda f, x: close(f(x + 3.0), f(x) + 3.0, 1e-4))],
    hints=[
        "`step` of chapter 17, with a block of scores instead of one: maximum, then sum, then the new maximum is kept.",
        "The sum so far is relative to the old maximum: multiply it by exp(m − larger) before you add to it.",
        "The maximum before the first block is −∞, and so are the scores beyond the end of the row.",
        "At the end: m + log l.",
    ],
)  # fmt: skip

online.slip("never_corrected", {"l * tl.exp(m - larger)": "l"},
            "The old sum is not corrected when the maximum rises: two units in one sum.", ONLINE)
online.slip("NaN_from_the_first_block_on", {"tl.exp(m - larger)": "tl.exp(larger - m)"},
            "NaN from the first block on. Before it m is −∞ and l is 0, so the correction must be exp(m − larger), "
            "which is 0 "
            "then, and what is added must be positive: exponentials of scores that exist.", ONLINE)
online.slip("maximum_not_kept", {"m = larger": "pass"},
            "Minus infinity: either the new maximum is not kept for the next block, or nothing is ever added to l.",
            ONLINE)
online.slip("maximum_of_the_block", {"tl.maximum(m, tl.max(scores, axis=0))": "tl.max(scores, axis=0)"},
            "The maximum is that of the block alone. Where an earlier block has a larger one, exponentials above 1 "
            "appear, which overflow one day.", ONLINE)
online.slip("starts_at_zero", {"-float(\"inf\"), 0.0": "0.0, 0.0"},
            "The maximum starts at 0. If all the scores are far below, nothing is left of their exponentials. Start at "
            "−∞.", ONLINE)
online.slip("the_first_block_alone", {"range(0, n, BLOCK)": "range(0, BLOCK, BLOCK)"},
            "Only the first block is read.", ONLINE)
online.slip("the_same_block_again", {"at = start + ": "at = "},
            "Each turn of the loop reads the first block again: `start` is missing from the places.", ONLINE)
online.slip("one_at_a_time", {"range(0, n, BLOCK)": "range(0, n)"},
            "The loop goes on by one place, so most numbers are counted several times. The step is BLOCK.", ONLINE)
online.slip("the_last_block_forgotten", {"range(0, n, BLOCK)": "range(0, n // BLOCK * BLOCK, BLOCK)"},
            "The last block, which is not full, is left out.", ONLINE)
online.slip("missing_scores_are_zero", {'n, other=-float("inf")': "n, other=0.0"},
            "Beyond the end of the row the scores count as 0, and take part. They must be −∞.", "Traps")
online.slip("load_not_masked", {', mask=at < n, other=-float("inf")': ""},
            "The load has no mask: it reads on into what follows the row.", "Traps")
online.slip("mask_one_too_far", {"at < n": "at <= n"},
            "The mask lets one place too many through: the columns are 0 to n − 1.", "Traps")
online.slip("logarithm_alone", {"m + tl.log(l)": "tl.log(l)"},
            "The maximum is missing at the end: the sum is relative to it.", ONLINE)
online.slip("maximum_subtracted", {"m + tl.log(l)": "m - tl.log(l)"}, "At the end m and log l are *added*.", ONLINE)
online.slip("no_logarithm", {"tl.log(l)": "l"}, "The logarithm of the sum is missing.", ONLINE)
online.slip("maximum_alone", {"m + tl.log(l)": "m"}, "It stores the maximum alone.", ONLINE)
online.slip("block_not_relative", {"scores - larger": "scores"},
            "The new exponentials are not relative to the maximum. They overflow where scores are large.", ONLINE)
online.slip("block_relative_to_the_old", {"scores - larger": "scores - m"},
            "The new exponentials are relative to the *old* maximum. The new one is `larger`.", ONLINE)
online.slip("first_row_for_all", {"x + row * stride": "x"}, "Every program reads the first row.", ONLINE)
online.slip("rows_one_apart", {"row * stride": "row"}, "The rows begin `stride` numbers apart.", ONLINE)
online.slip("rows_side_by_side", {"row * stride": "row * n"}, "The rows are `stride` numbers apart, not n.", ONLINE)
online.slip("all_into_the_first", {"out + row": "out"}, "Every program writes to the same place.", ONLINE)
online.slip("largest_for_the_sum", {"tl.sum(": "tl.max("},
            "Only the block's largest exponential is added. All of them belong to the sum.", ONLINE)
online.slip("smallest_for_the_maximum", {"tl.max(scores": "tl.min(scores"},
            "You take the *smallest* score of the block.", ONLINE)
online.slip("old_sum_dropped", {"l * tl.exp(m - larger) + ": ""}, "The sum so far is dropped: that is a block's.",
            ONLINE)
online.slip("plus_infinity_beyond", {'other=-float("inf")': 'other=float("inf")'},
            "Beyond the end of the row stands +∞ in your kernel. It must get no weight: −∞.", "Traps")

@online.right
def with_vectors(x):
    return by_long_rows(_vectors)(x)

def _vectors(x, out, stride, n, BLOCK: tl.constexpr):
    m, l = tl.full([BLOCK], -1e30, tl.float32), tl.zeros([BLOCK], tl.float32)  # noqa: E741
    for start in range(0, n, BLOCK):
        at = start + tl.arange(0, BLOCK)
        scores = tl.load(x + tl.program_id(0) * stride + at, mask=at < n, other=-1e30)
        larger = tl.maximum(m, scores)
        l = l * tl.exp(m - larger) + tl.where(at < n, tl.exp(scores - larger), 0.0)  # noqa: E741
        m = larger
    top = tl.max(m, axis=0)
    tl.store(out + tl.program_id(0), top + tl.log(tl.sum(l * tl.exp(m - top), axis=0)))

@online.right
def in_two_passes(x):
    return by_long_rows(_two_passes)(x)

def _two_passes(x, out, stride, n, BLOCK: tl.constexpr):
    top, total = -float("inf"), 0.0
    for start in range(0, n, BLOCK):
        at = start + tl.arange(0, BLOCK)
        block = tl.load(x + tl.program_id(0) * stride + at, mask=at < n, other=-float("inf"))
        top = tl.maximum(tl.max(block, axis=0), top)
    for start in range(0, n, BLOCK):
        at = start + tl.arange(0, BLOCK)
        block = tl.load(x + tl.program_id(0) * stride + at, mask=at < n, other=-float("inf"))
        total += tl.sum(tl.exp(block - top), axis=0)
    tl.store(out + tl.program_id(0), tl.log(total) + top)

@online.right
def one_by_one(x):
    return by_long_rows(_one_by_one)(x)

def _one_by_one(x, out, stride, n, BLOCK: tl.constexpr):
    m, l = tl.load(x + tl.program_id(0) * stride), 1.0  # noqa: E741
    for j in range(1, n):
        score = tl.load(x + tl.program_id(0) * stride + j)
        larger = tl.maximum(m, score)
        l = l * tl.exp(m - larger) + tl.exp(score - larger)  # noqa: E741
        m = larger
    tl.store(out + tl.program_id(0), m + tl.log(l))


# 18.5 Which tiles -------------------------------------------------------------------------------------------------

def key_range(start, block_q, block_kv, n_q, n_kv):
    offset = n_kv - n_q
    full = (start + offset + 1) // block_kv * block_kv
    end = min(start + block_q, n_q) + offset
    return max(full, 0), max(end, 0)

def true_range(start, block_q, block_kv, n_q, n_kv):
    """The same, read off the mask."""
    seen = masks.causal(n_q, n_kv)[start : start + block_q]
    whole = next((j for j in range(n_kv) if not seen[:, j].all()), n_kv)
    return whole - whole % block_kv, int(seen.any(axis=0).sum())

def a_block(rng, start, block_q, block_kv, n_q, n_kv):
    if start >= n_q:
        raise ValueError(f"start must be a query, below n_q = {n_q}, got {start}")
    return start, block_q, block_kv, n_q, n_kv

bounds = Exercise(
    "18.bounds",
    "Which tiles",
    task="(full, end) for the queries from `start` on: whole blocks of keys before `full` need no mask, keys from "
         "`end` on need not be read.",
    solution=key_range,
    answer=true_range,
    probes=[
        Probe("the first block", a_block, start=0, block_q=4, block_kv=4, n_q=16, n_kv=16),
        Probe("in the middle", a_block, start=8, block_q=4, block_kv=4, n_q=16, n_kv=16),
        Probe("larger blocks of keys", a_block, start=12, block_q=3, block_kv=5, n_q=17, n_kv=17),
        Probe("smaller blocks of keys", a_block, start=8, block_q=8, block_kv=3, n_q=19, n_kv=19),
        Probe("the last block, not full", a_block, start=16, block_q=4, block_kv=4, n_q=18, n_kv=18),
        Probe("more keys than queries", a_block, start=4, block_q=4, block_kv=4, n_q=9, n_kv=22),
        Probe("a query that sees a whole block exactly", a_block, start=7, block_q=7, block_kv=4, n_q=14, n_kv=14),
        Probe("one key short of a whole block", a_block, start=6, block_q=6, block_kv=4, n_q=12, n_kv=12),
        Probe("fewer keys than queries", a_block, start=5, block_q=5, block_kv=2, n_q=15, n_kv=8),
        Probe("queries before the first key", a_block, start=0, block_q=4, block_kv=4, n_q=16, n_kv=8),
    ],
    hints=[
        "The last query stands at the last key: query i at the place i + n_kv − n_q.",

        "A block needs no mask if even the *first* query sees its last key. Nobody sees what the *last* "
        "query does not.",
        "The first query sees start + offset + 1 keys. Round that down to whole blocks.",
        "With more queries than keys the first ones see nothing: no number below 0 may come out.",
    ],
)  # fmt: skip

bounds.slip("offset_forgotten", {"n_kv - n_q": "0"},
            "With n_q ≠ n_kv the *last* query stands at the last key. You have aligned the first with the first.", SKIP)
bounds.slip("offset_the_wrong_way", {"n_kv - n_q": "n_q - n_kv"},
            "The offset has the wrong sign: query i stands at i + n_kv − n_q.", SKIP)
bounds.slip("full_by_the_last_query", {"(start + offset + 1)": "(min(start + block_q, n_q) + offset)"},
            "full: a block needs no mask if *all* its queries see it, and the first one sees least.", SKIP)
bounds.slip("own_key_forgotten", {"offset + 1)": "offset)"},
            "full: a query sees its own place too: `start + offset + 1` keys.", SKIP)
bounds.slip("full_not_whole_blocks", {" // block_kv * block_kv": ""},
            "full: whole blocks only. Round down to a multiple of block_kv.", SKIP)
bounds.slip("full_rounded_up", {"(start + offset + 1) // block_kv": "-(-(start + offset + 1) // block_kv)"},
            "full: round *down*. The block that the first query's limit cuts needs the mask.", SKIP)
bounds.slip("blocks_counted", {" // block_kv * block_kv": " // block_kv"},
            "full: that is a number of blocks. Asked for is a place: times block_kv.", SKIP)
bounds.slip("rounded_by_queries", {"// block_kv * block_kv": "// block_q * block_q"},
            "full: it is a multiple of the block of *keys*.", SKIP)
bounds.slip("end_by_the_first_query", {"min(start + block_q, n_q) + offset": "start + 1 + offset"},
            "end: the *last* query of the block sees most.", SKIP)
bounds.slip("queries_that_are_not_there", {"min(start + block_q, n_q)": "(start + block_q)"},
            "end: the last block of queries is not full. It ends at n_q.", SKIP)
bounds.slip("end_is_all", {"min(start + block_q, n_q) + offset": "n_kv"},
            "end: you read all the keys, those of the future too. Nothing is skipped.", SKIP)
bounds.slip("end_one_short", {"n_q) + offset": "n_q) + offset - 1"},
            "end: that is the last key which is read. `end` is the first that is not.", SKIP)
bounds.slip("end_one_further", {"n_q) + offset": "n_q) + offset + 1"}, "end: one key too many.", SKIP)
bounds.slip("below_zero", {"max(full, 0), max(end, 0)": "full, end"},
            "With more queries than keys a number below 0 comes out. There are no such keys.", SKIP)
bounds.slip("end_below_zero", {"max(end, 0)": "end"}, "end: it can be below 0, and there are no such keys.", SKIP)
bounds.slip("full_below_zero", {"max(full, 0)": "full"}, "full: it can be below 0, and there are no such keys.", SKIP)
bounds.slip("exchanged", {"max(full, 0), max(end, 0)": "max(end, 0), max(full, 0)"},
            "The two are exchanged: first `full`, then `end`.", SKIP)
bounds.slip("full_without_offset", {"(start + offset + 1)": "(start + 1)"}, "full: the offset is missing.", SKIP)
bounds.slip("end_without_offset", {"n_q) + offset": "n_q)"}, "end: the offset is missing.", SKIP)
bounds.slip("end_cut_at_the_keys", {"block_q, n_q)": "block_q, n_kv)"},
            "end: `start + block_q` counts queries, so it ends at n_q. The offset comes after.", SKIP)
bounds.slip("offset_subtracted", {"n_q) + offset": "n_q) - offset"}, "end: the offset is to be added.", SKIP)
bounds.slip("full_offset_subtracted", {"start + offset + 1": "start - offset + 1"},
            "full: the offset is to be added.", SKIP)
bounds.slip("own_key_subtracted", {"offset + 1)": "offset - 1)"},
            "full: the first query sees start + offset + 1 keys.", SKIP)

@bounds.right
def by_the_mask(start, block_q, block_kv, n_q, n_kv):
    seen = masks.causal(n_q, n_kv)[start : start + block_q]
    return int(seen[0].sum()) // block_kv * block_kv, int(seen[-1].sum())

@bounds.right
def by_places(start, block_q, block_kv, n_q, n_kv):
    first = max(start + n_kv - n_q + 1, 0)
    last = max(min(start + block_q, n_q) - 1 + n_kv - n_q + 1, 0)
    return first - first % block_kv, last

@bounds.right
def by_loops(start, block_q, block_kv, n_q, n_kv):
    full = 0
    while full + block_kv - 1 <= start + n_kv - n_q:
        full += block_kv
    return full, sum(j <= min(start + block_q, n_q) - 1 + n_kv - n_q for j in range(n_kv))

"""Exercises of chapter 18, FlashAttention on the GPU: a kernel with a mask, sizes to predict, and a softmax by rows."""

import importlib.util

import numpy as np

from attnbook import functional
from attnbook.exercises import Exercise, Law, Probe, close
from attnbook.exercises.kernels import Launch, language, launched

if importlib.util.find_spec("triton"):
    triton, tl = language()
else:  # on systems that Triton is not made for the tables are read, and the kernels cannot be tried

    class tl:
        constexpr = None


PROGRAMS, SOFTMAX, PLACES = "One program, one block", "A softmax: one row a program", "How many fit"
BLOCK = 8


# 18.1 One line ----------------------------------------------------------------------------------------------------

@launched
def by_blocks(x):
    """A program for each 8 of the differences, of which there is one fewer than numbers."""
    n = len(x) - 1
    return Launch(out=(n,), programs=-(-n // BLOCK), sizes=(n,), constants={"BLOCK": BLOCK})

@by_blocks
def steps_kernel(x, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = tl.load(x + at, mask=at < n)
    after = tl.load(x + at + 1, mask=at < n)
    tl.store(out + at, after - here, mask=at < n)

def numbers(rng, n):
    return (rng.standard_normal(n + 1),)

steps = Exercise(
    "18.steps",
    "One line",
    task="out[i] = x[i + 1] − x[i] for the n places i, a block of them in each program.",
    solution=steps_kernel,
    answer=np.diff,
    probes=[
        Probe("one full block", numbers, n=8),
        Probe("two full blocks", numbers, n=16),
        Probe("less than a block", numbers, n=5),
        Probe("a block and one more", numbers, n=9),
        Probe("three blocks and a part", numbers, n=29),
    ],
    hints=[
        "`at` are the places of this program: the first is the program's number times BLOCK.",
        "Two loads, one of them an address further, and one store. `x + at` is an address for each place.",
        "Which of the places exist? `mask=at < n` says it, to the loads and to the store.",
    ],
)

steps.slip("program_forgotten", {"tl.program_id(0) * BLOCK + ": ""},
           "All programs work on the first block: `tl.arange(0, BLOCK)` alone knows no program.", PROGRAMS)
steps.slip("programs_overlap", {"tl.program_id(0) * BLOCK": "tl.program_id(0)"},
           "The programs start one place apart. Each has BLOCK places to itself, so it starts at its number times "
           "BLOCK.", PROGRAMS)
steps.slip("no_mask_at_the_store", {"after - here, mask=at < n": "after - here"},
           "The store has no mask: the last program writes beyond the end of `out`, into memory of somebody else.",
           "Traps")
steps.slip("mask_one_too_far", {"at < n": "at <= n"},
           "The mask lets one place too many through: the places are 0 to n − 1.", "Traps")
steps.slip("mask_one_too_near", {"at < n": "at < n - 1"},
           "The last place is left out: with n places, n − 1 is one of them.", "Traps")
steps.slip("mask_inverted", {"at < n": "at >= n"},
           "The mask is the wrong way round. True means that the place is loaded or stored.", PROGRAMS)
steps.slip("load_masked_by_the_next", {"x + at + 1, mask=at < n": "x + at + 1, mask=at + 1 < n"},
           "x has n + 1 numbers, so the last place has a neighbour as well: its load is masked away.", "Traps")
steps.slip("backwards", {"after - here": "here - after"},
           "Every difference has the wrong sign: the next minus this one.", PROGRAMS)
steps.slip("the_one_before", {"+ at + 1": "+ at - 1"},
           "You take the number *before* the place, and of the first place there is none.", PROGRAMS)
steps.slip("the_one_after_that", {"+ at + 1": "+ at + 2"},
           "You take the number two places on.", PROGRAMS)
steps.slip("same_place_twice", {"+ at + 1": "+ at"},
           "Both loads are from the same place, so all differences are 0.", PROGRAMS)
steps.slip("value_and_not_place", {"tl.load(x + at + 1, mask=at < n)": "tl.load(x + at, mask=at < n) + 1"},
           "You add 1 to the number, not to the address: `tl.load(x + at) + 1` is the same number plus 1.", PROGRAMS)
steps.slip("added", {"after - here": "after + here"}, "You add the two. Asked for is the difference.", PROGRAMS)
steps.slip("next_alone", {"after - here": "after"}, "It stores the next number, without subtracting this one.",
            PROGRAMS)
steps.slip("stored_at_the_next", {"out + at": "out + at + 1"},
           "The store goes to the next place, and the last one lies beyond the end.", PROGRAMS)
steps.slip("stored_at_the_first", {"tl.store(out + at,": "tl.store(out + tl.arange(0, BLOCK),"},
           "Every program stores at the beginning of `out`.", PROGRAMS)
steps.slip("divided", {" * BLOCK": " / BLOCK"},
           "An address must be a whole number: the program's number *times* BLOCK is where it starts.", PROGRAMS)
steps.slip("product", {"after - here": "after * here"}, "You multiply the two. Asked for is the difference.", PROGRAMS)
steps.slip("quotient", {"after - here": "after / here"}, "You divide the two. Asked for is the difference.", PROGRAMS)
steps.slip("minus_the_places", {"* BLOCK + tl": "* BLOCK - tl"},
           "The places of a program lie after its first one, not before it.", PROGRAMS)
steps.slip("added_number", {"tl.program_id(0) * BLOCK": "tl.program_id(0) + BLOCK"},
           "The program's number is added to BLOCK: program 0 has to start at 0.", PROGRAMS)
steps.slip("from_the_block", {"tl.program_id(0) * BLOCK": "BLOCK"},
           "The first place is the same for all programs: their number is missing.", PROGRAMS)
steps.slip("one_step_back", {"x + at, ": "x - at, "}, "The address runs backwards from the first number.", PROGRAMS)
steps.slip("back_from_the_first", {"x + at + 1": "x - at + 1"},
           "The address runs backwards from the first number.", PROGRAMS)
steps.slip("only_the_last", {"at < n": "at == n"}, "The mask lets a single place through.", PROGRAMS)
steps.slip("one_place_from_one", {"arange(0,": "arange(1,"},
           "The places of a block begin at 0, and their number must be a power of 2.", PROGRAMS)

@steps.right
def by_a_pointer(x):
    return by_blocks(_pointer_moved)(x)

def _pointer_moved(x, out, n, BLOCK: tl.constexpr):
    x += tl.program_id(0) * BLOCK
    lane = tl.arange(0, BLOCK)
    inside = tl.program_id(0) * BLOCK + lane < n
    difference = tl.load(x + 1 + lane, mask=inside, other=0.0) - tl.load(x + lane, mask=inside, other=0.0)
    tl.store(out + tl.program_id(0) * BLOCK + lane, difference, mask=inside)

@steps.right
def in_one_expression(x):
    return by_blocks(_one_expression)(x)

def _one_expression(x, out, n, BLOCK: tl.constexpr):
    at = BLOCK * tl.program_id(0) + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + (at + 1), at < n) - tl.load(x + at, at < n), at < n)

@steps.right
def loads_to_the_true_end(x):
    return by_blocks(_true_end)(x)

def _true_end(x, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = tl.load(x + at, mask=at <= n, other=0.0)
    after = tl.load(x + 1 + at, mask=at + 1 <= n, other=0.0)
    tl.store(out + at, -(here - after), mask=at < n)


# 18.2 Predict -----------------------------------------------------------------------------------------------------

def prediction():
    return {"programs": 8, "idle": 24, "offset": 325, "fit": 2}

predict = Exercise(
    "18.predict",
    "Predict",
    task="how many programs there are, how many places are idle, how far a number is, how many programs fit.",
    solution=prediction,
    hints=[
        "1,000 numbers in blocks of 128: the last block is not full, but it is a program.",
        "The places of all the programs together, less the 1,000 that exist.",
        "Row 5 begins after five rows, each `stride` numbers after the one before. Then five columns more.",
        "What do 4 warps of 32 threads need in registers? How often is that in 65,536? And which of the two runs out "
        "first?",
    ],
)

@predict.wrong("programs: the last block is not full, but it needs a program. Round up.", PROGRAMS)
def rounded_down():
    yield from predict.but("programs", 7)
    yield prediction() | {"programs": 7, "idle": 0}

@predict.wrong("programs: it is a program for each *block*, not for each number.", PROGRAMS)
def one_for_each_number():
    yield from predict.but("programs", 1000, 128, 1)

@predict.wrong("programs: whole programs only. Round up.", PROGRAMS)
def not_whole():
    yield from predict.but("programs", 1000 / 128)

@predict.wrong("idle: that is how many places of the last block are *used*. Asked for are the others.", PROGRAMS)
def used_for_idle():
    yield from predict.but("idle", 104)

@predict.wrong("idle: 1,000 is no multiple of 128, so some places of the last program have nothing to do.", PROGRAMS)
def none_idle():
    yield from predict.but("idle", 0, 128)

@predict.wrong("offset: rows are `stride` numbers apart, not as many as they have columns.", SOFTMAX)
def as_if_packed():
    yield from predict.but("offset", 5 * 60 + 5)

@predict.wrong("offset: that is where the row begins. The column is to be added.", SOFTMAX)
def column_forgotten():
    yield from predict.but("offset", 320, 300)

@predict.wrong("offset: row and column count from 0, so there are five rows before row 5.", SOFTMAX)
def counted_from_one():
    yield from predict.but("offset", 4 * 64 + 4, 4 * 64 + 5, 6 * 64 + 5, 5 * 64 + 4)

@predict.wrong("offset: a pointer counts numbers, not bytes.", SOFTMAX)
def bytes_counted():
    yield from predict.but("offset", 325 * 4, 325 * 2)

@predict.wrong("fit: that is what the registers allow with one warp a program. It has 4.", PLACES)
def one_warp():
    yield from predict.but("fit", 8)

@predict.wrong("fit: that is what the shared memory allows. The registers run out first.", PLACES)
def shared_memory_alone():
    yield from predict.but("fit", 3, 4)

@predict.wrong("fit: whole programs only, and the smaller of the two numbers.", PLACES)
def fractions():
    yield from predict.but("fit", 65536 / (255 * 128), 65536 / (256 * 128) + 0.5, 228 / 64)

@predict.wrong("fit: two of them have room at the same time. What does one need, and what is there?", PLACES)
def only_one():
    yield from predict.but("fit", 1)

@predict.right
def by_counting():
    places = [range(start, start + 128) for start in range(0, 1000, 128)]
    idle = sum(at >= 1000 for block in places for at in block)
    fit = min(65536 // (255 * 4 * 32), 228 // 64)
    return {"programs": len(places), "idle": idle, "offset": np.arange(64 * 6).reshape(6, 64)[5, 5], "fit": fit}

predict.right_in_other_forms()


# 18.3 Build it: softmax -------------------------------------------------------------------------------------------

@launched
def by_rows(x):
    """A program for each row; rows are further apart than they are long, and those of `out` one further."""
    rows, n = x.shape
    gap = 3
    return Launch(out=(rows, n), programs=rows, sizes=(n + gap, n + gap + 1, n), constants={"BLOCK": 16}, gap=gap)

@by_rows
def softmax_kernel(x, out, x_stride, out_stride, n, BLOCK: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, BLOCK)
    scores = tl.load(x + row * x_stride + at, mask=at < n, other=-float("inf"))
    weights = tl.exp(scores - tl.max(scores, axis=0))
    tl.store(out + row * out_stride + at, weights / tl.sum(weights, axis=0), mask=at < n)

def table(rng, rows, n, size=1.0, shift=0.0):
    return (size * rng.standard_normal((rows, n)) + shift,)

softmax = Exercise(
    "18.softmax",
    "Build it: a softmax of rows that are not side by side",
    task="the softmax of each row, a row in each program.",
    solution=softmax_kernel,
    answer=functional.softmax,
    probes=[
        Probe("one row that fills the block", table, rows=1, n=16),
        Probe("rows that fill the block", table, rows=3, n=16),
        Probe("rows that do not fill it", table, rows=4, n=11),
        Probe("all scores far below 0", table, rows=2, n=9, shift=-200.0),
        Probe("all scores far above 0", table, rows=2, n=13, size=3.0, shift=200.0),
        Probe("one number a row", table, rows=3, n=1),
    ],
    laws=[Law("each row adds up to 1", lambda f, x: close(f(x).sum(axis=-1), np.ones(len(x))))],
    hints=[
        "Row r of x begins at `x + r * x_stride`, and row r of out elsewhere.",
        "The block has 16 places, the row may have fewer. What must the missing scores be, to get no weight?",
        "exp(−∞) is 0: `other=-float(\"inf\")`. Then maximum, exponential and sum are those of chapter 1.",
    ],
)

softmax.slip("missing_scores_are_zero", {'other=-float("inf")': "other=0.0"},
             "The places beyond the end count as scores of 0, and get a weight. They must be −∞.", "Traps")
softmax.slip("load_not_masked", {', mask=at < n, other=-float("inf")': ""},
             "The load has no mask: it reads what stands between the rows. Say how far the row goes, and what counts "
             "beyond it.", "Traps")
softmax.slip("store_not_masked", {"axis=0), mask=at < n": "axis=0)"},
             "The store has no mask: it writes beyond the end of the row.", "Traps")
softmax.slip("one_stride_for_both", {"out_stride + at": "x_stride + at"},
             "The rows of `out` are as far apart as those of `x` in your kernel. They have a stride of their own.",
            SOFTMAX)
softmax.slip("out_stride_for_x", {"x + row * x_stride": "x + row * out_stride"},
             "x is read with the stride of `out`.", SOFTMAX)
softmax.slip("rows_side_by_side", {"row * x_stride": "row * n", "row * out_stride": "row * n"},
             "You take n for the distance of the rows, as if they lay side by side. It is the stride.", SOFTMAX)
softmax.slip("rows_one_apart", {"row * x_stride": "row", "row * out_stride": "row"},
             "The rows begin one number apart in your kernel: multiply the row by its stride.", SOFTMAX)
softmax.slip("first_row_for_all", {"x + row * x_stride": "x"}, "Every program reads the first row.", SOFTMAX)
softmax.slip("all_into_the_first", {"out + row * out_stride": "out"}, "Every program writes the first row.", SOFTMAX)
softmax.slip("maximum_forgotten", {" - tl.max(scores, axis=0)": ""},
             "The maximum must be *subtracted*. Without that it is right on paper, but exp(200) overflows in float32, "
             "and exp(−120) is 0.",
             SOFTMAX)
softmax.slip("maximum_of_missing_zeros", {" - tl.max(scores, axis=0)": " - tl.maximum(tl.max(scores, axis=0), 0.0)"},
             "The maximum is at least 0 in your kernel. If all scores are far below, their exponentials vanish.",
            SOFTMAX)
softmax.slip("minimum_subtracted", {"tl.max(": "tl.min("},
             "NaN: an infinity is taken from an infinity. What does not exist must be −∞, "
             "and it is the *largest* score that is "
             "subtracted.", SOFTMAX)
softmax.slip("not_divided", {" / tl.sum(weights, axis=0)": ""},
             "The sum is missing: the weights of a row must add up to 1.", SOFTMAX)
softmax.slip("multiplied_by_the_sum", {" / tl.sum(": " * tl.sum("}, "You multiply by the sum: divide.", SOFTMAX)
softmax.slip("sum_of_scores", {"tl.sum(weights": "tl.sum(scores"}, "You divide by the sum of the scores.", SOFTMAX)
softmax.slip("no_exponential", {"tl.exp(": "("}, "The exponential is missing.", SOFTMAX)
softmax.slip("mask_one_too_far", {"at < n": "at <= n"},
             "The masks let one place too many through: the columns are 0 to n − 1.", "Traps")
softmax.slip("load_one_too_far", {"mask=at < n, other": "mask=at <= n, other"},
             "The load takes one place too many: what stands behind the row.", "Traps")
softmax.slip("masks_inverted", {"at < n": "at >= n"}, "The masks are the wrong way round: True is what exists.",
            "Traps")
softmax.slip("first_places_dropped", {"arange(0,": "arange(1,"},
             "The columns begin at 0, and their number must be a power of 2.", SOFTMAX)

@softmax.right
def with_two_masks(x):
    return by_rows(_two_masks)(x)

def _two_masks(x, out, x_stride, out_stride, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    scores = tl.load(x + tl.program_id(0) * x_stride + at, mask=at < n, other=0.0)
    scores = tl.where(at < n, scores, -float("inf"))
    weights = tl.exp(scores - tl.max(scores, axis=0))
    tl.store(out + tl.program_id(0) * out_stride + at, weights / tl.sum(weights, axis=0), mask=at < n)

@softmax.right
def by_the_log_sum_exp(x):
    return by_rows(_log_sum_exp)(x)

def _log_sum_exp(x, out, x_stride, out_stride, n, BLOCK: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, BLOCK)
    x, out = x + row * x_stride + at, out + row * out_stride + at
    scores = tl.load(x, mask=at < n, other=-1e30)
    top = tl.max(scores, axis=0)
    tl.store(out, tl.exp(scores - top - tl.log(tl.sum(tl.exp(scores - top), axis=0))), mask=at < n)

@softmax.right
def ready_made(x):
    return by_rows(_ready_made)(x)

def _ready_made(x, out, x_stride, out_stride, n, BLOCK: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, BLOCK)
    scores = tl.load(x + row * x_stride + at, mask=at < n, other=-float("inf"))
    tl.store(out + row * out_stride + at, tl.softmax(scores), mask=at < n)

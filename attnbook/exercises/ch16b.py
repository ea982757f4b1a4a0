"""Exercises of chapter 16, the O(n²) bill: slopes, the roofline, and where attention overtakes the rest."""

import numpy as np

from attnbook import costs
from attnbook.exercises import Exercise, Law, Probe, close
from attnbook.exercises.ch16 import ARITHMETIC, BESIDE, ROOF, SLOPES, TWO, given, heads, misplaced

INTENSITY = "Arithmetic intensity"


# 16.3 Read the picture --------------------------------------------------------------------------------------------

def reading():
    return {"A": 2, "B": 1, "C": 0.5, "times": 100}

picture = Exercise(
    "16.read",
    "Read the picture",
    task="three exponents, and how many times as long as B A takes at n = 10⁶.",
    solution=reading,
    hints=[
        "From 10² to 10⁴ tokens are two powers of ten. How many does A climb meanwhile? The quotient is the slope.",
        "C climbs, but less than B. Its exponent lies between 0 and 1.",
        "A / B is 1 where they cross, and it is a power of n itself: its exponent is A's less B's.",
    ],
)

@picture.wrong(
    "Exponents: how high a line *stands* is the factor in front of the power. The exponent is how steeply it climbs.",
    SLOPES
)
def height_for_slope():
    yield reading() | {"A": 1, "C": 2}
    yield reading() | {"A": 0.5, "C": 2}
    yield reading() | {"A": 1, "B": 2}

@picture.wrong("A: on log axes a straight line is a power, and A climbs two powers of ten for each one to the right.",
               SLOPES)  # fmt: skip
def a_taken_for_linear():
    yield from picture.but("A", 1, 1.5)

@picture.wrong("A: too steep. From 10³ to 10⁴ tokens it climbs two powers of ten.", SLOPES)
def a_too_steep():
    yield from picture.but("A", 3, 4, 2.5, 100, 10)

@picture.wrong("B: ten times the tokens take ten times as long. Which power does that?", SLOPES)
def b_misread():
    yield from picture.but("B", 0, 0.5, 2, 10)

@picture.wrong("C: it is not flat. Over four powers of ten of tokens it climbs two.", SLOPES)
def c_taken_for_flat():
    yield from picture.but("C", 0)

@picture.wrong("C: the slope is climb divided by way, not way divided by climb: C climbs *less* than B.", SLOPES)
def c_upside_down():
    yield from picture.but("C", 2, 1)

@picture.wrong("C: nearly. Take the whole width: from 10² to 10⁴ tokens it climbs exactly one power of ten.", SLOPES)
def c_nearly():
    yield from picture.but("C", 0.25, 0.3, 0.33, 1 / 3, 0.4, 0.6, 0.7, 0.75)

@picture.wrong("“times”: that is the ratio at the right edge of the picture. The text grows ten times as long again.",
               SLOPES)  # fmt: skip
def at_the_edge():
    yield from picture.but("times", 10)

@picture.wrong(
    "“times”: a hundred times further than the crossing, A has grown by 100². But B has grown, too, and it is their "
    "*ratio* that is asked for.", SLOPES
)
def growth_of_a():
    yield from picture.but("times", 10**4)

@picture.wrong("“times”: that is A's time, or B's. Asked for is how many times the one is the other.", SLOPES)
def a_time_for_a_ratio():
    yield from picture.but("times", 10**8, 10**6)

@picture.wrong("“times”: that is upside down. A takes longer there.", SLOPES)
def ratio_upside_down():
    yield from picture.but("times", 0.01)

@picture.wrong("“times”: that is the ratio of the exponents, or their difference. Those stand *above* the ten.", SLOPES)
def exponents_for_factors():
    yield from picture.but("times", 1, 2, 4)

@picture.wrong(
    "“times”: the ratio is 1 at the crossing, n = 10⁴, and grows like n from there. Count the powers of ten from "
    "*there*.", SLOPES
)
def counted_from_the_left():
    yield from picture.but("times", 1000, 20, 200, 50)

@picture.right
def as_floats():
    return {"A": 2.0, "B": 1.0, "C": 1 / 2, "times": (1e6**2 / 1e4) / 1e6}

@picture.right
def from_the_powers():
    return {"A": 4 / 2, "B": 3 / 3, "C": 2 / 4, "times": 10.0 ** (6 - 4)}

picture.right_in_other_forms()


# 16.4 Repair it ---------------------------------------------------------------------------------------------------

def least_time(flops, moved, peak, bandwidth):
    computing, carrying = flops / peak, moved / bandwidth
    return max(computing, carrying), computing > carrying

def broken_least_time(flops, moved, peak, bandwidth):
    seconds = flops / peak + moved / bandwidth
    return seconds, flops > moved

def by_the_package(flops, moved, peak, bandwidth):
    machine = costs.Machine("", peak, bandwidth, "")
    seconds, bound = costs.roofline_time(costs.Cost(flops, moved, 0), machine)
    return seconds, bound == "compute"

def floats(rng, **sizes):
    """In NumPy's floats a division by 0 is infinite: whoever compares FLOPs for each byte is right as well."""
    return tuple(map(np.float64, sizes.values()))

def twice_the_machine(f, flops, moved, peak, bandwidth):
    return close(2 * f(flops, moved, 2 * peak, 2 * bandwidth)[0], f(flops, moved, peak, bandwidth)[0])

repair = Exercise(
    "16.roofline",
    "Repair it",
    task="the least time on a machine, and whether the arithmetic decides, with two mistakes repaired.",
    solution=least_time,
    answer=by_the_package,
    broken=broken_least_time,
    probes=[
        Probe("few FLOPs a byte", given, flops=600, moved=300, peak=20, bandwidth=5),
        Probe("many FLOPs a byte", given, flops=9000, moved=30, peak=20, bandwidth=5),
        Probe("fewer FLOPs than bytes, and compute-bound", given, flops=200, moved=300, peak=2, bandwidth=5),
        Probe("fewer FLOPs than bytes, and memory-bound", given, flops=200, moved=300, peak=20, bandwidth=5),
        Probe("nothing to carry", floats, flops=50, moved=0, peak=4, bandwidth=5),
        Probe("nothing to compute", floats, flops=0, moved=70, peak=4, bandwidth=5),
        Probe("a machine with a low ridge", given, flops=120, moved=40, peak=3, bandwidth=7),
        Probe("all alike but the bytes", given, flops=6, moved=18, peak=6, bandwidth=6),
    ],
    laws=[Law("a machine with both speeds doubled takes half the time", twice_the_machine)],
    hints=[
        "While one number is carried, another is computed with. If computing takes 3 s and carrying 5 s, when is it "
        "all done?",
        "What has to be longer than what, so that the arithmetic decides? Both have the unit seconds.",
    ],
)

@repair.wrong(
    "The two times are added. The machine carries and computes *at once*, so the longer one is all that counts. (That "
    "the arithmetic decides is told rightly now.)", ROOF
)
def still_added(flops, moved, peak, bandwidth):
    return flops / peak + moved / bandwidth, flops / peak > moved / bandwidth

@repair.wrong(
    "The time is right now. But FLOPs are still compared with bytes: with 2 FLOPs a byte a machine that can do 4 in "
    "that time waits. Compare times.", INTENSITY
)
def counts_still_compared(flops, moved, peak, bandwidth):
    return max(flops / peak, moved / bandwidth), flops > moved

@repair.wrong(
    "The time is right now. But the ridge is upside down: the FLOPs for each byte are compared with bandwidth / peak. "
    "A machine can do peak / bandwidth FLOPs while a byte is carried.", INTENSITY
)
def ridge_upside_down(flops, moved, peak, bandwidth):
    return max(flops / peak, moved / bandwidth), flops * peak > moved * bandwidth

@repair.wrong("That is the time alone. Two things should come back: the seconds, and True if the arithmetic decides.",
              ROOF)  # fmt: skip
def time_alone(flops, moved, peak, bandwidth):
    return max(flops / peak, moved / bandwidth)

@repair.wrong("The shorter time is taken. The work is done when *both* are done.", ROOF)
def the_shorter(flops, moved, peak, bandwidth):
    return min(flops / peak, moved / bandwidth), flops / peak > moved / bandwidth

@repair.wrong("The shorter time is taken, and FLOPs are still compared with bytes.", ROOF)
def the_shorter_and_counts(flops, moved, peak, bandwidth):
    return min(flops / peak, moved / bandwidth), flops > moved

@repair.wrong("True is to say that the *arithmetic* decides. Yours says so where it is the carrying.", ROOF)
def bound_the_wrong_way_round(flops, moved, peak, bandwidth):
    return max(flops / peak, moved / bandwidth), flops / peak < moved / bandwidth

@repair.wrong("The times are added, and True is told where the *carrying* decides.", ROOF)
def added_and_the_wrong_way_round(flops, moved, peak, bandwidth):
    return flops / peak + moved / bandwidth, flops / peak < moved / bandwidth

@repair.wrong("Both mistakes are still in it: the times are added, and FLOPs are compared with bytes.", ROOF)
def as_it_was_found(flops, moved, peak, bandwidth):
    return flops / peak + moved / bandwidth, flops > moved

@repair.wrong("The times are added, and the ridge is upside down: a machine can do peak / bandwidth FLOPs while a byte "
              "is carried.", INTENSITY)  # fmt: skip
def added_and_the_ridge_upside_down(flops, moved, peak, bandwidth):
    return flops / peak + moved / bandwidth, flops * peak > moved * bandwidth

@repair.wrong("Peak and bandwidth have changed places: FLOPs go with the peak, bytes with the bandwidth.", ROOF)
def speeds_swapped(flops, moved, peak, bandwidth):
    return max(flops / bandwidth, moved / peak), flops / bandwidth > moved / peak

@repair.wrong(
    "A time is work *divided* by speed. You multiply, and a faster machine takes longer.", ROOF
)
def multiplied(flops, moved, peak, bandwidth):
    return max(flops * peak, moved * bandwidth), flops * peak > moved * bandwidth

@repair.wrong("The arithmetic is timed, the carrying is not.", ROOF)
def only_computing(flops, moved, peak, bandwidth):
    return flops / peak, flops / peak > moved / bandwidth

@repair.wrong("The carrying is timed, the arithmetic is not.", ROOF)
def only_carrying(flops, moved, peak, bandwidth):
    return moved / bandwidth, flops / peak > moved / bandwidth

@repair.wrong("Half the sum is the mean of two times. The longer one decides.", ROOF)
def the_mean(flops, moved, peak, bandwidth):
    return (flops / peak + moved / bandwidth) / 2, flops / peak > moved / bandwidth

@repair.wrong("The longer time is right. It is compared with itself: True says nothing now.", ROOF)
def never_compute_bound(flops, moved, peak, bandwidth):
    return max(flops / peak, moved / bandwidth), False

@repair.wrong("The time is right. But not everything is compute-bound.", ROOF)
def always_compute_bound(flops, moved, peak, bandwidth):
    return max(flops / peak, moved / bandwidth), True

@repair.wrong("The product of two times is no time.", ROOF)
def times_multiplied(flops, moved, peak, bandwidth):
    return flops / peak * moved / bandwidth, flops / peak > moved / bandwidth

misplaced(repair, {
    "flops": "it is FLOPs that the peak is divided into", "moved": "it is bytes that are carried",
    "peak": "the arithmetic goes at the peak", "bandwidth": "bytes are carried at the bandwidth",
}, ROOF)  # fmt: skip

@repair.right
def by_the_ridge(flops, moved, peak, bandwidth):
    bound = flops * bandwidth > moved * peak
    return flops / peak if bound else moved / bandwidth, bound

@repair.right
def by_the_intensity(flops, moved, peak, bandwidth):
    return max(flops / peak, moved / bandwidth), flops / moved > peak / bandwidth

@repair.right
def by_bytes_for_each_flop(flops, moved, peak, bandwidth):
    return max(flops / peak, moved / bandwidth), moved / flops < bandwidth / peak

@repair.right
def sorted_times(flops, moved, peak, bandwidth):
    return sorted([flops / peak, moved / bandwidth])[-1], not flops / peak <= moved / bandwidth

@repair.right
def with_an_if(flops, moved, peak, bandwidth):
    if flops / peak > moved / bandwidth:
        return flops / peak, True
    return moved / bandwidth, False


# 16.5 Build it ----------------------------------------------------------------------------------------------------

def crossover(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return d_model * (1 + n_kv_heads / n_heads) + n_matrices * d_hidden / 2

def of_the_chapter(f, d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return close(f(d_model, n_heads, n_heads, 4 * d_model, n_matrices=2), costs.crossover_length(d_model))

build = Exercise(
    "16.crossover",
    "Build it",
    task="the n from which attention costs more FLOPs than projections and MLP, with grouped heads and any MLP.",
    solution=crossover,
    answer=crossover,
    probes=[
        Probe("the layer of 2017", heads, d_model=768, n_heads=12, n_kv_heads=12, d_hidden=3072, n_matrices=2),
        Probe("three matrices", heads, d_model=64, n_heads=4, n_kv_heads=4, d_hidden=96),
        Probe("grouped heads", heads, d_model=64, n_heads=8, n_kv_heads=2, d_hidden=96, n_matrices=2),
        Probe("one head of keys for all", heads, d_model=48, n_heads=6, n_kv_heads=1, d_hidden=80),
        Probe("Llama 3 with 8 billion weights", heads, d_model=4096, n_heads=32, n_kv_heads=8, d_hidden=14336),
        Probe("an MLP as wide as the model", heads, d_model=40, n_heads=4, n_kv_heads=4, d_hidden=40, n_matrices=4),
        Probe("one head", heads, d_model=16, n_heads=1, n_kv_heads=1, d_hidden=40),
    ],
    laws=[Law("the layer of the chapter crosses at 6 · d_model", of_the_chapter)],
    hints=[
        "W_Q and W_O have d_model² weights each. W_K and W_V have n_kv_heads / n_heads of that each.",
        "The MLP has n_matrices · d_model · d_hidden weights. A weight costs 2 FLOPs a token.",
        "Attention costs 4 · n · d_model a token. Set it equal to the sum of the others and solve for n.",
    ],
)

@build.wrong("All four projections are counted whole. Keys and values have fewer heads: W_K and W_V are narrower.",
             BESIDE)  # fmt: skip
def keys_not_grouped(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return 2 * d_model + n_matrices * d_hidden / 2

@build.wrong(
    "`n_kv_heads` is not divided by n_heads. A head is d_model / n_heads wide, so W_K and W_V have that many columns "
    "for each of the n_kv_heads.", BESIDE
)
def share_not_divided(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return (1 + n_kv_heads) * d_model + n_matrices * d_hidden / 2

@build.wrong("All four projections have become narrower. W_Q and W_O still have all the heads.", BESIDE)
def all_four_grouped(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return 2 * d_model * n_kv_heads / n_heads + n_matrices * d_hidden / 2

@build.wrong("Three of the projections have become narrower. It is two: W_K and W_V.", BESIDE)
def three_grouped(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return (1 + 3 * n_kv_heads / n_heads) * d_model / 2 + n_matrices * d_hidden / 2

@build.wrong("Only one projection has become narrower. W_K and W_V both have.", BESIDE)
def one_grouped(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return (3 + n_kv_heads / n_heads) * d_model / 2 + n_matrices * d_hidden / 2

@build.wrong("The share is upside down: *fewer* heads of keys make W_K and W_V smaller.", BESIDE)
def share_upside_down(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return (2 + 2 * n_heads / n_kv_heads) * d_model / 2 + n_matrices * d_hidden / 2

@build.wrong(
    "Attention has become cheaper with fewer heads of keys. Each head that asks still has its table: its FLOPs stay.",
    ARITHMETIC
)
def attention_grouped(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return crossover(d_model, n_heads, n_kv_heads, d_hidden, n_matrices) * n_heads / n_kv_heads

@build.wrong("The MLP is missing: it is the larger part of the rest.", BESIDE)
def without_the_mlp(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return (1 + n_kv_heads / n_heads) * d_model

@build.wrong("The projections are missing: attention stands beside them, too.", BESIDE)
def without_the_projections(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return n_matrices * d_hidden / 2

@build.wrong("W_O is missing: there are four projections, one of them behind attention.", BESIDE)
def without_the_output_projection(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return (1 + 2 * n_kv_heads / n_heads) * d_model / 2 + n_matrices * d_hidden / 2

@build.wrong("Your MLP always has two matrices. Count `n_matrices` of them.", BESIDE)
def always_two_matrices(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return (1 + n_kv_heads / n_heads) * d_model + d_hidden

@build.wrong("Your MLP always has three matrices. Count `n_matrices` of them.", BESIDE)
def always_three_matrices(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return (1 + n_kv_heads / n_heads) * d_model + 3 * d_hidden / 2

@build.wrong("Your MLP has one matrix. It has `n_matrices` of them.", BESIDE)
def one_matrix(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return (1 + n_kv_heads / n_heads) * d_model + d_hidden / 2

@build.wrong("Your MLP is always four times as wide as the model. Here it is `d_hidden` wide.", BESIDE)
def always_four_times_as_wide(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return (1 + n_kv_heads / n_heads) * d_model + n_matrices * 4 * d_model / 2

@build.wrong("Your MLP's matrices are d_hidden × d_hidden. They lead from d_model to d_hidden, or back.", BESIDE)
def square_of_d_hidden(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return (1 + n_kv_heads / n_heads) * d_model + n_matrices * d_hidden**2 / (2 * d_model)

@build.wrong("Only one of attention's two products is counted, so it seems to cross twice as late.", ARITHMETIC)
def attention_with_one_product(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return 2 * crossover(d_model, n_heads, n_kv_heads, d_hidden, n_matrices)

@build.wrong(
    "The rest is counted with one FLOP a weight, attention with two FLOPs a product. Both have multiplications *and* "
    "additions.", TWO
)
def weights_counted_once(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return crossover(d_model, n_heads, n_kv_heads, d_hidden, n_matrices) / 2

@build.wrong("Those are the FLOPs of a token, or the weights of a layer. At which n does attention cost as much?",
             BESIDE)  # fmt: skip
def not_solved(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return (2 + 2 * n_kv_heads / n_heads) * d_model**2 + n_matrices * d_model * d_hidden

@build.wrong(
    "All the heads together are d_model wide, in attention as well: n_heads · d_k = d_model. Yours counts one head.",
    ARITHMETIC
)
def attention_with_one_head(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return crossover(d_model, n_heads, n_kv_heads, d_hidden, n_matrices) * n_heads

@build.wrong("Attention's heads are counted twice over: d_model is the width of all of them together.", ARITHMETIC)
def heads_counted_twice(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return crossover(d_model, n_heads, n_kv_heads, d_hidden, n_matrices) / n_heads

@build.wrong("This is 6 · d_model whatever the layer is like. Here heads and MLP have a say.", BESIDE)
def always_six(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return 6 * d_model

@build.wrong("Cut to a whole number by `//` on the way: `n_kv_heads // n_heads` is 0 for grouped heads.", BESIDE)
def floor_of_the_share(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return (1 + n_kv_heads // n_heads) * d_model + n_matrices * d_hidden / 2

@build.wrong("The projections have d_model weights, not d_model²? A matrix has rows *times* columns.", BESIDE)
def projections_are_no_matrices(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    return (1 + n_kv_heads / n_heads) + n_matrices * d_hidden / 2

build.slip("queries_and_output_forgotten", {"(1 + n_kv_heads": "(n_kv_heads"},
           "W_K and W_V are counted. W_Q and W_O are projections, too, and stay as wide as they were.", BESIDE)
build.slip("rows_of_the_keys_forgotten", {"d_model * (1 + n_kv_heads / n_heads)": "d_model + n_kv_heads / n_heads"},
           "W_K and W_V are too small, or a bracket is missing: they have d_model rows, and n_kv_heads · d_k columns.",
           BESIDE)
build.slip("projections_counted_twice", {"d_model * (1": "2 * d_model * (1"},
           "The projections are counted twice. A weight costs 2 FLOPs a token, and attention 4 · n · d_model.", BESIDE)
build.slip("mlp_counted_twice", {"d_hidden / 2": "d_hidden"},
           "The MLP is counted twice. A weight costs 2 FLOPs a token, and attention 4 · n · d_model.", BESIDE)
build.slip("mlp_subtracted", {"+ n_matrices": "- n_matrices"},
           "The MLP is subtracted. Projections *and* MLP stand beside attention: add them.", BESIDE)

misplaced(build, {
    "d_model": "it is the projections' d_model² weights that are divided by attention's 4 · d_model",
    "n_heads": "W_K and W_V have n_kv_heads of n_heads heads", "n_kv_heads": "W_K and W_V have n_kv_heads heads",
    "d_hidden": "the MLP is d_hidden wide", "n_matrices": "the MLP has n_matrices matrices",
}, BESIDE, but={("n_heads", "n_kv_heads"), ("n_kv_heads", "n_heads")})  # fmt: skip

@build.right
def as_one_counts(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    projections = (2 + 2 * n_kv_heads / n_heads) * d_model**2
    mlp = n_matrices * d_model * d_hidden
    return 2 * (projections + mlp) / (4 * d_model)

@build.right
def from_the_package(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    ratio = n_matrices * d_hidden / (2 * d_model)  # of an MLP of two matrices with as many weights
    return costs.crossover_length(d_model, ratio) - (1 - n_kv_heads / n_heads) * d_model

@build.right
def with_the_width_of_a_head(d_model, n_heads, n_kv_heads, d_hidden, n_matrices=3):
    d_k = d_model // n_heads
    weights = 2 * d_model * d_model + 2 * d_model * n_kv_heads * d_k + n_matrices * d_model * d_hidden
    return weights / (2 * d_model)

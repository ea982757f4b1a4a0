"""Exercises of chapter 16, the O(n²) bill: counting."""

from fractions import Fraction
from inspect import signature

import numpy as np

from attnbook import costs
from attnbook.exercises import Exercise, Law, Probe

ARITHMETIC, MEMORY = "Count the arithmetic", "Count the memory"
ROOF, BESIDE, HALF = "The roofline", "What stands beside it", "Half is not another exponent"
TWO, SLOPES = "One operation or two", "Intuition"


def given(rng, **arguments):
    """The arguments as the probe names them."""
    return tuple(arguments.values())


def heads(rng, **sizes):
    """The sizes, if there can be such heads: ValueError where they do not share out each other, or d_model."""
    if sizes["n_heads"] % sizes["n_kv_heads"] or sizes.get("d_model", 0) % sizes["n_heads"]:
        raise ValueError(f"n_kv_heads must divide n_heads, and n_heads d_model, got {sizes}")
    return tuple(sizes.values())


def misplaced(exercise, meant, heading, but=()):
    """A misconception for each size that stands in another's place. `meant` says what the places are for."""
    sizes = signature(exercise.solution)
    for place, why in meant.items():
        for stands in sizes.parameters:
            if stands != place and (place, stands) not in but:
                told = f"`{stands}` stands where `{place}` belongs: {why}."
                exercise.wrong(told, heading)(_exchanged(exercise.solution, sizes, place, stands))


def _exchanged(solution, sizes, place, stands):
    def function(*arguments):
        bound = sizes.bind(*arguments)
        bound.apply_defaults()
        return solution(**bound.arguments | {place: bound.arguments[stands]})

    function.__name__ = f"{stands}_for_{place}"
    return function


# 16.1 One line ----------------------------------------------------------------------------------------------------

def flops_of(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 2 * n_heads * n_q * n_kv * (d_k + d_v)

def alike(f, n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return f(n_q, n_q, d_k, d_k, n_heads, n_heads) == costs.attention_cost(n_q, d_k, n_heads).flops

one_line = Exercise(
    "16.flops",
    "One line",
    task="the FLOPs of attention, with two lengths, two widths and grouped heads.",
    solution=flops_of,
    answer=flops_of,
    probes=[
        Probe("one query, one key, one head", heads, n_q=1, n_kv=1, d_k=4, d_v=4, n_heads=1, n_kv_heads=1),
        Probe("all alike", heads, n_q=6, n_kv=6, d_k=6, d_v=6, n_heads=6, n_kv_heads=6),
        Probe("one head, two widths", heads, n_q=5, n_kv=5, d_k=2, d_v=3, n_heads=1, n_kv_heads=1),
        Probe("fewer queries than keys", heads, n_q=2, n_kv=7, d_k=5, d_v=5, n_heads=3, n_kv_heads=3),
        Probe("grouped heads", heads, n_q=11, n_kv=13, d_k=4, d_v=4, n_heads=8, n_kv_heads=2),
        Probe("nothing alike", heads, n_q=5, n_kv=7, d_k=2, d_v=3, n_heads=8, n_kv_heads=4),
    ],
    laws=[Law("with n_q = n_kv, d_k = d_v and no grouping it is the package's count", alike)],
    hints=[
        "Two products. The first is (n_q × d_k) times (d_k × n_kv). What is the second?",
        "A product costs 2 · rows · inner · cols. Add the two, and take what they share out of the brackets.",
        "How many tables of weights are there: one for each head that asks, or one for each head that is asked?",
    ],
)

@one_line.wrong(
    "You count a multiplication and its addition as *one*. A FLOP is either of them, so each product has twice as "
    "many.", TWO
)
def a_multiply_add_counted_once(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return n_heads * n_q * n_kv * (d_k + d_v)

@one_line.wrong(
    "You have as many tables as there are heads of *keys*. But each head that asks has scores of its own, and each of "
    "them is computed: sharing keys saves memory, not arithmetic.", ARITHMETIC
)
def one_table_for_each_head_of_keys(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 2 * n_kv_heads * n_q * n_kv * (d_k + d_v)

@one_line.wrong(
    "Query heads and key heads are multiplied with each other. Each query head meets *one* head of keys, its own "
    "group's.", ARITHMETIC
)
def heads_times_heads(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 2 * n_heads * n_kv_heads * n_q * n_kv * (d_k + d_v)

@one_line.wrong(
    "The two numbers of heads are added. There is one table for each *query* head: a head of keys, shared or not, "
    "takes part in such tables and brings none of its own.", ARITHMETIC
)
def heads_and_heads(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 2 * (n_heads + n_kv_heads) * n_q * n_kv * (d_k + d_v)

@one_line.wrong(
    "n_heads / n_kv_heads is the size of a *group*: so many query heads share a head of keys. It is not the number of "
    "heads that compute.", ARITHMETIC
)
def size_of_a_group(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 2 * (n_heads // n_kv_heads) * n_q * n_kv * (d_k + d_v)

@one_line.wrong(
    "The scores are counted for all the query heads, the mixing for the heads of *values* alone. But each query head "
    "mixes them with weights of its own.", ARITHMETIC
)
def mixed_once_for_a_group(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 2 * n_q * n_kv * (n_heads * d_k + n_kv_heads * d_v)

@one_line.wrong(
    "The mixing is counted for all the query heads, the scores for the heads of *keys* alone. But each query head has "
    "scores of its own.", ARITHMETIC
)
def scored_once_for_a_group(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 2 * n_q * n_kv * (n_kv_heads * d_k + n_heads * d_v)

@one_line.wrong("This is one head's work. Every query head does it: try eight heads.", ARITHMETIC)
def heads_forgotten(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 2 * n_q * n_kv * (d_k + d_v)

@one_line.wrong(
    "You count both products with the width of the *keys*. The second one mixes values, and they are d_v wide.",
    ARITHMETIC
)
def values_as_wide_as_keys(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 4 * n_heads * n_q * n_kv * d_k

@one_line.wrong(
    "You count both products with the width of the *values*. Scores are made of queries and keys, and they are d_k "
    "wide.", ARITHMETIC
)
def keys_as_wide_as_values(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 4 * n_heads * n_q * n_kv * d_v

@one_line.wrong("The scores are counted, the mixing of the values is not: there are two products.", ARITHMETIC)
def only_the_scores(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 2 * n_heads * n_q * n_kv * d_k

@one_line.wrong("The mixing of the values is counted, the scores are not: there are two products.", ARITHMETIC)
def only_the_values(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 2 * n_heads * n_q * n_kv * d_v

@one_line.wrong(
    "The table has n_q rows and n_kv *columns*. Yours is a square of queries: try two queries and seven keys.",
    ARITHMETIC
)
def square_of_the_queries(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 2 * n_heads * n_q**2 * (d_k + d_v)

@one_line.wrong(
    "The table has n_q *rows* and n_kv columns. Yours is a square of keys: try two queries and seven keys.", ARITHMETIC
)
def square_of_the_keys(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 2 * n_heads * n_kv**2 * (d_k + d_v)

@one_line.wrong(
    "The two widths are multiplied. There are two products one after the other, so their counts are *added*.",
    ARITHMETIC
)
def widths_multiplied(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 2 * n_heads * n_q * n_kv * d_k * d_v

@one_line.wrong(
    "This is right where the two widths are alike, and twice too much: 4 · d stands for 2 · d_k + 2 · d_v.", ARITHMETIC
)
def four_for_each_width(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 4 * n_heads * n_q * n_kv * (d_k + d_v)

@one_line.wrong(
    "The lengths are added. Every query meets every key: that is a table, and its cells are rows *times* columns.",
    ARITHMETIC
)
def lengths_added(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 2 * n_heads * (n_q + n_kv) * (d_k + d_v)

@one_line.wrong(
    "You divide the widths among the heads. d_k and d_v are the widths of *one* head already.", ARITHMETIC
)
def widths_shared_out(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 2 * n_q * n_kv * (d_k + d_v) // n_heads

@one_line.wrong("The widths are missing: a cell is a *sum* over a vector's components, and each of them is work.",
                ARITHMETIC)  # fmt: skip
def cells_alone(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 2 * n_heads * n_q * n_kv

@one_line.wrong("The keys are missing. This is the work of the queries with *one* key.", ARITHMETIC)
def one_key(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 2 * n_heads * n_q * (d_k + d_v)

@one_line.wrong("The queries are missing. This is the work of *one* query.", ARITHMETIC)
def one_query(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 2 * n_heads * n_kv * (d_k + d_v)

@one_line.wrong("The one product is subtracted from the other. Both are work.", ARITHMETIC)
def subtracted(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return 2 * n_heads * n_q * n_kv * (d_k - d_v)

MEANT = {"n_q": "the table has a row for each query", "n_kv": "the table has a column for each key",
         "d_k": "a score is a sum over the d_k components of a key", "d_v": "a value has d_v components to be mixed",
         "n_heads": "each head that asks has a table of its own"}  # fmt: skip
BY_HAND = {("d_k", "d_v"), ("d_v", "d_k"), ("n_q", "n_kv"), ("n_kv", "n_q"), ("n_heads", "n_kv_heads")}
misplaced(one_line, MEANT, ARITHMETIC, but=BY_HAND)

@one_line.right
def the_two_products(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    scores = 2 * n_q * d_k * n_kv
    return n_heads * (scores + 2 * n_q * n_kv * d_v)

@one_line.right
def a_table_of_cells(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    cells = np.ones((n_heads, n_q, n_kv), dtype=int)
    return (2 * d_k + 2 * d_v) * cells.sum()

@one_line.right
def head_by_head(n_q, n_kv, d_k, d_v, n_heads, n_kv_heads):
    return sum(2 * n_q * n_kv * width for _ in range(n_heads) for width in (d_k, d_v))


# 16.2 Predict -----------------------------------------------------------------------------------------------------

def prediction():
    return {"table": 1, "twice": 4, "heads": 1, "causal": 6 / 9}

predict = Exercise(
    "16.predict",
    "Predict",
    task="the size of a layer's tables, two factors and a share.",
    solution=prediction,
    hints=[
        "The table of one head has 4,096² = 2²⁴ cells, a number has 2 bytes, and there are 2⁵ heads.",
        "Twice the rows *and* twice the columns.",
        "Attention's FLOPs are n_heads · 4 · n² · d_k. What happens to d_k when the heads become more, and d_model "
        "stays?",
        "A token sees itself and those before it: 1, 2 and 3 cells, of 3 · 3.",
    ],
)

@predict.wrong("“table”: that is a table of float32. In float16 a number has 2 bytes.", MEMORY)
def four_bytes():
    yield from predict.but("table", 2)

@predict.wrong("“table”: you count cells. A number has 2 bytes.", MEMORY)
def cells_for_bytes():
    yield from predict.but("table", 0.5, 2**29)

@predict.wrong("“table”: that is the table of *one* head. Each of the 32 has its own.", MEMORY)
def one_head():
    yield from predict.but("table", 1 / 32, 32 / 1024, 0.031, 0.0312, 0.03)

@predict.wrong("“table”: that is a number of bytes. Asked for are GiB, so divide by 2³⁰.", MEMORY)
def bytes_for_gib():
    yield from predict.but("table", 2**30)

@predict.wrong("“table”: that is MiB. 1,024 of them are a GiB.", MEMORY)
def mib_for_gib():
    yield from predict.but("table", 1024)

@predict.wrong(
    "“table”: divided by 10⁹, that is GB. A GiB is 2³⁰ bytes, and then the number is round.", MEMORY
)
def gb_for_gib():
    yield from predict.but("table", 2**30 / 1e9, *(round(2**30 / 1e9, digits) for digits in range(1, 6)))

@predict.wrong(
    "“table”: the width of a head has got into it. The scores of a query and a key are *one* number, however wide "
    "they are.", MEMORY
)
def width_in_the_table():
    yield from predict.but("table", 128, 128 * 2, 1 / 32 * 128)

@predict.wrong(
    "“table”: that is q, or k, or v, n · d_model numbers. The scores are a table of n × n for each head.", MEMORY
)
def inputs_for_tables():
    yield from predict.but("table", 1 / 32 * 1.0001, 4096 * 4096 * 2 * 4 / 2**30, 3 / 32)

@predict.wrong(
    "“twice”: twice as many queries, and each of them meets twice as many keys. The table grows on both sides.", SLOPES
)
def grows_like_n():
    yield from predict.but("twice", 2)

@predict.wrong("“twice”: that is three axes doubled. The table has two: queries and keys.", SLOPES)
def grows_like_n_cubed():
    yield from predict.but("twice", 8, 16)

@predict.wrong(
    "“heads”: twice as many heads, but each is half as wide. Look at both factors of n_heads · 4 · n² · d_k. (It is "
    "the *memory* of the tables that doubles.)", ARITHMETIC
)
def more_heads_cost_more():
    yield from predict.but("heads", 2)

@predict.wrong(
    "“heads”: each head is half as wide, but there are twice as many. Look at both factors of n_heads · 4 · n² · d_k.",
    ARITHMETIC
)
def narrow_heads_cost_less():
    yield from predict.but("heads", 0.5)

@predict.wrong("“heads”: the number of heads comes in once, and so does the width of a head. No square here.",
               ARITHMETIC)  # fmt: skip
def heads_squared():
    yield from predict.but("heads", 4, 0.25)

@predict.wrong(
    "“causal”: half is what it tends to in a long text. In one of 3 tokens the diagonal weighs: draw the nine cells.",
    HALF
)
def half_at_any_length():
    yield from predict.but("causal", 0.5)

@predict.wrong("“causal”: the diagonal is missing. A token sees itself, too.", HALF)
def without_the_diagonal():
    yield from predict.but("causal", 3 / 9, 0.33, 0.333)

@predict.wrong("“causal”: that is the number of cells. Asked for is their share of all nine.", HALF)
def cells_for_a_share():
    yield from predict.but("causal", 6)

@predict.wrong("“causal”: rounded too much. Give the fraction itself.", HALF)
def rounded():
    yield from predict.but("causal", 0.66, 0.666, 0.6666, *(round(2 / 3, digits) for digits in range(1, 6)))

@predict.wrong("“causal”: that is per cent. A share is a number from 0 to 1.", HALF)
def per_cent():
    yield from predict.but("causal", 200 / 3, 67, 66, *(round(200 / 3, digits) for digits in range(1, 5)))

@predict.wrong("“causal”: that is more than the triangle has. Count row by row: 1, 2 and 3 cells of 9.", HALF)
def triangle_too_large():
    yield from predict.but("causal", 7 / 9, 8 / 9, 3 / 4, 1)

@predict.right
def computed():
    cost = costs.attention_cost(4096, 128, 32, fused=False)  # memory: two tables
    return {"table": cost.memory / 2 / 2**30, "twice": 2**2, "heads": 64 * 64 / (32 * 128),
            "causal": costs.attention_cost(3, 1, causal=True).flops / costs.attention_cost(3, 1).flops}  # fmt: skip

@predict.right
def as_floats():
    return {"table": 2**5 * (2**12) ** 2 * 2 / 2**30, "twice": 4.0, "heads": 1.0, "causal": 2 / 3}

@predict.right
def as_a_fraction():
    return prediction() | {"causal": Fraction(6, 9)}

predict.right_in_other_forms()

"""Exercises of chapter 6, masking: the causal mask, and masks to read."""

import numpy as np
import torch

from attnbook import functional, masks
from attnbook.exercises import Exercise, Law, Probe

LOOK_BACK, CACHE, BOTH = "Look back only", "Fewer queries than keys", "Both at once"
SHAPES, DIAGONAL = "Other shapes", "One too many, one too few"
WRONG_WAY, NUMBERS = "The wrong way round", "Adding instead of choosing"
BOOLEANS = "a mask holds booleans (zeros and ones are numbers: they would be *added* to the scores)"


# 6.1 One line -----------------------------------------------------------------------------------------------------

def my_causal(n_q, n_kv):
    return np.arange(n_kv)[None, :] <= np.arange(n_q)[:, None] + n_kv - n_q

def lengths_of(rng, n_q, n_kv):
    return n_q, n_kv

def hears_no_future(f, n_q, n_kv):
    x = np.random.default_rng(n_kv).standard_normal((1, n_kv, 3))
    return n_q > n_kv or not masks.leaks(lambda x: functional.attention(x[:, -n_q:], x, x, mask=f(n_q, n_kv)), x).any()

one_line = Exercise(
    "06.causal",
    "One line",
    task="the causal mask, True = may attend, with the last query at the last key.",
    solution=my_causal,
    answer=lambda n_q, n_kv: masks.causal(n_q, n_kv),
    probes=[
        Probe("as many queries as keys", lengths_of, n_q=5, n_kv=5),
        Probe("two new words and four older keys", lengths_of, n_q=2, n_kv=6),
        Probe("one new word", lengths_of, n_q=1, n_kv=4),
        Probe("more queries than keys", lengths_of, n_q=4, n_kv=2),
        Probe("one query, one key", lengths_of, n_q=1, n_kv=1),
        Probe("one key more", lengths_of, n_q=3, n_kv=4),
    ],
    laws=[
        Law(BOOLEANS, lambda f, n_q, n_kv: f(n_q, n_kv).dtype == bool),
        Law("attention with this mask leaks nothing from the future", hears_no_future),
        Law("the last query sees every key", lambda f, n_q, n_kv: f(n_q, n_kv)[-1].all()),
    ],
    large=Probe("", lengths_of, n_q=300, n_kv=400),
    product="A column of positions compared with a row of positions is the whole table.",
    hints=[
        "Make a column of the queries' positions and a row of the keys' positions, and compare them: `[:, None]` makes "
        "a column.",
        "The position of query 0 is not 0, unless there are as many queries as keys. Where does it stand if the last "
        "query stands at the last key?",
        "(6.3) is the line, almost word for word: `np.arange(n_kv)` is j, `np.arange(n_q)[:, None]` is i.",
    ],
)

@one_line.wrong(
    "It is aligned at the *start*: query 0 stands at key 0. With (2, 6) the two new words see only the oldest keys. "
    "A square mask does not show the difference.", CACHE
)
def aligned_at_the_start(n_q, n_kv):
    return np.tril(np.ones((n_q, n_kv), dtype=bool))

@one_line.wrong(
    "The diagonal is hidden: each word is forbidden to see *itself*, and in a square mask the first sees nothing.",
    DIAGONAL
)
def own_position_hidden(n_q, n_kv):
    return np.arange(n_kv) < np.arange(n_q)[:, None] + n_kv - n_q

@one_line.wrong(
    "Each query sees one key too many, the next one, and that is the very word it should foretell.", DIAGONAL
)
def next_word_shown(n_q, n_kv):
    return np.arange(n_kv) <= np.arange(n_q)[:, None] + n_kv - n_q + 1

@one_line.wrong(
    "True and False are exchanged: your True is where a look is *forbidden*. In this book True means “may attend”.",
    WRONG_WAY
)
def true_means_ignore(n_q, n_kv):
    return ~masks.causal(n_q, n_kv)

@one_line.wrong(
    "The comparison points the wrong way: each query sees itself and what comes *later*. Look at the last row, which "
    "should be all True.", LOOK_BACK
)
def looks_forward(n_q, n_kv):
    return np.arange(n_kv) >= np.arange(n_q)[:, None] + n_kv - n_q

@one_line.wrong(
    "The comparison points the wrong way: each query sees itself and what comes *later*. And with (2, 6) query 0 does "
    "not stand at key 0.", LOOK_BACK
)
def looks_forward_from_the_start(n_q, n_kv):
    return np.triu(np.ones((n_q, n_kv), dtype=bool))

@one_line.wrong(
    "Queries and keys have changed places in the comparison: the shift moves the keys on, and each query sees what "
    "comes *later*. It is the queries that stand further on.", LOOK_BACK
)
def keys_moved_on(n_q, n_kv):
    return np.arange(n_q)[:, None] <= np.arange(n_kv) + n_kv - n_q

@one_line.wrong(
    "You shift by the *size* of the difference. With more queries than keys it is negative, and query 0 stands before "
    "key 0: try (4, 2).", CACHE
)
def shift_without_its_sign(n_q, n_kv):
    return np.arange(n_kv) <= np.arange(n_q)[:, None] + abs(n_kv - n_q)

@one_line.wrong(
    "Rows and columns are exchanged: a row belongs to a *query*, a column to a key, and the shape is (n_q, n_kv).",
    "Intuition"
)
def keys_as_rows(n_q, n_kv):
    return masks.causal(n_q, n_kv).T

@one_line.wrong(
    "Keys stand in the rows, and the comparison goes with it. Rows are queries: the shape is (n_q, n_kv).", "Intuition"
)
def a_triangle_of_keys_and_queries(n_q, n_kv):
    return np.arange(n_q)[None, :] <= np.arange(n_kv)[:, None] + n_q - n_kv

@one_line.wrong(
    "The shift goes the wrong way. With more keys than queries, query 0 stands *further on* than key 0, not before it.",
    CACHE
)
def shifted_the_wrong_way(n_q, n_kv):
    return np.arange(n_kv) <= np.arange(n_q)[:, None] - n_kv + n_q

@one_line.wrong(
    "With more queries than keys you stop shifting. The first queries then come before *all* the keys, and their "
    "rows are empty: try (4, 2).", CACHE
)
def never_shifted_back(n_q, n_kv):
    return np.arange(n_kv) <= np.arange(n_q)[:, None] + max(n_kv - n_q, 0)

@one_line.wrong("Its number of columns is n_q: `n_kv` is not used. With (2, 6) there are six keys to say yes or no to.",
                CACHE)  # fmt: skip
def square_of_queries(n_q, n_kv):
    return masks.causal(n_q)

@one_line.wrong("It has a row for every key. Only the new words ask: with (2, 6) there are two rows.", CACHE)
def square_of_keys(n_q, n_kv):
    return masks.causal(n_kv)

@one_line.wrong(
    "Two rows of positions are compared number by number. One of them must stand upright, as a column, so that every "
    "query meets every key.", LOOK_BACK
)
def no_column(n_q, n_kv):
    return np.arange(n_kv) <= np.arange(n_q) + n_kv - n_q

@one_line.wrong(
    "Every cell is True: nothing is forbidden. Perhaps the queries are moved on too far: by n_kv, and not by n_kv − "
    "n_q.", CACHE
)
def everything_allowed(n_q, n_kv):
    return np.ones((n_q, n_kv), dtype=bool)

@one_line.wrong("Every cell is False: nobody may see anybody. Perhaps the queries are moved back, and not on.", CACHE)
def nothing_allowed(n_q, n_kv):
    return np.zeros((n_q, n_kv), dtype=bool)

@one_line.wrong("Only the diagonal is True: each word sees itself and nothing that came before.", LOOK_BACK)
def only_itself(n_q, n_kv):
    return np.arange(n_kv) == np.arange(n_q)[:, None] + n_kv - n_q

@one_line.wrong("What came before is allowed and what comes later too: only the word itself is hidden.", LOOK_BACK)
def all_but_itself(n_q, n_kv):
    return np.arange(n_kv) != np.arange(n_q)[:, None] + n_kv - n_q

@one_line.wrong("This is the additive mask, numbers to add to the scores. Asked for are booleans.", NUMBERS)
def numbers_to_add(n_q, n_kv):
    return masks.to_additive(masks.causal(n_q, n_kv))

@one_line.right
def with_tril(n_q, n_kv):
    return np.tril(np.ones((n_q, n_kv), dtype=bool), k=n_kv - n_q)

@one_line.right
def the_last_rows_of_a_square(n_q, n_kv):
    n = max(n_q, n_kv)
    return np.tri(n, n, dtype=bool)[n - n_q :, n - n_kv :]

@one_line.right
def with_torch(n_q, n_kv):
    return torch.arange(n_kv)[None, :] - torch.arange(n_q)[:, None] <= n_kv - n_q

@one_line.right
def with_loops(n_q, n_kv):
    mask = np.zeros((n_q, n_kv), dtype=bool)
    for i in range(n_q):
        for j in range(n_kv):
            mask[i, j] = j <= i + n_kv - n_q
    return mask

@one_line.right
def with_outer(n_q, n_kv):
    return np.greater_equal.outer(np.arange(n_kv - n_q, n_kv), np.arange(n_kv))


# 6.2 Read the picture ---------------------------------------------------------------------------------------------

def reading():
    return {"A": "prefix", "B": "sliding window", "C": "causal and padding", "D": "local",
            "cells": 1 + 2 + 98 * 3}

picture = Exercise(
    "06.read",
    "Read the picture",
    task="the names of the four masks, and the number of ones in a sliding window of 3 for 100 tokens.",
    solution=reading,
    hints=[
        "Is the upper right triangle empty? Then nobody sees the future. Is a column dark from top to bottom? Then "
        "nobody sees that key.",
        "`|` makes more cells bright than the causal triangle has, `&` makes fewer.",
        "For the count: the first row has 1 cell, the second 2, and from the third on they all have the same number.",
    ],
)  # fmt: skip

BANDS, TRIANGLES = ("sliding window", "local"), ("prefix", "causal and padding")

@picture.wrong(
    "A: some of its cells *above* the diagonal are bright, so something from the future may be seen. No `&` with the "
    "causal mask can do that.", SHAPES
)
def prefix_taken_for_padding():
    return reading() | {"A": "causal and padding"}

@picture.wrong("A: its last row is bright throughout. In a band nobody sees what is far away.", SHAPES)
def prefix_taken_for_a_band():
    for name in BANDS:
        yield reading() | {"A": name}

@picture.wrong(
    "B: nothing above its diagonal is bright. A local mask looks both ways, this one looks back only.", SHAPES
)
def window_taken_for_both_ways():
    return reading() | {"B": "local"}

@picture.wrong("B: look at its last row. The early keys are dark there, so how far one sees is limited.", SHAPES)
def window_taken_for_a_triangle():
    for name in TRIANGLES:
        yield reading() | {"B": name}

@picture.wrong(
    "C: whole columns are dark, and nothing above the diagonal is bright. In a prefix mask every key is seen by "
    "somebody, the first ones by all.", BOTH
)
def padding_taken_for_prefix():
    return reading() | {"C": "prefix"}

@picture.wrong("C: every query sees the *first* key, however far it is. In a band it would get out of sight.", BOTH)
def padding_taken_for_a_band():
    for name in BANDS:
        yield reading() | {"C": name}

@picture.wrong(
    "D: there are bright cells on both sides of the diagonal: it looks forward too, which a sliding window does not.",
    SHAPES
)
def local_taken_for_a_window():
    return reading() | {"D": "sliding window"}

@picture.wrong("D: in every row it is the *near* keys that are bright, before and after. It has no triangle.", SHAPES)
def local_taken_for_a_triangle():
    for name in TRIANGLES:
        yield reading() | {"D": name}

@picture.wrong("One name is not quite one of the four: take them letter by letter from the text.", SHAPES)
def a_name_of_its_own():
    others = {
        "A": ["causal or padding", "causal | padding"], "B": ["window", "sliding", "causal and local"],
        "C": ["causal", "padding", "causal & padding", "causal padding"], "D": ["local (both ways)", "both ways"],
    }  # fmt: skip
    for letter, names in others.items():
        for name in names:
            yield reading() | {letter: name}

@picture.wrong(
    "The count: not every row has three cells. The first word has nothing before it, the second only one.", SHAPES
)
def three_in_every_row():
    return reading() | {"cells": 300}

@picture.wrong("The count: the first two rows are not empty. They have fewer than three cells, but they have some.",
               SHAPES)  # fmt: skip
def first_rows_left_out():
    for cells in (294, 295, 296):
        yield reading() | {"cells": cells}

@picture.wrong("The count is that of the whole causal triangle. A window of 3 forgets what is further back.", LOOK_BACK)
def whole_triangle():
    return reading() | {"cells": 5050}

@picture.wrong("The count is that of the *local* mask, or nearly: a sliding window does not look ahead.", SHAPES)
def counted_both_ways():
    for cells in (494, 500):
        yield reading() | {"cells": cells}

@picture.wrong("You count three keys *besides* the word itself. A window of 3 has oneself included.", SHAPES)
def oneself_not_included():
    for cells in (394, 400):
        yield reading() | {"cells": cells}

@picture.wrong("You count two keys in a row. Oneself included there are three: two before, and oneself.", SHAPES)
def a_window_of_two():
    for cells in (199, 200, 197):
        yield reading() | {"cells": cells}

@picture.wrong("The count is that of the picture, 8 tokens. Asked for is the same window for 100.", SHAPES)
def eight_tokens():
    return reading() | {"cells": 21}

@picture.right
def count_of_the_mask():
    return reading() | {"cells": (masks.causal(100) & masks.local(100, 100, 3)).sum()}

@picture.right
def in_another_order():
    return dict(sorted(reading().items(), reverse=True))

@picture.right
def three_a_row_less_the_corner():
    return reading() | {"cells": 3.0 * 100 - 3}

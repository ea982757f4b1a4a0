"""Exercises of chapter 4, self-attention and position: say it before you run it, and read the picture."""

import numpy as np

from attnbook import functional, positions
from attnbook.exercises import Exercise
from attnbook.exercises.ch04 import ORDER


# 4.2 Say it before you run it -------------------------------------------------------------------------------------

def changes():
    return (False, True, True, False)

equivariance = Exercise(
    "04.equivariance",
    "Say it before you run it",
    task="four booleans, for no positions, a learned table, RoPE and ALiBi: does the output of *bites* change.",
    solution=changes,
    hints=[
        "*bites* stays in the middle. Where do *dog* and *man* stand, seen from there, before and after?",
        "Which of the four ways gives *dog* another vector, another angle or another penalty when it moves from the "
        "left of *bites* to the right?",
    ],
)

@equivariance.wrong(
    "First entry: without positions a sentence is a set of words. *bites* asks the same three words as before, and "
    "their order does not enter the sum.", ORDER
)
def a_set_with_an_order():
    return (True, True, True, False)

@equivariance.wrong(
    "Second entry: the table has a row for each place. *dog* gets another one added when it moves from the first "
    "place to the last, so its key and its value are others.", "The second way: learned"
)
def table_that_does_not_matter():
    return (False, False, True, False)

@equivariance.wrong(
    "Third entry: distance has a sign. To the left of *bites* a key is turned back against the query, to the right "
    "it is turned ahead.", "With RoPE, distance is all that counts"
)
def rope_without_a_side():
    return (False, True, False, False)

@equivariance.wrong(
    "Fourth entry: write the penalties of *dog* and of *man* down, before and after. Without a mask ALiBi counts the "
    "steps, not the side.", "The fourth way: a penalty for distance (ALiBi)"
)
def alibi_with_a_side():
    return (False, True, True, True)

@equivariance.right
def as_a_list():
    return [False, True, True, False]

@equivariance.right
def as_an_array():
    return tuple(np.array([0, 1, 1, 0], dtype=bool))

@equivariance.right
def by_running_it():
    a, table = np.random.default_rng(0).standard_normal((2, 3, 4))
    def attend(x, way):
        x = x + table if way == 1 else x
        q, k = (positions.rope(x), positions.rope(x)) if way == 2 else (x, x)
        bias = positions.alibi(1, 3)[0] if way == 3 else 0
        return functional.softmax(functional.scaled_scores(q, k) + bias) @ x
    return tuple(not np.allclose(attend(a, way)[1], attend(a[::-1], way)[1]) for way in range(4))


# 4.3 Read the picture ---------------------------------------------------------------------------------------------

def heads():
    return {"A": "same", "B": "next", "C": "near", "D": "previous"}

picture = Exercise(
    "04.picture",
    "Read the picture",
    task="a dict from the four letters to same, previous, next and near.",
    solution=heads,
    hints=[
        "Rows are queries: a row says where its word looks. Take the row of *saw* and read where its weight is.",
        "Look at the two rows of *a*: in one head only are they exactly alike. And in one head the weight fades on "
        "both sides of the word.",
    ],
)

@picture.wrong(
    "You read columns as queries. A *row* says where its word looks: in the row of *saw*, does the bright cell lie "
    "on the word before it or on the one after it?", "3 · Every query, every key"
)
def columns_read_as_queries():
    yield heads() | {"B": "previous", "D": "next"}
    yield heads() | {"B": "previous"}
    yield heads() | {"D": "next"}

@picture.wrong(
    "In both A and C the diagonal is bright. But who looks for the same *word* finds its other occurrence too, "
    "however far away: compare the two rows of *a*.", "What a projection can pick out: the same word"
)
def same_and_near_exchanged():
    yield heads() | {"A": "near", "C": "same"}
    yield heads() | {"A": "near"}
    yield heads() | {"C": "same"}

@picture.wrong(
    "A head that prefers what is near has weight on *both* sides, most of it on the word itself, and it fades with "
    "each step. B and D have theirs on one side, one step away.", "The fourth way: a penalty for distance (ALiBi)"
)
def a_neighbour_taken_for_near():
    yield heads() | {"B": "near"}
    yield heads() | {"D": "near"}

@picture.wrong(
    "In B and D no word looks at itself (but for the one that finds nothing). A head for the same word puts weight on "
    "the diagonal, which is the word itself.", "What a projection can pick out: the same word"
)
def a_neighbour_taken_for_same():
    yield heads() | {"B": "same"}
    yield heads() | {"D": "same"}

@picture.wrong(
    "In A and C the largest weight of a row is on the word itself. *Previous* and *next* put it one step off the "
    "diagonal.", "Chairs: the position as a part of x"
)
def diagonal_taken_for_a_neighbour():
    yield heads() | {"A": "previous"}
    yield heads() | {"A": "next"}
    yield heads() | {"C": "previous"}
    yield heads() | {"C": "next"}

@picture.right
def in_another_order():
    return dict(sorted(heads().items(), reverse=True))

@picture.right
def zipped():
    return dict(zip("ABCD", ["same", "next", "near", "previous"]))

@picture.right
def turned_round():
    return {letter: name for name, letter in (("near", "C"), ("next", "B"), ("previous", "D"), ("same", "A"))}

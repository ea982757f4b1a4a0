"""Quizzes of chapter 17: FlashAttention, by hand."""

import math

from attnbook.widgets import TileExplorer
from attnbook.widgets.quiz import Choice, Number, Order, Quiz


def online():
    return Quiz(
        Number(
            "A row has the scores 0, 0 and ln 3. They come one by one. What is the running sum after"
            " the third?",
            2 * math.exp(-math.log(3)) + 1,
            wrong={
                5: "That is the sum of the bare exponentials, 1 + 1 + 3. The running sum is relative"
                   " to the maximum, ln 3.",
                3: "The first two were counted as 1 each, relative to the maximum 0. It is ln 3 now,"
                   " so they count a third each.",
                7: "The factor is exp(0 − ln 3) = 1/3. You have multiplied by 3.",
                4: "Only one of the old terms has become smaller, or the new one has grown: both old"
                   " terms are in the sum that is corrected.",
                1: "That is the newcomer alone. The two before it are still in the sum, a third"
                   " each.",
            },
            why="The sum was 2, times exp(0 − ln 3) = 1/3, plus 1 for the newcomer: 5/3. Times the"
                " exponential of the maximum, 3, it is the true sum 5.",
        ),
        Choice(
            "A block comes in which a row has no score larger than its maximum. What happens to the"
            " row's m, l and o?",
            {
                "m stays, l and o only get something added": True,
                "All three stay as they are":
                    "Smaller scores have weights too. They are added to l and to o.",
                "l is corrected, o is not":
                    "Both are corrected by the same factor, and here it is exp(0) = 1.",
                "m becomes the block's maximum":
                    "m is the largest of all so far, and that was an earlier one.",
            },
            why="The factor is exp(m − m) = 1. Nothing to correct, only to add.",
        ),
        Order(
            "A tile is on the desk: what is done with it, in which order?",
            [
                "Multiply queries and keys into scores",
                "Find the new maximum of each row",
                "Multiply the old sum and output by exp(m before − m after)",
                "Add the tile's exponentials, and the values weighed with them",
                "Forget the scores",
            ],
            wrong={
                ("Add the tile's exponentials, and the values weighed with them",
                 "Multiply the old sum and output by exp(m before − m after)"):
                    "Then the factor would take hold of the tile's own part as well, which is"
                    " relative to the new maximum already.",
                ("Multiply the old sum and output by exp(m before − m after)",
                 "Find the new maximum of each row"):
                    "The factor needs the maximum after this tile, so find it first.",
                ("Find the new maximum of each row", "Multiply queries and keys into scores"):
                    "It is the maximum of the scores: they have to be there.",
                ("Forget the scores", "Add the tile's exponentials, and the values weighed with them"):
                    "Once the scores are gone, there is nothing to take the exponential of.",
            },
            why="After that the tile is gone for good: m, l and o are all that is left of it.",
        ),
        title="The note on the desk",
    )


def traffic():
    last = TileExplorer(8, 4, 2)
    return Quiz(
        Number(
            "64 queries and keys, blocks of 16 queries and 8 keys, no mask. How often is each key"
            " read from slow memory?",
            64 // 16,
            wrong={
                8: "There are 8 blocks of keys, but a key is in one of them. Count the blocks of"
                   " queries that come past.",
                1: "It would be once if all the queries fitted on the desk together.",
                64: "Not for each query: a block of 16 shares one reading.",
                16: "That is how many queries share one reading, not how many readings there are.",
                32: f"That is how many tiles there are. (A smaller example: {last.steps} tiles, and"
                    " each key is read twice.)",
            },
            why="Once for each of the 64 / 16 blocks of queries. The block of keys does not matter"
                " here.",
        ),
        Choice(
            "What does FlashAttention have less of than the naive way?",
            {
                "Numbers carried to and from slow memory": True,
                "Memory beside inputs and output": True,
                "Multiplications": "It has all of them, and some more for the corrections.",
                "Exact digits":
                    "It is the same sum in another order: equal up to rounding.",
                "Terms of order n² in its traffic":
                    "They are there, n² · d² / M. The factor in front is small.",
            },
            why="The arithmetic is that of attention, n². What is saved is the carrying, and the"
                " room for the table.",
        ),
        Choice(
            "The backward pass needs the weights again. What is kept of the forward pass to have"
            " them, beside q, k and v?",
            {
                "One number a row, the log-sum-exp": True,
                "The maximum of each row":
                    "The maximum alone leaves the sum unknown. m + log l holds both in one number.",
                "The weights, a tile at a time":
                    "All the tiles together are the table again.",
                "Nothing: the running maximum is run once more":
                    "That would do, with a second pass over the row. The log-sum-exp saves it.",
            },
            why="exp(score − lse) is the weight: computed, used and forgotten, a tile at a time.",
        ),
        title="What is carried",
    )

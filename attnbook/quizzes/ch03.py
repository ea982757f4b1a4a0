"""Quizzes of chapter 3: scaled dot-product attention."""

import math

import numpy as np

from attnbook import functional
from attnbook.widgets.quiz import Choice, Number, Order, Quiz


def shapes():
    three, seven, wide = np.ones((3, 4)), np.ones((7, 4)), np.ones((7, 5))
    return Quiz(
        Order(
            "From Q, K and V to the output: in which order?",
            [
                "Multiply the queries with the transposed keys",
                "Divide the scores by √d_k",
                "Apply softmax along each row",
                "Multiply the weights with the values",
            ],
            wrong={
                ("Apply softmax along each row", "Divide the scores by √d_k"):
                    "After the softmax a division makes all the weights smaller, and a row no"
                    " longer shares out 1. It cannot change who is picked any more.",
                ("Multiply the weights with the values", "Apply softmax along each row"):
                    "The values are mixed in shares, and shares are what the softmax makes.",
                ("Apply softmax along each row",
                 "Multiply the queries with the transposed keys"):
                    "Softmax turns scores into weights, and scores come from that product.",
                ("Divide the scores by √d_k", "Multiply the queries with the transposed keys"):
                    "There are no scores to divide before queries and keys have met.",
            },
            why="Three lines of code: the first two steps are one of them.",
        ),
        Number(
            "3 queries ask 7 keys. Queries and keys have 4 components, values have 5. How many"
            " weights are there?",
            functional.attention(three, seven, wide, return_weights=True)[1].size,
            wrong={
                3 * 3: "The queries do not ask each other here. Each asks the 7 keys.",
                3 * 4: "That is as many numbers as the queries have. A weight belongs to a"
                       " query and a key, not to a component.",
                7 * 7: "Only the three queries ask.",
                7 * 5: "That is as many numbers as the values have.",
                3 * 5: "That is the size of the output, which is as wide as the values.",
                3 * 7 * 4: "The four components are added up in the dot product.",
                3 + 7: "Every query meets every key: pairs are multiplied, not added.",
            },
            why="One weight for each pair of a query and a key, however wide the vectors are.",
        ),
        Choice(
            "Which sizes have to agree?",
            {
                "The width of the queries and the width of the keys": True,
                "The number of keys and the number of values": True,
                "The number of queries and the number of keys":
                    "Under “Check it” five queries asked seven keys.",
                "The width of the keys and the width of the values":
                    "Keys meet queries, and values are mixed. The two widths never meet.",
            },
            why="Queries and keys meet in a dot product; keys and values come in pairs.",
        ),
        Choice(
            "A query is (0, 0, 0, 0). What comes out for it?",
            {
                "The average of all the values, each counting the same": True,
                "Zeros":
                    "Its scores are zeros. But a row of the weights always hands out its whole"
                    " unit, even when nothing fits.",
                "Its own value":
                    "Nothing in the three lines knows which key is its own: they see scores"
                    " only.",
                "NaN":
                    "A score of 0 has the exponential 1, so nothing is divided by 0.",
            },
            why="All the scores are 0, so all the weights are equal.",
        ),
        title="Shapes and steps",
    )


def root():
    return Quiz(
        Number(
            "Queries and keys of 256 components, independent, with mean 0 and variance 1. How"
            " large is a typical score q·k before it is divided (its standard deviation)?",
            math.sqrt(256),
            wrong={
                256: "That is the variance, the square of a typical size.",
                1: "That is the size after the division.",
                1 / math.sqrt(256): "That is the factor that the score is multiplied by.",
            },
            why="The variance of a sum of d_k independent products is d_k, so its root is the"
                " size. Dividing by it gives 1.",
        ),
        Number(
            "A model of width 512 runs 32 heads side by side, each on its share of the width."
            " By which number are the scores of one head divided?",
            math.sqrt(512 / 32),
            wrong={
                512 / 32: "That is d_k, the width of one head. The root of it is what divides.",
                math.sqrt(512): "That is √d_model. A score of this head is a sum of fewer"
                                " products than that.",
                math.sqrt(32): "That is the root of the number of heads. A score is a sum over"
                               " the components of one head.",
                512: "That is the width of the whole model, and without a root.",
            },
            why="Each head has d_k = 16 components, and √16 = 4.",
        ),
        Choice(
            "A wide model, just initialised, leaves the √d_k out. What goes wrong?",
            {
                "A row's weight sits on one key, by chance, and hardly a gradient passes": True,
                "All the weights are nearly equal":
                    "That is what dividing by d_k itself does: the scores are then too small.",
                "The rows of the weights no longer sum to 1":
                    "Softmax sees to that whatever the scores are.",
                "The exponentials overflow and give NaN":
                    "The maximum of each row is subtracted first. The numbers are finite, and"
                    " the trouble is that they are nearly 0 and 1.",
            },
            why="A saturated softmax has a Jacobian of nearly 0: the model starts out sure,"
                " and cannot be taught otherwise.",
        ),
        Choice(
            "As many queries as keys, and values as wide as keys: no shape can clash. Which of"
            " these mistakes does the check “every row of the weights sums to 1” find?",
            {
                "Softmax along the queries": True,
                "The keys are mixed where the values should be":
                    "The weights are right. Only what they mix is wrong.",
                "Queries and keys are exchanged":
                    "The scores are turned over, and then the softmax makes every row sum to"
                    " 1.",
                "√d_model where √d_k should be":
                    "The rows sum to 1 at any scale. They are only softer than they should be.",
            },
            why="For the others, test with all sizes different, or against another"
                " implementation.",
        ),
        title="The root, and the traps",
    )

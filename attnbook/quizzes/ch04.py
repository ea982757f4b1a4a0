"""Quizzes of chapter 4: self-attention and position."""

import math

import numpy as np

from attnbook import positions
from attnbook.widgets.quiz import Choice, Number, Order, Quiz


def projections():
    w_q, w_k, w_v = np.zeros((16, 8)), np.zeros((16, 8)), np.zeros((16, 5))
    projecting, turning = "Project x to queries, keys and values", "Turn queries and keys"
    scoring = "Multiply queries with keys, and divide by √d_k"
    sharing, mixing = "Apply softmax along each row", "Multiply the weights with the values"
    return Quiz(
        Number(
            "Two sentences of 6 words; each word is a vector of 16 numbers. Queries and keys"
            " have 8 components, values 5. How many numbers do the three matrices hold"
            " together?",
            w_q.size + w_k.size + w_v.size,
            wrong={
                2 * (w_q.size + w_k.size + w_v.size):
                    "The same matrices serve both sentences.",
                6 * (8 + 8 + 5): "That is how many numbers Q, K and V hold for one sentence."
                                 " The matrices do not grow with it.",
                2 * 6 * (8 + 8 + 5): "That is how many numbers Q, K and V hold. The matrices do"
                                     " not grow with the text.",
                6 * (w_q.size + w_k.size + w_v.size):
                    "The rules are the same for every word of a sentence.",
                w_q.size + w_k.size: "That is W_Q and W_K. The third is missing.",
                3 * w_q.size: "The third matrix makes values, which are only 5 wide.",
                3 * 16 * 16: "Queries, keys and values are narrower than x here.",
                8 + 8 + 5: "That is how wide the three are together. Each matrix has 16 rows,"
                           " too.",
            },
            why="16 · (8 + 8 + 5), however long and however many the sentences are.",
        ),
        Choice(
            "A sentence is shuffled, and the model knows no positions. What happens to the"
            " output of one of its words?",
            {
                "It is the same vector, in the row where the word now stands": True,
                "It is another vector, for the word has other neighbours":
                    "Nothing in the formula asks who stands next to whom. The word meets the"
                    " same queries, keys and values as before.",
                "It is the same vector, in the same row as before":
                    "Row i of the output belongs to row i of x, so it moves with its word.",
                "It is the average of the outputs before and after":
                    "Each order is computed by itself; nothing is averaged over orders.",
            },
            why="That is (4.3): shuffle and attend, or attend and shuffle, it is the same.",
        ),
        Choice(
            "x holds the words alone. Which W_Q and W_K let each word find the one before it?",
            {
                "There are none": True,
                "W_K the identity, W_Q the identity moved by one place":
                    "That works where x has a component for each place. Here a component says"
                    " which word it is.",
                "Those that training finds":
                    "Training can only find what exists. Two equal words have the same query,"
                    " whatever W_Q is.",
                "W_Q = W_K":
                    "Then scores are symmetric: a word scores as high with the one before it"
                    " as the other way round.",
            },
            why="Equal rows of x have equal queries and get equal outputs, wherever they"
                " stand.",
        ),
        Order(
            "Self-attention with RoPE, from x to the output: in which order?",
            [projecting, turning, scoring, sharing, mixing],
            wrong={
                (turning, projecting):
                    "RoPE leaves x alone. What it turns does not exist before the projection.",
                (scoring, turning):
                    "A score is a single number: there is nothing left to turn.",
                (scoring, projecting):
                    "Scores are made of queries and keys, and those are made by projecting.",
                (sharing, scoring):
                    "Softmax turns scores into weights, so there must be scores.",
                (mixing, sharing):
                    "The values are mixed in shares, and shares are what softmax makes.",
            },
            why="The values are projected with the rest, and wait unturned for the last step.",
        ),
        title="Projections and order",
    )


def four_ways():
    east = np.array([[1.0, 0.0]])                     # one pair of components
    met = (positions.rope(east, offset=2) @ positions.rope(east, offset=5).T).item()
    penalty = positions.alibi(8, 10)[2, 9, 5]         # head 3 is row 2
    return Quiz(
        Number(
            "One pair of components, which turns by one radian a word. Query and key are both"
            " (1, 0) before they are turned. The query stands at position 2, the key at 5. What"
            " is their dot product?",
            met,
            tolerance=0.01,
            wrong={
                1: "That is the dot product before the turn.",
                math.cos(2): "Only the query is turned in this. The key turns too, by 5"
                             " radians.",
                math.cos(5): "Only the key is turned in this. The query turns too, by 2"
                             " radians.",
                math.cos(7): "The angles are added in this. What counts is the angle between"
                             " the two arrows.",
                math.sin(3): "That is the sine of the angle between them. A dot product is the"
                             " cosine, times both lengths.",
                3: "That is the angle between them. A dot product is its cosine, times both"
                   " lengths.",
            },
            why="Between the arrows are 3 radians, nearly half a turn, so they point in"
                " opposite directions. At positions 102 and 105 it is the same.",
        ),
        Number(
            "ALiBi with 8 heads. What is added to the score in head 3, for a query at position"
            " 9 and a key at position 5?",
            penalty,
            wrong={
                -penalty: "That would be a reward for being far away.",
                positions.alibi(8, 10)[0, 9, 5]: "That is head 1, the steepest.",
                positions.alibi(8, 10)[3, 9, 5]: "That is head 4. (4.8) begins with head 1.",
                penalty / 4: "That is the penalty for one step. There are four.",
                -4: "That is the distance. Each step costs the slope of the head.",
                2.0 ** -3: "That is the slope of the head, what one step costs.",
                math.exp(penalty): "That is the factor on the weight. To the score the penalty"
                                   " itself is added.",
            },
            why="Head 3 has the slope 2 to the power -3, one eighth, and there are four steps.",
        ),
        Choice(
            "A text is moved on by 500 places. With which of these do all its scores stay as"
            " they were?",
            {
                "RoPE": True,
                "ALiBi": True,
                "No positions at all": True,
                "Sinusoidal vectors":
                    "The product of two of them depends on the distance alone. But the products"
                    " of a word with a position change, and they are in the score too.",
                "A learned table":
                    "Other rows are added, if the table has any so far on.",
            },
            why="RoPE and ALiBi know the distance alone, and no positions know nothing.",
        ),
        Choice(
            "Weights that were trained with half-split RoPE are loaded into a program that"
            " turns neighbours. What do you see?",
            {
                "It runs, and its answers are worse": True,
                "An error about shapes":
                    "Both layouts take the same shapes and return the same shapes.",
                "Nothing: it is the same rotation":
                    "It is, once the components are renumbered. As they are, components are"
                    " turned together that never belonged together.",
                "Queries that have become longer or shorter":
                    "Both layouts rotate, and a rotation keeps lengths.",
            },
            why="Nothing announces it. Compare a few scores with the program that trained it.",
        ),
        title="The four ways, and the traps",
    )

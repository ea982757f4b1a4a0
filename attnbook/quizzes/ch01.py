"""Quizzes of chapter 1: softmax."""

import numpy as np

from attnbook.functional import softmax
from attnbook.widgets.quiz import Choice, Number, Order, Quiz


def gaps():
    return Quiz(
        Number(
            "One dish scores 5, another 3. How many times as much of the first is on the"
            " plate? (One digit behind the point is enough.)",
            np.exp(5 - 3), tolerance=0.06,
            wrong={
                5 / 3: "That is the ratio of the scores. Had the guest written both numbers 1"
                       " lower, it would be 2: softmax looks at the gap alone.",
                5 - 3: "That is the gap. It becomes a ratio by the exponential function.",
                2 * np.e: "A gap of 1 is a factor of e. Two such steps multiply, e times e:"
                          " gaps add, ratios multiply.",
                np.exp(3 - 5): "That is how much of the second there is, for one of the first.",
                softmax(np.array([5.0, 3.0]))[0]: "That is the weight of the first. Its ratio"
                                                  " to the weight of the second is asked for.",
            },
            why="A ratio of weights is e to the gap of the scores: exp(5 - 3).",
        ),
        Choice(
            "All scores of a float32 row rise by 100. What does a softmax that subtracts the"
            " maximum return?",
            {
                "The same weights as before": True,
                "Larger weights, by the factor exp(100)":
                    "Every exponential grows by that factor, and so does their sum. It"
                    " cancels.",
                "NaN":
                    "exp(100) is too large for float32, but it is never computed: the maximum"
                    " is subtracted first, and the largest exponential is exp(0) = 1.",
                "Equal shares":
                    "Equal shares need equal scores. The gaps are what they were.",
            },
            why="Only differences count, and no difference has changed.",
        ),
        Choice(
            "Three dishes score 2, 2 and 0.1. You cool the plate, with T ever closer to 0."
            " Where do the weights go?",
            {
                "½, ½, 0": True,
                "1, 0, 0":
                    "That is the arg-max of NumPy, which takes whichever stands first. Between"
                    " two equal scores the gap is 0 and the ratio 1 at every temperature.",
                "⅓, ⅓, ⅓":
                    "That is the hot limit, where every gap vanishes.",
                "NaN":
                    "T = 0 itself would divide by 0. But the weights on the way there are"
                    " fine, and they do tend to something.",
            },
            why="The first two stay alike, and the gap to the third grows without end.",
        ),
        Order(
            "Bring a softmax that no score breaks into order.",
            [
                "Find the maximum of each row",
                "Subtract it from the scores of its row",
                "Take the exponential of every number",
                "Add up the exponentials of each row",
                "Divide every exponential by the sum of its row",
            ],
            wrong={
                ("Take the exponential of every number",
                 "Subtract it from the scores of its row"):
                    "The exponential overflows before the maximum can help.",
                ("Take the exponential of every number", "Find the maximum of each row"):
                    "By then the exponentials may be infinite. It is the maximum of the scores"
                    " that is subtracted from the scores.",
                ("Add up the exponentials of each row", "Take the exponential of every number"):
                    "There are no exponentials to add up yet.",
                ("Divide every exponential by the sum of its row",
                 "Add up the exponentials of each row"):
                    "The sum has to be known before anything is divided by it.",
            },
            why="The sum lies between 1 and n, whatever the scores are.",
        ),
        title="From scores to weights",
    )


def slopes():
    share = 0.8
    return Quiz(
        Choice(
            "Four guests, four dishes, and softmax ran along the wrong axis. Which check"
            " notices?",
            {
                "Every row sums to 1": True,
                "All the weights together sum to 4":
                    "They do along either axis: four columns that sum to 1 are 4 in all, as"
                    " four rows are.",
                "The shape is (4, 4)":
                    "Softmax keeps the shape, whichever axis it runs along.",
                "Every weight lies between 0 and 1":
                    "It does along either axis. Shares are shares; the question is of what.",
            },
            why="Sizes that all differ help too, but this law finds the mistake at any size.",
        ),
        Number(
            f"Two dishes share a plate, {share} and {1 - share:.1f}. You nudge the score of the"
            " first up. At what rate does its weight grow?",
            share * (1 - share), tolerance=0.001,
            wrong={
                share: "The factor that says what is left to gain is missing: w (1 − w).",
                1 - share: "The factor w is missing: a dish that is hardly on the plate hardly"
                           " moves.",
                share**2: "That is w². A dish with the whole plate would be the fastest, and"
                          " it has nothing to gain.",
                1 / 4: "That is the steepest slope there is, at equal shares.",
                -share * (1 - share): "That is what happens to the other dish.",
            },
            why="The rate is w (1 − w), and the other weight shrinks at the same rate.",
        ),
        Choice(
            "You need log w for a score 150 below the best one, in float32. Which line gives"
            " it?",
            {
                "`x - logsumexp(x)`": True,
                "`np.log(softmax(x))`":
                    "exp(−150) is rounded to 0, and the logarithm of 0 is −∞.",
                "`np.log(softmax(x) + 1e-9)`":
                    "No infinity any more, and no truth either: it says −20.7 where −150 is"
                    " right, and it says the same for −1000, so nothing can be learned from"
                    " it.",
                "`np.log(softmax(x - x.max()))`":
                    "A shift changes nothing: softmax has subtracted the maximum already, and"
                    " the weight is rounded to 0 as before.",
            },
            why="The logarithm is never taken of a number that could be 0.",
        ),
        Number(
            "A model returns softmax of [30, 0, 0], and the loss applies softmax once more."
            " How large is the largest weight now? (Two digits.)",
            softmax(softmax(np.array([30.0, 0.0, 0.0]))).max(), tolerance=0.006,
            wrong={
                1.0: "That is the largest after the first softmax. To the second one it is a"
                     " score of 1, with a lead of 1 over the others.",
                1 / 3: "The others are behind by a gap of 1, so it is more than an equal"
                       " share.",
                np.e / (np.e + 1): "There are two others, each with exp(0) = 1 in the sum.",
            },
            why="It is e / (e + 2): however sure the first softmax was, the second cannot be.",
        ),
        title="Slopes and traps",
    )

"""Quizzes of chapter 2: attention as a soft lookup."""

import numpy as np

from attnbook.functional import softmax
from attnbook.widgets.quiz import Choice, Number, Order, Quiz


def lookups():
    share = np.exp(-(4.0**2) / (2 * 2.0**2))
    far = Number(
        "With bandwidth 2, how many times the weight of a key at distance 0 does a key at "
        "distance 4 get? Two digits behind the point are enough.",
        share,
        tolerance=0.006,
        wrong={
            np.exp(-0.5): "That is a key at distance h. This one is at distance 2h, and the "
            "distance counts with its square.",
            np.exp(-1): "You doubled the exponent because the distance doubled. The distance "
            "is squared, so the exponent is four times as large.",
            np.exp(-4): "The 2 in 2h² is missing.",
            np.exp(-8): "That is 16/2: divide by 2h², not by 2.",
            0.25: "That would be one over the square. The weights fall off as an exponential.",
            0.5: "Twice the bandwidth away is not half the weight: put both distances "
            "in (2.1).",
        },
        why="The exponent is −4² / (2 · 2²) = −2. Two bandwidths away, a key still whispers.",
    )
    shapes_of = Choice(
        "Seven queries ask 48 readings. Keys have 2 components, values have 3. What shape does "
        "the answer have?",
        {
            "(7, 3)": True,
            "(7, 2)": "That is the keys' width. Keys are only compared; what is blended, and "
            "handed over, are the values.",
            "(48, 3)": "One row for each reading? The readings are summed over, and each "
            "query gets one answer.",
            "(7, 48)": "Those are the weights: a row for each query, a column for each key. "
            "They still have to blend the values.",
        },
        why="The weights are (7, 48) and the values (48, 3): the 48 is summed away.",
    )
    unchanged = Choice(
        "Which of these leave all the answers of a Gaussian lookup as they are?",
        {
            "Adding 7 to all the scores of one query": True,
            "Listing the readings in another order, each key with its value": True,
            "Doubling all distances and the bandwidth": True,
            "Doubling all the scores": "Their differences double too, which is half the "
            "temperature: the lookup gets sharper.",
            "Adding 7 to all the values": "The weights stay, but the blend of values that are "
            "7 higher is 7 higher.",
            "Writing one of the readings down twice": "It then has two places in the softmax, "
            "and twice the weight together.",
        },
        why="Softmax ignores what is added to a row, a sum has no order, and only the ratio of "
        "distance to bandwidth enters the scores.",
    )
    wind = Choice(
        "Why did the learned dot product drop the wind?",
        {
            "Readings with similar wind do not help to predict the temperature": True,
            "The wind channels were marked as noise": "Nobody marked anything, and there are "
            "no wind channels: every channel has clock and wind in it.",
            "The matrices have two columns, and the clock came first": "Two columns leave room "
            "for two directions. Which two was found by following the slope of the loss.",
            "Dot products ignore what varies most": "The fixed Gaussian shows the opposite: "
            "what varies most decides, unless a matrix takes it out.",
        },
        why="Blending by wind mixes all the hours, and the loss goes up.",
    )
    return Quiz(far, shapes_of, unchanged, wind, title="Lookups, fixed and learned")


def conclusions():
    hours = np.array([6.0, 9.0, 12.0, 15.0, 18.0])  # the readings of the chapter
    score, hide, exps, divide, blend_all = steps = [
        "Score every key against the query",
        "Write −∞ where a key must not be used",
        "Subtract the row's largest score and take exponentials",
        "Divide by the sum of the row",
        "Multiply by the values and add up",
    ]
    order = Order(
        "Leave-one-out, for one reading: bring the steps into order.",
        steps,
        wrong={
            (exps, hide): "After the exponentials −∞ is no longer a way to hide something: "
            "0 would be. And a row's largest score should not be that of a hidden key.",
            (divide, hide): "A weight that is removed after the division leaves a row that "
            "does not sum to 1.",
            (divide, exps): "Scores may sum to 0 or less. It is the exponentials that are "
            "divided by their sum.",
            (hide, score): "The scores have to be there before some of them are overwritten.",
            (blend_all, divide): "It could be done (the sum divides the answer then), but what "
            "blends the values here are weights, which sum to 1 already.",
        },
        why="Hidden before the softmax, a key has the weight 0 and the others share the rest.",
    )
    q5, k5, fifteens = hours + 0.5, hours, np.full(5, 15.0)
    slips = {
        "The sign of the scores is turned round": softmax((q5[:, None] - k5) ** 2),
        "The bandwidth is not squared": softmax(-((q5[:, None] - k5) ** 2) / (2 * 3.0)),
        "The softmax runs over the queries": softmax(-((q5[:, None] - k5) ** 2), axis=0),
        "The division by the sum is missing": np.exp(-((q5[:, None] - k5) ** 2)),
    }
    passes = [bool(np.allclose(wrong @ fifteens, 15)) for wrong in slips.values()]
    assert passes == [True, True, False, False]
    whys = [True, True, "Then the columns sum to 1 and the rows do not, so fifteens do not "
            "come back as 15.",
            "The rows then sum to anything, and so the answers are anything."]
    constant = Choice(
        "A table of fifteens answers 15. Which of these mistakes pass this test all the same?",
        {**dict(zip(slips, whys)),
         "The keys are blended instead of the values":
             "Hardly any key is 15, so most blends of them are not either."},
        why="The test finds out whether weights are weights. Which key gets them it cannot "
        "see: for that, let the readings look themselves up.",
    )
    held = Number(
        "An additive score with d_hidden = 64 compares 500 queries with 800 keys. How many "
        "millions of numbers does it hold before it sums?",
        500 * 800 * 64 / 1e6,
        unit="million",
        wrong={
            500 * 800 / 1e6: "That is one number a pair, which is what the dot product holds. "
            "The additive score has d_hidden of them a pair.",
            (500 + 800) * 64 / 1e6: "Those are the projections of queries and of keys. Then "
            "every query is added to every key.",
            500 * 64 / 1e6: "Those are the projected queries alone.",
            800 * 64 / 1e6: "Those are the projected keys alone.",
            500 * 800 * 64: "The number is right, but it is asked for in millions.",
            2 * 500 * 800 * 64 / 1e6: "That is the peak of our NumPy, where the sum and its "
            "tanh are both there for a moment. How large is one of the two?",
        },
        why="The array is (500, 800, 64). The dot product gets by with (500, 800).",
    )
    weight = Choice(
        "In some lookup one reading has the weight 0.9. What do you know?",
        {
            "Nine tenths of its value are in the answer": True,
            "Without this reading the answer would be a very different one": "Not if the "
            "others say nearly the same: then the blend hardly moves.",
            "The query is close to its key": "Only closer than to the other keys. Softmax "
            "looks at the lead, and both may be far away.",
            "It is the reason for what the model does next": "A weight says how an answer was "
            "blended. It does not say why, nor what is made of it.",
        },
        why="That much is exact, and no more.",
    )
    return Quiz(order, constant, held, weight, title="What goes wrong, and what to conclude")

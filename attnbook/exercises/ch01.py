"""Exercises of chapter 1, softmax."""

import numpy as np
import torch

from attnbook import functional
from attnbook.exercises import Exercise, Law, Probe, close

MAXIMUM, MANY = "Numbers too large for the machine", "Many plates at once"

def scores(rng, n, level=0.0, gap=0.0, spread=1.0):
    """n scores around `level`, one of them `gap` above the others (below, if negative)."""
    x = level + spread * rng.standard_normal(n)
    x[-1] += gap
    return (x,)


# 1.1 One line against overflow ------------------------------------------------------------------------------------

def stable(x):
    shift = x.max()
    exps = np.exp(x - shift)
    return exps / exps.sum()

one_line = Exercise(
    "01.stable",
    "One line against overflow",
    task="weights that are right for scores of any size, and no warning on the way.",
    solution=stable,
    answer=functional.softmax,
    probes=[
        Probe("ordinary scores", scores, n=4),
        Probe("a single score", scores, n=1, level=5.0),
        Probe("scores around 1000", scores, n=3, level=1000.0),
        Probe("scores around -1000", scores, n=4, level=-1000.0),
        Probe("one score 3000 above the others", scores, n=3, gap=3000.0),
        Probe("one score 3000 below nine others", scores, n=10, gap=-3000.0),
        Probe("the first score 3000 above", lambda rng, n: (scores(rng, n, gap=3000.0)[0][::-1].copy(),), n=3),
    ],
    laws=[
        Law("the weights sum to 1", lambda f, x: close(f(x).sum(), 1)),
        Law("adding 7 to every score changes nothing", lambda f, x: close(f(x + 7), f(x))),
    ],
    silent=True,
    hints=[
        "Equation (1.4) allows any shift: the weights do not depend on it. What must not happen is that an exponential "
        "is too large for the machine, or that all of them are rounded to 0.",
        "Which shift makes the largest exponential exactly 1?",
    ],
)

@one_line.wrong(
    "No shift is subtracted, so large scores overflow: `exp(1000)` is infinite and infinity over infinity is NaN. "
    "Scores far below 0 fail as well: every exponential is 0, and 0/0 is NaN.", MAXIMUM
)
def no_shift(x):
    return np.exp(x) / np.exp(x).sum()

@one_line.wrong(
    "You subtract the *mean* (or the median). That helps when all scores are about equal, but one score far above "
    "the others stays far above the middle, and its exponential overflows.", MAXIMUM
)
def mean_subtracted(x):
    exps = np.exp(x - x.mean())
    return exps / exps.sum()

@one_line.wrong(
    "You subtract the *smallest* score, so all the differences are positive and the largest of them overflows.",
    MAXIMUM
)
def minimum_subtracted(x):
    exps = np.exp(x - x.min())
    return exps / exps.sum()

@one_line.wrong(
    "You subtract the *first* score, which is not always the largest. Where it is not, the largest overflows.",
    MAXIMUM
)
def first_subtracted(x):
    exps = np.exp(x - x[0])
    return exps / exps.sum()

@one_line.wrong(
    "You subtract the *last* score, which is not always the largest. Where it is not, the largest overflows.", MAXIMUM
)
def last_subtracted(x):
    exps = np.exp(x - x[-1])
    return exps / exps.sum()

@one_line.wrong(
    "You subtract the largest *absolute value*. For scores around -1000 that is +1000: every exponential is rounded "
    "to 0, and 0/0 is NaN.", MAXIMUM
)
def absolute_value_subtracted(x):
    exps = np.exp(x - np.abs(x).max())
    return exps / exps.sum()

@one_line.wrong(
    "You subtract a fixed number. It suits scores around that number and no others: choose it from the scores.",
    MAXIMUM
)
def fixed_number_subtracted(x):
    exps = np.exp(x - 1000)
    return exps / exps.sum()

@one_line.wrong("You subtract the sum of the scores, which can lie far above or far below all of them.", MAXIMUM)
def sum_subtracted(x):
    exps = np.exp(x - x.sum())
    return exps / exps.sum()

@one_line.wrong(
    "Scores that are large already overflow on the way: either the maximum is *added* (a sign is turned round), or "
    "the exponentials are taken before anything is subtracted.", MAXIMUM
)
def maximum_added(x):
    exps = np.exp(x + x.max())
    return exps / exps.sum()

@one_line.wrong("The difference is turned round: `shift - x` gives the largest weight to the smallest score.", MAXIMUM)
def turned_round(x):
    exps = np.exp(x.max() - x)
    return exps / exps.sum()

@one_line.wrong(
    "You *divide* by the maximum. That changes the ratios of the scores' exponentials: only a shift leaves the "
    "weights as they are.", "Shift all scores: nothing changes"
)
def divided_by_the_maximum(x):
    exps = np.exp(x / x.max())
    return exps / exps.sum()

@one_line.wrong("Your weights do not sum to 1: the exponentials are not divided by their sum.", "Three steps")
def not_normalised(x):
    return np.exp(x - x.max())

@one_line.wrong("The exponential is missing: shares of the bare scores can be negative, or anything.", "Three steps")
def no_exponential(x):
    shifted = x - x.max()
    return shifted / shifted.sum()

@one_line.wrong("You multiply by the sum where you should divide: the weights do not sum to 1.", "Three steps")
def multiplied_by_the_sum(x):
    exps = np.exp(x - x.max())
    return exps * exps.sum()

@one_line.wrong("You divide by the *mean* of the exponentials, so the weights sum to n and not to 1.", "Three steps")
def divided_by_the_mean(x):
    exps = np.exp(x - x.max())
    return exps / exps.mean()

@one_line.right
def with_logsumexp(x):
    return np.exp(x - functional.logsumexp(x))

@one_line.right
def with_torch(x):
    return torch.softmax(torch.as_tensor(x), dim=0)

@one_line.right
def in_float32(x):
    x = np.asarray(x, dtype=np.float32)
    exps = np.exp(x - np.max(x))
    return exps / np.sum(exps)

@one_line.right
def with_a_loop(x):
    top = max(x)
    return np.array([1 / sum(np.exp(min(b - a, 700.0)) for b in x) if a > top - 700 else 0.0 for a in x])


# 1.2 Reheat a plate -----------------------------------------------------------------------------------------------

def reheat(weights, temperature):
    powers = weights ** (1 / temperature)
    return powers / powers.sum()

def plate(rng, n, temperature=1.0):
    return functional.softmax(rng.standard_normal(n)), temperature

reheated = Exercise(
    "01.temperature",
    "Reheat a plate",
    task="the weights at `temperature`, from those at temperature 1 and nothing else.",
    solution=reheat,
    probes=[
        Probe("temperature 1", plate, n=3),
        Probe("cold", plate, n=4, temperature=0.5),
        Probe("colder", plate, n=3, temperature=0.1),
        Probe("hot", plate, n=5, temperature=3.0),
        Probe("very hot", plate, n=3, temperature=1000.0),
        Probe("one dish alone", plate, n=1, temperature=2.0),
    ],
    laws=[
        Law("the weights sum to 1", lambda f, w, t: close(f(w, t).sum(), 1)),
        Law("temperature 1 changes nothing", lambda f, w, t: close(f(w, 1.0), w)),
        Law("heating and cooling again gives the plate back", lambda f, w, t: close(f(f(w, 2.0), 0.5), w)),
    ],
    hints=[
        "A temperature turns a ratio of weights e^g into e^(g/T). How do you write e^(g/T) in terms of e^g?",
        "It is a power. After that, make the weights sum to 1 again.",
    ],
)

@reheated.wrong(
    "You apply softmax to weights, as if they were scores. At temperature 1 you see it at once: the weights should "
    "come back as they were, and they come back flatter.", "Softmax twice"
)
def second_softmax(weights, temperature):
    return functional.softmax(weights, temperature=temperature)

@reheated.wrong(
    "You apply softmax to weights, as if they were scores, and multiply by the temperature on top.", "Softmax twice"
)
def second_softmax_multiplied(weights, temperature):
    return functional.softmax(weights * temperature)

@reheated.wrong(
    "Your temperature works the wrong way round: the exponent is T where it should be 1/T. Cooling must make the "
    "largest weight gain.", "Temperature the wrong way round"
)
def wrong_way_round(weights, temperature):
    return weights**temperature / (weights**temperature).sum()

@reheated.wrong("The ratios are right, but the weights do not sum to 1: divide by their sum once more.", "Three steps")
def not_normalised(weights, temperature):
    return weights ** (1 / temperature)

@reheated.wrong(
    "The temperature has no effect: whatever it is, the weights come back. A common factor, as in `weights / "
    "temperature`, cancels when you normalise. (`weights ** 1 / temperature` is that too: the power is taken first.)",
    "Temperature"
)
def no_effect(weights, temperature):
    return weights / weights.sum()

@reheated.wrong(
    "You divide the weights by the temperature. They are not scores: a plate that is divided by 2 is half empty, not "
    "hot.", "Temperature"
)
def weights_divided(weights, temperature):
    return weights / temperature

@reheated.wrong(
    "You have found scores (logarithms of the weights, divided by T). They still have to go through the softmax.",
    "Log-sum-exp"
)
def scores_returned(weights, temperature):
    return np.log(weights) / temperature

@reheated.wrong(
    "The exponent is minus 1/T, or the ratio is upside down: the smallest weight becomes the largest.", "Temperature"
)
def upside_down(weights, temperature):
    powers = weights ** (-1 / temperature)
    return powers / powers.sum()

@reheated.wrong(
    "The exponent is 1 − 1/T or the like: temperature 1 then gives equal shares. The exponent at T = 1 has to be 1.",
    "Temperature"
)
def equal_shares_at_one(weights, temperature):
    powers = weights ** (1 - 1 / temperature)
    return powers / powers.sum()

@reheated.wrong(
    "You take a softmax of the powers. The weights, and so their powers, are exponentials already: a second "
    "exponential flattens them.", "Softmax twice"
)
def exponential_of_the_power(weights, temperature):
    return functional.softmax(weights ** (1 / temperature))

@reheated.wrong(
    "You divide by the largest weight, not by the sum: then the largest is 1 and the plate is overfull.",
    "Three steps"
)
def divided_by_the_largest(weights, temperature):
    powers = weights ** (1 / temperature)
    return powers / powers.max()

@reheated.wrong(
    "The exponent is right, the normalisation is not: divide by the sum of the *powers*. You divide by the sum of "
    "the old weights, or by the old weights themselves.", "Three steps"
)
def divided_by_the_old_weights(weights, temperature):
    return weights ** (1 / temperature) / weights

@reheated.wrong("You multiply by the sum where you should divide: the weights do not sum to 1.", "Three steps")
def multiplied_by_the_sum(weights, temperature):
    powers = weights ** (1 / temperature)
    return powers * powers.sum()

@reheated.wrong("You divide by the *mean* of the powers, so the weights sum to n and not to 1.", "Three steps")
def divided_by_the_mean(weights, temperature):
    powers = weights ** (1 / temperature)
    return powers / powers.mean()

@reheated.right
def through_scores(weights, temperature):
    return functional.softmax(np.log(weights), temperature=temperature)

@reheated.right
def with_torch(weights, temperature):
    return torch.softmax(torch.as_tensor(weights).log() / temperature, 0)

@reheated.right
def in_float32(weights, temperature):
    powers = np.exp(np.log(np.float32(weights)) / np.float32(temperature))
    return powers / powers.sum()

@reheated.right
def with_a_loop(weights, temperature):
    return np.array([1 / sum((b / a) ** (1 / temperature) for b in weights) for a in weights])

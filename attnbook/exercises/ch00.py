"""Exercises of chapter 0, start here: two small ones, to see how exercises answer back."""

import numpy as np
import torch

from attnbook import functional
from attnbook.exercises import Exercise, Law, Probe, close

SENTENCE = ("the", "cat", "slept", "because", "was", "tired")


# 0.1 Run something ------------------------------------------------------------------------------------------------

def two_weights():
    weights = functional.softmax(np.array([0.5, 1.0, 1.0, 0.0, 0.5, 1.0]))
    return weights[1], weights[2]

def weights_when(**scores):
    """The weights of the sentence's words: those of the page, but for the scores given."""
    page = dict(zip(SENTENCE, (0.5, 3.0, 1.0, 0.0, 0.5, 1.0)))
    return functional.softmax(np.array(list((page | scores).values())))

tie = Exercise(
    "00.tie",
    "Run something",
    task="the weights of *cat* and *slept* when both score 1.0, a tuple of two numbers.",
    solution=two_weights,
    tolerance=1e-2,  # for numbers typed from the screen
    hints=[
        "`functional.softmax` takes an array and returns one of the same shape. Change one number of `scores`.",
        "Index 1 is *cat* and index 2 is *slept*. Whatever the weights are, equal scores cannot lead to different "
        "ones.",
    ],
)

@tie.wrong(
    "*cat* still scores 3.0. Make an array of your own in the function, with 1.0 in its place.", "How the book works"
)
def score_not_changed():
    return tuple(weights_when()[1:3])

@tie.wrong("You have raised *slept* to 3.0. It is the score of *cat* that comes down to 1.0.", "How the book works")
def slept_raised():
    return tuple(weights_when(slept=3.0)[1:3])

@tie.wrong(
    "The first of the two is the weight of *the*: Python counts from 0, so that *cat* is number 1.",
    "How the book works"
)
def counted_from_one():
    return tuple(weights_when(cat=1.0)[0:2])

@tie.wrong(
    "The second of the two is the weight of *because*: Python counts from 0, so that *slept* is number 2.",
    "How the book works"
)
def one_too_far():
    return tuple(weights_when(cat=1.0)[2:4])

@tie.wrong("These are the scores. The softmax turns them into weights.", "Intuition")
def scores_returned():
    return 1.0, 1.0

@tie.wrong(
    "They are equal, and they are shares of two words alone. The other four words of the sentence have theirs too.",
    "Intuition"
)
def two_words_alone():
    return 0.5, 0.5

@tie.wrong(
    "These are shares of two words alone, and one of the two still scores 3.0. The plate is shared by all six words, "
    "of which *cat* and *slept* score alike.", "Intuition"
)
def two_words_alone_and_the_old_score():
    weights = functional.softmax(np.array([3.0, 1.0]))
    yield tuple(weights)
    yield tuple(weights[::-1])

@tie.wrong("All six words would share alike only if all six scored alike.", "Intuition")
def six_equal_shares():
    return 1 / 6, 1 / 6

@tie.wrong("These are the exponentials. They become shares when each is divided by the sum of all six.", "Intuition")
def exponentials():
    return np.e, np.e

@tie.right
def with_torch():
    weights = torch.softmax(torch.tensor([0.5, 1.0, 1.0, 0.0, 0.5, 1.0]), dim=0)
    return weights[1], weights[2]

@tie.right
def by_hand():
    weight = np.e / (3 * np.e + 2 * np.exp(0.5) + 1)
    return weight, weight

@tie.right
def typed_from_the_screen():
    return [0.218, 0.218]


# 0.2 Ask for something impossible ---------------------------------------------------------------------------------

def weights_of(scores):
    return functional.softmax(np.array(scores, dtype=float))

floats = Exercise(
    "00.floats",
    "Ask for something impossible",
    task="the softmax of a plain list of whole numbers.",
    solution=weights_of,
    probes=[
        Probe("[2, 1, 0]", lambda rng: ([2, 1, 0],)),
        Probe("a single score, [3]", lambda rng: ([3],)),
        Probe("two that score alike, [4, 4]", lambda rng: ([4, 4],)),
        Probe("with numbers below 0, [-1, 2, -3, 1]", lambda rng: ([-1, 2, -3, 1],)),
    ],
    laws=[
        Law("the weights sum to 1", lambda f, scores: close(f(scores).sum(), 1)),
        Law("adding 7 to every score changes nothing", lambda f, scores: close(f([s + 7 for s in scores]), f(scores))),
    ],
    hints=[
        "The message asks for a floating dtype. NumPy can be told which dtype an array is to have when it is made.",
        "`np.array(scores, dtype=float)` makes a floating array from a list.",
    ],
)

@floats.wrong(
    "The numbers are still whole: `np.array` of whole numbers makes an array of whole numbers. Say which `dtype` you "
    "want.", "The package is small"
)
def still_whole_numbers(scores):
    return functional.softmax(np.array(scores))

LIST = "A list is not an array yet, whatever numbers stand in it: "

@floats.wrong(LIST + "`functional.softmax` takes arrays and tensors only.", "The package is small")
def list_given_to_the_softmax(scores):
    return functional.softmax(scores)

@floats.wrong(LIST + "as a whole it cannot be divided.", "The package is small")
def list_divided(scores):
    return functional.softmax(scores / 1.0)

@floats.wrong(LIST + "multiplied, it would only be repeated.", "The package is small")
def list_multiplied(scores):
    return functional.softmax(scores * 1.0)

@floats.wrong(LIST + "`float` makes one number from one number.", "The package is small")
def list_made_one_number(scores):
    return functional.softmax(float(scores))

@floats.wrong(LIST + "the method `astype` belongs to arrays.", "The package is small")
def method_of_an_array(scores):
    return functional.softmax(scores.astype(float))

@floats.wrong(
    "The weights are made whole numbers at the end, so nearly all become 0. It is the *scores* that have to be "
    "floating numbers, before the softmax.", "The package is small"
)
def weights_made_whole(scores):
    return functional.softmax(np.array(scores, dtype=float)).astype(int)

@floats.wrong("It always answers for [2, 1, 0]. Use the argument, `scores`.", "How the book works")
def always_the_same(scores):
    return functional.softmax(np.array([2.0, 1.0, 0.0]))

@floats.wrong("These are the scores as floating numbers. Now give them to the softmax.", "How the book works")
def scores_returned(scores):
    return np.array(scores, dtype=float)

@floats.wrong(
    "You divide each score by the sum of the scores. `functional.softmax` does something else, which works for "
    "scores below 0 too: chapter 1 is about it.", "1 · Intuition"
)
def shares_of_the_scores(scores):
    scores = np.array(scores, dtype=float)
    return scores / scores.sum()

@floats.wrong("These are exponentials that do not sum to 1. `functional.softmax` does all of it.", "1 · Three steps")
def exponentials(scores):
    return np.exp(np.array(scores, dtype=float))

@floats.right
def multiplied_by_one(scores):
    return functional.softmax(np.array(scores) * 1.0)

@floats.right
def with_torch(scores):
    return functional.softmax(torch.tensor(scores, dtype=torch.float32))

@floats.right
def with_astype(scores):
    return functional.softmax(np.asarray(scores).astype(np.float32))

@floats.right
def from_scratch(scores):
    exps = [np.exp(score) for score in scores]
    return np.array([e / sum(exps) for e in exps])

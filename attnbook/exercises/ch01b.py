"""Exercises of chapter 1, softmax: many plates at once, and the Jacobian."""

import numpy as np
import torch

from attnbook import functional
from attnbook.exercises import Exercise, Law, Probe, close

MAXIMUM, MANY = "Numbers too large for the machine", "Many plates at once"


# 1.3 Repair it ----------------------------------------------------------------------------------------------------

def plates_of(scores):
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True)

def broken_plates_of(scores):
    exps = np.exp(scores - scores.max())
    return exps / exps.sum(axis=-1)

def table(rng, n_q, n_kv, apart=0.0):
    """Scores of n_q guests for n_kv dishes; each guest's are `apart` above the last one's."""
    return (rng.standard_normal((n_q, n_kv)) + apart * np.arange(n_q)[:, None],)

def tall_columns(rng, n):
    return (table(rng, n, n, apart=2000.0)[0].T.copy(),)

repair = Exercise(
    "01.axis",
    "Repair it",
    task="one plate for each row, whatever the sizes and however far apart the rows lie.",
    solution=plates_of,
    answer=functional.softmax,
    broken=broken_plates_of,
    probes=[
        Probe("a square table", table, n_q=3, n_kv=3),
        Probe("more dishes than guests", table, n_q=2, n_kv=5),
        Probe("more guests than dishes", table, n_q=4, n_kv=2),
        Probe("one guest", table, n_q=1, n_kv=4),
        Probe("one dish", table, n_q=3, n_kv=1),
        Probe("rows 2000 apart", table, n_q=2, n_kv=2, apart=2000.0),
        Probe("large scores in every row", lambda rng, n_q, n_kv: (table(rng, n_q, n_kv)[0] + 5000,), n_q=2, n_kv=3),
        Probe("columns 2000 apart", tall_columns, n=3),
    ],
    laws=[
        Law("every row sums to 1", lambda f, s: close(f(s).sum(axis=-1), np.ones(len(s)))),
        Law("a row does not depend on the others", lambda f, s: close(f(s)[:1], f(s[:1]))),
    ],
    hints=[
        "Print `exps.sum(axis=-1).shape`. A vector of length 3 beside a 3 × 3 matrix is lined up with its *columns*.",
        "For the second mistake, ask whose maximum is subtracted, and what is left of a row that lies 2000 below it.",
    ],
)

@repair.wrong(
    "It does what it did before: the sums still are lined up with the columns, and one maximum serves for all rows.",
    MANY
)
def as_it_was(scores):
    return broken_plates_of(scores)

@repair.wrong(
    "The division is repaired. Now look at the maximum: one for the whole table is no help to a row that lies far "
    "below it. All its exponentials are rounded to 0, and 0/0 is NaN.", MANY
)
def one_maximum_for_all(scores):
    exps = np.exp(scores - scores.max())
    return exps / exps.sum(axis=-1, keepdims=True)

@repair.wrong(
    "The maximum is repaired. Now look at the division: a sum without `keepdims=True` is a vector, and a vector is "
    "lined up with the *columns*. In a square table each column is divided by another row's sum; else it is an error.",
    MANY
)
def sums_lined_up_with_columns(scores):
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1)

@repair.wrong(
    "The maximum of each row is taken without `keepdims=True`: it is a vector and is subtracted from the *columns*.",
    MANY
)
def maxima_lined_up_with_columns(scores):
    exps = np.exp(scores - scores.max(axis=-1))
    return exps / exps.sum(axis=-1, keepdims=True)

@repair.wrong(
    "`keepdims=True` is missing in both places: maximum and sum of each row are lined up with the columns.", MANY
)
def both_lined_up_with_columns(scores):
    exps = np.exp(scores - scores.max(axis=-1))
    return exps / exps.sum(axis=-1)

@repair.wrong(
    "The columns sum to 1 where the rows should: the sum runs over the guests (axis 0), so each *dish* is shared out.",
    "The wrong axis"
)
def over_the_guests(scores):
    return functional.softmax(scores, axis=0)

@repair.wrong(
    "The sum is right, but the maximum is taken of each *column*: a row far below the top of its columns is left "
    "with nothing but zeros, and one far above overflows.", "The wrong axis"
)
def maximum_of_the_columns(scores):
    exps = np.exp(scores - scores.max(axis=0, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True)

@repair.wrong(
    "The maximum is right, but the sum is that of each *column*: the columns, not the rows, should then hold one "
    "unit.", "The wrong axis"
)
def sum_of_the_columns(scores):
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=0, keepdims=True)

@repair.wrong("The whole table sums to 1, not each row: the sum has lost its axis.", MANY)
def one_plate_for_all(scores):
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exps / exps.sum()

@repair.wrong("No maximum is subtracted any more, so large scores overflow: infinity over infinity is NaN.", MAXIMUM)
def no_maximum(scores):
    return np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)

@repair.wrong(
    "You subtract the smallest score of each row. In ordinary rows that does no harm, but where a row spans more "
    "than about 700 the largest exponential overflows: subtract the largest.", MAXIMUM
)
def minimum_subtracted(scores):
    exps = np.exp(scores - scores.min(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True)

@repair.wrong(
    "You subtract the *mean* of each row. Where one score lies far above the others it lies far above their mean too, "
    "and its exponential overflows.", MAXIMUM
)
def mean_subtracted(scores):
    exps = np.exp(scores - scores.mean(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True)

@repair.wrong("A sign is turned round at the maximum: it is added, or the scores are subtracted from it.", MAXIMUM)
def maximum_added(scores):
    exps = np.exp(scores + scores.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True)

@repair.wrong("The scores are subtracted from the maximum, so that the worst match gets the largest weight.", MAXIMUM)
def turned_round(scores):
    exps = np.exp(scores.max(axis=-1, keepdims=True) - scores)
    return exps / exps.sum(axis=-1, keepdims=True)

@repair.wrong("The rows do not sum to 1: the exponentials are not divided by their sum.", "Three steps")
def not_normalised(scores):
    return np.exp(scores - scores.max(axis=-1, keepdims=True))

@repair.wrong("The exponential is missing: these are shares of the bare scores.", "Three steps")
def no_exponential(scores):
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return shifted / shifted.sum(axis=-1, keepdims=True)

@repair.wrong("You multiply by the sum where you should divide: the rows do not sum to 1.", "Three steps")
def multiplied_by_the_sum(scores):
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exps * exps.sum(axis=-1, keepdims=True)

@repair.wrong("You divide by the *mean* of a row, so its weights sum to n_kv and not to 1.", "Three steps")
def divided_by_the_mean(scores):
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exps / exps.mean(axis=-1, keepdims=True)

@repair.right
def transposed_twice(scores):
    exps = np.exp(scores.T - scores.max(axis=1))
    return (exps / exps.sum(axis=0)).T

@repair.right
def with_torch(scores):
    return torch.softmax(torch.as_tensor(scores), dim=-1)

@repair.right
def in_float32(scores):
    return functional.softmax(np.asarray(scores, dtype=np.float32))

@repair.right
def row_by_row(scores):
    return np.stack([functional.softmax(row) for row in scores])


# 1.4 Read a picture -----------------------------------------------------------------------------------------------

def nudged(weights, direction):
    return weights * (direction - weights @ direction)

def weights_and_direction(rng, n):
    return functional.softmax(rng.standard_normal(n)), rng.standard_normal(n)

nudge = Exercise(
    "01.jacobian",
    "Read a picture",
    task="how the weights move when the scores move along `direction`, J times `direction`, without the n × n matrix.",
    solution=nudged,
    answer=functional.softmax_jvp,
    probes=[
        Probe("three dishes", weights_and_direction, n=3),
        Probe("two dishes", weights_and_direction, n=2),
        Probe("eight dishes", weights_and_direction, n=8),
        Probe("one dish", weights_and_direction, n=1),
        Probe("all scores alike", lambda rng, n: (functional.softmax(rng.standard_normal(n)), np.ones(n)), n=4),
        Probe("equal weights", lambda rng, n: (np.full(n, 1 / n), rng.standard_normal(n)), n=5),
        Probe("a row of 30,000 scores", lambda rng: weights_and_direction(rng, 30_000)),
    ],
    laws=[
        Law("what one weight gains the others lose: the result sums to 0", lambda f, w, d: abs(f(w, d).sum()) < 1e-5),
        Law("a direction of equal numbers moves nothing", lambda f, w, d: close(f(w, 0 * d + 2), 0 * w)),
        Law("twice the direction, twice the movement", lambda f, w, d: close(f(w, 2 * d), 2 * f(w, d))),
    ],
    large=Probe("", weights_and_direction, n=20_000),
    product="`weights @ direction` is the sum over all the dishes.",
    hints=[
        "Write out one entry of J @ direction: the sum over j of w_i (δ_ij − w_j) d_j. The first part is w_i d_i.",
        "In the second part the sum over j does not depend on i: it is one number for all entries, the average of "
        "`direction` under the weights.",
    ],
)

@nudge.wrong(
    "The average is subtracted after the multiplication by `weights`. Each entry has to lose *its own share* of it: "
    "your entries do not sum to 0, so the plate would not stay full.", "How the plate answers a nudge"
)
def average_not_weighted(weights, direction):
    return weights * direction - weights @ direction

@nudge.wrong(
    "Only the first part, w_i d_i, is there. What the others lose when one gains is missing.",
    "How the plate answers a nudge"
)
def first_part_only(weights, direction):
    return weights * direction

@nudge.wrong(
    "You subtract the plain mean of `direction`. The mean that is needed counts each entry by its weight.",
    "How the plate answers a nudge"
)
def plain_mean(weights, direction):
    return weights * (direction - direction.mean())

@nudge.wrong(
    "Each weight answers to its own score alone, w_i (1 − w_i): the diagonal of J. Raising one score also moves all "
    "the others. (A forgotten sum does it: `weights * direction` where `weights @ direction` is needed.)",
    "How the plate answers a nudge"
)
def diagonal_only(weights, direction):
    return weights * (1 - weights) * direction

@nudge.wrong("The sign is turned round: the dish whose score rises must gain.", "How the plate answers a nudge")
def sign_turned_round(weights, direction):
    return weights * (weights @ direction - direction)

@nudge.wrong(
    "The factor w_i in front is missing: a dish that is hardly on the plate can hardly move.",
    "How the plate answers a nudge"
)
def no_factor(weights, direction):
    return direction - weights @ direction

@nudge.wrong(
    "The average is *added*. What one gains the others lose, so it has to be subtracted.",
    "How the plate answers a nudge"
)
def average_added(weights, direction):
    return weights * (direction + weights @ direction)

@nudge.wrong(
    "You subtract the sum of `direction`, not its average under the weights.", "How the plate answers a nudge"
)
def plain_sum(weights, direction):
    return weights * (direction - direction.sum())

@nudge.wrong(
    "That is the second part of J alone, the average times the weights. The first, w_i d_i, is missing.",
    "How the plate answers a nudge"
)
def second_part_only(weights, direction):
    return weights * (weights @ direction)

@nudge.wrong(
    "Weights and direction have changed places: `weights` is to be multiplied by what `direction` has above its "
    "average.", "How the plate answers a nudge"
)
def changed_places(weights, direction):
    return direction * (weights - weights @ direction)

@nudge.wrong("You apply softmax to `weights` first. They are its output already.", "Softmax twice")
def softmax_again(weights, direction):
    return functional.softmax_jvp(functional.softmax(weights), direction)

@nudge.wrong(
    "The numbers are right, and you build the n × n matrix, which the task forbids: for a long row it does not fit "
    "into memory. `np.outer`, `np.diag` and `jacobian` all build it.", "How the plate answers a nudge"
)
def builds_the_matrix(weights, direction):
    return (np.diag(weights) - np.outer(weights, weights)) @ direction

@nudge.wrong(
    "You average the weights under themselves (`weights @ weights`). It is `direction` whose average is needed.",
    "How the plate answers a nudge"
)
def average_of_the_weights(weights, direction):
    return weights * (direction - weights @ weights)

@nudge.wrong(
    "You sum the squares of `direction`. Its average counts each entry by its *weight*.",
    "How the plate answers a nudge"
)
def squares_of_the_direction(weights, direction):
    return weights * (direction - direction @ direction)

@nudge.wrong("You divide by the weights where you should multiply.", "How the plate answers a nudge")
def divided_by_the_weights(weights, direction):
    return (direction - weights @ direction) / weights

@nudge.wrong(
    "In front of the bracket stands `direction`. What multiplies is the *weight*: a dish that is hardly on the plate "
    "can hardly move.", "How the plate answers a nudge"
)
def direction_in_front(weights, direction):
    return direction * (direction - weights @ direction)

@nudge.wrong(
    "In the bracket stands `weights`, and the average is taken from it. It is `direction` that is compared with its "
    "own average.", "How the plate answers a nudge"
)
def weights_in_the_bracket(weights, direction):
    return weights * (weights - weights @ direction)

@nudge.right
def multiplied_out(weights, direction):
    return weights * direction - weights * np.sum(weights * direction)

@nudge.right
def with_torch(weights, direction):
    w, d = torch.as_tensor(weights), torch.as_tensor(direction)
    return torch.autograd.functional.jvp(lambda s: torch.softmax(s, 0), w.log(), d)[1]

@nudge.right
def in_float32(weights, direction):
    w, d = np.float32(weights), np.float32(direction)
    return w * (d - np.einsum("i,i->", w, d))

@nudge.right
def with_a_loop(weights, direction):
    average = sum(w * d for w, d in zip(weights, direction))
    return np.array([w * (d - average) for w, d in zip(weights, direction)])

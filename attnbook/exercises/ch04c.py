"""Exercises of chapter 4, self-attention and position: ALiBi with a cache."""

import numpy as np
import torch

from attnbook import positions
from attnbook.exercises import Exercise, Law, Probe, close

ALIBI, CORNER = "The fourth way: a penalty for distance (ALiBi)", "6 · Fewer queries than keys"


# 4.4 ALiBi with a cache -------------------------------------------------------------------------------------------

def alibi_bias(slopes, n_q, n_kv):
    query = np.arange(n_q)[:, None] + (n_kv - n_q)
    distance = np.abs(np.arange(n_kv)[None, :] - query)
    return -slopes[:, None, None] * distance

def by_the_package(slopes, n_q, n_kv):
    """`positions.alibi` for one head has the slope 1/256."""
    return slopes[:, None, None] * (256 * positions.alibi(1, n_q, n_kv))

def slopes_and_lengths(rng, h, n_q, n_kv):
    return rng.uniform(0.1, 1, h), n_q, n_kv

def slopes_of_the_paper(rng, h, n_q, n_kv):
    return positions.alibi_slopes(h), n_q, n_kv

alibi = Exercise(
    "04.alibi",
    "ALiBi with a cache",
    task="ALiBi's bias for given slopes, where the queries are the last n_q of the n_kv positions.",
    solution=alibi_bias,
    answer=by_the_package,
    probes=[
        Probe("the slopes of 8 heads, two queries", slopes_of_the_paper, h=8, n_q=2, n_kv=6),
        Probe("other slopes", slopes_and_lengths, h=3, n_q=2, n_kv=5),
        Probe("one new word", slopes_and_lengths, h=3, n_q=1, n_kv=4),
        Probe("no cache", slopes_and_lengths, h=2, n_q=4, n_kv=4),
        Probe("all sizes alike", slopes_and_lengths, h=3, n_q=3, n_kv=3),
        Probe("one head, one word", slopes_and_lengths, h=1, n_q=1, n_kv=1),
        Probe("as many heads as queries", slopes_and_lengths, h=2, n_q=2, n_kv=5),
        Probe("as many heads as keys", slopes_and_lengths, h=5, n_q=2, n_kv=5),
    ],
    laws=[
        Law("with a cache it is the last rows of the bias without one", lambda f, slopes, n_q, n_kv: close(
            f(slopes, n_q, n_kv)[:, -min(n_q, n_kv):], f(slopes, n_kv, n_kv)[:, -min(n_q, n_kv):])),
        Law("twice the slope, twice the penalty",
            lambda f, slopes, n_q, n_kv: close(f(2 * slopes, n_q, n_kv), 2 * f(slopes, n_q, n_kv))),
    ],
    large=Probe("", slopes_and_lengths, h=8, n_q=64, n_kv=512),
    product="`np.arange(n_kv)[None, :] - query[:, None]` is all the differences of positions.",
    hints=[
        "The last query stands at the position of the last key, n_kv - 1. Where does the first query stand?",
        "Query i stands at position i + (n_kv - n_q). Write the distances as a matrix of shape (n_q, n_kv) first.",
        "`slopes[:, None, None]` makes one copy for each head. And it is a penalty: never above 0.",
    ],
)  # fmt: skip

def distances(n_q, n_kv, first=None):
    """Position of the key minus position of the query, the first of which stands at `first`."""
    return np.arange(n_kv) - (np.arange(n_q)[:, None] + (n_kv - n_q if first is None else first))

@alibi.wrong("Your bias *rewards* distance: the further away, the larger the score. A penalty is never above 0.", ALIBI)
def sign_missing(slopes, n_q, n_kv):
    return slopes[:, None, None] * np.abs(distances(n_q, n_kv))

@alibi.wrong(
    "The queries are counted from 0, as if they were the *first* positions. With a cache they are the last: the last "
    "query stands at the last key, and its bias there is 0.", CORNER
)
def queries_counted_from_0(slopes, n_q, n_kv):
    return -slopes[:, None, None] * np.abs(distances(n_q, n_kv, 0))

@alibi.wrong(
    "The queries are counted from 0 and the sign is missing: two things. A bias of 0 belongs where the last query "
    "meets the last key, and everything else lies below it.", CORNER
)
def from_0_without_a_sign(slopes, n_q, n_kv):
    return slopes[:, None, None] * np.abs(distances(n_q, n_kv, 0))

@alibi.wrong(
    "The shift goes the wrong way: your queries stand *before* the first key. They are the last of the n_kv positions.",
    CORNER
)
def shifted_the_wrong_way(slopes, n_q, n_kv):
    return -slopes[:, None, None] * np.abs(distances(n_q, n_kv, n_q - n_kv))

@alibi.wrong(
    "All queries start at n_kv, *behind* the cache. But the n_kv keys hold the keys of the new words already.", CORNER
)
def queries_behind_the_keys(slopes, n_q, n_kv):
    return -slopes[:, None, None] * np.abs(distances(n_q, n_kv, n_kv))

@alibi.wrong(
    "The two lengths are added. What stands before the first query is the cache, n_kv keys *less* the n_q new ones.",
    CORNER
)
def lengths_added(slopes, n_q, n_kv):
    return -slopes[:, None, None] * np.abs(distances(n_q, n_kv, n_kv + n_q))

@alibi.wrong(
    "Your queries stand one place too far: the last of them has a distance of 1 from the last key, which is its own.",
    CORNER
)
def one_too_far(slopes, n_q, n_kv):
    return -slopes[:, None, None] * np.abs(distances(n_q, n_kv, n_kv - n_q + 1))

@alibi.wrong(
    "Your queries stand one place too early: the last of them has a distance of 1 from the last key, which is its own.",
    CORNER
)
def one_too_early(slopes, n_q, n_kv):
    return -slopes[:, None, None] * np.abs(distances(n_q, n_kv, n_kv - n_q - 1))

@alibi.wrong(
    "Every query stands at the last position. That is right for a single new word; of several, each is a place "
    "further on than the one before.", CORNER
)
def all_at_the_end(slopes, n_q, n_kv):
    return -slopes[:, None, None] * np.abs(np.arange(n_kv) - np.full((n_q, 1), n_kv - 1))

@alibi.wrong(
    "Keys *after* a query get a bonus: a difference of positions has a sign, and a distance has none.", ALIBI
)
def no_absolute_value(slopes, n_q, n_kv):
    return slopes[:, None, None] * distances(n_q, n_kv)

@alibi.wrong(
    "Keys *before* a query get a bonus, those after it a penalty: a difference of positions has a sign, and a "
    "distance has none.", ALIBI
)
def no_absolute_value_the_other_way(slopes, n_q, n_kv):
    return -slopes[:, None, None] * distances(n_q, n_kv)

@alibi.wrong(
    "Keys after a query have no penalty in yours. In (4.7) distance counts on both sides; hiding the future is the "
    "mask's work.", ALIBI
)
def future_free_of_charge(slopes, n_q, n_kv):
    return -slopes[:, None, None] * np.maximum(-distances(n_q, n_kv), 0)

@alibi.wrong(
    "A causal mask is in it: keys after a query get -∞. The bias alone is asked for, and a mask can be added to it.",
    ALIBI
)
def masked_too(slopes, n_q, n_kv):
    return np.where(distances(n_q, n_kv) > 0, -np.inf, alibi_bias(slopes, n_q, n_kv))

@alibi.wrong(
    "The given slopes are not used: yours follow from the number of heads alone, as in (4.8).", ALIBI
)
def slopes_made_anew(slopes, n_q, n_kv):
    return positions.alibi(len(slopes), n_q, n_kv)

@alibi.wrong("All heads have the slope of the first. Each is to have its own.", ALIBI)
def one_slope_for_all(slopes, n_q, n_kv):
    return np.broadcast_to(alibi_bias(slopes[:1], n_q, n_kv), (len(slopes), n_q, n_kv))

@alibi.wrong("The slopes are missing: every head pays 1 for a step.", ALIBI)
def slopes_missing(slopes, n_q, n_kv):
    return np.broadcast_to(-np.abs(distances(n_q, n_kv)).astype(float), (len(slopes), n_q, n_kv))

@alibi.wrong(
    "You divide by the slope. It is what one step *costs*, so a steep head has the larger penalty.", ALIBI
)
def divided_by_the_slope(slopes, n_q, n_kv):
    return -np.abs(distances(n_q, n_kv)) / slopes[:, None, None]

@alibi.wrong("The slope is added to the distance. It multiplies: m for each step.", ALIBI)
def slope_added(slopes, n_q, n_kv):
    return -(slopes[:, None, None] + np.abs(distances(n_q, n_kv)))

@alibi.wrong("The distance is taken off the slope. They are multiplied: m for each step.", ALIBI)
def distance_taken_off(slopes, n_q, n_kv):
    return slopes[:, None, None] - np.abs(distances(n_q, n_kv))

@alibi.wrong("The distance is squared. ALiBi is *linear*: two steps cost twice as much as one.", ALIBI)
def squared(slopes, n_q, n_kv):
    return -slopes[:, None, None] * distances(n_q, n_kv) ** 2

@alibi.wrong(
    "This is the factor on the weights, e to the bias. To the scores the bias itself is added.", ALIBI
)
def factor_on_the_weights(slopes, n_q, n_kv):
    return np.exp(alibi_bias(slopes, n_q, n_kv))

@alibi.wrong(
    "Queries and keys are exchanged: queries are the rows, so each head's sheet is (n_q, n_kv).", ALIBI
)
def transposed(slopes, n_q, n_kv):
    return alibi_bias(slopes, n_q, n_kv).swapaxes(-1, -2)

@alibi.wrong("The heads stand last. They belong in front: (h, n_q, n_kv), as scores have them.", ALIBI)
def heads_last(slopes, n_q, n_kv):
    return np.moveaxis(alibi_bias(slopes, n_q, n_kv), 0, -1)

@alibi.wrong(
    "The slopes run along the rows of one sheet, so that each *query* has a slope. It is the heads that have one: "
    "give the slopes two more axes behind.", ALIBI
)
def slopes_along_the_queries(slopes, n_q, n_kv):
    return -slopes[:, None] * np.abs(distances(n_q, n_kv))

@alibi.wrong(
    "The slopes run along the columns of one sheet, so that each *key* has a slope. It is the heads that have one: "
    "give the slopes two more axes behind.", ALIBI
)
def slopes_along_the_keys(slopes, n_q, n_kv):
    return -slopes * np.abs(distances(n_q, n_kv))

@alibi.wrong("The slope is divided by the distance. It multiplies: m for each step.", ALIBI)
def divided_by_the_distance(slopes, n_q, n_kv):
    return -slopes[:, None, None] / np.abs(distances(n_q, n_kv))

@alibi.wrong("Positions are added. A distance is a *difference*: for a word and itself it is 0.", ALIBI)
def positions_added(slopes, n_q, n_kv):
    return -slopes[:, None, None] * (distances(n_q, n_kv) + 2 * (np.arange(n_q)[:, None] + (n_kv - n_q)))

@alibi.wrong("The penalty grows with the key's position. It is to grow with its distance from the query.", ALIBI)
def position_of_the_key(slopes, n_q, n_kv):
    return -slopes[:, None, None] * np.arange(n_kv)[None]

@alibi.wrong("There is a row for each of the n_kv positions. With a cache only the n_q new words ask.", CORNER)
def rows_for_the_cache_too(slopes, n_q, n_kv):
    return alibi_bias(slopes, n_kv, n_kv)

@alibi.wrong("The keys in the cache are missing: there are n_kv columns, and the new words' are the last.", CORNER)
def no_columns_for_the_cache(slopes, n_q, n_kv):
    return alibi_bias(slopes, n_q, n_q)

@alibi.right
def with_loops(slopes, n_q, n_kv):
    return np.array([[[-m * abs(n_kv - n_q + i - j) for j in range(n_kv)] for i in range(n_q)] for m in slopes])

@alibi.right
def with_einsum(slopes, n_q, n_kv):
    return np.einsum("h,ij->hij", slopes, -np.abs(distances(n_q, n_kv)).astype(float))

@alibi.right
def with_torch(slopes, n_q, n_kv):
    query = torch.arange(n_kv)[-n_q:]
    return -torch.as_tensor(slopes).reshape(-1, 1, 1) * (query[:, None] - torch.arange(n_kv)).abs()

@alibi.right
def last_rows_of_the_whole(slopes, n_q, n_kv):
    return np.float32(-slopes[:, None, None] * np.abs(distances(n_kv, n_kv)))[:, n_kv - n_q :]

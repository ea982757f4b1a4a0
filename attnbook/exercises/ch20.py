"""Exercises of chapter 20, linear attention: the brackets moved, and its numbers."""

import tracemalloc

import numpy as np
import torch

from attnbook import functional
from attnbook.exercises import Exercise, Law, Probe, close

BRACKETS, FEATURES, MEMORY = "Move the brackets", "A feature map", "A memory, token by token"
FORGETTING, CORRECTING = "Forgetting", "Correcting"


def no_table(f, *args):
    """Whether `f` gets by without n × n numbers; the probe's table would have 2 million of them, of 8 bytes.

    Let the probe have no sizes: made smaller it would prove nothing.
    """
    tracemalloc.start()
    f(*args)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak < 6e6


# 20.1 One line ------------------------------------------------------------------------------------------------------

def attend(phi_q, phi_k, v):
    state, norm = phi_k.T @ v, phi_k.sum(axis=0)
    return phi_q @ state / (phi_q @ norm)[:, None]

def features(rng, n_q, n_kv, d_feature, d_v, times=1):
    phi_q, phi_k = (times * rng.random((n, d_feature)) + 0.05 for n in (n_q, n_kv))
    return phi_q, phi_k, rng.standard_normal((n_kv, d_v))

def with_table(phi_q, phi_k, v):
    weights = phi_q @ phi_k.T
    return weights / weights.sum(axis=1, keepdims=True) @ v

one_line = Exercise(
    "20.brackets",
    "Two lines",
    task="linear attention, not causal, from features that are positive already; without the table of weights.",
    solution=attend,
    answer=with_table,
    probes=[
        Probe("two queries, three keys", features, n_q=2, n_kv=3, d_feature=4, d_v=5),
        Probe("all sizes alike", features, n_q=4, n_kv=4, d_feature=4, d_v=4),
        Probe("one query and one key", features, n_q=1, n_kv=1, d_feature=3, d_v=2),
        Probe("large features", features, n_q=5, n_kv=6, d_feature=3, d_v=2, times=50),
        Probe("more queries than keys", features, n_q=7, n_kv=2, d_feature=3, d_v=4),
    ],
    laws=[
        Law("a query that is twice as long finds the same", lambda f, q, k, v: close(f(2 * q, k, v), f(q, k, v))),
        Law("where all values are alike, that value comes out",
            lambda f, q, k, v: close(f(q, k, np.ones_like(v)), np.ones((len(q), v.shape[1])))),
        Law("it needs no table of n × n weights: 1500 tokens must do with a few numbers each", no_table,
            Probe("a long text", lambda rng: features(rng, 1500, 1500, 4, 4))),
    ],
    hints=[
        "(φ(Q) φ(K)ᵀ) V = φ(Q) (φ(K)ᵀ V). What is in the second bracket does not depend on the query.",
        "The sum of a row of weights is Σ_j φ(q)·φ(k_j) = φ(q) · Σ_j φ(k_j): one product with the sum of the keys.",
        "The sums are one number for each query, (n_q,): to divide the rows of (n_q, d_v) give them an axis, `[:, "
        "None]`.",
    ],
)

one_line.slip("not_divided", {" / (phi_q @ norm)[:, None]": ""},
              "The weights do not sum to 1 in your version: the division by φ(q) · Σ φ(k) is missing. Try values that "
              "are all 1.", FEATURES)
one_line.slip("divided_by_the_count", {"(phi_q @ norm)[:, None]": "len(phi_k)"},
              "You divide by the number of keys. The weights of a query sum to φ(q) · Σ φ(k), another number for each "
              "query.", FEATURES)
one_line.slip("one_sum_for_all", {"[:, None]": ".sum()"},
              "You divide all queries by *one* number, the sum over all of them. Each query has a sum of its own.",
              FEATURES)
one_line.slip("divided_by_the_query", {"(phi_q @ norm)[:, None]": "phi_q.sum(axis=1, keepdims=True)"},
              "You divide by the sum of the *query's* features. The keys count in the weights as well.", FEATURES)
one_line.slip("state_divided", {"state / (phi_q @ norm)[:, None]": "(state / norm[:, None])"},
              "You divide each row of the state by the sum of its channel. Then the channels are normalised, not the "
              "weights of a query: where all values are 1 the query's own sum comes out.", FEATURES)

@one_line.wrong("There is a softmax in your version. Here the features are positive already, and the weight is their "
                "product as it stands.", FEATURES)  # fmt: skip
def softmax_after_all(phi_q, phi_k, v):
    scores = phi_q @ phi_k.T
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True) @ v

ALONE = "It is their *product* that has to sum to 1 over the keys: divide a query's weights by φ(q) · Σ φ(k)."

@one_line.wrong(f"Queries and keys are normalised each on their own, to a sum of 1. {ALONE}", FEATURES)
def each_with_a_sum_of_one(phi_q, phi_k, v):
    phi_q, phi_k = (x / x.sum(axis=1, keepdims=True) for x in (phi_q, phi_k))
    return phi_q @ (phi_k.T @ v)

@one_line.wrong(f"Queries are normalised on their own, and keys over the tokens. {ALONE}", FEATURES)
def keys_with_a_sum_of_one_over_tokens(phi_q, phi_k, v):
    return phi_q / phi_q.sum(axis=1, keepdims=True) @ (phi_k / phi_k.sum(axis=0)).T @ v

@one_line.wrong(f"Queries and keys are normalised each on their own, to length 1. {ALONE}", FEATURES)
def each_of_length_one(phi_q, phi_k, v):
    phi_q, phi_k = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (phi_q, phi_k))
    return phi_q @ (phi_k.T @ v)

@one_line.wrong(f"Queries and keys go through a softmax each on their own. The features are positive already. {ALONE}",
                FEATURES)  # fmt: skip
def softmax_of_each(phi_q, phi_k, v):
    return functional.softmax(phi_q) @ (functional.softmax(phi_k, axis=0).T @ v)

@one_line.wrong("The result is divided by its own sum over the channels of the *value*. It is the weights that have to "
                "sum to 1: φ(q) · Σ φ(k) is their sum.", FEATURES)  # fmt: skip
def divided_by_its_own_sum(phi_q, phi_k, v):
    out = phi_q @ (phi_k.T @ v)
    return out / out.sum(axis=1, keepdims=True)

AGAIN = "The feature map is applied once more. What comes in are features already: use them as they stand."

@one_line.wrong(AGAIN, FEATURES)
def features_of_features(phi_q, phi_k, v):
    return attend(phi_q + 1, phi_k + 1, v)  # elu(x) + 1, of positive numbers

@one_line.wrong(f"{AGAIN} (It is an exponential with you.)", FEATURES)
def exponentials_of_features(phi_q, phi_k, v):
    return attend(np.exp(phi_q), np.exp(phi_k), v)

one_line.slip("multiplied", {"state / ": "state * "},
              "You multiply by the sum of the weights, where you should divide.", FEATURES)
one_line.slip("sums_along_the_values", {"[:, None]": ""},
              "The division meets the wrong axis: the sums are one for each *query*, (n_q,), and without an axis at "
              "the end they are laid along the channels of the value.", FEATURES)
one_line.slip("keys_summed_along_channels", {"axis=0": "axis=1"},
              "The keys are summed over their *channels*: Σ φ(k) goes over the tokens and has d_feature numbers.",
              FEATURES)
one_line.slip("keys_averaged", {".sum": ".mean"},
              "The sum of the keys is a *mean* with you: the result is too large by the number of keys.", FEATURES)
one_line.slip("largest_key", {".sum": ".max"},
              "The largest key of each channel is no sum: weights that are divided by it do not sum to 1.", FEATURES)
one_line.slip("state_without_transpose", {"phi_k.T": "phi_k"},
              "The state should be φ(K)ᵀ V, (d_feature, d_v): which axis is summed over in your product?", BRACKETS)
one_line.slip("state_sides_exchanged", {"phi_k.T @ v": "v @ phi_k.T"},
              "φ(K)ᵀ and V are exchanged: V φ(K)ᵀ sums over channels, where the state sums over the tokens.", BRACKETS)
one_line.slip("norm_is_one_number", {"axis=0": ""},
              "`sum()` without an axis adds up *all* the features of all keys to one number. The norm has one for each "
              "channel.", FEATURES)
one_line.slip("star_with_the_state", {"phi_q @ state": "phi_q * state"},
              "`*` multiplies number by number. The product of the queries with the state is `@`.", BRACKETS)
one_line.slip("star_in_the_state", {"phi_k.T @ v": "phi_k.T * v"},
              "`*` multiplies number by number. Keys and values make the state with `@`, which sums over the tokens.",
              BRACKETS)
one_line.slip("star_with_the_norm", {"phi_q @ norm": "phi_q * norm"},
              "`*` multiplies number by number. The sum of a query's weights is a product `@` with the norm.", FEATURES)
one_line.slip("state_before_queries", {"phi_q @ state": "state @ phi_q"},
              "The state stands before the queries in your product: rows are queries, so they come first.", BRACKETS)
one_line.slip("norm_before_queries", {"phi_q @ norm": "norm @ phi_q"},
              "The norm stands before the queries in your product: rows are queries, so they come first.", FEATURES)
one_line.slip("queries_in_the_state", {"phi_k.T": "phi_q.T"},
              "The state is made with the *queries*. Keys and values make it; the queries only ask.", BRACKETS)
one_line.slip("queries_in_the_norm", {"phi_k.sum": "phi_q.sum"},
              "The norm is the sum of the *queries* with you. A weight is φ(q)·φ(k), so the keys are summed.", FEATURES)
one_line.slip("keys_for_values", {"phi_k.T @ v": "phi_k.T @ phi_k"},
              "There are keys in the place of the values: your state is φ(K)ᵀ φ(K).", BRACKETS)
one_line.slip("queries_for_values", {"phi_k.T @ v": "phi_k.T @ phi_q"},
              "There are queries in the place of the values: your state is φ(K)ᵀ φ(Q).", BRACKETS)
one_line.slip("keys_ask", {"phi_q @ state": "phi_k @ state"},
              "The *keys* ask for the state. Whoever asks is a query.", BRACKETS)
one_line.slip("keys_ask_the_norm", {"phi_q @ norm": "phi_k @ norm"},
              "The norm is asked with the *keys*: each query divides by a sum of its own.", FEATURES)
one_line.slip("values_ask", {"phi_q @ state": "v @ state"},
              "The *values* ask for the state. Whoever asks is a query.", BRACKETS)
one_line.slip("values_in_the_norm", {"phi_k.sum": "v.sum"},
              "The sum of the *values* divides with you. What has to be summed are the features of the keys.", FEATURES)

@one_line.right
def with_einsum(phi_q, phi_k, v):
    out = np.einsum("qf,kf,kd->qd", phi_q, phi_k, v, optimize=["einsum_path", (1, 2), (0, 1)])
    return out / np.einsum("qf,kf->q", phi_q, phi_k.sum(axis=0, keepdims=True))[:, None]

@one_line.right
def with_a_column_of_ones(phi_q, phi_k, v):
    out = phi_q @ (phi_k.T @ np.column_stack([v, np.ones(len(v))]))
    return out[:, :-1] / out[:, -1:]

@one_line.right
def in_torch(phi_q, phi_k, v):
    phi_q, phi_k, v = (torch.as_tensor(x) for x in (phi_q, phi_k, v))
    return phi_q @ (phi_k.T @ v) / (phi_q @ phi_k.sum(0))[:, None]


# 20.2 Predict -------------------------------------------------------------------------------------------------------

def predictions():
    return {"state": 64 * 64 + 64, "tokens": 33, "faded": 0.5**3, "sum": 1 + 0.5, "delta": 1 + 0.5 * 0.5}

def counted():
    state = np.zeros((64, 64)).size + np.zeros(64).size
    tokens = next(n for n in range(10_000) if 2 * 64 * n > state)
    keys = np.array([[1, 0], [0.5, np.sqrt(0.75)]])  # of length 1, with a cosine of 0.5
    added, corrected = np.zeros(2), np.zeros(2)
    for key in keys:  # both values are the number 1
        added = added + key * 1
        corrected = corrected + key * (1 - key @ corrected)
    return {"state": state, "tokens": tokens, "faded": 0.5 * 0.5 * 0.5, "sum": float(keys[0] @ added),
            "delta": float(keys[0] @ corrected)}  # fmt: skip

predict = Exercise(
    "20.predict",
    "Predict",
    task="five numbers: the size of a state, when a cache outgrows it, what is left, and two readings.",
    solution=predictions,
    answer=counted,
    hints=[
        "The state is a matrix of d_feature × d_v numbers, and there is the norm besides, Σ φ(k). A cache keeps a key "
        "*and* a value for each token.",
        "A decay multiplies what is there at each later write. How many writes came after it?",
        "Reading A finds its own value, and of what was written under B as much as the cosine says. With the delta "
        "rule only the *difference* was written under B: what did B's key find just before?",
    ],
)

@predict.wrong("State: the norm is missing, Σ φ(k). It has a number for each feature.", MEMORY)
def norm_forgotten():
    yield from predict.but("state", 64 * 64)

@predict.wrong(
    "State: a sum of d_feature and d_v is no matrix: φ(k) vᵀ has a number for each *pair* of channels.", MEMORY
)
def vectors_for_a_matrix():
    yield from predict.but("state", 128, 64, 192)

@predict.wrong("State: it does not depend on how many tokens were written.", MEMORY)
def state_of_n():
    yield from predict.but("state", 1000 * 64, 1000 * 128, 1000 * 4160)

@predict.wrong("State: that is how many *bytes* it has. Asked for is how many numbers it keeps.", MEMORY)
def bytes_for_numbers():
    yield from predict.but("state", 2 * 4160, 4 * 4160, 2 * 4096, 4 * 4096)

@predict.wrong("Tokens: there is no half token. From which *whole* number on has the cache more: round up.", MEMORY)
def half_a_token():
    yield from predict.but("tokens", 32.5)

@predict.wrong("Tokens: at 32 the cache has 4096 numbers, and the state's 4160 are still more.", MEMORY)
def one_token_short():
    yield from predict.but("tokens", 32)

@predict.wrong("Tokens: a cache keeps a key *and* a value for each token, 128 numbers.", MEMORY)
def keys_alone():
    yield from predict.but("tokens", 64, 65, 66)

@predict.wrong("Tokens: the cache grows by 128 numbers a token, however many there are already. It is no n × n table.",
               MEMORY)  # fmt: skip
def cache_taken_for_a_table():
    yield from predict.but("tokens", 4160, 4161)

@predict.wrong(
    "Faded: you count one write too many or too few. With A, B, C, D written, A has faded at the writes of B, C and D, "
    "and not at its own.", FORGETTING
)
def one_fade_off():
    yield from predict.but("faded", 0.5**4, 0.5**2)

@predict.wrong("Faded: a decay multiplies each time, and so what is left is a power, not a share.", FORGETTING)
def faded_linearly():
    yield from predict.but("faded", 0.5 / 3, 0.5, 0.25 + 0.125)

@predict.wrong("Sum: you read as if the keys were at right angles. With a cosine of 0.5, half of B's value "
               "comes along.", CORRECTING)  # fmt: skip
def sum_without_interference():
    yield from predict.but("sum", 1)

@predict.wrong("Sum: all of B's value comes along only if the keys are the same. Here the cosine is 0.5.", CORRECTING)
def sum_of_both():
    yield from predict.but("sum", 2)

@predict.wrong(
    "Sum: that would be a mean, or a softmax. Nothing is divided here, and what B adds is added.", CORRECTING
)
def divided_after_all():
    yield from predict.but("sum", 0.75, 0.5)

@predict.wrong(
    "Delta: writing B is exact for B, and disturbs A all the same, as long as the keys are not at right angles.",
    CORRECTING
)
def delta_without_interference():
    yield from predict.but("delta", 1)

@predict.wrong("Delta: that is the plain sum. Before B is written, its key finds something already: only the "
               "difference is added.", CORRECTING)  # fmt: skip
def delta_like_the_sum():
    yield from predict.but("delta", 1.5)

@predict.wrong(
    "Delta: you take B's correction off A. B's key found 0.5 and wanted 1, so half a value was *added*, and A hears "
    "half of that.", CORRECTING
)
def delta_taken_off():
    yield from predict.but("delta", 0.75, 0.5)

predict.right_in_other_forms()

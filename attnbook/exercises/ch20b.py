"""Exercises of chapter 20, linear attention: what a decay leaves, and the delta rule."""

import numpy as np
import torch

from attnbook.exercises import Exercise, Law, Probe, close

MEMORY, FORGETTING, CORRECTING, TRAPS = "A memory, token by token", "Forgetting", "Correcting", "Traps"


# 20.3 What a decay leaves -------------------------------------------------------------------------------------------

def left_over(decay):
    total = np.cumsum(np.log(decay))
    past = np.tri(len(decay), dtype=bool)
    return np.exp(np.where(past, total[:, None] - total, -np.inf))

def by_definition(decay):
    left = np.zeros((len(decay), len(decay)))
    for i in range(len(decay)):
        left[i, i] = 1
        for j in range(i - 1, -1, -1):
            left[i, j] = left[i, j + 1] * decay[j + 1]
    return left

def decays(rng, n, low=0.3, high=0.99):
    return (rng.uniform(low, high, n),)

def equal_decays(rng, n, decay):
    return (np.full(n, decay),)

def recurrent_says_so(f, decay):
    """Row i of the table, times what was written, is the state after write i."""
    state = 0.0
    for i, each in enumerate(decay):
        state = each * state + (i + 1)
    return close(f(decay)[-1] @ np.arange(1, len(decay) + 1), state)

decayed = Exercise(
    "20.decay",
    "What a decay leaves",
    task="the table of what is left of token j when token i has been written.",
    solution=left_over,
    answer=by_definition,
    probes=[
        Probe("the same decay throughout", equal_decays, n=4, decay=0.5),
        Probe("decays that differ", decays, n=5),
        Probe("two tokens", decays, n=2),
        Probe("one token", decays, n=1),
        Probe("no decay at all", equal_decays, n=3, decay=1.0),
        Probe("a long text that forgets fast", equal_decays, n=400, decay=0.01),
    ],
    laws=[Law("it gives what the token-by-token form gives", recurrent_says_so),
          Law("nothing is left of the future", lambda f, decay: not np.triu(f(decay), 1).any())],
    large=Probe("", decays, n=400),
    product="A running sum of log decays (`np.cumsum`), a column minus a row, and one `exp` give the whole table.",
    hints=[
        "decay[t] multiplies the state just before token t is written. So of token j at i, the decays j+1 … i are "
        "left.",
        "The product of decay[j+1] … decay[i] is a running product at i, divided by that at j. Where both are nearly 0 "
        "that goes wrong.",
        "In logarithms a product is a sum and a ratio a difference: `total[:, None] - total`, and `exp` at the end.",
    ],
)

@decayed.wrong(
    "Running products are divided by each other, and in a long text both are 0: 0 / 0 is not a number. Subtract their "
    "logarithms, and take `exp` of the difference.", TRAPS
)
def ratio_of_products(decay):
    total = np.cumprod(decay)
    with np.errstate(all="ignore"):
        return np.tril(total[:, None] / total)

@decayed.wrong(
    "The token's *own* decay is counted too: it multiplies what was there *before* the token is written. The diagonal "
    "must be 1.", FORGETTING
)
def own_decay_counted(decay):
    return by_definition(decay) * decay

@decayed.wrong(
    "The token's own decay is counted too. The diagonal is right with you; further down the decays j+1 … i are left of "
    "token j, and that of j itself is not among them.", FORGETTING
)
def own_decay_counted_below(decay):
    return np.where(np.eye(len(decay), dtype=bool), 1.0, by_definition(decay) * decay)

@decayed.wrong(
    "The decays are counted one place too early: j … i − 1. A decay fades what was there *before* its token is "
    "written, so of token j at i those of j+1 … i are left.", FORGETTING
)
def one_place_too_early(decay):
    return by_definition(decay) * decay / decay[:, None]

@decayed.wrong("The last decay is missing, that of the present token i: it fades all that came before.", FORGETTING)
def last_decay_missing(decay):
    return np.where(np.eye(len(decay), dtype=bool), 1.0, by_definition(decay) / decay[:, None])

decayed.slip("future_left", {"np.where(past, total[:, None] - total, -np.inf)": "total[:, None] - total"},
             "The future is not 0: above the diagonal the ratio turns round, and is more than 1.", FORGETTING)

@decayed.wrong("Rows are the present tokens i, columns the past ones j; yours are exchanged.", FORGETTING)
def table_transposed(decay):
    return by_definition(decay).T

decayed.slip("difference_turned_round", {"total[:, None] - total": "total - total[:, None]"},
             "Column minus row is the wrong way round: more than 1 seems to be left of the past.", FORGETTING)

POWER = "np.tril({} ** np.maximum(np.arange(len(decay))[:, None] - np.arange(len(decay)), 0))"
TABLE = "np.exp(np.where(past, total[:, None] - total, -np.inf))"

decayed.slip("power_of_the_present", {TABLE: POWER.format("decay[:, None]")},
             "You take the present token's decay to the power of i − j, as if all the decays were like it.", FORGETTING)
decayed.slip("power_of_the_past", {TABLE: POWER.format("decay")},
             "You take the past token's own decay to the power of i − j. Those of the tokens after it count.",
             FORGETTING)
decayed.slip("power_of_the_first", {TABLE: POWER.format("decay[0]")},
             "You take the *first* decay to the power of i − j. It may be another at each token.", FORGETTING)
decayed.slip("logarithms", {TABLE: "np.where(past, total[:, None] - total, 0)"},
             "These are logarithms: `exp` is missing at the end.", FORGETTING)
decayed.slip("sum_of_decays", {"np.log(decay)": "decay"},
             "The logarithm is missing: a *sum* of decays says nothing about their product.", FORGETTING)

@decayed.wrong("The present token is missing, on the diagonal: all of it is left, 1.", FORGETTING)
def present_missing(decay):
    return np.tril(by_definition(decay), -1)

@decayed.wrong(
    "Only the last two of a row are right: what is further back has faded at *each* token since.", FORGETTING
)
def last_step_only(decay):
    left = np.where(np.tri(len(decay), k=-1, dtype=bool), decay[:, None], 0.0)
    return left + np.eye(len(decay))

@decayed.wrong("Nothing fades in your table: it is the causal mask. Where do the decays come in?", FORGETTING)
def causal_mask(decay):
    return np.tri(len(decay))

decayed.slip("totals_added", {"total[:, None] - total": "total[:, None] + total"},
             "A *sum* of the two running sums: of token j at i the decays between them are left: the difference.",
             FORGETTING)

@decayed.right
def with_torch(decay):
    total = torch.as_tensor(decay).log().cumsum(0)
    past = torch.ones(len(decay), len(decay), dtype=torch.bool).tril()
    return (total[:, None] - total).masked_fill(~past, -torch.inf).exp()

@decayed.right
def row_by_row(decay):
    left = np.zeros((len(decay), len(decay)))
    row = np.zeros(len(decay))
    for i, each in enumerate(decay):
        row = row * each
        row[i] = 1
        left[i] = row
    return left

@decayed.right
def column_by_column(decay):
    n = len(decay)
    left = np.eye(n)
    for j in range(n):
        left[j + 1 :, j] = np.cumprod(decay[j + 1 :])
    return left


# 20.4 Repair ----------------------------------------------------------------------------------------------------------

def delta_rule(q, k, v, beta):
    state, out = np.zeros((k.shape[1], v.shape[1])), []
    for t in range(len(q)):
        state = state + beta[t] * np.outer(k[t], v[t] - k[t] @ state)
        out.append(q[t] @ state)
    return np.array(out)

def fades_and_reads_early(q, k, v, beta):
    state, out = np.zeros((k.shape[1], v.shape[1])), []
    for t in range(len(q)):
        out.append(q[t] @ state)
        state = (1 - beta[t]) * state + beta[t] * np.outer(k[t], v[t])
    return np.array(out)

def tokens(rng, n, d_k, d_v, length=1.0):
    k = rng.standard_normal((n, d_k))
    k = length * k / np.linalg.norm(k, axis=1, keepdims=True)
    return rng.standard_normal((n, d_k)), k, rng.standard_normal((n, d_v)), rng.uniform(0.2, 0.9, n)

def asked_at_once(rng, n, d):
    """Each key is asked for in the moment it is written, with all its strength."""
    k = np.eye(d)[np.arange(n) % d]
    return k, k, rng.standard_normal((n, d)), np.ones(n)

def replaced(f, q, k, v, beta):
    """With unit keys and full strength, whoever asks for what was just written gets it."""
    return close(f(k, k, v, np.ones_like(beta)), v)

delta = Exercise(
    "20.delta",
    "Repair: the delta rule",
    task="the delta rule, token by token: what is written under a key replaces what was there, and nothing else.",
    solution=delta_rule,
    broken=fades_and_reads_early,
    probes=[
        Probe("three tokens", tokens, n=3, d_k=4, d_v=2),
        Probe("all sizes alike", tokens, n=4, d_k=4, d_v=4),
        Probe("more tokens than channels", tokens, n=9, d_k=3, d_v=2),
        Probe("one token", tokens, n=1, d_k=3, d_v=2),
        Probe("the same keys again, full strength", asked_at_once, n=5, d=3),
        Probe("longer keys", tokens, n=4, d_k=3, d_v=3, length=1.4),
    ],
    laws=[Law("with keys of length 1 and β = 1, what was just written is read back exactly", replaced,
              Probe("", tokens, n=6, d_k=3, d_v=2))],
    hints=[
        "One thing is about the order: which token's pair should token t find already, by the sum over j ≤ t?",
        "The other: write A under one key, and B under a key at right angles, with β = 1. What is left of A? Nothing "
        "but what stands under B's own key should change.",
        "Read first what this key finds, kᵀS. Then add β · k · (v − what was found).",
    ],
)

READ_EARLY = {"state = state +": "before, state = state, state +", "q[t] @ state": "q[t] @ before"}

delta.slip("still_reads_early", READ_EARLY,
           "The write is repaired, but out is still read *before* it: token t does not find its own pair, and the "
           "first finds nothing.", MEMORY)
delta.slip("still_fades", {
    "state + beta[t] * np.outer(k[t], v[t] - k[t] @ state)": "(1 - beta[t]) * state + beta[t] * np.outer(k[t], v[t])",
}, "The order is repaired, but all of the state still fades, whatever the key. Write under a key at right angles to "
   "all others: they should stay as they are.", CORRECTING)
TWICE = {"state + beta": "(1 - beta[t]) * state + beta"}

delta.slip("taken_away_twice", TWICE,
           "The old value is taken away twice: v − kᵀS takes it away already, and besides the *whole* state fades by "
           "1 − β, whatever the key.", CORRECTING)
delta.slip("taken_away_twice_under_the_key", {"v[t] - k[t] @ state": "v[t] - 2 * (k[t] @ state)"},
           "The old value is taken away twice under the key: v − kᵀS takes it away already.", CORRECTING)
delta.slip("taken_away_twice_and_read_early", READ_EARLY | {
    "state, state + beta": "state, (1 - beta[t]) * state + beta",
}, "out is still read *before* the write. And the old value is taken away twice: v − kᵀS does it already, and besides "
   "the whole state fades by 1 − β.", CORRECTING)
delta.slip("only_added", {" - k[t] @ state": ""},
           "Nothing is taken away in your version: it is the plain sum, with a weight. An old value under the same key "
           "stays, and is added to.", CORRECTING)
delta.slip("plain_sum", {"beta[t] * ": "", " - k[t] @ state": ""},
           "It is the plain sum, with β left out as well: nothing is taken away, and all of v is added.", CORRECTING)
delta.slip("plain_sum_read_early", READ_EARLY | {" - k[t] @ state": ""},
           "It is the plain sum, and read before the write: two things are still to be done.", CORRECTING)
delta.slip("no_strength", {"beta[t] * ": ""},
           "β is missing: the whole difference is written, whatever the strength.", CORRECTING)
delta.slip("strength_of_the_new_alone", {"beta[t] * ": "", "v[t] -": "beta[t] * v[t] -"},
           "β counts only for the new value: all of the old one is taken away. It belongs to the whole difference.",
           CORRECTING)
delta.slip("strength_of_the_old_alone", {"beta[t] * ": "", "- k[t]": "- beta[t] * k[t]"},
           "β counts only for what is taken away: all of the new value is written. It belongs to the whole difference.",
           CORRECTING)
delta.slip("old_value_added", {"- k[t]": "+ k[t]"},
           "The old value is *added* once more, where it should be taken away. Watch the sign.", CORRECTING)
delta.slip("away_from_the_value", {"state + beta": "state - beta"},
           "The whole update has the wrong sign: you step away from v. With nothing written, −v is read.", CORRECTING)
delta.slip("found_by_the_query", {"k[t] @ state": "q[t] @ state"},
           "You take away what the *query* finds. Written, and so replaced, is what stands under the key.", CORRECTING)
delta.slip("written_under_the_query", {"np.outer(k[t]": "np.outer(q[t]"},
           "It is written under the *query*. Pairs are written under their keys; the query only asks.", CORRECTING)
delta.slip("outer_turned_round", {"k[t], v[t] - k[t] @ state": "v[t] - k[t] @ state, k[t]"},
           "Key and value are exchanged in the product: S is (d_k, d_v), so the key comes first.", MEMORY)
delta.slip("found_from_the_wrong_side", {"k[t] @ state": "state @ k[t]"},
           "`state @ k` sums over the channels of the *value*. What a key finds is a sum over its own, `k @ state`.",
           MEMORY)
delta.slip("read_by_the_key", {"q[t] @ state": "k[t] @ state"},
           "out is read with the *key*. The key only writes; the query asks.", MEMORY)
delta.slip("divided_by_the_length", {"k[t] @ state)": "k[t] @ state) / (k[t] @ k[t])"},
           "You divide by |k|². For keys of length 1 that is the same, but the rule as it stands leaves the length in: "
           "a longer key writes more.", CORRECTING)
delta.slip("nothing_carried_along", {"state + ": ""},
           "The state is overwritten: each token starts from nothing, and all that came before is lost.", MEMORY)
delta.slip("read_at_the_end", {"np.array(out)": "q @ state"},
           "out is read from the *last* state throughout: early queries find pairs that come after them.", MEMORY)
delta.slip("begins_with_ones", {"np.zeros": "np.ones"},
           "The state begins with ones: before the first token nothing has been written.", MEMORY)
delta.slip("row_for_each_token", {"k.shape[1]": "k.shape[0]"},
           "Your state has a row for each *token*. It has one for each channel of the key: (d_k, d_v).", MEMORY)
delta.slip("column_for_each_token", {"v.shape[1]": "v.shape[0]"},
           "Your state has a column for each *token*. It has one for each channel of the value: (d_k, d_v).", MEMORY)
delta.slip("columns_of_the_key", {"v.shape": "k.shape"},
           "Your state is as wide as a *key* both ways: its columns are the channels of the value.", MEMORY)
delta.slip("rows_of_the_value", {"k.shape": "v.shape"},
           "Your state is as wide as a *value* both ways: its rows are the channels of the key.", MEMORY)
delta.slip("axis_that_is_not_there", {"k.shape[1]": "k.shape[2]"},
           "Axes are counted from 0: the shape of k is (n, d_k), and d_k is number 1.", MEMORY)
delta.slip("star_for_what_is_found", {"k[t] @ state": "k[t] * state"},
           "`k[t] * state` multiplies number by number. What a key finds is a sum over its channels, `@`.", MEMORY)
delta.slip("star_for_what_is_read", {"q[t] @ state": "q[t] * state"},
           "`q[t] * state` multiplies number by number. What a query reads is a sum over its channels, `@`.", MEMORY)
delta.slip("read_from_the_wrong_side", {"q[t] @ state": "state @ q[t]"},
           "`state @ q[t]` sums over the channels of the *value*: the query comes first.", MEMORY)
delta.slip("read_by_the_value", {"q[t] @ state": "v[t] @ state"},
           "out is read with the *value*. It is the query that asks.", MEMORY)
delta.slip("query_for_value", {"v[t] -": "q[t] -"},
           "What is written is the *query*, less what was found. It should be the value.", CORRECTING)
delta.slip("key_for_value", {"v[t] -": "k[t] -"},
           "What is written is the *key*, less what was found. It should be the value.", CORRECTING)
delta.slip("written_under_the_value", {"np.outer(k[t]": "np.outer(v[t]"},
           "It is written under the *value*. Pairs are written under their keys.", CORRECTING)
delta.slip("found_by_the_value", {"k[t] @ state": "v[t] @ state"},
           "You take away what the *value* finds. Written, and so replaced, is what stands under the key.", CORRECTING)
delta.slip("divided_by_the_strength", {"beta[t] * ": "beta[t] / "},
           "You divide by β: the weaker the write should be, the more you write.", CORRECTING)
delta.slip("strength_alone", {" * np.outer(k[t], v[t] - k[t] @ state)": ""},
           "β alone is added to the whole state: where is the pair?", CORRECTING)

@delta.wrong("Only zeros come back: is anything written into the state, and then read?", MEMORY)
def all_zeros(q, k, v, beta):
    return np.zeros_like(v)

@delta.right
def erase_and_write(q, k, v, beta):
    state, out = np.zeros((k.shape[1], v.shape[1])), []
    for q_t, k_t, v_t, b in zip(q, k, v, beta, strict=True):
        state = (np.eye(len(k_t)) - b * np.outer(k_t, k_t)) @ state + b * np.outer(k_t, v_t)
        out.append(q_t @ state)
    return np.array(out)

@delta.right
def solved_at_once(q, k, v, beta):
    below = np.tril(beta[:, None] * (k @ k.T), -1)
    written = np.linalg.solve(np.eye(len(k)) + below, beta[:, None] * v)
    return np.tril(q @ k.T) @ written

@delta.right
def torch_loop(q, k, v, beta):
    q, k, v, beta = (torch.as_tensor(x) for x in (q, k, v, beta))
    state, out = torch.zeros(k.shape[1], v.shape[1], dtype=v.dtype), []
    for t in range(len(q)):
        state = state + beta[t] * torch.outer(k[t], v[t] - k[t] @ state)
        out.append(q[t] @ state)
    return torch.stack(out)

"""Exercises of chapter 6, masking: build the leak detector."""

import numpy as np
import torch

from attnbook import functional, masks
from attnbook.exercises import Exercise, Law, Probe

TOOL, SHAPES, CHECK = "A tool that finds leaks", "Other shapes", "Check it"


# 6.6 Build it all: the detector -----------------------------------------------------------------------------------

def my_leaks(f, ids, other):
    before, n = f(ids), ids.shape[1]
    heard = np.zeros((n, n), dtype=bool)
    for j in range(n):
        replaced = np.where(np.arange(n) == j, other, ids)      # a new array
        heard[:, j] = (np.abs(f(replaced) - before) > 1e-9).any(axis=(0, 2))
    return np.triu(heard, k=1)

VOCABULARY = 10

def reader(rng, mask, after=lambda x, out: out, width=4):
    """A model with this mask that reads numbers: (batch, n) → (batch, n, width), in the library that it gets."""
    table = rng.standard_normal((VOCABULARY, width))

    def f(ids):
        x = table[np.asarray(ids)]
        out = after(x, functional.attention(x, x, x, mask=mask))
        return out if isinstance(ids, np.ndarray) else torch.from_numpy(np.array(out))

    return f

def tokens(rng, batch, n):
    """Numbers of which some are 0, and other numbers that are nowhere the same."""
    ids = rng.integers(0, VOCABULARY, (batch, n))
    ids[:, n // 2] = 0
    return ids, (ids + rng.integers(1, VOCABULARY, (batch, n))) % VOCABULARY

def masked(rng, n, kind, batch=1):
    mask = {
        "causal": masks.causal(n), "everyone": masks.causal(n) | True, "itself": np.eye(n, dtype=bool),
        "next": np.tril(np.ones((n, n), dtype=bool), k=1), "prefix": masks.causal(n) | masks.padding(n // 2, n),
        "scattered": (rng.random((n, n)) < 0.3) | np.eye(n, dtype=bool), "local": masks.local(n, n, 2),
    }[kind]  # fmt: skip
    return reader(rng, mask), *tokens(rng, batch, n)

def one_leaks(rng, n, batch):
    """Only the last sequence of the batch hears the future."""
    mask = masks.causal(n) | (np.arange(batch) == batch - 1)[:, None, None]
    return reader(rng, mask), *tokens(rng, batch, n)

def last_component(rng, n):
    """Only the last component hears what comes next."""
    hears_next = np.array([0, 0, 0, 1]) * 0.1
    return reader(rng, masks.causal(n), lambda x, out: out + hears_next * np.roll(x, -1, axis=1)), *tokens(rng, 1, n)

def up_and_down(rng, n):
    """What comes from the future goes up in one component and down in another by as much."""
    balance = np.array([1.0, -1.0])
    add = lambda x, out: out + balance * np.roll(x[..., :1], -2, axis=1)  # noqa: E731
    return reader(rng, np.eye(n, dtype=bool), add, width=2), *tokens(rng, 1, n)

def faint(rng, n):
    """The mean over all tokens is added, a thousandth of it."""
    mean = lambda x, out: out + 1e-3 * x.mean(axis=1, keepdims=True)  # noqa: E731
    return reader(rng, masks.causal(n), mean), *tokens(rng, 1, n)

def none_if_causal(f, model, ids, other):
    n = ids.shape[1]
    return not f(reader(np.random.default_rng(n), masks.causal(n)), ids, other).any()

def nothing_on_or_below_the_diagonal(f, model, ids, other):
    return not np.tril(f(model, ids, other)).any()

detector = Exercise(
    "06.leak",
    "Build it all: the detector",
    task="where output i of the model `f` changes when a later token j is replaced by `other[:, j]`.",
    solution=my_leaks,
    answer=lambda f, ids, other: masks.leaks(f, ids, other=other),
    probes=[
        Probe("a causal model", masked, n=5, kind="causal"),
        Probe("a model that sees the next word", masked, n=6, kind="next"),
        Probe("a model without a mask", masked, n=4, kind="everyone"),
        Probe("a prefix mask", masked, n=6, kind="prefix"),
        Probe("a mask with holes", masked, n=6, kind="scattered", batch=2),
        Probe("a model that looks both ways", masked, n=5, kind="local", batch=4),
        Probe("as many sequences as tokens", masked, n=4, kind="prefix", batch=4),
        Probe("a batch in which the last sequence alone leaks", one_leaks, n=4, batch=3),
        Probe("a leak in one component", last_component, n=5),
        Probe("a leak up in one component, down in another", up_and_down, n=5),
        Probe("a faint leak beside the mask", faint, n=4),
        Probe("one token", masked, n=1, kind="causal"),
    ],
    laws=[
        Law("the table holds booleans", lambda f, model, ids, other: f(model, ids, other).dtype == bool),
        Law("a causal model has no leak", none_if_causal),
        Law("the past and the token itself are no leaks", nothing_on_or_below_the_diagonal),
    ],
    hints=[
        "Start from `influence` of this chapter: one token at a time, on a *copy*, compared with the outputs before.",
        "One column of the table for each token that was replaced: all the outputs, in any sequence and any component.",
        "At the end, only places above the diagonal count: `np.triu(…, k=1)` keeps those.",
    ],
)

def heard_by(f, ids, other, start=0, changed=lambda change: (change != 0).any(axis=(0, 2))):
    """The table of influence, from token `start` on."""
    n = ids.shape[1]
    table, before = np.zeros((n, n), dtype=bool), f(ids)
    for j in range(start, n):
        table[:, j] = changed(f(np.where(np.arange(n) == j, other, ids)) - before)
    return table

@detector.wrong(
    "`ids` itself is changed, so from the second round on the earlier tokens are still replaced, and the caller's "
    "array is spoilt. Replace in a fresh copy each time.", TOOL
)
def replaced_in_place(f, ids, other):
    n = ids.shape[1]
    table, before = np.zeros((n, n), dtype=bool), f(ids)
    for j in range(n):
        ids[:, j] = other[:, j]
        table[:, j] = (f(ids) != before).any(axis=(0, 2))
    return np.triu(table, k=1)

@detector.wrong(
    "The whole future is replaced at once. That tells which outputs have a leak, not which token leaks: replace one "
    "token at a time.", TOOL
)
def whole_future_at_once(f, ids, other):
    n = ids.shape[1]
    table, before = np.zeros((n, n), dtype=bool), f(ids)
    for i in range(n):
        table[i] = (f(np.where(np.arange(n) > i, other, ids)) != before).any(axis=(0, 2))[i]
    return np.triu(table, k=1)

@detector.wrong(
    "All tokens from j on are replaced together: the leak of a token is then found in the columns before it as well. "
    "Replace token j alone.", TOOL
)
def the_rest_replaced(f, ids, other):
    n = ids.shape[1]
    table, before = np.zeros((n, n), dtype=bool), f(ids)
    for j in range(n):
        table[:, j] = (f(np.where(np.arange(n) >= j, other, ids)) != before).any(axis=(0, 2))
    return np.triu(table, k=1)

@detector.wrong(
    "Rows and columns are exchanged while you fill the table: replacing token j fills *column* j. What you keep above "
    "the diagonal is the past, so that even a causal model seems to leak.", TOOL
)
def rows_filled(f, ids, other):
    return np.triu(heard_by(f, ids, other).T, k=1)

@detector.wrong("The table is transposed: rows are the outputs, columns the tokens that were replaced.", TOOL)
def transposed(f, ids, other):
    return np.triu(heard_by(f, ids, other), k=1).T

@detector.wrong("It is the whole influence, past and all. A leak is what an output hears from *later* tokens.", TOOL)
def influence_returned(f, ids, other):
    return heard_by(f, ids, other)

@detector.wrong("The diagonal counts as a leak. An output may hear its own token: only *later* ones leak.", TOOL)
def own_token_counted(f, ids, other):
    return np.triu(heard_by(f, ids, other))

@detector.wrong("You keep what lies below the diagonal. That is the past, which an output may hear.", TOOL)
def past_counted(f, ids, other):
    return np.tril(heard_by(f, ids, other), k=-1)

@detector.wrong("You keep the past and the token itself, and throw away the future, where the leaks are.", TOOL)
def future_thrown_away(f, ids, other):
    return np.tril(heard_by(f, ids, other))

@detector.wrong("You keep the past, the token itself and the next one. The future is the *upper* triangle.", TOOL)
def lower_triangle_kept(f, ids, other):
    return np.tril(heard_by(f, ids, other), k=1)

@detector.wrong("The next token is left out: you begin two places above the diagonal.", TOOL)
def next_token_left_out(f, ids, other):
    return np.triu(heard_by(f, ids, other), k=2)

@detector.wrong(
    "Only the first sequence of the batch is replaced, or looked at. A leak may show in any of them.", TOOL
)
def first_sequence_only(f, ids, other):
    return np.triu(heard_by(f, ids, other, changed=lambda change: (change[0] != 0).any(axis=-1)), k=1)

@detector.wrong("You look at the first component only. A leak may come out in any of them.", TOOL)
def first_component_only(f, ids, other):
    return np.triu(heard_by(f, ids, other, changed=lambda change: (change[..., 0] != 0).any(axis=0)), k=1)

@detector.wrong(
    "The differences are added up before you ask whether there are any: what goes up in one component and down in "
    "another adds up to 0. Ask each number.", TOOL
)
def differences_added_up(f, ids, other):
    return np.triu(heard_by(f, ids, other, changed=lambda change: np.abs(change.sum(axis=(0, 2))) > 1e-9), k=1)

@detector.wrong(
    "You ask whether the *sum* (or the mean) of the differences is above 0. Differences have signs: ask each number "
    "whether it is different at all.", TOOL
)
def sum_above_zero(f, ids, other):
    return np.triu(heard_by(f, ids, other, changed=lambda change: change.sum(axis=(0, 2)) > 1e-9), k=1)

@detector.wrong(
    "You ask for changes *upwards* only: the size of the difference counts, whatever its sign.", TOOL
)
def changes_upwards_only(f, ids, other):
    return np.triu(heard_by(f, ids, other, changed=lambda change: (change > 1e-9).any(axis=(0, 2))), k=1)

@detector.wrong(
    "You ask that *all* the components change, in all the sequences. One that changes is a leak.", TOOL
)
def all_for_any(f, ids, other):
    return np.triu(heard_by(f, ids, other, changed=lambda change: (change != 0).all(axis=(0, 2))), k=1)

@detector.wrong("True and False are exchanged: you mark the outputs that did *not* change.", TOOL)
def unchanged_marked(f, ids, other):
    return np.triu(~heard_by(f, ids, other), k=1)

@detector.wrong(
    "You mark the outputs in which some number stayed the *same*. A leak is a number that is different.", TOOL
)
def same_for_different(f, ids, other):
    return np.triu(heard_by(f, ids, other, changed=lambda change: (change == 0).any(axis=(0, 2))), k=1)

@detector.wrong(
    "Everything above the diagonal is True, whatever the model, a causal one too. The usual reasons: one copy for all "
    "the rounds, so that earlier tokens are still replaced; asking whether *anything* changed, where output j always "
    "does; or comparing with something else than the outputs for `ids`.", TOOL
)
def everything_leaks(f, ids, other):
    return np.triu(np.ones((ids.shape[1], ids.shape[1]), dtype=bool), k=1)

@detector.wrong(
    "It finds nothing, whatever the model: the outputs before and after are made from the same numbers. Is the output "
    "“before” computed before the token is replaced, and does the replaced array reach `f`?", TOOL
)
def compared_with_itself(f, ids, other):
    return np.zeros((ids.shape[1], ids.shape[1]), dtype=bool)

@detector.wrong(
    "Each round is compared with the round before it, so that two tokens differ: the one that is replaced and the one "
    "that is put back. Compare with the untouched `ids`.", TOOL
)
def compared_with_the_last_round(f, ids, other):
    n = ids.shape[1]
    table, before = np.zeros((n, n), dtype=bool), f(ids)
    for j in range(n):
        after = f(np.where(np.arange(n) == j, other, ids))
        table[:, j], before = (after != before).any(axis=(0, 2)), after
    return np.triu(table, k=1)

@detector.wrong(
    "The tokens are replaced by 0. Where a token *is* 0, nothing is replaced and no leak can show: that is what "
    "`other` is for.", CHECK
)
def replaced_by_zero(f, ids, other):
    return np.triu(heard_by(f, ids, 0 * ids), k=1)

@detector.wrong("The last token is never replaced: its column stays empty. How many tokens are there?", TOOL)
def last_token_left_out(f, ids, other):
    return np.triu(heard_by(f, ids[:, :], other) & (np.arange(ids.shape[1]) < ids.shape[1] - 1), k=1)

@detector.wrong(
    "Small changes do not count with you. A change is a change: a forbidden weight is exactly 0, and rounding is far "
    "below a millionth.", TOOL
)
def faint_leaks_missed(f, ids, other):
    return np.triu(heard_by(f, ids, other, changed=lambda change: (np.abs(change) > 1e-2).any(axis=(0, 2))), k=1)

@detector.wrong("The batch is still there, a table for each sequence. A leak in any of them is a leak.", TOOL)
def a_table_for_each_sequence(f, ids, other):
    n = ids.shape[1]
    columns = [(f(np.where(np.arange(n) == j, other, ids)) != f(ids)).any(axis=-1) for j in range(n)]
    return np.triu(np.stack(columns, axis=-1), k=1)

@detector.wrong("You count the leaks, or say whether there is one. Asked for is the table that says where.", TOOL)
def how_many(f, ids, other):
    return np.triu(heard_by(f, ids, other), k=1).sum()

@detector.wrong(
    "The index stands on the batch's axis: `ids[j]` is a sequence, `ids[:, j]` is token j of all of them.", TOOL
)
def sequence_replaced(f, ids, other):
    n = ids.shape[1]
    table, before = np.zeros((n, n), dtype=bool), f(ids)
    for j in range(n):
        replaced = ids.copy()
        replaced[j] = other[j]
        table[:, j] = (f(replaced) != before).any(axis=(0, 2))
    return np.triu(table, k=1)

@detector.right
def as_in_the_chapter(f, ids, other):
    before, columns = f(ids), []
    for j in range(ids.shape[1]):
        replaced = ids.copy()
        replaced[:, j] = other[:, j]
        columns.append((f(replaced) != before).any(axis=(0, 2)))
    heard = np.stack(columns, axis=-1)
    return heard & ~masks.causal(*heard.shape)

@detector.right
def put_back_each_time(f, ids, other):
    ids = ids.copy()
    before, n = f(ids), ids.shape[1]
    out = np.zeros((n, n), dtype=bool)
    for j in range(1, n):
        kept = ids[:, j].copy()
        ids[:, j] = other[:, j]
        out[:j, j] = np.abs(f(ids) - before).max(axis=2).max(axis=0)[:j] > 0
        ids[:, j] = kept
    return out

@detector.right
def with_torch(f, ids, other):
    before, n = f(ids), ids.size(1)
    heard = torch.zeros(n, n, dtype=torch.bool)
    for j in range(n):
        replaced = ids.clone()
        replaced[:, j] = other[:, j]
        heard[:, j] = (f(replaced) - before).abs().amax(dim=(0, 2)) > 1e-8
    return heard.triu(1)

@detector.right
def one_place_at_a_time(f, ids, other):
    n = ids.shape[1]
    out = np.zeros((n, n), dtype=bool)
    for j in range(n):
        replaced = np.concatenate([ids[:, :j], other[:, j : j + 1], ids[:, j + 1 :]], axis=1)
        before, after = f(ids), f(replaced)
        for i in range(j):
            out[i, j] = not np.array_equal(before[:, i], after[:, i])
    return out

@detector.right
def the_packaged_one(f, ids, other):
    return masks.leaks(f, ids, other=other)

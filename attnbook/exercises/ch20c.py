"""Exercises of chapter 20, linear attention: the chunked form."""

import numpy as np
import torch

from attnbook.exercises import Exercise, Law, Probe, close
from attnbook.exercises.ch20 import no_table

MEMORY, CHUNKS = "A memory, token by token", "Chunks"


# 20.5 Build it ------------------------------------------------------------------------------------------------------

def chunked(q, k, v, chunk):
    state, out = np.zeros((k.shape[1], v.shape[1])), []
    for i in range(0, len(v), chunk):
        queries, keys, values = q[i : i + chunk], k[i : i + chunk], v[i : i + chunk]
        out.append(np.tril(queries @ keys.T) @ values + queries @ state)
        state = state + keys.T @ values
    return np.concatenate(out)

def all_at_once(q, k, v, chunk):
    return np.tril(q @ k.T) @ v

def sequences(rng, n, d_k, d_v, chunk):
    return rng.standard_normal((n, d_k)), rng.standard_normal((n, d_k)), rng.standard_normal((n, d_v)), chunk

build = Exercise(
    "20.chunked",
    "Build it: chunks",
    task="causal linear attention a chunk at a time: pairs within a chunk, the state for all that came before.",
    solution=chunked,
    answer=all_at_once,
    probes=[
        Probe("two chunks of three", sequences, n=6, d_k=4, d_v=2, chunk=3),
        Probe("three chunks of four, all sizes alike", sequences, n=12, d_k=4, d_v=4, chunk=4),
        Probe("a last chunk that is shorter", sequences, n=7, d_k=3, d_v=2, chunk=3),
        Probe("chunks of one token", sequences, n=5, d_k=3, d_v=2, chunk=1),
        Probe("one chunk for all", sequences, n=5, d_k=3, d_v=2, chunk=5),
        Probe("a chunk longer than the text", sequences, n=4, d_k=2, d_v=3, chunk=9),
        Probe("one token", sequences, n=1, d_k=2, d_v=2, chunk=2),
    ],
    laws=[
        Law("the chunk's length changes nothing",
            lambda f, q, k, v, chunk: close(f(q, k, v, chunk), f(q, k, v, chunk + 2))),
        Law("it needs no table of n × n weights: 1500 tokens in chunks of 50 must do with less", no_table,
            Probe("a long text", lambda rng: sequences(rng, 1500, 4, 4, chunk=50))),
    ],
    hints=[
        "Go chunk by chunk: `for i in range(0, len(v), chunk)`, with `q[i:i + chunk]` and so on; a slice may reach "
        "beyond the end. Carry S along, (d_k, d_v), zeros at first.",
        "Within a chunk: `np.tril` of its table of weights, times its values. All that came before: its queries times "
        "S.",
        "Only when the chunk's out is done are its own keys and values added to S.",
    ],
)

build.slip("looks_ahead_within", {"np.tril(": "("},
           "Within a chunk your tokens look ahead: the table of the chunk needs its causal triangle. Compare chunks of "
           "one token, which are right.", CHUNKS)
build.slip("upper_triangle", {"np.tril": "np.triu"},
           "The triangle is the wrong one: your tokens see the later ones of their chunk, and not the earlier.", CHUNKS)
build.slip("not_oneself", {"keys.T)": "keys.T, -1)"},
           "A token does not see itself in your version: the diagonal belongs to the triangle.", CHUNKS)
build.slip("state_too_early", {"queries @ state": "queries @ (state + keys.T @ values)"},
           "The chunk's own keys are in the state before it is read: they count twice, and later ones are seen. Update "
           "the state after out.", CHUNKS)
build.slip("chunks_alone", {" + queries @ state": ""},
           "Each chunk starts from nothing: what came before it is forgotten. Is the state read, and carried along?",
           CHUNKS)
build.slip("past_alone", {"np.tril(queries @ keys.T) @ values + ": ""},
           "A token finds only what came *before its chunk*. The pairs within the chunk are missing.", CHUNKS)
build.slip("last_chunk_only", {"state + ": ""},
           "The state has only the chunk just before: a new chunk replaces it, where it should be added.", CHUNKS)
build.slip("state_shrinks", {"state + ": "state - "},
           "The past has the wrong sign: what came before the chunk is taken away, where it should be added.", CHUNKS)

@build.wrong("The last chunk, which may be shorter, is left out, and its rows are zeros.", CHUNKS)
def last_chunk_zero(q, k, v, chunk):
    out = all_at_once(q, k, v, chunk)
    out[len(v) // chunk * chunk :] = 0
    return out

@build.wrong("The last chunk, which may be shorter, is left out, and its rows are missing.", CHUNKS)
def last_chunk_missing(q, k, v, chunk):
    return all_at_once(q, k, v, chunk)[: len(v) // chunk * chunk]

@build.wrong("Only the *first* chunk comes back: is the `return` inside the loop?", CHUNKS)
def first_chunk_alone(q, k, v, chunk):
    return all_at_once(q, k, v, chunk)[:chunk]

@build.wrong("It is not causal: every token sees the whole text.", CHUNKS)
def not_causal(q, k, v, chunk):
    return q @ k.T @ v

@build.wrong("The weights are divided by their sum, or go through a softmax. Here they are the products as they stand.",
             CHUNKS)  # fmt: skip
def divided(q, k, v, chunk):
    weights = np.tril(q @ k.T)
    return weights @ v / weights.sum(axis=1, keepdims=True)

@build.wrong("The weights are scaled by √d_k. That belongs to softmax attention; here they are the products alone.",
             CHUNKS)  # fmt: skip
def scaled(q, k, v, chunk):
    return all_at_once(q, k, v, chunk) / np.sqrt(q.shape[1])

build.slip("steps_of_one", {"0, len(v), chunk": "len(v)"},
           "The chunks overlap: the loop goes on by one token, not by `chunk`, so rows come out many times.", CHUNKS)
build.slip("written_without_transpose", {"keys.T @ values": "keys @ values"},
           "Which axis is summed over in what you write to the state? It should be the tokens: φ(K)ᵀ V, (d_k, d_v).",
           MEMORY)
build.slip("written_sides_exchanged", {"keys.T @ values": "values @ keys.T"},
           "V Kᵀ sums over channels where the state sums over tokens: the transposed keys come first.", MEMORY)

@build.wrong("Queries and keys are exchanged: the keys write, the queries ask.", MEMORY)
def roles_exchanged(q, k, v, chunk):
    return all_at_once(k, q, v, chunk)

build.slip("queries_written", {"keys.T @ values": "queries.T @ values"},
           "The *queries* are written into the state. The keys write, the queries only ask.", MEMORY)
build.slip("state_read_by_keys", {"queries @ state": "keys @ state"},
           "The state is read with the *keys*. They write; the queries ask.", MEMORY)
build.slip("keys_ask_keys", {"tril(queries": "tril(keys"},
           "Within a chunk the *keys* ask each other. It is the queries that ask.", MEMORY)
build.slip("queries_meet_queries", {"keys.T)": "queries.T)"},
           "Within a chunk the queries meet *queries*: its table is queries times keys.", MEMORY)
build.slip("mask_after_values", {"keys.T) @ values": "keys.T @ values)"},
           "The triangle is cut after the product with the values, where rows are tokens and columns channels. The "
           "mask belongs to the weights.", CHUNKS)
build.slip("begins_with_ones", {"np.zeros": "np.ones"},
           "The state begins with ones: before the first token nothing has been written.", MEMORY)
build.slip("chunks_not_joined", {"np.concatenate(out)": "out"},
           "A list of chunks comes back. Join them to one array along the tokens.", CHUNKS)
build.slip("row_for_a_token", {"k.shape[1]": "k.shape[0]"},
           "Your state has a row for each *token*. It has one for each channel of the key: (d_k, d_v).", MEMORY)
build.slip("column_for_a_token", {"v.shape[1]": "v.shape[0]"},
           "Your state has a column for each *token*. It has one for each channel of the value: (d_k, d_v).", MEMORY)
build.slip("rows_as_wide_as_a_value", {"k.shape": "v.shape"},
           "Your state is as wide as a *value* both ways: its rows are the channels of the key.", MEMORY)
build.slip("columns_as_wide_as_a_key", {"v.shape": "k.shape"},
           "Your state is as wide as a *key* both ways: its columns are the channels of the value.", MEMORY)
build.slip("no_such_axis", {"k.shape[1]": "k.shape[2]"},
           "Axes are counted from 0: the shape of k is (n, d_k), and d_k is number 1.", MEMORY)
build.slip("star_with_the_state", {"queries @ state": "queries * state"},
           "`*` multiplies number by number: what the queries read from the state is a product `@`.", MEMORY)
build.slip("star_with_the_values", {") @ values": ") * values"},
           "`*` multiplies number by number: the weights meet the values in a product `@`.", CHUNKS)
build.slip("star_in_the_table", {"queries @ keys": "queries * keys"},
           "`*` multiplies number by number: the table of weights is a product `@` of queries and keys.", CHUNKS)
build.slip("table_without_transpose", {"keys.T)": "keys)"},
           "The keys are not transposed in the table of weights: it is chunk × chunk, Q Kᵀ.", CHUNKS)
build.slip("state_before_queries", {"queries @ state": "state @ queries"},
           "The state stands before the queries in your product: rows are queries, so they come first.", MEMORY)
build.slip("values_before_weights", {"np.tril(queries @ keys.T) @ values": "values @ np.tril(queries @ keys.T)"},
           "The values stand before the weights in your product: rows are queries, so the weights come first.", CHUNKS)
build.slip("star_in_the_state", {"keys.T @ values": "keys.T * values"},
           "`*` multiplies number by number: keys and values make the state with `@`, which sums over the tokens.",
           MEMORY)
build.slip("values_ask", {"tril(queries": "tril(values"},
           "The *values* ask within the chunk. It is the queries that ask.", MEMORY)
build.slip("values_for_keys", {"keys.T)": "values.T)"},
           "The *values* stand for the keys in your version.", MEMORY)

@build.right
def token_by_token(q, k, v, chunk):
    state, out = 0, []
    for q_t, k_t, v_t in zip(q, k, v, strict=True):
        state = state + np.outer(k_t, v_t)
        out.append(q_t @ state)
    return np.array(out)

@build.right
def into_an_array(q, k, v, chunk):
    state, out = np.zeros((k.shape[1], v.shape[1])), np.empty((len(v), v.shape[1]))
    for i in range(0, len(v), chunk):
        part = slice(i, i + chunk)
        out[part] = q[part] @ state + np.tril(q[part] @ k[part].T) @ v[part]
        state += k[part].T @ v[part]
    return out

@build.right
def in_torch(q, k, v, chunk):
    q, k, v = (torch.as_tensor(x) for x in (q, k, v))
    state, out = torch.zeros(k.shape[1], v.shape[1], dtype=v.dtype), []
    for a, b, x in zip(q.split(chunk), k.split(chunk), v.split(chunk), strict=True):
        out.append((a @ b.T).tril() @ x + a @ state)
        state = state + b.T @ x
    return torch.cat(out)

"""Exercises of chapter 7, cross-attention."""

import numpy as np
import torch

from attnbook import functional, layers, masks
from attnbook.exercises import Exercise, Law, Probe, close

ONE_LINE, SHAPES, MASK, HEADS = "One line changes", "Shapes", "Which mask?", "Several heads"
WRONG_SIDE, SWAPPED = "Keys and values from the wrong side", "Roles swapped"
QUERY_AXIS = "Padding masked on the query axis"


# 7.1 Say it before you run it -------------------------------------------------------------------------------------

def shapes():
    return {"q": (2, 4, 6, 12), "k": (2, 4, 11, 12), "v": (2, 4, 11, 12), "weights": (2, 4, 6, 11), "out": (2, 6, 48)}

shape_of = Exercise(
    "07.shapes",
    "Say it before you run it",
    task="the shapes of q, k, v (after the split into heads), weights and out, a dict of tuples.",
    solution=shapes,
    hints=[
        "Who asks, the 6 words being written or the 11 being read? Those are the rows of `q`, `weights` and `out`.",
        "The width 80 ends at W_K and W_V: behind them everything is 48 wide, and a head has its share of that.",
        "With heads the axes are batch, heads, tokens, width of a head. W_O puts the heads side by side again.",
    ],
)

@shape_of.wrong(
    "80 / 4 is not it: the keys and values have left the width of the memory. W_K and W_V turn 80 into 48, and *that* "
    "is shared out to the heads.", HEADS
)
def heads_share_the_memorys_width():
    for name in "kv":
        yield shapes() | {name: (2, 4, 11, 20)}

@shape_of.wrong(
    "A key or value as wide as the memory would be the memory itself: it goes through W_K or W_V first, which makes it "
    "as wide as the model.", SHAPES
)
def memory_not_projected():
    for name in "kv":
        yield shapes() | {name: (2, 11, 80)}
        yield shapes() | {name: (2, 4, 11, 80)}

@shape_of.wrong(
    "Rows and columns of the weights are exchanged: rows are those who ask, the words being written, and columns those "
    "who are asked.", SHAPES
)
def weights_transposed():
    return shapes() | {"weights": (2, 4, 11, 6)}

@shape_of.wrong(
    "Your weights are square: somebody asks its own sequence there. Two sequences of two lengths meet, and the table "
    "is a rectangle.", SHAPES
)
def weights_square():
    yield shapes() | {"weights": (2, 4, 6, 6)}
    yield shapes() | {"weights": (2, 4, 11, 11)}

@shape_of.wrong("Each head has weights of its own: an axis of 4 is missing in `weights`.", HEADS)
def weights_without_heads():
    return shapes() | {"weights": (2, 6, 11)}

@shape_of.wrong("The weights have a column for each word that is *read*, however wide a head is.", SHAPES)
def weights_as_wide_as_a_head():
    return shapes() | {"weights": (2, 4, 6, 12)}

@shape_of.wrong(
    "You have an output for each word that was read. The output has a row for each word that *asks*: the source has "
    "been read, and is gone.", SWAPPED
)
def out_for_each_source_word():
    return shapes() | {"out": (2, 11, 48)}

@shape_of.wrong(
    "The output goes back to the target, and is as wide as the target's vectors. The memory's width is nowhere to be "
    "seen in it.", HEADS
)
def out_as_wide_as_the_memory():
    yield shapes() | {"out": (2, 6, 80)}
    yield shapes() | {"out": (2, 11, 80)}

@shape_of.wrong("The heads are not joined in your output: W_O takes all of them and makes one vector a word.", HEADS)
def out_still_in_heads():
    yield shapes() | {"out": (2, 4, 6, 12)}
    yield shapes() | {"out": (2, 6, 12)}

@shape_of.wrong("`q` belongs to who asks: the 6 words that are being written.", SWAPPED)
def queries_of_the_source():
    return shapes() | {"q": (2, 4, 11, 12)}

@shape_of.wrong("Keys and values belong to who is *asked*: one for each of the 11 words that are read.", WRONG_SIDE)
def keys_of_the_target():
    for name in "kv":
        yield shapes() | {name: (2, 4, 6, 12)}

@shape_of.wrong("These are not split into heads yet: an axis of 4 is missing, and the 48 is still in one piece.", HEADS)
def not_split():
    yield shapes() | {"q": (2, 6, 48)}
    for name in "kv":
        yield shapes() | {name: (2, 11, 48)}

@shape_of.wrong(
    "Each of your heads is as wide as the model. Four heads *share* the 48, a quarter each.", "5 · Split"
)
def each_head_as_wide_as_the_model():
    yield shapes() | {"q": (2, 4, 6, 48)}
    for name in "kv":
        yield shapes() | {name: (2, 4, 11, 48)}

@shape_of.wrong(
    "The heads stand behind the tokens there. They go to the front, beside the batch, so that the last two axes are "
    "the matrix of one head.", "5 · Split"
)
def heads_behind_the_tokens():
    for name in ("q", "k", "v", "weights"):
        batch, heads, rows, width = shapes()[name]
        yield shapes() | {name: (batch, rows, heads, width)}

@shape_of.wrong("The batch stands in *front*, before the heads and the tokens.", HEADS)
def batch_not_in_front():
    for name in ("q", "k", "v", "weights", "out"):
        batch, second, *rest = shapes()[name]
        yield shapes() | {name: (second, batch, *rest)}

@shape_of.wrong("The batch is missing: two pairs are stacked, so a 2 stands in front of every shape.", HEADS)
def no_batch():
    for name, shape in shapes().items():
        yield shapes() | {name: shape[1:]}

@shape_of.wrong("Rows are words, columns are components, in `q`, `k`, `v` and `out` alike.", SHAPES)
def words_in_columns():
    for name in ("q", "k", "v", "out"):
        *front, rows, width = shapes()[name]
        yield shapes() | {name: (*front, width, rows)}

@shape_of.right
def as_lists():
    return {name: list(shape) for name, shape in shapes().items()}

@shape_of.right
def by_running_it():
    layer = layers.MultiHeadAttention(48, 4, d_kv=80)
    x, memory = torch.zeros(2, 6, 48), torch.zeros(2, 11, 80)
    q, k, v = (w(z).unflatten(-1, (4, 12)).transpose(1, 2)
               for w, z in ((layer.w_q, x), (layer.w_k, memory), (layer.w_v, memory)))  # fmt: skip
    out, weights = layer(x, memory, return_weights=True)
    return {"q": q.shape, "k": k.shape, "v": v.shape, "weights": weights.shape, "out": out.shape}

@shape_of.right
def with_names():
    batch, heads, n_q, n_kv, d_model = 2, 4, 6, 11, 48
    kv = (batch, heads, n_kv, d_model // heads)
    return {"out": (batch, n_q, d_model), "weights": (batch, heads, n_q, n_kv), "k": kv, "v": kv,
            "q": (batch, heads, n_q, d_model // heads)}  # fmt: skip


# 7.2 One line -----------------------------------------------------------------------------------------------------

def cross(x, memory, w_q, w_k, w_v):
    q, k, v = x @ w_q, memory @ w_k, memory @ w_v
    return functional.attention(q, k, v)

def two_sequences(rng, n_q, n_kv, d_model, d_kv, d_k, d_v, batch=(), stretch=1.0):
    sizes = (*batch, n_q, d_model), (*batch, n_kv, d_kv), (d_model, d_k), (d_kv, d_k), (d_kv, d_v)
    x, memory, *projections = [0.7 * rng.standard_normal(size) for size in sizes]
    return stretch * x, stretch * memory, *projections

one_line = Exercise(
    "07.cross",
    "One line",
    task="where queries, keys and values come from.",
    solution=cross,
    probes=[
        Probe("all sizes different", two_sequences, n_q=2, n_kv=3, d_model=4, d_kv=6, d_k=5, d_v=7),
        Probe("one source word", two_sequences, n_q=3, n_kv=1, d_model=4, d_kv=5, d_k=2, d_v=3),
        Probe("one target token", two_sequences, n_q=1, n_kv=4, d_model=4, d_kv=3, d_k=2, d_v=5),
        Probe("both equally wide", two_sequences, n_q=2, n_kv=4, d_model=5, d_kv=5, d_k=3, d_v=6),
        Probe("both equally long", two_sequences, n_q=4, n_kv=4, d_model=5, d_kv=5, d_k=3, d_v=2),
        Probe("all sizes alike", two_sequences, n_q=3, n_kv=3, d_model=3, d_kv=3, d_k=3, d_v=3),
        Probe("a batch", two_sequences, n_q=2, n_kv=3, d_model=4, d_kv=5, d_k=6, d_v=7, batch=(4,)),
        Probe("two axes in front", two_sequences, n_q=3, n_kv=2, d_model=4, d_kv=6, d_k=5, d_v=7, batch=(2, 4)),
        Probe("large scores", two_sequences, n_q=4, n_kv=5, d_model=5, d_kv=6, d_k=3, d_v=4, stretch=100.0),
    ],
    laws=[
        Law("the order of the source words does not matter",
            lambda f, x, memory, *w: close(f(x, memory[..., ::-1, :].copy(), *w), f(x, memory, *w))),
        Law("each target token is answered without regard to the others",
            lambda f, x, memory, *w: close(f(x[..., :1, :], memory, *w), f(x, memory, *w)[..., :1, :])),
        Law("twice W_V gives twice the output",
            lambda f, x, memory, w_q, w_k, w_v: close(f(x, memory, w_q, w_k, 2 * w_v),
                                                      2 * f(x, memory, w_q, w_k, w_v))),
    ],
    hints=[
        "The target, `x`, asks. The source, `memory`, is asked: what does it offer, and what does it hand over?",
        "One sequence times `w_q`, the other one times `w_k` and times `w_v`; the three arrays in this order.",
    ],
)  # fmt: skip

def projected(name, says, reread, of):
    """A misconception about where q, k and v come from: `of(x, memory, w_q, w_k, w_v)` returns them."""

    def function(x, memory, w_q, w_k, w_v):
        return functional.attention(*of(x, memory, w_q, w_k, w_v))

    function.__name__ = name
    one_line.wrong(says, reread)(function)

projected("self_attention", "Keys and values come from `x`: the target asks itself, and the source is never read. With "
          "equal widths nothing would have complained.", WRONG_SIDE,
          lambda x, z, w_q, w_k, w_v: (x @ w_q, x @ w_k, x @ w_v))  # fmt: skip
projected("keys_from_the_target", "Your keys come from the target. The values are the source's, but who gets how much "
          "of them is decided without a look at the source.", WRONG_SIDE,
          lambda x, z, w_q, w_k, w_v: (x @ w_q, x @ w_k, z @ w_v))  # fmt: skip
projected("values_from_the_target", "Your values come from the target: the source is looked at, and then the target "
          "hands itself over.", WRONG_SIDE,
          lambda x, z, w_q, w_k, w_v: (x @ w_q, z @ w_k, x @ w_v))  # fmt: skip
projected("roles_swapped", "The source asks and the target answers in your code. There should be one row of output for "
          "each *target* token.", SWAPPED,
          lambda x, z, w_q, w_k, w_v: (z @ w_q, x @ w_k, x @ w_v))  # fmt: skip
projected("queries_from_the_source", "Your queries come from the source, so that it asks itself, and the target is "
          "never used.", SWAPPED,
          lambda x, z, w_q, w_k, w_v: (z @ w_q, z @ w_k, z @ w_v))  # fmt: skip
projected("keys_and_values_exchanged", "Keys and values have changed places: the keys are compared with the queries, "
          "the values are what is handed over.", ONE_LINE,
          lambda x, z, w_q, w_k, w_v: (x @ w_q, z @ w_v, z @ w_k))  # fmt: skip
projected("keys_handed_over", "The keys are handed over as values: `w_v` is not used. What a word offers and what it "
          "hands over are two projections.", ONE_LINE,
          lambda x, z, w_q, w_k, w_v: (x @ w_q, z @ w_k, z @ w_k))  # fmt: skip
projected("values_compared", "The values are compared with the queries: `w_k` is not used.", ONE_LINE,
          lambda x, z, w_q, w_k, w_v: (x @ w_q, z @ w_v, z @ w_v))  # fmt: skip
projected("queries_compared", "Your keys go through `w_q`. That projection belongs to who asks.", ONE_LINE,
          lambda x, z, w_q, w_k, w_v: (x @ w_q, z @ w_q, z @ w_v))  # fmt: skip
projected("queries_through_w_k", "Your queries go through `w_k`, the projection of those who are asked.", ONE_LINE,
          lambda x, z, w_q, w_k, w_v: (x @ w_k, z @ w_k, z @ w_v))  # fmt: skip
projected("queries_through_w_v", "Your queries go through `w_v`, the projection of what is handed over.", ONE_LINE,
          lambda x, z, w_q, w_k, w_v: (x @ w_v, z @ w_k, z @ w_v))  # fmt: skip
projected("values_through_w_q", "Your values go through `w_q`. That projection belongs to who asks.", ONE_LINE,
          lambda x, z, w_q, w_k, w_v: (x @ w_q, z @ w_k, z @ w_q))  # fmt: skip
projected("w_q_and_w_k_exchanged", "`w_q` and `w_k` have changed places: the target goes through `w_q`.", ONE_LINE,
          lambda x, z, w_q, w_k, w_v: (x @ w_k, z @ w_q, z @ w_v))  # fmt: skip
projected("keys_ask", "Queries and keys change places on the way into `attention`: first who asks, then who is asked.",
          SWAPPED, lambda x, z, w_q, w_k, w_v: (z @ w_k, x @ w_q, z @ w_v))  # fmt: skip
projected("no_projections", "The vectors are compared as they are. Only their projections are equally wide: the target "
          "through `w_q`, the memory through `w_k` and `w_v`.", SHAPES,
          lambda x, z, w_q, w_k, w_v: (x, z, z))  # fmt: skip
projected("values_not_projected", "The memory is handed over as it is: `w_v` is not used, and the output is as wide as "
          "the memory.", ONE_LINE,
          lambda x, z, w_q, w_k, w_v: (x @ w_q, z @ w_k, z))  # fmt: skip
projected("memory_compared", "The memory itself is compared with the queries: `w_k` is not used. Where the widths "
          "differ that fails, and where they do not, nothing complains.", ONE_LINE,
          lambda x, z, w_q, w_k, w_v: (x @ w_q, z, z @ w_v))  # fmt: skip
projected("memory_for_both", "The memory itself is key and value in your code: `w_k` and `w_v` are not used. What a "
          "word offers and what it hands over are two projections of it.", ONE_LINE,
          lambda x, z, w_q, w_k, w_v: (x @ w_q, z, z))  # fmt: skip
projected("projections_on_the_left", "Each projection stands on the right of its sequence: rows are tokens, and "
          "`x @ w` sends each row through `w`.", ONE_LINE,
          lambda x, z, w_q, w_k, w_v: (w_q @ x, w_k @ z, w_v @ z))  # fmt: skip
projected("queries_number_by_number", "`*` multiplies number by number. A projection is a product of matrices: `@`.",
          ONE_LINE, lambda x, z, w_q, w_k, w_v: (x * w_q, z * w_k, z * w_v))  # fmt: skip

def in_one_of(say):
    """Calls `say(name, its, of)` for each of the three products; `of(product)` puts another one in its place."""
    for i, (name, its) in enumerate([("queries", "x @ w_q"), ("keys", "memory @ w_k"), ("values", "memory @ w_v")]):

        def of(product, i=i):
            def replaced(x, z, w_q, w_k, w_v):
                sequence, w = [(x, w_q), (z, w_k), (z, w_v)][i]
                parts = [x @ w_q, z @ w_k, z @ w_v]
                return *parts[:i], product(sequence, w), *parts[i + 1 :]

            return replaced

        say(name, its, of)

def slips_of_the_product(say):
    """A star for `@`, and the factors exchanged, in one of the three products."""

    def for_each(name, its, of):
        say(f"star_for_at_in_the_{name}", f"`*` multiplies number by number. Your {name} need a product of matrices: "
            f"`{its}`.", ONE_LINE, of(lambda sequence, w: sequence * w))  # fmt: skip
        say(f"factors_of_the_{name}_exchanged", f"The factors of your {name} stand the wrong way round: rows are "
            "tokens and stay rows, so the sequence comes first.", ONE_LINE,
            of(lambda sequence, w: w @ sequence))  # fmt: skip

    in_one_of(for_each)

slips_of_the_product(projected)

def names_mixed_up():
    """In one of the three products a projection where the sequence belongs, or a sequence where the projection does."""

    def one(part, i, side, name, says):
        def of(x, z, w_q, w_k, w_v):
            factors = [[x, w_q], [z, w_k], [z, w_v]]
            factors[i][side] = {"x": x, "memory": z, "w_q": w_q, "w_k": w_k, "w_v": w_v}[name]
            return [left @ right for left, right in factors]

        projected(f"{name}_{('first', 'second')[side]}_in_the_{part}", says, ONE_LINE, of)

    for i, part in enumerate(("queries", "keys", "values")):
        for name in ("w_q", "w_k", "w_v"):
            one(part, i, 0, name, f"`{name}` stands first in the product that makes your {part}. There belongs a "
                "sequence: the target, or the source?")  # fmt: skip
        for name in ("x", "memory"):
            one(part, i, 1, name, f"`{name}` stands second in the product that makes your {part}: two sequences meet "
                "there. Each goes through a projection first.")  # fmt: skip

names_mixed_up()

@one_line.wrong(
    "The exponentials overflow where scores are large. `functional.attention` takes each row's maximum off first.",
    "1 · Numbers too large for the machine"
)
def no_maximum(x, memory, w_q, w_k, w_v):
    exps = np.exp(functional.scaled_scores(x @ w_q, memory @ w_k))
    return exps / exps.sum(axis=-1, keepdims=True) @ (memory @ w_v)

@one_line.wrong("You return the weights as well. `cross` returns the output alone.", ONE_LINE)
def weights_too(x, memory, w_q, w_k, w_v):
    return functional.attention(x @ w_q, memory @ w_k, memory @ w_v, return_weights=True)

@one_line.wrong("That is the weights. They still have to mix the values.", ONE_LINE)
def weights_alone(x, memory, w_q, w_k, w_v):
    return functional.attention(x @ w_q, memory @ w_k, memory @ w_v, return_weights=True)[1]

@one_line.right
def with_einsum(x, memory, w_q, w_k, w_v):
    scores = np.einsum("...id,dh,eh,...je->...ij", x, w_q, w_k, memory) / w_q.shape[-1] ** 0.5
    return functional.softmax(scores) @ memory @ w_v

@one_line.right
def with_torch(x, memory, w_q, w_k, w_v):
    x, memory, w_q, w_k, w_v = map(torch.as_tensor, (x, memory, w_q, w_k, w_v))
    return torch.nn.functional.scaled_dot_product_attention(x @ w_q, memory @ w_k, memory @ w_v)

@one_line.right
def in_float32(x, memory, w_q, w_k, w_v):
    return cross(*(np.float32(array) for array in (x, memory, w_q, w_k, w_v)))

@one_line.right
def one_target_token_at_a_time(x, memory, w_q, w_k, w_v):
    k, v = np.matmul(memory, w_k), np.matmul(memory, w_v)
    steps = [functional.attention(x[..., i : i + 1, :] @ w_q, k, v) for i in range(x.shape[-2])]
    return np.concatenate(steps, axis=-2)


# 7.3 The mask of the memory ---------------------------------------------------------------------------------------

def source_mask_of(lengths, n_kv):
    return np.arange(n_kv) < np.asarray(lengths)[:, None, None]

def sources(rng, batch, n_kv, shortest=1):
    """Lengths in no order, one source that is full among them, and one that is empty if that may be."""
    lengths = rng.integers(shortest, n_kv + 1, size=batch)
    lengths[batch // 2], lengths[-1] = n_kv, (n_kv + 1) // 2 if shortest else 0
    return lengths, n_kv

source_mask = Exercise(
    "07.mask",
    "The mask of the memory",
    task="booleans (batch, 1, n_kv), True for the source words that may be read.",
    solution=source_mask_of,
    answer=lambda lengths, n_kv: masks.padding(lengths, n_kv),
    probes=[
        Probe("two sources", sources, batch=2, n_kv=5),
        Probe("more sources than words", sources, batch=6, n_kv=3),
        Probe("as many sources as words", sources, batch=4, n_kv=4),
        Probe("one source", sources, batch=1, n_kv=3),
        Probe("one word", sources, batch=2, n_kv=1),
        Probe("a source of length 0", sources, batch=3, n_kv=4, shortest=0),
        Probe("an empty one alone", sources, batch=1, n_kv=1, shortest=0),
    ],
    laws=[
        Law("each source has as many True as it has words",
            lambda f, lengths, n_kv: np.array_equal(f(lengths, n_kv).sum(axis=(-2, -1)), lengths)),
        Law("the mask is boolean: True and False, no numbers", lambda f, *sizes: f(*sizes).dtype == bool),
        Law("more filler adds only False",
            lambda f, lengths, n_kv: not f(lengths, n_kv + 2)[..., n_kv:].any()),
    ],
    hints=[
        "Number the places of a source 0, 1, …, n_kv − 1. Which of them are words, if `lengths[b]` is 4?",
        "The comparison makes the table if the numbers lie along the last axis and the lengths along the first: "
        "`lengths[:, None, None]` has two more axes at its end.",
    ],
)  # fmt: skip

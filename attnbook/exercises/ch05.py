"""Exercises of chapter 5, multi-head attention."""

import numpy as np
import torch

from attnbook.exercises import Exercise, Law, Probe, close
from attnbook.layers import MultiHeadAttention, split_heads

SPLIT, VIEW, ATTEND = "Split", "`view` for `transpose`", "Attend, all heads at once"
FEWER, PARAMETERS = "Fewer keys than queries", "The same number of parameters"


# 5.1 Split --------------------------------------------------------------------------------------------------------

def my_split(x, n_heads):
    batch, n, d_model = x.shape
    return x.reshape(batch, n, n_heads, d_model // n_heads).swapaxes(1, 2)

def tokens(rng, batch, n, n_heads, d_k, stretch=1.0):
    return torch.from_numpy(stretch * rng.standard_normal((batch, n, n_heads * d_k))), n_heads

split = Exercise(
    "05.split",
    "Split",
    task="each head's share of every token, (batch, n_heads, n, d_k).",
    solution=my_split,
    answer=split_heads,
    probes=[
        Probe("all sizes different", tokens, batch=2, n=5, n_heads=3, d_k=4),
        Probe("one sentence", tokens, batch=1, n=3, n_heads=2, d_k=4),
        Probe("one token", tokens, batch=2, n=1, n_heads=3, d_k=5),
        Probe("one head", tokens, batch=2, n=3, n_heads=1, d_k=4),
        Probe("heads of width 1", tokens, batch=2, n=3, n_heads=4, d_k=1),
        Probe("as many heads as tokens", tokens, batch=2, n=3, n_heads=3, d_k=4),
        Probe("all sizes alike", tokens, batch=3, n=3, n_heads=3, d_k=3),
        Probe("large numbers", tokens, batch=2, n=3, n_heads=2, d_k=4, stretch=1000.0),
    ],
    laws=[
        Law("swapped back and put side by side again, the shares are x",
            lambda f, x, n_heads: close(f(x, n_heads).swapaxes(1, 2).reshape(x.shape), x)),
        Law("one head keeps all that a token has", lambda f, x, n_heads: close(f(x, 1)[:, 0], x)),
    ],
    large=Probe("", tokens, batch=32, n=256, n_heads=8, d_k=32),
    product="`reshape` and `swapaxes` treat all the heads at once.",
    hints=[
        "Two steps. First cut the *last* axis in two, heads and what is left for each head. Then exchange two axes.",
        "After the first step the shape is `(batch, n, n_heads, d_k)`. Which two of these axes are in the wrong order?",
        "`x.reshape(batch, n, n_heads, -1)`, and then `.swapaxes(1, 2)` (in torch also `.transpose(1, 2)`).",
    ],
)  # fmt: skip

@split.wrong(
    "The shape is right and the numbers are not: going straight to the final shape cuts up the *sentence*. Head 1 now "
    "has the first tokens, in pieces. Let every number of token t be t, and look at your `[:, 0]`.", VIEW
)
def straight_to_the_shape(x, n_heads):
    return x.reshape(x.shape[0], n_heads, x.shape[1], -1)

@split.wrong(
    "The cut is right, and the heads still stand *behind* the tokens. Attention takes the last two axes as (n, d_k), "
    "so here it would let the heads of one token attend to each other.", SPLIT
)
def heads_behind_the_tokens(x, n_heads):
    return x.reshape(*x.shape[:2], n_heads, -1)

@split.wrong(
    "Each row is cut as (d_k, heads), so head 1 gets every so-many-th number. A head owns *neighbouring* columns: "
    "those that its own narrow matrix made.", "One product instead of three"
)
def cut_like_a_comb(x, n_heads):
    return x.reshape(*x.shape[:2], -1, n_heads).permute(0, 3, 1, 2)

@split.wrong(
    "Number and width of the heads are exchanged: there are `n_heads` pieces, each `d_model // n_heads` wide.", SPLIT
)
def number_and_width_exchanged(x, n_heads):
    return x.reshape(*x.shape[:2], -1, n_heads).transpose(1, 2)

@split.wrong(
    "You exchanged the last two axes, heads and width. It is *heads and tokens* that have to change places.", SPLIT
)
def width_before_the_heads(x, n_heads):
    return x.reshape(*x.shape[:2], n_heads, -1).transpose(2, 3)

@split.wrong(
    "Tokens and width change places. Within a head each row is still a token; it is *heads and tokens* that have to "
    "be exchanged.", SPLIT
)
def width_before_the_tokens(x, n_heads):
    return x.reshape(*x.shape[:2], n_heads, -1).transpose(1, 3)

@split.wrong(
    "The heads come first, then the tokens, then the width, and that is right; only the batch must stay in front of "
    "them all.", SPLIT
)
def heads_before_the_batch(x, n_heads):
    return torch.stack(x.chunk(n_heads, dim=-1))

@split.wrong("Batch and heads have changed places, not tokens and heads: count the axes from 0.", SPLIT)
def batch_and_heads_exchanged(x, n_heads):
    return x.reshape(*x.shape[:2], n_heads, -1).transpose(0, 2)

@split.wrong("Batch and tokens have changed places, not tokens and heads: count the axes from 0.", SPLIT)
def batch_and_tokens_exchanged(x, n_heads):
    return x.reshape(*x.shape[:2], n_heads, -1).transpose(0, 1)

@split.wrong("Batch and width have changed places, not tokens and heads: count the axes from 0.", SPLIT)
def batch_and_width_exchanged(x, n_heads):
    return x.reshape(*x.shape[:2], n_heads, -1).transpose(0, 3)

@split.wrong(
    "The new shape has more numbers than the old one: the last axis is cut in two, so that heads times width is what "
    "was there before.", SPLIT
)
def nothing_taken_from_the_width(x, n_heads):
    return x.reshape(*x.shape[:2], n_heads, x.shape[-1]).transpose(1, 2)

@split.wrong(
    "Your cut also regroups sentences and tokens. Leave the first two axes as they are, `batch` and then `n`, and cut "
    "the last one.", SPLIT
)
def batch_and_tokens_regrouped(x, n_heads):
    return x.reshape(x.shape[1], x.shape[0], n_heads, -1).transpose(1, 2)

@split.wrong(
    "Within each head rows and columns are exchanged: a row should be a token, a column one of its d_k numbers.", SPLIT
)
def each_head_transposed(x, n_heads):
    return x.transpose(1, 2).reshape(x.shape[0], n_heads, -1, x.shape[1])

@split.wrong(
    "You transpose *before* the cut, so the row that `reshape` reads is no longer a token's. First cut each token's "
    "row, then exchange axes.", VIEW
)
def transposed_before_the_cut(x, n_heads):
    return x.transpose(1, 2).reshape(x.shape[0], n_heads, x.shape[1], -1)

@split.wrong(
    "It is cut straight to the final shape and transposed after that. The cut has to leave the tokens' axis as it is.",
    VIEW
)
def transposed_after_the_wrong_cut(x, n_heads):
    return x.reshape(x.shape[0], n_heads, x.shape[1], -1).transpose(1, 2)

@split.wrong(
    "Every head gets the *whole* token. Here the wide matrix has already made the numbers of all heads, and each takes "
    "its own share: d_model / n_heads of them.", "One product instead of three"
)
def all_for_everyone(x, n_heads):
    return x[:, None].expand(-1, n_heads, -1, -1)

@split.wrong("A tuple of the heads is not an array: give them an axis of their own, behind the batch.", SPLIT)
def a_tuple_of_heads(x, n_heads):
    return x.chunk(n_heads, dim=-1)

@split.wrong("The heads are laid over each other: they need an axis of their own.", SPLIT)
def heads_added_up(x, n_heads):
    return x.reshape(*x.shape[:2], n_heads, -1).sum(dim=2)

@split.wrong("That is still uncut, as wide as it was: each head should get d_model / n_heads numbers.", SPLIT)
def not_cut(x, n_heads):
    return x

@split.right
def with_unflatten(x, n_heads):
    return x.unflatten(-1, (n_heads, -1)).permute(0, 2, 1, 3)

@split.right
def with_numpy(x, n_heads):
    batch, n, d_model = x.shape
    return np.transpose(np.asarray(x).reshape(batch, n, n_heads, d_model // n_heads), (0, 2, 1, 3))

@split.right
def stacked(x, n_heads):
    d_k = x.shape[-1] // n_heads
    return torch.stack([x[..., h * d_k : (h + 1) * d_k] for h in range(n_heads)], dim=1)

@split.right
def in_float32(x, n_heads):
    return torch.stack(x.float().chunk(n_heads, dim=-1), dim=-3)

@split.right
def with_view_and_einsum(x, n_heads):
    return torch.einsum("bnhd->bhnd", x.view(x.shape[0], x.shape[1], n_heads, -1))


# 5.2 Say it before you run it -------------------------------------------------------------------------------------

def shapes():
    return {
        "q": (4, 8, 10, 12), "k": (4, 2, 10, 12), "weights": (4, 8, 10, 10), "concat": (4, 10, 96),
        "out": (4, 10, 96), "parameters": 2 * 96 * 96 + 2 * 96 * 24,
    }  # fmt: skip

shape_of = Exercise(
    "05.shapes",
    "Say it before you run it",
    task="the shapes of q, k, weights, concat and out, and the number of parameters, a dict.",
    solution=shapes,
    hints=[
        "d_k is the width divided by the number of *query* heads. After the split the axes are "
        "(batch, heads, n, d_k).",
        "There is a table of weights for each *query* head: who asks are the rows, who is asked are the columns.",
        "W_Q and W_O are 96 × 96. W_K and W_V have only as many columns as the key heads need together.",
    ],
)  # fmt: skip

@shape_of.wrong(
    "You divide the width by the *key* heads. The width of a head is set by the query heads, 96 / 8, and keys must be "
    "as wide as the queries that they meet.", FEWER
)
def width_by_key_heads():
    yield shapes() | {"q": (4, 8, 10, 48)}
    yield shapes() | {"k": (4, 2, 10, 48)}
    yield shapes() | {"parameters": 2 * 96 * 96 + 2 * 96 * 8 * 48}

@shape_of.wrong("`k` has the two *key* heads. They are repeated for the query heads only later.", FEWER)
def keys_repeated():
    return shapes() | {"k": (4, 8, 10, 12)}

@shape_of.wrong("`q` has all the eight query heads; only keys and values are shared.", FEWER)
def queries_grouped():
    return shapes() | {"q": (4, 2, 10, 12)}

@shape_of.wrong("Each head has a *share* of the width, 96 / 8 numbers, not all of it.", SPLIT)
def heads_as_wide_as_the_layer():
    yield shapes() | {"q": (4, 8, 10, 96)}
    yield shapes() | {"k": (4, 2, 10, 96)}

@shape_of.wrong("That is before the split: afterwards the heads have an axis of their own.", SPLIT)
def before_the_split():
    yield shapes() | {"q": (4, 10, 96)}
    yield shapes() | {"k": (4, 10, 24)}

@shape_of.wrong("The heads stand in *front* of the tokens, so that attention sees (n, d_k) at the end.", SPLIT)
def heads_behind():
    yield shapes() | {"q": (4, 10, 8, 12)}
    yield shapes() | {"k": (4, 10, 2, 12)}
    yield shapes() | {"weights": (4, 10, 8, 10)}

@shape_of.wrong("Rows are tokens, columns are components: `k` too is transposed only inside the product.", ATTEND)
def tokens_in_columns():
    yield shapes() | {"q": (4, 8, 12, 10)}
    yield shapes() | {"k": (4, 2, 12, 10)}
    yield shapes() | {"concat": (4, 96, 10)}
    yield shapes() | {"out": (4, 96, 10)}

@shape_of.wrong("The batch stands in *front*: the first axis of each of the five is 4.", "Build it")
def batch_not_in_front():
    for name, (batch, then, *rest) in list(shapes().items())[:5]:
        yield shapes() | {name: (then, batch, *rest)}

@shape_of.wrong(
    "There is a table of weights for each *query* head, shared keys or not: two queries ask one key different things.",
    FEWER
)
def weights_of_the_key_heads():
    return shapes() | {"weights": (4, 2, 10, 10)}

@shape_of.wrong("Your weights have lost their heads: each of the eight has its own table.", ATTEND)
def weights_averaged():
    yield shapes() | {"weights": (4, 10, 10)}
    yield shapes() | {"weights": (4, 1, 10, 10)}

@shape_of.wrong("A row of weights has one number for each *token* that is asked, not for each component.", ATTEND)
def weights_as_wide_as_keys():
    yield shapes() | {"weights": (4, 8, 10, 12)}
    yield shapes() | {"weights": (4, 10, 96)}

@shape_of.wrong("`concat` comes after the merge: a token's pieces lie side by side again, one row a token.", "Merge")
def concat_not_merged():
    yield shapes() | {"concat": (4, 8, 10, 12)}
    yield shapes() | {"concat": (4, 10, 8, 12)}

@shape_of.wrong("`concat` has a piece from each *query* head, eight of them.", FEWER)
def concat_of_the_key_heads():
    return shapes() | {"concat": (4, 10, 24)}

@shape_of.wrong(
    "`out` is as wide as the tokens that came in: W_O mixes all heads, and no axis of heads is left.", "What $W_O$ does"
)
def out_for_each_head():
    yield shapes() | {"out": (4, 8, 10, 96)}
    yield shapes() | {"out": (4, 8, 10, 12)}
    yield shapes() | {"out": (4, 10, 12)}

@shape_of.wrong("W_K and W_V are *narrower* here: two key heads need 2 · 12 columns. You counted all of 96.", FEWER)
def all_matrices_square():
    return shapes() | {"parameters": 4 * 96 * 96}

@shape_of.wrong(
    "You made only one of W_K and W_V narrower. Keys and values come in pairs, so both have two heads only.", FEWER
)
def one_of_two_narrower():
    return shapes() | {"parameters": 3 * 96 * 96 + 96 * 24}

@shape_of.wrong("W_K and W_V are missing in your count. They are narrower than the others, but they are there.",
                PARAMETERS)  # fmt: skip
def without_w_k_and_w_v():
    return shapes() | {"parameters": 2 * 96 * 96}

@shape_of.wrong("You count as if the keys had one head: two of them need 2 · 12 columns, in W_K and in W_V.", FEWER)
def one_head_of_keys():
    return shapes() | {"parameters": 2 * 96 * 96 + 2 * 96 * 12}

@shape_of.wrong("One of the four matrices is missing in your count, W_O perhaps.", PARAMETERS)
def without_w_o():
    yield shapes() | {"parameters": 96 * 96 + 2 * 96 * 24}
    yield shapes() | {"parameters": 3 * 96 * 96}

@shape_of.wrong("You count biases. This layer has none.", PARAMETERS)
def with_biases():
    yield shapes() | {"parameters": 2 * 96 * 96 + 2 * 96 * 24 + 96 + 24 + 24 + 96}
    yield shapes() | {"parameters": 4 * 96 * 96 + 4 * 96}

@shape_of.wrong(
    "You give every head a matrix of the full width. A head's own matrix is narrow, 96 × 12, which is why the number "
    "of heads is not in the formula.", PARAMETERS
)
def a_square_matrix_for_each_head():
    yield shapes() | {"parameters": 8 * 4 * 96 * 96}
    yield shapes() | {"parameters": 8 * 3 * 96 * 96 + 96 * 96}
    yield shapes() | {"parameters": 8 * 96 * 96 + 2 * 2 * 96 * 96 + 96 * 96}

@shape_of.wrong("The batch is missing: four sentences are stacked, so a 4 stands in front of every shape.", "Build it")
def no_batch():
    for name, shape in list(shapes().items())[:5]:
        yield shapes() | {name: shape[1:]}

@shape_of.right
def as_lists():
    return {name: shape if name == "parameters" else list(shape) for name, shape in shapes().items()}

@shape_of.right
def by_running_it():
    layer = MultiHeadAttention(96, 8, n_kv_heads=2, bias=False)
    out, weights = layer(torch.zeros(4, 10, 96), return_weights=True)
    q, k = (split_heads(torch.zeros(4, 10, 12 * n_heads), n_heads) for n_heads in (8, 2))
    numbers = sum(p.numel() for p in layer.parameters())
    return {"q": q.shape, "k": k.shape, "weights": weights.shape, "concat": out.shape, "out": out.shape,
            "parameters": numbers}  # fmt: skip

@shape_of.right
def as_arrays():
    return {name: tuple(map(np.int64, np.atleast_1d(size))) if name != "parameters" else np.int64(size)
            for name, size in sorted(shapes().items())}  # fmt: skip

"""Exercises of chapter 19, sparse attention: the kinds of blocks, and who hears whom after k layers."""

import numpy as np
import torch

from attnbook import masks
from attnbook.efficient import sparse
from attnbook.exercises import Exercise, Law, Probe

INTUITION, BUILD, TRAPS = "Intuition", "Build it", "Traps"


# 19.3 Three kinds of blocks -----------------------------------------------------------------------------------------

def kinds_of(mask, block):
    n_q, n_kv = mask.shape
    tiles = mask.reshape(n_q // block, block, n_kv // block, block)
    return tiles.any(axis=(1, 3)).astype(int) + tiles.all(axis=(1, 3))

def from_the_package(mask, block):
    some, gaps = masks.kept_blocks(mask, block), masks.kept_blocks(~mask, block)
    return np.where(gaps, np.where(some, 1, 0), 2)

def window_of(rng, n, window, block):
    return masks.causal(n) & masks.local(n, n, window), block

def drawn_of(rng, rows, cols, block, holes=0.3):
    layout = rng.random((rows, cols)) < 0.6
    mask = np.kron(layout, np.ones((block, block), dtype=bool))
    return mask & (rng.random(mask.shape) >= holes * (rng.random(mask.shape) < 0.2)), block

kinds = Exercise(
    "19.blocks",
    "Three kinds of blocks",
    task="for each block, 0 (empty: skip it), 1 (mixed: compute it and apply the mask) or 2 (full: no mask needed).",
    solution=kinds_of,
    answer=from_the_package,
    probes=[
        Probe("a causal window", window_of, n=12, window=6, block=3),
        Probe("the causal mask", window_of, n=8, window=8, block=2),
        Probe("more keys than queries", drawn_of, rows=2, cols=4, block=3),
        Probe("fewer keys than queries", drawn_of, rows=4, cols=2, block=2),
        Probe("blocks of one cell", drawn_of, rows=3, cols=5, block=1),
        Probe("one block", window_of, n=4, window=2, block=4),
        Probe("a full one", window_of, n=1, window=1, block=1),
        Probe("as many rows of blocks as a block has", drawn_of, rows=3, cols=3, block=3),
    ],
    laws=[Law("an inverted mask exchanges 0 and 2", lambda f, mask, block: np.array_equal(
        np.asarray(f(~mask, block)), 2 - np.asarray(f(mask, block))))],
    large=Probe("", drawn_of, rows=40, cols=40, block=16),
    product="`reshape` to four axes, and `any` and `all` over two of them, sees all blocks at once.",
    hints=[
        "Cut both axes in two: (rows, block, cols, block). Which two of the four axes lie inside a block?",
        "`any` over those two says that a block is not empty, `all` that it is full.",
        "An array of booleans can be added to another: False is 0, True is 1.",
    ],
)

@kinds.wrong("Full blocks are 1 with you, like the mixed ones: nothing tells them apart. Which question does a full "
             "block answer with yes, and a mixed one with no?", BUILD)  # fmt: skip
def kept_or_not(mask, block):
    return masks.kept_blocks(mask, block).astype(int)

@kinds.wrong("Mixed blocks are 0 with you, and would be skipped. What is True in them would be lost.", TRAPS)
def mixed_are_skipped(mask, block):
    return np.where(from_the_package(mask, block) == 2, 2, 0)

@kinds.wrong("Only full blocks count with you, and they are 1. A block with a single True has to be computed, too.",
             TRAPS)  # fmt: skip
def only_full_ones(mask, block):
    return (from_the_package(mask, block) == 2).astype(int)

@kinds.wrong("1 and 2 are exchanged: 2 is the *full* block, which needs no mask.", BUILD)
def one_and_two_swapped(mask, block):
    return np.array([0, 2, 1])[from_the_package(mask, block)]

@kinds.wrong("0 and 2 are exchanged: 0 is the *empty* block, where no cell is True.", BUILD)
def empty_and_full_swapped(mask, block):
    return 2 - from_the_package(mask, block)

kinds.slip("cells_far_apart", {
    "n_q // block, block, n_kv // block, block": "block, n_q // block, block, n_kv // block",
    "(1, 3)": "(0, 2)",
}, "Your blocks are made of the wrong cells: cells that lie a number of blocks *apart*, not side by side. After "
   "`reshape` the axes are (rows, block, cols, block): the first of each pair counts the blocks.", BUILD)
kinds.slip("wrong_axes", {"(1, 3)": "(0, 2)"},
           "The axes that you look along are not the two inside a block. Of (rows, block, cols, block) they are the "
           "second and the fourth.", BUILD)
kinds.slip("last_two_axes", {"(1, 3)": "(2, 3)"},
           "These are the axes 2 and 3 of (rows, block, cols, block): a whole row of keys, not a block.", BUILD)
kinds.slip("runs_for_tiles", {"n_q // block, block, n_kv // block, block": "n_q // block, n_kv // block, block, block",
                              "(1, 3)": "(2, 3)"},
           "Your blocks are runs of cells, one row after another, and no tiles: `reshape` to (rows, cols, block, "
           "block) leaves the cells in their order. Cut each axis in two where it stands: (rows, block, cols, block).",
           BUILD)
kinds.slip("cells_counted", {"tiles.any(axis=(1, 3)).astype(int) + tiles.all(axis=(1, 3))": "tiles.sum(axis=(1, 3))"},
           "You *count* the cells that are True. Asked for is the kind of block: 0, 1 or 2.", BUILD)

@kinds.wrong(
    "You look at one cell of each block, the first. The rest may say otherwise: a block on the diagonal begins with a "
    "True and is mixed.", BUILD
)
def first_cell_only(mask, block):
    return 2 * mask[::block, ::block].astype(int)

@kinds.wrong("Rows of blocks belong to queries, columns to keys: yours are exchanged.", INTUITION)
def transposed(mask, block):
    return from_the_package(mask, block).T

@kinds.wrong("Empty blocks come out as mixed: every block that is not full is 1 with you.", BUILD)
def empty_is_mixed(mask, block):
    return np.where(from_the_package(mask, block) == 2, 2, 1)

@kinds.wrong("Empty blocks are 2 with you, and would be computed without a mask: the pattern would be lost.", TRAPS)
def empty_is_full(mask, block):
    return np.array([2, 1, 2])[from_the_package(mask, block)]

@kinds.wrong("Full blocks are 0 with you, and would be skipped.", TRAPS)
def full_is_skipped(mask, block):
    return np.array([0, 1, 0])[from_the_package(mask, block)]

@kinds.wrong("All the blocks that are kept are 2 with you: in the mixed ones the mask would be forgotten.", TRAPS)
def kept_is_full(mask, block):
    return 2 * masks.kept_blocks(mask, block).astype(int)

kinds.slip("sizes_out_of_order", {"n_kv // block, block": "block, n_kv // block"},
           "`reshape` gets the sizes in the wrong order: the table of blocks comes out turned or with a shape of its "
           "own. Of each axis, the number of blocks comes first, then the cells of one.", BUILD)
kinds.slip("lengths_not_divided", {"n_q // block, block": "n_q, block"},
           "`reshape` gets four numbers that do not multiply to the number of cells: of n_q rows make n_q // block "
           "blocks with `block` rows each.", BUILD)
kinds.slip("no_axes", {"axis=(1, 3)": ""},
           "It says one thing for the whole mask: `any` and `all` look along two axes only, those inside a block.",
           BUILD)

@kinds.right
def with_where(mask, block):
    tiles = mask.reshape(len(mask) // block, block, -1, block)
    return np.where(tiles.all((1, 3)), 2, np.where(tiles.any((1, 3)), 1, 0))

@kinds.right
def from_the_density(mask, block):
    n_q, n_kv = mask.shape
    share = mask.reshape(n_q // block, block, n_kv // block, block).mean(axis=(1, 3))
    return np.ceil(share).astype(int) + np.floor(share).astype(int)

@kinds.right
def with_loops(mask, block):
    n_q, n_kv = mask.shape
    out = np.zeros((n_q // block, n_kv // block), dtype=int)
    for b in range(n_q // block):
        for c in range(n_kv // block):
            tile = mask[b * block : (b + 1) * block, c * block : (c + 1) * block]
            out[b, c] = 2 if tile.all() else int(tile.any())
    return out

@kinds.right
def with_torch(mask, block):
    mask = torch.as_tensor(np.ascontiguousarray(mask))
    tiles = mask.unflatten(0, (-1, block)).unflatten(2, (-1, block)).transpose(1, 2).flatten(2)
    return tiles.any(-1).long() + tiles.all(-1).long()


# 19.4 Repair ---------------------------------------------------------------------------------------------------------

def heard_by(mask, n_layers):
    n = len(mask)
    step = mask | np.eye(n, dtype=bool)
    heard = np.eye(n, dtype=bool)
    for _ in range(n_layers):
        heard = (step.astype(float) @ heard) > 0
    return heard

def paths_counted(mask, n_layers):
    return np.linalg.matrix_power(mask.astype(int), n_layers) > 0

def window_of(rng, n, window, n_layers):
    return masks.causal(n) & masks.local(n, n, window), n_layers

def ring_of(rng, n, n_layers):
    """Each token attends to its left neighbour alone, not to itself."""
    return np.eye(n, k=-1, dtype=bool), n_layers

def drawn_of(rng, n, n_layers, share=0.25):
    return rng.random((n, n)) < share, n_layers

def all_of(rng, n, n_layers):
    return np.ones((n, n), dtype=bool), n_layers

def star_of(rng, n, n_layers):
    return masks.globally(n, n, 1), n_layers

reach = Exercise(
    "19.reach",
    "Repair: who has heard whom",
    task="True where the output of query i after `n_layers` layers with residual connections depends on token j.",
    solution=heard_by,
    answer=lambda mask, n_layers: sparse.reach(mask, n_layers),
    broken=paths_counted,
    probes=[
        Probe("a window, two layers", window_of, n=8, window=2, n_layers=2),
        Probe("only the neighbour, two layers", ring_of, n=5, n_layers=2),
        Probe("a window, three layers", window_of, n=9, window=2, n_layers=3),
        Probe("drawn by lot", drawn_of, n=7, n_layers=3),
        Probe("no layer at all", window_of, n=4, window=2, n_layers=0),
        Probe("one layer, not oneself", ring_of, n=4, n_layers=1),
        Probe("full attention, many layers", all_of, n=4, n_layers=33),
        Probe("full attention, very many layers", all_of, n=16, n_layers=64),
        Probe("a global token", star_of, n=6, n_layers=1),
        Probe("a wide window", window_of, n=9, window=4, n_layers=2),
        Probe("nobody attends", drawn_of, n=3, n_layers=2, share=0),
    ],
    laws=[
        Law("one layer more never takes anything away",
            lambda f, mask, n_layers: not (f(mask, n_layers) & ~f(mask, n_layers + 1)).any()),
        Law("without layers each token knows itself alone",
            lambda f, mask, n_layers: np.array_equal(f(mask, 0), np.eye(len(mask)))),
    ],
    large=Probe("", drawn_of, n=200, n_layers=6, share=0.02),
    product="A boolean product of two tables is `a.astype(float) @ b > 0`.",
    hints=[
        "Two things are wrong. Try a mask in which nobody attends to itself: after two layers, has token 2 forgotten "
        "what it was?",
        "The second shows with full attention, `np.ones((4, 4), bool)`, and 33 layers. How many paths are there, and "
        "how large can an integer be?",
        "Put in the residual connection as a path from each token to itself, and after each layer ask only *whether* "
        "there is a path, not how many.",
    ],
)

@reach.wrong(
    "The residual connection is still missing: a token that does not attend to itself forgets in your version what it "
    "was. Try `np.eye(5, k=-1, dtype=bool)` and 2 layers.", INTUITION
)
def residual_forgotten(mask, n_layers):
    heard = np.eye(len(mask), dtype=bool)
    for _ in range(n_layers):
        heard = mask.astype(float) @ heard > 0
    return heard

@reach.wrong(
    "The number of paths still overflows: 4 tokens that see all have 4³² = 2⁶⁴ paths between any two in 33 layers, and "
    "an integer of 64 bits wraps round to 0 or below. Ask after each layer whether there is a path.", TRAPS
)
def still_counting(mask, n_layers):
    return np.linalg.matrix_power((mask | np.eye(len(mask), dtype=bool)).astype(int), n_layers) > 0

@reach.wrong(
    "Each token hears *itself* at the end, but what it was in between is lost: the identity is added after the paths, "
    "not to each layer.", INTUITION
)
def identity_at_the_end(mask, n_layers):
    return residual_forgotten(mask, n_layers) | np.eye(len(mask), dtype=bool)

@reach.wrong(
    "One layer too many: `n_layers = 0` should give each token alone. Do you start from the mask, and take all the "
    "layers after it?", BUILD
)
def one_layer_too_many(mask, n_layers):
    return heard_by(mask, n_layers + 1)

@reach.wrong(
    "One layer too few. `n_layers = 1` should give the mask, with the diagonal.", BUILD
)
def one_layer_too_few(mask, n_layers):
    return heard_by(mask, max(0, n_layers - 1))

@reach.wrong(
    "It is the pattern of a single layer, however many there are: what is heard is not passed on.", INTUITION
)
def one_layer_for_all(mask, n_layers):
    return mask | np.eye(len(mask), dtype=bool)

@reach.wrong(
    "The number of layers does not count: you go on until nothing changes. With a window of 2, after 2 layers the last "
    "token has not yet heard the first.", INTUITION
)
def until_nothing_changes(mask, n_layers):
    return heard_by(mask, len(mask))

@reach.wrong(
    "Rows and columns are exchanged: entry (i, j) asks whether *query* i has heard key j.", INTUITION
)
def transposed(mask, n_layers):
    return heard_by(mask, n_layers).T

@reach.wrong("Without layers you give the mask, and not each token alone.", BUILD)
def at_least_one_layer(mask, n_layers):
    return heard_by(mask, max(1, n_layers))

@reach.wrong(
    "Each layer doubles the way: you multiply what is heard by itself. A layer adds one step of the *mask*.", BUILD
)
def squared(mask, n_layers):
    heard = mask | np.eye(len(mask), dtype=bool)
    for _ in range(min(n_layers - 1, len(mask))):
        heard = heard.astype(float) @ heard > 0
    return heard if n_layers else np.eye(len(mask), dtype=bool)

@reach.wrong("It gives the number of paths. Asked for is whether there is one: booleans.", BUILD)
def numbers_of_paths(mask, n_layers):
    return np.linalg.matrix_power((mask | np.eye(len(mask), dtype=bool)).astype(float), n_layers)

@reach.wrong(
    "Each token knows itself alone, however many layers there are: does the loop change `heard`?", BUILD
)
def nothing_heard(mask, n_layers):
    return np.eye(len(mask), dtype=bool)

@reach.wrong(
    "Where the identity belongs you have put an `&`: tokens then hear at most themselves, and those that do not attend "
    "to themselves hear nothing at all.", BUILD
)
def and_for_or(mask, n_layers):
    return residual_forgotten(mask & np.eye(len(mask), dtype=bool), n_layers)

@reach.wrong("It says who has *not* been heard: True and False are exchanged.", BUILD)
def not_heard(mask, n_layers):
    heard = np.eye(len(mask), dtype=bool)
    for _ in range(n_layers):
        heard = (mask | np.eye(len(mask), dtype=bool)).astype(float) @ heard <= 0
    return heard

@reach.wrong("It is True everywhere: a number of paths is always at least 0. Ask whether it is *above* 0.", BUILD)
def always_heard(mask, n_layers):
    return np.ones(mask.shape, dtype=bool) if n_layers else np.eye(len(mask), dtype=bool)

@reach.wrong("It is False everywhere: a number of paths is never below 0. Ask whether it is *above* 0.", BUILD)
def never_heard(mask, n_layers):
    return np.zeros(mask.shape, dtype=bool) if n_layers else np.eye(len(mask), dtype=bool)

@reach.wrong(
    "`np.eye` gives floats, unless you ask for booleans, and `|` joins booleans only: `dtype=bool`.", BUILD
)
def identity_of_floats(mask, n_layers):
    return heard_by(mask | np.eye(len(mask)), n_layers)

@reach.right
def with_booleans(mask, n_layers):
    heard = np.eye(len(mask), dtype=bool)
    for _ in range(n_layers):
        heard = heard | (mask[:, :, None] & heard[None]).any(axis=1)
    return heard

@reach.right
def with_sets(mask, n_layers):
    heard = [{i} for i in range(len(mask))]
    for _ in range(n_layers):
        heard = [mine.union(*(heard[j] for j in np.flatnonzero(mask[i]))) for i, mine in enumerate(heard)]
    return np.array([[j in mine for j in range(len(mask))] for mine in heard])

@reach.right
def with_torch(mask, n_layers):
    mask = torch.as_tensor(np.array(mask))
    step = (mask | torch.eye(len(mask), dtype=torch.bool)).double()
    heard = torch.eye(len(mask), dtype=torch.double)
    for _ in range(n_layers):
        heard = (step @ heard).clamp(max=1)
    return heard > 0

@reach.right
def enough_layers(mask, n_layers):
    n = len(mask)
    step = (mask | np.eye(n, dtype=bool)).astype(float) / n  # shares of paths: no number grows
    return np.linalg.matrix_power(step, min(n_layers, n)) > 0

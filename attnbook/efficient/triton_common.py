"""What the attention kernels share: how a tile comes from memory, and which query may look at which key.

A kernel never computes an address. It gets each array as one of two things, and `load` and `store` know both:

    TensorDescriptor    shape and strides of the array, from which a GPU since Hopper fetches a whole tile by itself
                        (the tensor memory accelerator, TMA) and puts zeros where the array has ended
    Strided             the same spelt out: an address for every number of the tile, and a mask for the end

Either way a length need not be a multiple of the block, and no offset is computed in 32 bits, where 2³¹ would be the
end of it.
"""

import math
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from triton.tools.tensor_descriptor import TensorDescriptor

from attnbook.functional import _namespace, _shape

NEVER = tl.constexpr(-math.inf)
LOG2_E = tl.constexpr(math.log2(math.e))  # exp(x) = exp2(x · log2 e), and exp2 is what the hardware has
LN_2 = tl.constexpr(math.log(2))
PRECISION = tl.constexpr("ieee")  # float32 stays float32; what tensor cores make of it keeps 10 bits of 23


class Strided(NamedTuple):
    """An array (batch, heads, n, d) for a kernel: its first number, and how far it is to the next of each kind."""

    first: Any
    batch: int
    head: int
    row: int
    column: int
    n: int
    d: int


def argument(x: Float[torch.Tensor, "batch heads n d"], rows: int, width: int, tma: bool) -> TensorDescriptor | Strided:
    """x as a kernel takes it that moves tiles of (rows, width), both powers of 2; for the TMA it must be `aligned`."""
    if not tma:
        return Strided(x, *x.stride(), *x.shape[2:])
    # The stride of an axis with one entry may be anything, and is never used: take one that the TMA accepts.
    strides = [stride if n > 1 else 16 for n, stride in zip(x.shape[:3], x.stride())]
    return TensorDescriptor(x, list(x.shape), [*strides, 1], [1, 1, rows, width])


def aligned(x: Float[torch.Tensor, "batch heads n d"]) -> Float[torch.Tensor, "batch heads n d"]:
    """x, copied if need be, so that the TMA can fetch it: the numbers of a row side by side, and rows, heads and
    sequences that begin at multiples of 16 bytes."""
    strides = [stride * x.element_size() for n, stride in zip(x.shape[:3], x.stride()) if n > 1]
    side_by_side = x.stride(3) == 1 or x.shape[3] == 1
    if side_by_side and x.data_ptr() % 16 == 0 and all(s > 0 and s % 16 == 0 for s in strides):
        return x
    return empty_aligned(x, x.shape[3]).copy_(x)


def empty_aligned(x: Float[torch.Tensor, "batch heads n d"], d: int) -> Float[torch.Tensor, "batch heads n {d}"]:
    """Uninitialised, like x but d wide; its rows are longer than d where that aligns them."""
    step = 16 // x.element_size()
    return x.new_empty((*x.shape[:3], triton.cdiv(d, step) * step))[..., :d]


@triton.jit
def load(x, batch, head, start, ROWS: tl.constexpr, D: tl.constexpr):
    """The tile (ROWS, D) of one head that begins at row `start`; zeros where the array has no such row or column."""
    if isinstance(x, tl.tensor_descriptor):
        tile = x.load([batch, head, start, 0]).reshape(ROWS, D)
    else:
        address, inside = _places(x, batch, head, start, ROWS, D)
        tile = tl.load(address, mask=inside, other=0.0)
    return tile


@triton.jit
def store(x, batch, head, start, tile, ROWS: tl.constexpr, D: tl.constexpr):
    """Write the tile where `load` would find it, in the dtype of x; what lies beyond the end is dropped."""
    if isinstance(x, tl.tensor_descriptor):
        x.store([batch, head, start, 0], tile.to(x.dtype).reshape(1, 1, ROWS, D))
    else:
        address, inside = _places(x, batch, head, start, ROWS, D)
        tl.store(address, tile.to(x.first.dtype.element_ty), mask=inside)


@triton.jit
def narrow(x, n, column=0):
    """A Strided array without the rows from n on, and without its first columns."""
    first = x.first + tl.cast(column, tl.int64) * x.column
    return Strided(first, x.batch, x.head, x.row, x.column, tl.minimum(x.n, n), x.d - column)


@triton.jit
def _places(x, batch, head, start, ROWS: tl.constexpr, D: tl.constexpr):
    row, column = start + tl.arange(0, ROWS)[:, None], tl.arange(0, D)[None, :]
    first = x.first + batch.to(tl.int64) * x.batch + head.to(tl.int64) * x.head
    return first + row.to(tl.int64) * x.row + column.to(tl.int64) * x.column, (row < x.n) & (column < x.d)


@triton.jit
def my_share(n, heads, BLOCK: tl.constexpr, LAST_FIRST: tl.constexpr):
    """(batch, head, start): which block of the n rows of which head this program works on.

    Programs start in order. Where the last rows have most to do they go first: the short ones then fill the gaps at
    the end.
    """
    n_blocks = tl.cdiv(n, BLOCK)
    block, batch_head = tl.program_id(0) % n_blocks, tl.program_id(0) // n_blocks
    if LAST_FIRST:
        block = n_blocks - 1 - block
    return batch_head // heads, batch_head % heads, block * BLOCK


@triton.jit
def sight(position, n, back, ahead):
    """[first, last) of the n places that are at most `back` before and `ahead` after each position; None is no limit.

    A query at `position` among the keys looks at these keys. For a key it says which queries look at it, with back and
    ahead exchanged and positions counted among the queries.
    """
    first, last = position * 0, position * 0 + n
    if back is not None:
        first = tl.maximum(position - back, 0)
    if ahead is not None:
        last = tl.maximum(tl.minimum(position + ahead + 1, n), 0)
    return first, last


@triton.jit
def tiles(low, high, n, back, ahead, BLOCK: tl.constexpr):
    """(begin, full, part, end) for a loop over n places in steps of BLOCK, for the positions low … high together.

    From begin to end somebody sees something; the tiles before and after are skipped. From full to part everybody
    sees everything: no mask. An edge runs through the tiles from begin to full and from part to end.
    """
    begin, all_end = sight(low, n, back, ahead)
    all_begin, end = sight(high, n, back, ahead)
    begin = begin // BLOCK * BLOCK
    full = tl.minimum(tl.cdiv(all_begin, BLOCK) * BLOCK, end)
    part = tl.maximum(all_end // BLOCK * BLOCK, full)
    return begin, full, part, end


@triton.jit
def between(place, first, last):
    return (place >= first) & (place < last)


def check_forward_only(**arrays) -> None:
    """Raise an error that names the array which a kernel for (batch, heads, n, d) without gradients cannot take."""
    for name, x in arrays.items():
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"{name} must be a torch tensor, got {type(x).__name__}")
    _namespace(**arrays)
    interpreted = not isinstance(load, triton.JITFunction)
    for name, x in arrays.items():
        if x.ndim != 4:
            raise ValueError(f"{name} must have 4 dimensions, (batch, heads, n, d), got shape {_shape(x)}")
        if x.dtype not in (torch.float16, torch.bfloat16, torch.float32):
            raise TypeError(f"{name} must be float16, bfloat16 or float32, got {x.dtype}")
        if not interpreted and x.device.type != "cuda":
            raise ValueError(f"{name} must be on a GPU, got {x.device}; elsewhere kernels run in Triton's interpreter, "
                             "if TRITON_INTERPRET=1 is set before Python starts")  # fmt: skip
        if x.requires_grad and torch.is_grad_enabled():
            raise ValueError(f"{name} must not require a gradient, for this kernel has no backward pass; detach it")

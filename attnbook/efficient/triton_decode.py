"""Decoding on a GPU: one query and a long cache, as two Triton kernels.

A text that is being written asks one query at a time. So there are no blocks of queries to be programs, and almost
nothing to compute: the time goes into reading the cache of keys and values, once. Two things let that run as fast as
the memory can:

    groups      Heads that share keys and values share a program. Their queries are the rows of one tile, so the cache
                is read once for all of them, and what was a vector times a matrix is a matrix product again.
    splits      A key head of a sequence would be the work of one program, and a GPU is busy with hundreds. So the cache
                is cut, `split_kernel` runs over the parts side by side, and `merge_kernel` puts together what they
                found. That is exact: with a maximum, a sum and an output for each part, the order does not matter
                (chapter 17's `tiled.merge`).

(Flash-Decoding: Dao, Haziza, Massa and Sizov, 2023. Grouped heads: Ainslie et al., 2023, section 2.2.)
"""

import math
from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int

from attnbook.efficient.triton_attention import INTERPRETED, Config, Launch, padded
from attnbook.efficient.triton_common import LN_2, NEVER, argument, check_forward_only, load, my_share, narrow, store
from attnbook.efficient.triton_forward import absorb
from attnbook.functional import _number, _shape
from attnbook.masks import _integer

Tensor = torch.Tensor

# By the width of a head, padded: rows for the queries of a group (more if there are more, up to ROWS), keys at a time,
# warps, tiles on their way at once. With tiles so small three programs fit on a multiprocessor of an H200: while one
# computes, the others read.
CONFIGS = {16: Config(16, 128, 4, 4), 32: Config(16, 128, 4, 4), 64: Config(16, 128, 4, 3), 128: Config(16, 64, 4, 3),
           256: Config(16, 32, 4, 3)}  # fmt: skip
# Float32, which tensor cores do not have:
SINGLE = {16: Config(16, 64, 4, 2), 32: Config(16, 64, 4, 2), 64: Config(16, 32, 4, 2), 128: Config(16, 32, 4, 2),
          256: Config(16, 16, 4, 2)}  # fmt: skip
MERGE = Config(1, 8, 4, 1)  # parts at a time in place of keys
ROWS = {2: 32, 4: 16}  # at most, by the bytes of a number; a larger group is several programs
PROGRAMS = 9  # for each multiprocessor: three rounds of three, so that what one round lacks at its end weighs little
MIN_KEYS = 256  # of a split: with fewer, starting a program and merging its part would show
MULTIPROCESSORS = 132  # of an H100 or H200, which the interpreter plays


@triton.jit
def split_kernel(
    q,  # Strided, (batch, n_kv_heads, group, d_k)
    k, v,  # Strided, (batch, n_kv_heads, n_kv, d)
    lengths,  # pointer, (batch,): how many keys each sequence has; None = all n_kv
    m_parts, l_parts,  # pointers, (batch · n_kv_heads, splits, group)
    o_parts,  # Strided, (batch · n_kv_heads, splits, group, d_v)
    n_kv_heads, group, n_kv, splits, keys_each, scale,
    D_K: tl.constexpr, D_V: tl.constexpr, ROWS: tl.constexpr, BLOCK_KV: tl.constexpr,
):  # fmt: skip
    """m, l and o of `tiled.Running` for the queries of one group and the keys of one split."""
    pair, split, start = my_share(group, splits, ROWS, LAST_FIRST=False)
    batch, kv_head = pair // n_kv_heads, pair % n_kv_heads
    length = length_of(lengths, batch, n_kv)
    first = split * keys_each
    if first >= length:
        return  # `merge_kernel` knows, and does not read this part
    last = tl.minimum(first + keys_each, length)
    q_tile = load(q, batch, kv_head, start, ROWS, D_K)
    m = tl.full([ROWS], NEVER, tl.float32)
    l = tl.zeros([ROWS], tl.float32)  # noqa: E741
    o = tl.zeros([ROWS, D_V], tl.float32)
    rows = start + tl.arange(0, ROWS)
    # What lies beyond the length may be anything, NaN too: narrowed, it is not even read.
    m, l, o = absorb(m, l, o, q_tile, narrow(k, last), narrow(v, last), batch, kv_head, first, last,
                     rows * 0, rows * 0 + last, scale, MASKED=True, BASE_2=True, BLOCK_KV=BLOCK_KV)  # fmt: skip
    part = (pair.to(tl.int64) * splits + split) * group + rows
    tl.store(m_parts + part, m, mask=rows < group)
    tl.store(l_parts + part, l, mask=rows < group)
    store(o_parts, pair, split, start, o, ROWS, D_V)


@triton.jit
def merge_kernel(
    m_parts, l_parts,  # as `split_kernel` wrote them
    o_parts,  # Strided, (batch · n_kv_heads, group, splits, d_v)
    lengths,
    out,  # pointer, (batch, n_kv_heads, group, d_v)
    lse,  # pointer, (batch, n_kv_heads, group)
    n_kv_heads, group, n_kv, splits, keys_each,
    D_V: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out and lse of one query from its parts, BLOCK of them at a time: `tiled.merge`."""
    pair, row = tl.program_id(0) // group, tl.program_id(0) % group
    used = tl.cdiv(length_of(lengths, pair // n_kv_heads, n_kv), keys_each)
    m, l = tl.full([], NEVER, tl.float32), tl.full([], 0.0, tl.float32)  # noqa: E741
    o = tl.zeros([D_V], tl.float32)
    for start in tl.range(0, used, BLOCK):
        split = start + tl.arange(0, BLOCK)
        part = (pair.to(tl.int64) * splits + split) * group + row
        m_part = tl.load(m_parts + part, mask=split < used, other=NEVER)
        l_part = tl.load(l_parts + part, mask=split < used, other=0.0)
        larger = tl.maximum(m, tl.max(m_part, axis=0))
        old, new = tl.exp2(m - larger), tl.exp2(m_part - larger)
        l = l * old + tl.sum(l_part * new, axis=0)  # noqa: E741
        o = o * old + tl.sum(load(narrow(o_parts, used), pair, row, start, BLOCK, D_V) * new[:, None], axis=0)
        m = larger
    total = tl.where(l == 0, 1.0, l)  # an empty cache: zeros and -inf
    columns = tl.arange(0, D_V)
    query = tl.program_id(0).to(tl.int64)
    tl.store(out + query * o_parts.d + columns, (o / total).to(out.dtype.element_ty), mask=columns < o_parts.d)
    tl.store(lse + query, m * LN_2 + tl.log(total))


@triton.jit
def length_of(lengths, batch, n_kv):
    """How many keys a sequence has. What does not fit the cache is cut: no address may lie outside it."""
    length = n_kv
    if lengths is not None:
        length = tl.minimum(tl.maximum(tl.load(lengths + batch), 0), n_kv).to(tl.int32)
    return length


def flash_decode(
    q: Float[Tensor, "batch n_heads 1 d_k"],
    k: Float[Tensor, "batch n_kv_heads n_kv d_k"],
    v: Float[Tensor, "batch n_kv_heads n_kv d_v"],
    lengths: Int[Tensor, "batch"] | None = None,
    scale: float | None = None,
    splits: int | None = None,
    return_lse: bool = False,
) -> Float[Tensor, "batch n_heads 1 d_v"] | tuple[Float[Tensor, "batch n_heads 1 d_v"], Float[Tensor, "b n_heads 1"]]:
    """softmax(q Kᵀ · scale) V for one query of each sequence and head, in one pass over the cache.

    q (batch, n_heads, 1, d_k), k (batch, n_kv_heads, n_kv, d_k), v (batch, n_kv_heads, n_kv, d_v), float16, bfloat16 or
    float32, with any strides: `cache[:, :, :n]` needs no copy. n_heads is a multiple of n_kv_heads, and neighbouring
    heads share keys and values. d_k and d_v are 256 at most.

    lengths   (batch,), int32 or int64: sequence i has lengths[i] keys, and what the cache holds after them is not
              read. None = all n_kv. On a GPU, where to look at them would be to wait, they are cut to 0 … n_kv
    scale     1/√d_k unless given
    splits    into how many parts the cache is cut; None = enough for the GPU to be busy. The result does not depend on
              it, but for rounding
    Returns out (batch, n_heads, 1, d_v) in the dtype of q, and with `return_lse` also the log-sum-exp (batch, n_heads,
    1), float32. A sequence of length 0 gets zeros and -inf. Forward only.

    Raises TypeError or ValueError that names the argument.
    """
    lengths, dtype = _check(q, k, v, lengths), q.dtype
    if INTERPRETED and dtype == torch.bfloat16:
        q, k, v = q.float(), k.float(), v.float()  # the interpreter computes nonsense in bfloat16
    scale = 1 / math.sqrt(q.shape[3]) if scale is None else _number("scale", scale)
    if splits is not None:
        splits = _integer("splits", splits, 1)
    out, lse = q.new_empty((*q.shape[:3], v.shape[3])), q.new_empty(q.shape[:3], dtype=torch.float32)
    if q.numel() and k.numel() and v.numel():
        if scale <= 0:  # the kernel takes the largest score before it scales
            q, scale = q * math.copysign(1, scale) if scale else torch.zeros_like(q), abs(scale) or 1.0
        with torch.cuda.device_of(q):  # Triton launches on the current GPU
            for launch in launches(q, k, v, lengths, out, lse, scale, splits):
                launch.run()
    else:
        out.zero_(), lse.fill_(-math.inf)
    out = out.to(dtype)
    return (out, lse) if return_lse else out


def launches(q, k, v, lengths, out, lse, scale: float, splits: int | None) -> tuple[Launch, Launch]:
    """The two kernels with all that they are called with."""
    (batch, n_heads, _, d_k), (_, n_kv_heads, n_kv, d_v) = q.shape, v.shape
    pairs, group = batch * n_kv_heads, n_heads // n_kv_heads
    config = _config(q, v, group)
    blocks = triton.cdiv(group, config.block_q)
    if splits is None:
        splits = _splits(pairs * blocks, n_kv, q.device)
    keys_each = triton.cdiv(triton.cdiv(n_kv, splits), config.block_kv) * config.block_kv
    splits = triton.cdiv(n_kv, keys_each)
    m_parts, l_parts = (q.new_empty((pairs, splits, group), dtype=torch.float32) for _ in range(2))
    o_parts = q.new_empty((pairs, splits, group, d_v), dtype=torch.float32)

    def strided(x):
        return argument(x, 1, 1, tma=False)  # a ragged cache ends where the kernel says, not where its memory does

    shared = {"m_parts": m_parts, "l_parts": l_parts, "lengths": lengths, "n_kv_heads": n_kv_heads, "group": group,
              "n_kv": n_kv, "splits": splits, "keys_each": keys_each, "D_V": padded(d_v)}  # fmt: skip
    q = q.squeeze(2).unflatten(1, (n_kv_heads, group))
    split = {"q": strided(q), "k": strided(k), "v": strided(v), "o_parts": strided(o_parts), "scale": scale,
             "D_K": padded(d_k), "ROWS": config.block_q, "BLOCK_KV": config.block_kv}  # fmt: skip
    merge = {"o_parts": strided(o_parts.transpose(1, 2)), "out": out, "lse": lse, "BLOCK": MERGE.block_kv}
    return (Launch(split_kernel, pairs * splits * blocks, shared | split, config),
            Launch(merge_kernel, pairs * group, shared | merge, MERGE))  # fmt: skip


def shipped() -> Iterator[tuple[dict, Launch]]:
    """What `triton_compile` lists: each kernel for each input that has a configuration of its own."""
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        for d in CONFIGS:
            for group in (g for g in (8, 32) if g <= ROWS[dtype.itemsize]):
                q, out = (torch.empty(2, 2 * group, 1, d, dtype=dtype, device="meta") for _ in range(2))
                k, v = (torch.empty(2, 2, 4096, d, dtype=dtype, device="meta") for _ in range(2))
                lse = torch.empty(q.shape[:3], device="meta")
                lengths = torch.empty(2, dtype=torch.int32, device="meta")
                split, merge = launches(q, k, v, lengths, out, lse, d**-0.5, 8)
                head = {"dtype": str(dtype).removeprefix("torch."), "d_k": d, "edges": f"group {group}"}
                yield {"kernel": "decode split", **head}, split
                if group == 8:
                    yield {"kernel": "decode merge", **head}, merge


def _config(q, v, group: int) -> Config:
    config = (SINGLE if q.element_size() > 2 else CONFIGS)[max(padded(q.shape[3]), padded(v.shape[3]))]
    if INTERPRETED:
        config = Config(16, 32, 1, 1)
    return config._replace(block_q=min(max(config.block_q, triton.next_power_of_2(group)), ROWS[q.element_size()]))


def _splits(programs: int, n_kv: int, device: torch.device) -> int:
    busy = MULTIPROCESSORS
    if device.type == "cuda":
        busy = torch.cuda.get_device_properties(device).multi_processor_count
    return max(1, min(busy * PROGRAMS // programs, n_kv // MIN_KEYS))


def _check(q, k, v, lengths):
    check_forward_only(q=q, k=k, v=v)
    (batch, n_heads, n_q, d_k), (_, n_kv_heads, n_kv, _) = q.shape, k.shape
    if n_q != 1:
        raise ValueError(f"q must have one query a head, (batch, n_heads, 1, d_k), got shape {_shape(q)}")
    for name, x in (("q", q), ("v", v)):
        if not 1 <= x.shape[3] <= max(CONFIGS):
            raise ValueError(f"{name} must be 1 to {max(CONFIGS)} wide, got shape {_shape(x)}")
    if k.shape[0] != batch or k.shape[3] != d_k:
        raise ValueError(f"k must have shape (batch, n_kv_heads, n_kv, d_k) with batch = {batch} and d_k = {d_k}, "
                         f"got {_shape(k)}")  # fmt: skip
    if v.shape[:3] != k.shape[:3]:
        raise ValueError(f"v must have shape {(*k.shape[:3], 'd_v')}, as k has, got {_shape(v)}")
    if n_heads and (not n_kv_heads or n_heads % n_kv_heads):
        raise ValueError(f"q must have a multiple of the {n_kv_heads} heads of k and v, got shape {_shape(q)}")
    if lengths is None:
        return None
    if not isinstance(lengths, Tensor) or lengths.dtype not in (torch.int32, torch.int64):
        got = lengths.dtype if isinstance(lengths, Tensor) else type(lengths).__name__
        raise TypeError(f"lengths must be a tensor of int32 or int64, got {got}")
    if lengths.shape != (batch,) or lengths.device != q.device:
        raise ValueError(f"lengths must have shape ({batch},), on {q.device}, got {_shape(lengths)}, {lengths.device}")
    if lengths.device.type == "cpu" and not bool(((lengths >= 0) & (lengths <= n_kv)).all()):
        raise ValueError(f"lengths must be from 0 to n_kv = {n_kv}, got {lengths.tolist()}")
    return lengths.contiguous()

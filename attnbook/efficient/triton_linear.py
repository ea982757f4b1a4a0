"""Linear attention on a GPU: the chunked form of `linear.linear_attention` as two Triton kernels.

The chunked form has one thing that must go in order, the state, Σ k vᵀ over all that came before a chunk, and much
that need not: given its state, a chunk does not care about the others. So there are two kernels:

    state_kernel    goes through the keys and values once, in order, and notes the state before each chunk. A state is
                    cut into blocks of features and values, and each block has its own program: with 16 heads of width
                    128 that are 128 programs, about one for each multiprocessor of an H100 or H200.
    chunk_kernel    has one program for each chunk: its table of weights, as in FlashAttention but without a loop, and
                    the product of its queries with the state.

One kernel that goes through the chunks with the state at hand would move fewer bytes: states in float32, one every 128
tokens, are twice the size of a q in 16 bits, and are written and read once. But the outputs take most of the work, and
in a single long text of few heads that kernel has too few programs for them, each waiting for one small product after
another. Noted, the states turn 16k tokens into 128 chunks a head that run side by side.
(Yang et al., 2024, section 3.3; Dao and Gu, 2024, section 6.)
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from jaxtyping import Float

from attnbook.efficient.triton_attention import INTERPRETED, Launch, padded
from attnbook.efficient.triton_common import PRECISION, argument, check_forward_only, load, my_share, narrow, store
from attnbook.functional import _number, _shape

Tensor = torch.Tensor


class Config(NamedTuple):
    """The size of a block of the state, the warps that share a program, and how many tiles are on their way at once."""

    block_k: int  # features
    block_v: int  # values
    num_warps: int
    num_stages: int


# The tokens of a chunk, and the two kernels. In float32 tensor cores have no part.
CHUNKS = {torch.float16: 128, torch.bfloat16: 128, torch.float32: 64}
STATE = {torch.float16: Config(64, 32, 4, 3), torch.bfloat16: Config(64, 32, 4, 3),
         torch.float32: Config(32, 32, 4, 2)}  # fmt: skip
CHUNK = {torch.float16: Config(64, 64, 8, 2), torch.bfloat16: Config(64, 128, 8, 2),
         torch.float32: Config(16, 32, 8, 2)}  # fmt: skip
INTERPRETER = Config(16, 16, 1, 1)


@triton.jit
def state_kernel(
    k, v,  # Strided, (batch, n_heads, n, d)
    log_decay,  # pointer, (n_heads,): log2 of what is left of the state after one token; None = all of it
    states,  # Strided, float32, (batch, n_heads · n_notes, d_k, d_v), for all chunks but the first, which needs none
    norms,  # Strided, float32, (batch, n_heads, n_notes, d_k): the same with a value of 1; None = not wanted
    n_heads, n_notes,
    BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """The state before each chunk: what was there fades, and the chunk that is over adds its keys times its values."""
    pair, block, value = my_share(v.d, tl.cdiv(k.d, BLOCK_K), BLOCK_V, LAST_FIRST=False)
    batch, head, feature = pair // n_heads, pair % n_heads, block * BLOCK_K
    k, v = narrow(k, k.n, feature), narrow(v, v.n, value)
    state = tl.zeros([BLOCK_K, BLOCK_V], tl.float32)
    norm = tl.zeros([BLOCK_K], tl.float32)
    if log_decay is not None:
        fade = tl.load(log_decay + head)
        left = tl.exp2(fade * (CHUNK - 1 - tl.arange(0, CHUNK)))[:, None]  # of each token at the end of its chunk
        kept = tl.exp2(fade * CHUNK)  # of the state before it
    for chunk in tl.range(0, n_notes):
        k_tile = load(k, batch, head, chunk * CHUNK, CHUNK, BLOCK_K)
        v_tile = load(v, batch, head, chunk * CHUNK, CHUNK, BLOCK_V)
        if log_decay is not None:
            k_tile = (k_tile * left).to(v_tile.dtype)
            state, norm = state * kept, norm * kept
        state = tl.dot(k_tile.T, v_tile, state, input_precision=PRECISION)
        store(narrow(states, states.n, value), batch, head * n_notes + chunk, feature, state, BLOCK_K, BLOCK_V)
        if norms is not None:
            norm += tl.sum(k_tile.to(tl.float32), axis=0)
            if value == 0:
                store(narrow(norms, norms.n, feature), batch, head, chunk, norm[None, :], 1, BLOCK_K)


@triton.jit
def chunk_kernel(
    q, k, v, out,  # Strided, (batch, n_heads, n, d)
    log_decay, states, norms,  # as in `state_kernel`
    n_heads, n_notes,
    BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """The outputs of one chunk: from the chunk itself by its table of weights, from before it by the state."""
    pair, chunk, value = my_share(v.d, n_notes + 1, BLOCK_V, LAST_FIRST=False)
    batch, head, start = pair // n_heads, pair % n_heads, chunk * CHUNK
    weights = tl.zeros([CHUNK, CHUNK], tl.float32)
    o = tl.zeros([CHUNK, BLOCK_V], tl.float32)
    total = tl.zeros([CHUNK], tl.float32)
    for feature in tl.range(0, q.d, BLOCK_K):
        q_tile = load(narrow(q, q.n, feature), batch, head, start, CHUNK, BLOCK_K)
        k_tile = load(narrow(k, k.n, feature), batch, head, start, CHUNK, BLOCK_K)
        weights = tl.dot(q_tile, k_tile.T, weights, input_precision=PRECISION)
        if chunk > 0:
            note = head * n_notes + chunk - 1
            state = load(narrow(states, states.n, value), batch, note, feature, BLOCK_K, BLOCK_V)
            state, size = rounded(state, q_tile.dtype, 0)
            o += tl.dot(q_tile, state, input_precision=PRECISION) * size
            if norms is not None:
                norm = load(narrow(norms, norms.n, feature), batch, head, chunk - 1, 1, BLOCK_K)
                total += tl.sum(q_tile * norm, axis=1)

    token = tl.arange(0, CHUNK)
    ago = token[:, None] - token[None, :]
    if log_decay is not None:
        fade = tl.load(log_decay + head)
        since = tl.exp2(fade * (token + 1))  # the state ends with the token before the chunk
        o, total = o * since[:, None], total * since
        weights *= tl.exp2(fade * tl.maximum(ago, 0))  # not of the future, which would overflow
    weights = tl.where(ago >= 0, weights, 0.0)
    if norms is not None:
        total += tl.sum(weights, axis=1)
    v_tile = load(narrow(v, v.n, value), batch, head, start, CHUNK, BLOCK_V)
    weights, size = rounded(weights, v_tile.dtype, 1)
    o += tl.dot(weights, v_tile, input_precision=PRECISION) * size
    if norms is not None:
        o /= tl.where(total == 0, 1.0, total)[:, None]  # nothing to see: zeros
    store(narrow(out, out.n, value), batch, head, start, o, CHUNK, BLOCK_V)


@triton.jit
def rounded(x, dtype: tl.constexpr, axis: tl.constexpr):
    """Sums as numbers of the dtype, times a size. Float16 ends at 65504, and a sum need not: there the size is the
    largest along the axis."""
    size = 1.0
    if dtype == tl.float16:
        size = tl.max(tl.abs(x), axis=axis, keep_dims=True)
        size = tl.where(size == 0, 1.0, size)
        x /= size
    return x.to(dtype), size


def chunked_linear_attention(
    q: Float[Tensor, "batch n_heads n d_k"],
    k: Float[Tensor, "batch n_heads n d_k"],
    v: Float[Tensor, "batch n_heads n d_v"],
    decay: float | Float[Tensor, "n_heads 1 1"] | None = None,
    normalise: bool = True,
) -> Float[Tensor, "batch n_heads n d_v"]:
    """out_i = Σ_j w_ij v_j / Σ_j w_ij over j ≤ i, with w_ij = q_i · k_j · decay^(i - j): causal, in time O(n).

    The same as `linear.linear_attention(q, k, v, feature=None, …)`: q and k are features already, of any width.
    q, k (batch, n_heads, n, d_k) and v (batch, n_heads, n, d_v) are float16, bfloat16 or float32, with any strides.

    decay       what is older fades: a number in (0, 1], or a tensor (n_heads, 1, 1), for each head its own (RetNet:
                Sun et al., 2023). Those of a tensor on a GPU are not looked at: that would be to wait for it
    normalise   divide by the sum of the weights, which must not be negative then (neither is that looked at)
    Returns out (batch, n_heads, n, d_v) in the dtype of q; a query whose weights are all 0 gets zeros. Sums are
    float32. Beside out it takes 4 bytes for each feature and value of every 128th token. Forward only.

    Raises TypeError or ValueError that names the argument.
    (Katharopoulos et al., 2020, section 3; Yang et al., 2024, section 3.3.)
    """
    check_forward_only(q=q, k=k, v=v)
    for name, x in (("k", k), ("v", v)):
        want = (*q.shape[:3], q.shape[3] if name == "k" else "d_v")
        if x.shape[:3] != q.shape[:3] or (name == "k" and x.shape[3] != q.shape[3]):
            raise ValueError(f"{name} must have shape {want}, beside q {_shape(q)}, got {_shape(x)}")
    if not isinstance(normalise, bool):
        raise TypeError(f"normalise must be True or False, got {normalise!r}")
    log_decay = None if decay is None else _log_decay(decay, q)
    dtype = q.dtype
    if INTERPRETED and dtype == torch.bfloat16:
        q, k, v = q.float(), k.float(), v.float()  # the interpreter computes nonsense in bfloat16
    out = q.new_empty(v.shape)
    if not (q.numel() and v.numel()):
        return out.zero_()
    with torch.cuda.device_of(q):  # Triton launches on the current GPU
        for launch in launches(q, k, v, log_decay, out, normalise):
            launch.run()
    return out.to(dtype)


def launches(q, k, v, log_decay, out, normalise: bool) -> tuple[Launch, ...]:
    """The kernels with all that they are called with; a single chunk needs no states."""
    (batch, n_heads, n, d_k), d_v = q.shape, v.shape[3]
    chunk = 32 if INTERPRETED else CHUNKS[q.dtype]
    n_notes = triton.cdiv(n, chunk) - 1
    states = q.new_empty((batch, n_heads * n_notes, d_k, d_v), dtype=torch.float32)
    norms = q.new_empty((batch, n_heads, n_notes, d_k), dtype=torch.float32) if normalise else None

    def launch(kernel, table, programs, **arrays):
        config = INTERPRETER if INTERPRETED else table[q.dtype]
        config = config._replace(block_k=min(config.block_k, padded(d_k)), block_v=min(config.block_v, padded(d_v)))
        arrays |= {"k": k, "v": v, "states": states, "norms": norms}
        arguments = {name: None if x is None else argument(x, 1, 1, tma=False) for name, x in arrays.items()}
        sizes = {"log_decay": log_decay, "n_heads": n_heads, "n_notes": n_notes,
                 "BLOCK_K": config.block_k, "BLOCK_V": config.block_v, "CHUNK": chunk}  # fmt: skip
        blocks = triton.cdiv(d_v, config.block_v)
        return Launch(kernel, batch * n_heads * blocks * programs(config), arguments | sizes, config)

    outputs = launch(chunk_kernel, CHUNK, lambda config: n_notes + 1, q=q, out=out)
    if not n_notes:
        return (outputs,)
    return launch(state_kernel, STATE, lambda config: triton.cdiv(d_k, config.block_k)), outputs


def shipped() -> Iterator[tuple[dict, Launch]]:
    """What `triton_compile` lists: each kernel for each input that has a configuration of its own."""
    for dtype in CHUNKS:
        for d in (16, 32, 64, 128):  # wider ones take the blocks of 128
            for edges, normalise in (("normalised", True), ("decay", False)):
                q, k, v, out = (torch.empty(1, 4, 4096, d, dtype=dtype, device="meta") for _ in range(4))
                log_decay = None if normalise else torch.empty(4, device="meta")
                head = {"dtype": str(dtype).removeprefix("torch."), "d_k": d, "edges": edges}
                for name, launch in zip(("state", "chunk"), launches(q, k, v, log_decay, out, normalise)):
                    yield {"kernel": f"linear {name}", **head}, launch


def _log_decay(decay, q: Tensor) -> Float[Tensor, "n_heads"]:
    """log2 of the decay of each head."""
    n_heads = q.shape[1]
    if not isinstance(decay, Tensor):
        decay = torch.full((n_heads, 1, 1), _number("decay", decay), dtype=torch.float64)
    if not decay.is_floating_point():
        raise TypeError(f"decay must be a number or a floating tensor, got {decay.dtype}")
    if decay.shape != (n_heads, 1, 1):
        raise ValueError(f"decay must be a number, or one for each head, ({n_heads}, 1, 1), got shape {_shape(decay)}")
    if decay.device.type == "cpu" and not bool(((decay > 0) & (decay <= 1)).all()):
        raise ValueError(f"decay must be in (0, 1], got values from {float(decay.min())} to {float(decay.max())}")
    return decay.detach().double().flatten().log2().float().to(q.device)

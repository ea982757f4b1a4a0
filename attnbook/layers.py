"""Multi-head attention as a torch module: what `attnbook.functional` computes, with weights to learn.

Batch first unless told otherwise: x is (batch, n, d_model). Masks are the book's (True = may attend), of shape
(n_q, n_kv), (batch, n_q, n_kv) or (batch, heads, n_q, n_kv), where a 1 stands for "all alike".
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attnbook import positions
from attnbook.functional import _number, attention
from attnbook.masks import _integer, to_sdpa

Result = Float[Tensor, "_ _ d_model"]


class MultiHeadAttention(nn.Module):
    """Several attentions side by side, each on its own projection of the tokens (Vaswani et al., 2017, section 3.2.2).

    d_model      width of x and of the output; each head has d_k = d_v = d_model / n_heads
    n_heads      heads of the queries
    n_kv_heads   heads of the keys and values, each shared by n_heads / n_kv_heads query heads that follow one
                 another (grouped-query attention, Ainslie et al., 2023); 1 is multi-query; all of them unless given
    d_kv         width of the memory in cross-attention, or a pair: where keys and where values come from
    rope         turn queries and keys by their positions: None, "half" or "interleaved" (see positions.rope)

    Raises ValueError if the sizes do not divide, or d_k is odd where `rope` needs pairs.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        n_kv_heads: int | None = None,
        d_kv: int | tuple[int, int] | None = None,
        bias: bool = True,
        rope: positions.Layout | None = None,
        rope_base: float = 10_000.0,
        batch_first: bool = True,
    ):
        super().__init__()
        self.d_model, self.n_heads = _integer("d_model", d_model, 1), _integer("n_heads", n_heads, 1)
        self.n_kv_heads = n_heads if n_kv_heads is None else _integer("n_kv_heads", n_kv_heads, 1)
        if d_model % n_heads:
            raise ValueError(f"d_model must be a multiple of n_heads = {n_heads}, got {d_model}")
        if n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads must be a multiple of n_kv_heads = {n_kv_heads}, got {n_heads}")
        self.d_k = d_model // n_heads
        if rope is not None:
            positions._check_layout("rope", rope)
            if self.d_k % 2:
                raise ValueError(f"d_model / n_heads must be even for rope, got {d_model} / {n_heads} = {self.d_k}")
        self.rope, self.rope_base, self.batch_first = rope, _number("rope_base", rope_base), batch_first
        d_kv = d_model if d_kv is None else d_kv
        self.d_kv = tuple(_integer("d_kv", d, 1) for d in (d_kv if isinstance(d_kv, tuple) else (d_kv, d_kv)))

        self.w_q = nn.Linear(d_model, n_heads * self.d_k, bias)
        self.w_k = nn.Linear(self.d_kv[0], self.n_kv_heads * self.d_k, bias)
        self.w_v = nn.Linear(self.d_kv[1], self.n_kv_heads * self.d_k, bias)
        self.w_o = nn.Linear(n_heads * self.d_k, d_model, bias)

    def forward(
        self,
        x: Float[Tensor, "_ _ d_model"],
        memory: Tensor | tuple[Tensor, Tensor] | None = None,
        mask: Bool[Tensor, "*#mask"] | None = None,
        cache: "KeyValueCache | None" = None,
        return_weights: bool = False,
    ) -> Result | tuple[Result, Float[Tensor, "batch n_heads n_q n_kv"]]:
        """Queries from x (batch, n_q, d_model), keys and values from `memory` (batch, n_kv, d_kv), or from x itself.

        `memory` may be a pair, one for keys and one for values. With `cache`, x continues what the cache holds,
        and n_kv counts the old and the new. Returns out (batch, n_q, d_model), and with `return_weights` also the
        weights of each head (batch, n_heads, n_q, n_kv).

        Raises TypeError or ValueError naming the argument; the cache then stays as it was.
        """
        x, keys_from, values_from = self._checked_input(x, memory, cache)
        q = split_heads(self.w_q(x), self.n_heads)  # (batch, n_heads, n_q, d_k)
        k = split_heads(self.w_k(keys_from), self.n_kv_heads)  # (batch, n_kv_heads, n_kv, d_k)
        v = split_heads(self.w_v(values_from), self.n_kv_heads)

        if self.rope:
            offset = 0 if cache is None else cache.length
            q, k = (positions.rope(t, offset, self.rope_base, self.rope) for t in (q, k))
        if cache is not None:
            k, v = cache.joined(k, v)  # old and new; the old keys were turned when they were new

        # Query head i reads key/value head i // group.
        group = self.n_heads // self.n_kv_heads
        shared_k, shared_v = (t.repeat_interleave(group, dim=1) for t in (k, v))  # (batch, n_heads, n_kv, d_k)
        heads_mask = None if mask is None else to_sdpa(mask)
        out, weights = attention(q, shared_k, shared_v, heads_mask, return_weights=True)  # (batch, n_heads, n_q, d_k)
        if cache is not None:
            cache.k, cache.v = k, v

        out = self.w_o(merge_heads(out))  # (batch, n_q, d_model)
        out = out if self.batch_first else out.transpose(0, 1)
        return (out, weights) if return_weights else out

    @classmethod
    def from_torch(cls, theirs: nn.MultiheadAttention) -> "MultiHeadAttention":
        """The same layer with a copy of the weights of `theirs`, `batch_first` included.

        Two things to know when moving: its masks say who to *ignore* (masks.from_attn_mask and
        from_key_padding_mask turn them round); and at a query that may attend to nothing, where it gives NaN, the
        heads of ours give zeros, and so the output is the bias of w_o.
        Raises TypeError (not such a layer) or ValueError (it uses what ours has not).
        """
        if not isinstance(theirs, nn.MultiheadAttention):
            raise TypeError(f"theirs must be a torch.nn.MultiheadAttention, got {type(theirs).__name__}")
        for name, used in (("add_bias_kv", theirs.bias_k is not None), ("add_zero_attn", theirs.add_zero_attn)):
            if used:
                raise ValueError(f"theirs must have {name}=False, got True")
        if theirs.dropout and theirs.training:
            raise ValueError(f"theirs must be in eval() mode or without dropout, got dropout={theirs.dropout}")
        bias, d_kv = theirs.in_proj_bias is not None, (theirs.kdim, theirs.vdim)
        ours = cls(theirs.embed_dim, theirs.num_heads, d_kv=d_kv, bias=bias, batch_first=theirs.batch_first)

        stacked = theirs.in_proj_weight  # None where kdim or vdim differ from embed_dim
        apart = (theirs.q_proj_weight, theirs.k_proj_weight, theirs.v_proj_weight)
        w_q, w_k, w_v = apart if stacked is None else stacked.chunk(3)
        state = {"w_q.weight": w_q, "w_k.weight": w_k, "w_v.weight": w_v, "w_o.weight": theirs.out_proj.weight}
        if bias:
            b_q, b_k, b_v = theirs.in_proj_bias.chunk(3)
            state |= {"w_q.bias": b_q, "w_k.bias": b_k, "w_v.bias": b_v, "w_o.bias": theirs.out_proj.bias}
        ours.to(w_q.device, w_q.dtype).load_state_dict(state)
        return ours.train(theirs.training)

    def extra_repr(self) -> str:
        """What the sizes of the projections below do not say."""
        return f"n_heads={self.n_heads}, n_kv_heads={self.n_kv_heads}, rope={self.rope}"

    def _checked_input(self, x, memory, cache):
        """x, where keys come from and where values come from, batch first."""
        if cache is not None and not isinstance(cache, KeyValueCache):
            raise TypeError(f"cache must be a KeyValueCache, got {type(cache).__name__}")
        for name, used in (("cache", cache is not None), ("rope", self.rope is not None)):
            if used and memory is not None:
                raise ValueError(f"memory must be None with {name}, which is for one sequence, got a memory")
        if memory is None and self.d_kv != (self.d_model, self.d_model):
            raise ValueError(f"memory must be given, of width d_kv = {self.d_kv} for keys and values, got None")
        if isinstance(memory, tuple) and len(memory) != 2:
            raise ValueError(f"memory must be a tensor or a pair (keys from, values from), got {len(memory)} of them")
        pair = memory if isinstance(memory, tuple) else (memory, memory)
        keys_from, values_from = (x, x) if memory is None else pair
        self._check("x", x, self.d_model)
        self._check("memory", keys_from, self.d_kv[0])
        self._check("memory", values_from, self.d_kv[1])
        if not self.batch_first:
            x, keys_from, values_from = (t.transpose(0, 1) for t in (x, keys_from, values_from))
        for t in (keys_from, values_from):
            if t.shape[0] != x.shape[0]:  # a batch of 1 would broadcast, and everyone read the same memory
                raise ValueError(f"memory must have the batch size of x, {x.shape[0]}, got {t.shape[0]}")
        if keys_from.shape[1] != values_from.shape[1]:
            n_kv = keys_from.shape[1], values_from.shape[1]
            raise ValueError(f"memory must have as many tokens for keys as for values, got {n_kv}")
        return x, keys_from, values_from

    def _check(self, name, t, width):
        if not isinstance(t, Tensor):
            raise TypeError(f"{name} must be a torch tensor, got {type(t).__name__}")
        order = "(batch, n, d)" if self.batch_first else "(n, batch, d)"
        if t.ndim != 3 or t.shape[-1] != width:
            raise ValueError(f"{name} must have shape {order} with d = {width}, got {tuple(t.shape)}")
        want = self.w_q.weight.dtype
        if t.dtype != want and not torch.is_autocast_enabled(t.device.type):
            raise TypeError(f"{name} must have the dtype of the weights, {want}, got {t.dtype}")


class KeyValueCache:
    """Keys and values of the tokens so far, at most `limit` of them, so that the next token computes only its own.

    One for each layer and text. Call the layer on the prompt (causal mask), then on one new token after another.
    """

    def __init__(self, limit: int):
        self.limit = _integer("limit", limit, 1)
        self.k = self.v = None

    @property
    def length(self) -> int:
        """How many tokens it holds."""
        return 0 if self.k is None else self.k.shape[-2]

    def joined(
        self, k: Float[Tensor, "batch n_kv_heads n d_k"], v: Float[Tensor, "batch n_kv_heads n d_k"]
    ) -> tuple[Float[Tensor, "batch n_kv_heads n_kv d_k"], Float[Tensor, "batch n_kv_heads n_kv d_k"]]:
        """Those held and then the new ones; nothing is stored. Raises ValueError if they do not fit."""
        new = k.shape[-2]
        if self.length + new > self.limit:
            raise ValueError(f"cache must hold at most limit = {self.limit} tokens, got {self.length} held + {new} new")
        if self.k is None:
            return k, v
        held, given = ((*t.shape[:2], "n", t.shape[3]) for t in (self.k, k))
        if held != given:
            raise ValueError(f"cache must be this layer's: it holds (batch, heads, n, d_k) = {held}, got {given}")
        return torch.cat([self.k, k], dim=-2), torch.cat([self.v, v], dim=-2)


class LearnedPositions(nn.Module):
    """A vector to learn for each of n_max positions, to be added to the token vectors (see positions.learned)."""

    def __init__(self, n_max: int, d_model: int):
        super().__init__()
        size = _integer("n_max", n_max, 1), _integer("d_model", d_model, 1)
        self.table = nn.Parameter(0.02 * torch.randn(size))  # small beside the tokens, as in GPT-2

    def forward(self, n: int, offset: int = 0) -> Float[Tensor, "n d_model"]:
        """The vectors of positions offset … offset + n - 1. Raises ValueError beyond n_max."""
        return positions.learned(self.table, n, offset)


def split_heads(x: Float[Tensor, "batch n width"], n_heads: int) -> Float[Tensor, "batch {n_heads} n d_k"]:
    """Cut each token's vector into n_heads pieces. A `view` straight to the result's shape would cut up the tokens.

    Raises ValueError if the width is not a multiple of n_heads.
    """
    if x.shape[-1] % _integer("n_heads", n_heads, 1):
        raise ValueError(f"x must have a width that is a multiple of n_heads = {n_heads}, got shape {tuple(x.shape)}")
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def merge_heads(x: Float[Tensor, "batch n_heads n d_k"]) -> Float[Tensor, "batch n width"]:
    """Put each token's pieces side by side again: the inverse of `split_heads`."""
    return x.transpose(1, 2).flatten(2)

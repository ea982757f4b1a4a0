"""The attention kernels as a function of torch with gradients: how they are launched, and in blocks of which size.

`forward` and `backward` here are those of `attnbook.efficient.tiled`, run by the kernels of `triton_forward` and
`triton_backward`. Nothing here asks for a GPU before a kernel is launched.
"""

from typing import Any, NamedTuple

import torch
import triton
from jaxtyping import Float, Float32

from attnbook.efficient.triton_backward import dkdv_kernel, dq_kernel
from attnbook.efficient.triton_common import aligned, argument, empty_aligned
from attnbook.efficient.triton_forward import forward_kernel

INTERPRETED = not isinstance(forward_kernel, triton.JITFunction)  # TRITON_INTERPRET=1 was set at the first import
Tensor = torch.Tensor


class Config(NamedTuple):
    """The size of a tile, the warps (of 32 threads) that share a program, and how many tiles are fetched in advance."""

    block_q: int
    block_kv: int
    num_warps: int
    num_stages: int


# What a kernel is launched with: by how its tiles come, then by the width of a head, padded. Chosen so that no
# register spills to memory in 16 bits, or next to none (`triton_compile` counts them).
# Hopper and the Blackwell of data centres, whose TMA fetches tiles of 16-bit numbers:
FETCHED = {
    "forward": {16: Config(128, 128, 8, 3), 32: Config(128, 128, 8, 3), 64: Config(128, 128, 4, 3),
                128: Config(128, 64, 8, 3), 256: Config(128, 64, 8, 2)},
    "dq": {16: Config(128, 64, 8, 2), 32: Config(128, 64, 8, 2), 64: Config(128, 64, 8, 2),
           128: Config(128, 64, 8, 2), 256: Config(64, 32, 8, 2)},
    "dkdv": {16: Config(64, 128, 8, 3), 32: Config(64, 128, 8, 3), 64: Config(64, 128, 8, 3),
             128: Config(64, 128, 8, 2), 256: Config(32, 64, 8, 2)},
}  # fmt: skip
# The same with the masks of a window, which take registers too:
FETCHED_WINDOW = FETCHED | {"dkdv": FETCHED["dkdv"] | {128: Config(64, 64, 8, 2)}}
# Other GPUs compute addresses, which takes registers, and have less memory for tiles:
ADDRESSED = {
    "forward": {16: Config(128, 64, 4, 2), 32: Config(128, 64, 4, 2), 64: Config(128, 32, 4, 2),
                128: Config(64, 64, 4, 2), 256: Config(64, 32, 8, 2)},
    "dq": {16: Config(64, 64, 4, 2), 32: Config(64, 64, 4, 2), 64: Config(64, 64, 4, 2),
           128: Config(64, 32, 8, 2), 256: Config(64, 16, 8, 1)},
    "dkdv": {16: Config(64, 64, 4, 2), 32: Config(64, 64, 4, 2), 64: Config(32, 64, 4, 2),
             128: Config(32, 64, 8, 2), 256: Config(16, 64, 8, 1)},
}  # fmt: skip
# Tensor cores have no product of float32, so single threads compute it, with all their operands in registers:
SINGLE = {
    name: {16: Config(32, 32, 8, 1), 32: Config(32, 32, 8, 1), 64: Config(16, 16, 8, 1), 128: Config(16, 16, 8, 1),
           256: Config(16, 16, 8, 1)}
    for name in ("forward", "dq", "dkdv")
}  # fmt: skip

# Few and small tiles, for an interpreter that takes a millisecond a line:
INTERPRETER = {name: Config(32, 32, 1, 1) for name in ("forward", "dq", "dkdv")}


class Plan(NamedTuple):
    """What is asked of the kernels, beside the arrays."""

    back: int | None  # how many keys before and after its own place a query looks at; None = to the end
    ahead: int | None
    scale: float  # positive
    capability: tuple[int, int]  # of the GPU, or of the one that the interpreter plays
    configs: dict[str, Config] = {}  # instead of those from the tables, by kernel

    @property
    def tma(self) -> bool:
        """Whether tiles are fetched or addressed. A GeForce of Blackwell (12) could fetch, but has half the memory."""
        return self.capability[0] in (9, 10)

    def config(self, kernel: str, q: Tensor, v: Tensor) -> Config:
        if kernel in self.configs:
            return self.configs[kernel]
        if q.element_size() > 2:
            table = SINGLE
        elif self.tma:
            table = FETCHED if self.back is None else FETCHED_WINDOW
        else:
            table = ADDRESSED
        return table[kernel][max(padded(q.shape[-1]), padded(v.shape[-1]))]


class Launch(NamedTuple):
    """A kernel with all that it is called with."""

    kernel: Any
    programs: int
    arguments: dict[str, Any]
    config: Config

    def run(self) -> None:
        warps, stages = self.config[2:]
        self.kernel[(self.programs,)](**self.arguments, num_warps=warps, num_stages=stages)

    def compile(self):
        """The compiled kernel, not run; `triton_compile` says for which GPU."""
        warps, stages = self.config[2:]
        return self.kernel.warmup(grid=(self.programs,), **self.arguments, num_warps=warps, num_stages=stages)


def padded(d: int) -> int:
    """The width of the tiles for heads of width d: tiles are powers of 2, and tensor cores take 16 columns at least."""
    return max(16, triton.next_power_of_2(d))


def forward(q: Tensor, k: Tensor, v: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """out (batch, n_heads, n_q, d_v) and lse (batch, n_heads, n_q), float32, natural logarithm.

    q (batch, n_heads, n_q, d_k), k (batch, n_kv_heads, n_kv, d_k), v (batch, n_kv_heads, n_kv, d_v).
    """
    out = empty_aligned(q, v.shape[3])
    lse = q.new_empty(q.shape[:3], dtype=torch.float32)
    if q.numel() and k.numel():
        launch_forward(q, k, v, out, lse, plan).run()
        return out, lse
    return out.zero_(), lse.fill_(-torch.inf)


def backward(q, k, v, out, lse, d_out, d_lse, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `forward`, (dq, dk, dv), in the dtypes of q, k and v; d_lse may be None."""
    if not (q.numel() and k.numel()):
        return torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    dq, dk, dv = (empty_aligned(x, x.shape[3]) for x in (q, k, v))
    share = torch.empty_like(lse)
    launch_dq(q, k, v, out, d_out, dq, lse, d_lse, share, plan).run()
    launch_dkdv(q, k, v, d_out, dk, dv, lse, share, plan).run()
    return dq, dk, dv


def launch_forward(q, k, v, out, lse, plan: Plan, **steps: bool) -> Launch:
    """`steps` turns off what makes the kernel fast: SKIP, SPLIT, BASE_2."""
    config = plan.config("forward", q, v)
    arrays = _arguments(config, plan, q=q, k=k, v=v, out=out)
    rest = {"lse": lse, **_rest(q, k, v, config, plan), **steps}
    return Launch(forward_kernel, _programs(q, config.block_q), {**arrays, **rest}, config)


def launch_dq(q, k, v, out, d_out, dq, lse, d_lse, share, plan: Plan) -> Launch:
    config = plan.config("dq", q, v)
    arrays = _arguments(config, plan, q=q, k=k, v=v, out=out, d_out=d_out, dq=dq)
    rest = {"lse": lse, "d_lse": d_lse, "share": share, **_rest(q, k, v, config, plan)}
    return Launch(dq_kernel, _programs(q, config.block_q), {**arrays, **rest}, config)


def launch_dkdv(q, k, v, d_out, dk, dv, lse, share, plan: Plan) -> Launch:
    config = plan.config("dkdv", q, v)
    arrays = _arguments(config, plan, q=q, k=k, v=v, d_out=d_out, dk=dk, dv=dv)
    rest = {"lse": lse, "share": share, **_rest(q, k, v, config, plan)}
    return Launch(dkdv_kernel, _programs(k, config.block_kv), {**arrays, **rest}, config)


def _arguments(config: Config, plan: Plan, **arrays: Tensor) -> dict[str, Any]:
    blocks = {name: config.block_kv if name in ("k", "v", "dk", "dv") else config.block_q for name in arrays}
    return {name: argument(x, blocks[name], padded(x.shape[3]), plan.tma) for name, x in arrays.items()}


def _rest(q, k, v, config: Config, plan: Plan) -> dict[str, Any]:
    """What all three kernels take beside their arrays."""
    return {
        "n_heads": q.shape[1], "group": q.shape[1] // k.shape[1], "n_q": q.shape[2], "n_kv": k.shape[2],
        "back": plan.back, "ahead": plan.ahead, "scale": plan.scale,
        "D_K": padded(q.shape[3]), "D_V": padded(v.shape[3]), "BLOCK_Q": config.block_q, "BLOCK_KV": config.block_kv,
    }  # fmt: skip


def _programs(x: Tensor, block: int) -> int:
    batch, heads, n, _ = x.shape
    return batch * heads * triton.cdiv(n, block)


class TritonAttention(torch.autograd.Function):
    """`forward` and `backward` as one function of torch, differentiable once."""

    @staticmethod
    def forward(
        ctx,
        q: Float[Tensor, "batch n_heads n_q d_k"],
        k: Float[Tensor, "batch n_kv_heads n_kv d_k"],
        v: Float[Tensor, "batch n_kv_heads n_kv d_v"],
        plan: Plan,
    ) -> tuple[Float[Tensor, "batch n_heads n_q d_v"], Float32[Tensor, "batch n_heads n_q"]]:
        if plan.tma:
            q, k, v = aligned(q), aligned(k), aligned(v)
        out, lse = forward(q, k, v, plan)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.plan = plan
        ctx.set_materialize_grads(False)  # most often nobody differentiates lse: then d_lse is None
        return out, lse

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_out, d_lse):
        q, k, v, out, lse = ctx.saved_tensors
        d_out = torch.zeros_like(out) if d_out is None else aligned(d_out)
        d_lse = None if d_lse is None else d_lse.contiguous()
        return *backward(q, k, v, out, lse, d_out, d_lse, ctx.plan), None

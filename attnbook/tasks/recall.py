"""Associative recall: pairs of a key and a value go by, then a key is shown again. Which value went with it?

    c 3  a 9  f 3  b 0  ·  ·  ·  a ?        answer: 9

A toy task, and a hard one for whatever has to keep the past in a fixed amount of memory: each pair is new in each
sequence, so it cannot be learned by heart, only stored and found again (Arora et al., 2024, call it MQAR).
Tokens are numbers: keys come first, then values, then one filler that fills a gap and means nothing.
"""

from typing import NamedTuple

import torch
from jaxtyping import Int

from attnbook.masks import _integer

NOT_ASKED = -100  # the target that torch's cross-entropy ignores


class Batch(NamedTuple):
    """tokens (batch, n) and targets (batch, n), which hold a value where a key is asked, NOT_ASKED elsewhere."""

    tokens: Int[torch.Tensor, "batch n"]
    targets: Int[torch.Tensor, "batch n"]


def vocabulary(n_keys: int = 64, n_values: int = 64) -> int:
    """How many different tokens there are: keys, values, and the filler, which is the last."""
    return _integer("n_keys", n_keys, 1) + _integer("n_values", n_values, 1) + 1


def batch(
    generator: torch.Generator,
    batch_size: int,
    n_pairs: int,
    n_keys: int = 64,
    n_values: int = 64,
    n_queries: int = 1,
    gap: int = 0,
) -> Batch:
    """`batch_size` sequences of `n_pairs` pairs, a gap of `gap` fillers, and `n_queries` of the keys again.

    Keys of a sequence are all different, values need not be; n = 2 · n_pairs + gap + n_queries. Keys are the tokens
    0 … n_keys - 1, values n_keys … n_keys + n_values - 1. Drawn with `generator`: the same seed, the same batch.
    Raises ValueError if there are more pairs than keys, more queries than pairs, or a number is too small.
    """
    batch_size, n_pairs = _integer("batch_size", batch_size, 1), _integer("n_pairs", n_pairs, 1)
    n_queries, gap = _integer("n_queries", n_queries, 1), _integer("gap", gap, 0)
    filler = vocabulary(n_keys, n_values) - 1
    if n_pairs > n_keys:
        raise ValueError(f"n_pairs must be at most n_keys = {n_keys}, each pair has a key of its own, got {n_pairs}")
    if n_queries > n_pairs:
        raise ValueError(f"n_queries must be at most n_pairs = {n_pairs}, no key is asked twice, got {n_queries}")
    keys = _different(generator, batch_size, n_keys, n_pairs)
    values = n_keys + torch.randint(n_values, (batch_size, n_pairs), generator=generator)
    asked = _different(generator, batch_size, n_pairs, n_queries)
    pairs = torch.stack([keys, values], dim=-1).flatten(1)
    tokens = torch.cat([pairs, torch.full((batch_size, gap), filler), keys.gather(1, asked)], dim=1)
    targets = torch.full_like(tokens, NOT_ASKED)
    targets[:, -n_queries:] = values.gather(1, asked)
    return Batch(tokens, targets)


def accuracy(logits: torch.Tensor, targets: Int[torch.Tensor, "batch n"]) -> float:
    """The share of asked keys whose value has the largest of the logits (batch, n, n_tokens)."""
    asked = targets != NOT_ASKED
    return (logits.argmax(-1)[asked] == targets[asked]).double().mean().item()


def _different(generator, rows: int, n: int, chosen: int) -> torch.Tensor:
    """For each row, `chosen` different numbers below n, in random order."""
    return torch.rand(rows, n, generator=generator).argsort(dim=1)[:, :chosen]

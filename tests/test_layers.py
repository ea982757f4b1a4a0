"""attnbook.layers against torch's own layers and against the laws of attention; gradients too."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds
from torch import nn

from attnbook import functional as fn
from attnbook import layers, masks, positions
from attnbook.layers import KeyValueCache, LearnedPositions, MultiHeadAttention

pytestmark = [
    pytest.mark.filterwarnings("error::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning"),
]
heads = st.sampled_from([(1, 1), (2, 2), (4, 4), (4, 2), (4, 1), (6, 2)])  # (n_heads, n_kv_heads)
ropes = st.sampled_from([None, "half", "interleaved"])


def close(got, want, tolerance=1e-12):
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


def layer(n_heads=2, n_kv_heads=None, d_k=4, **options):
    return MultiHeadAttention(n_heads * d_k, n_heads, n_kv_heads, **options).double()


def tokens(batch, n, d, **options):
    return torch.randn(batch, n, d, dtype=torch.float64, **options)


# torch.nn.MultiheadAttention ------------------------------------------------------------------------------------

KEY_PADDING = masks.padding([2, 5, 4], 5, like=torch.ones(1))
MASKS = {  # ours, and how torch's layer is told the same; 3 sequences, 5 tokens, 2 heads
    "none": (None, {}),
    "causal": (masks.causal(5, like=torch.ones(1)), "attn_mask"),
    "padding": (KEY_PADDING, "key_padding_mask"),
    "causal and padding": (masks.causal(5, like=torch.ones(1)) & KEY_PADDING, "attn_mask"),
    "a mask for each head": (torch.rand(3, 2, 5, 5, generator=torch.manual_seed(0)) < 0.7, "attn_mask"),
}
MASKS["a mask for each head"][0][..., 0] = True  # torch's layer gives NaN at an empty row


def torchs_masks(kind, additive):
    mask, where = MASKS[kind]
    if mask is None:
        return {}
    ignore = masks.to_key_padding_mask(mask) if where == "key_padding_mask" else masks.to_attn_mask(mask, 2)
    return {where: masks.to_additive(~ignore, like=tokens(1, 1, 1)) if additive else ignore}


@pytest.mark.parametrize("additive", [False, True], ids=["boolean", "additive"])
@pytest.mark.parametrize("batch_first", [True, False], ids=["batch first", "batch second"])
@pytest.mark.parametrize("widths", [(6, 6), (5, 5), (5, 7)], ids=str)
@pytest.mark.parametrize("kind", MASKS)
def test_equals_torchs_layer_with_its_weights(kind, widths, batch_first, additive):
    options = {"kdim": widths[0], "vdim": widths[1], "batch_first": batch_first, "dtype": torch.float64}
    theirs = nn.MultiheadAttention(6, 2, bias=kind != "causal", **options)
    for weights in theirs.parameters():  # biases start at 0, where one could not tell them apart
        nn.init.normal_(weights, std=0.5)
    ours = MultiHeadAttention.from_torch(theirs)
    given_x = [tokens(3, 5, d) if batch_first else tokens(5, 3, d) for d in (6, *widths)]
    x, k, v = (t.requires_grad_() for t in given_x)
    if widths == (6, 6):
        want, weights = theirs(x, x, x, average_attn_weights=False, **torchs_masks(kind, additive))
        got, got_weights = ours(x, mask=MASKS[kind][0], return_weights=True)
        used = [x]
    else:
        want, weights = theirs(x, k, v, average_attn_weights=False, **torchs_masks(kind, additive))
        got, got_weights = ours(x, (k, v), mask=MASKS[kind][0], return_weights=True)
        used = [x, k, v]
    close(got, want)
    close(got_weights, weights)
    direction = torch.randn_like(want)
    grads = [torch.autograd.grad(out, used, direction, retain_graph=True) for out in (got, want)]
    for ours_grad, theirs_grad in zip(*grads):
        close(ours_grad, theirs_grad)
    # Gradients of the weights, through the layout of each layer.
    got.backward(direction, retain_graph=True)
    want.backward(direction)
    close(ours.w_o.weight.grad, theirs.out_proj.weight.grad)
    stacked = [theirs.in_proj_weight] if widths == (6, 6) else [theirs.q_proj_weight, theirs.k_proj_weight]
    mine = [ours.w_q.weight.grad, ours.w_k.weight.grad, ours.w_v.weight.grad]
    if len(stacked) == 1:
        close(torch.cat(mine), stacked[0].grad)
    else:
        for ours_grad, theirs_weight in zip(mine, [*stacked, theirs.v_proj_weight]):
            close(ours_grad, theirs_weight.grad)


def test_the_copy_is_a_copy_of_the_same_kind():
    theirs = nn.MultiheadAttention(4, 2).eval()
    ours = MultiHeadAttention.from_torch(theirs)
    assert not ours.training and not ours.batch_first and ours.w_q.weight.dtype == torch.float32
    before = theirs.in_proj_weight.clone()
    nn.init.zeros_(ours.w_q.weight)
    assert torch.equal(theirs.in_proj_weight, before)
    assert MultiHeadAttention.from_torch(nn.MultiheadAttention(4, 2, bias=False)).w_o.bias is None
    assert MultiHeadAttention.from_torch(nn.MultiheadAttention(4, 2, dropout=0.1).eval()).n_heads == 2


def test_float32_within_a_millionth():
    theirs, x = nn.MultiheadAttention(32, 4, batch_first=True), torch.randn(3, 9, 32)
    want, weights = theirs(x, x, x, average_attn_weights=False)
    got, got_weights = MultiHeadAttention.from_torch(theirs)(x, return_weights=True)
    close(got, want, 1e-6)
    close(got_weights, weights, 1e-6)


# Grouped heads, against scaled_dot_product_attention --------------------------------------------------------------


@given(sizes=heads, seed=seeds, masked=st.booleans(), cross=st.booleans())
def test_grouped_heads_equal_torchs_enable_gqa(sizes, seed, masked, cross):
    torch.manual_seed(seed)
    n_heads, n_kv_heads = sizes
    ours = layer(n_heads, n_kv_heads, d_kv=5 if cross else None, bias=not masked)
    x, memory = tokens(2, 3, 4 * n_heads, requires_grad=True), tokens(2, 4, 5)
    source = memory if cross else x
    mask = torch.rand(2, 3, source.shape[1]) < 0.7 if masked else None
    q, k, v = ours.w_q(x), ours.w_k(source), ours.w_v(source)
    q, k, v = (t.reshape(2, t.shape[1], -1, 4).transpose(1, 2) for t in (q, k, v))
    assert k.shape[1] == n_kv_heads
    each = None if mask is None else mask[:, None]
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=each, enable_gqa=True)
    want = ours.w_o(out.transpose(1, 2).reshape(2, 3, -1))
    got = ours(x, memory if cross else None, mask=mask)
    close(got, want)
    direction = torch.randn_like(want)
    close(*(torch.autograd.grad(y, x, direction, retain_graph=True)[0] for y in (got, want)))


def test_one_head_is_attention_between_two_projections():
    ours, x = layer(n_heads=1), tokens(2, 5, 4)
    close(ours(x), ours.w_o(fn.attention(ours.w_q(x), ours.w_k(x), ours.w_v(x))))


# Laws -----------------------------------------------------------------------------------------------------------


@given(batch=st.integers(1, 3), n=st.integers(0, 4), n_heads=st.integers(1, 4), d_k=st.integers(1, 3), seed=seeds)
def test_splitting_and_merging_heads_undo_each_other(batch, n, n_heads, d_k, seed):
    x = torch.randn(batch, n, n_heads * d_k, generator=torch.manual_seed(seed))
    apart = layers.split_heads(x, n_heads)
    assert apart.shape == (batch, n_heads, n, d_k)
    assert torch.equal(layers.merge_heads(apart), x)
    assert torch.equal(layers.split_heads(layers.merge_heads(apart), n_heads), apart)
    for h in range(n_heads):  # head h has the same slice of every token
        assert torch.equal(apart[:, h], x[..., h * d_k : (h + 1) * d_k])


@given(sizes=heads, n=st.integers(1, 6), seed=seeds)
def test_permuting_the_tokens_permutes_the_output(sizes, n, seed):
    torch.manual_seed(seed)
    ours, x, order = layer(*sizes), tokens(2, n, 4 * sizes[0]), torch.randperm(n)
    out, weights = ours(x, return_weights=True)
    shuffled, shuffled_weights = ours(x[:, order], return_weights=True)
    close(shuffled, out[:, order])
    close(shuffled_weights, weights[:, :, order][..., order])
    # With the order told, by turning or by adding, it no longer does.
    if n > 1 and order.tolist() != list(range(n)):
        turned = layer(*sizes, rope="half")
        assert not torch.allclose(turned(x[:, order]), turned(x)[:, order])
        told = positions.sinusoidal(n, 4 * sizes[0], like=x)
        assert not torch.allclose(ours(x[:, order] + told), ours(x + told)[:, order])


@given(sizes=heads, rope=st.sampled_from(["half", "interleaved"]), shift=st.integers(1, 50), seed=seeds)
def test_with_rope_a_shift_of_all_positions_changes_nothing(sizes, rope, shift, seed):
    torch.manual_seed(seed)
    ours, x, n = layer(*sizes, rope=rope), tokens(1, 4, 4 * sizes[0]), 4
    # Filler before the sentence, which nobody sees, moves the sentence along.
    filler = tokens(1, shift, 4 * sizes[0])
    real = torch.arange(shift + n)[None, :] >= shift
    out, weights = ours(torch.cat([filler, x], 1), mask=real, return_weights=True)
    want, want_weights = ours(x, return_weights=True)
    close(out[:, shift:], want, 1e-10)
    close(weights[:, :, shift:, shift:], want_weights, 1e-10)


@given(rope=st.sampled_from(["half", "interleaved"]), seed=seeds)
def test_rope_turns_queries_and_keys_but_not_values(rope, seed):
    torch.manual_seed(seed)
    ours, x = layer(4, 2, rope=rope, rope_base=100.0), tokens(2, 5, 16)
    q, k, v = (layers.split_heads(w(x), h) for w, h in ((ours.w_q, 4), (ours.w_k, 2), (ours.w_v, 2)))
    q, k = (positions.rope(t, base=100.0, layout=rope) for t in (q, k))
    out = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    close(ours(x), ours.w_o(layers.merge_heads(out)))


def test_a_checkpoint_moves_from_one_layout_to_the_other():
    mixed, x = layer(3, rope="interleaved"), tokens(2, 5, 12)
    halves = layer(3, rope="half")
    state = copy.deepcopy(mixed.state_dict())
    for name in ("w_q.weight", "w_q.bias", "w_k.weight", "w_k.bias"):
        of_each_head = state[name].unflatten(0, (3, 4))
        state[name] = positions.to_half(of_each_head, axis=1).flatten(0, 1)
    halves.load_state_dict(state)
    close(halves(x), mixed(x))
    halves.load_state_dict(mixed.state_dict())
    assert not torch.allclose(halves(x), mixed(x))  # without it nothing is raised, and all is different


@given(sizes=heads, rope=ropes, seed=seeds)
def test_no_gradient_flows_from_the_future(sizes, rope, seed):
    torch.manual_seed(seed)
    ours, x = layer(*sizes, rope=rope), tokens(1, 5, 4 * sizes[0], requires_grad=True)
    out = ours(x, mask=masks.causal(5, like=x))
    for i in range(5):
        (grad,) = torch.autograd.grad(out[0, i] @ torch.randn_like(out[0, i]), x, retain_graph=True)
        assert (grad[0, i + 1 :] == 0).all()
        assert (grad[0, : i + 1] != 0).any(-1).all()


@given(sizes=heads, rope=ropes, causal=st.booleans(), seed=seeds)
def test_in_a_padded_batch_each_gets_what_it_would_get_alone(sizes, rope, causal, seed):
    torch.manual_seed(seed)
    ours, x, lengths = layer(*sizes, rope=rope), tokens(3, 6, 4 * sizes[0]), [2, 6, 3]
    mask = masks.padding(lengths, 6, like=x)
    if causal:
        mask = mask & masks.causal(6, like=x)
    x[0, 2:] = 1e6  # whatever the filler holds
    out = ours(x, mask=mask)
    for b, n in enumerate(lengths):
        alone = ours(x[b : b + 1, :n], mask=masks.causal(n, like=x) if causal else None)
        close(out[b : b + 1, :n], alone)


def test_as_many_sequences_as_heads():
    ours, x = layer(3), tokens(3, 4, 12)
    mask = masks.padding([1, 4, 2], 4, like=x) & masks.causal(4, like=x)
    weights = ours(x, mask=mask, return_weights=True)[1]
    assert (weights.ne(0) == mask[:, None]).all()


@given(sizes=heads, seed=seeds)
def test_a_query_with_nobody_to_see_gets_zeros_and_finite_gradients(sizes, seed):
    torch.manual_seed(seed)
    ours, x = layer(*sizes), tokens(2, 3, 4 * sizes[0], requires_grad=True)
    mask = torch.ones(2, 3, 3, dtype=torch.bool)
    mask[0, 1], mask[1] = False, False
    with torch.autograd.detect_anomaly(check_nan=True):
        out, weights = ours(x, mask=mask, return_weights=True)
        out.square().sum().backward()
    assert (weights[0, :, 1] == 0).all() and (weights[1] == 0).all()
    assert torch.equal(out[0, 1], ours.w_o.bias) and torch.equal(out[1], ours.w_o.bias.expand(3, -1))
    assert all(t.grad.isfinite().all() for t in (x, *ours.parameters()))
    assert (x.grad[1] == 0).all()


@given(sizes=heads)
def test_the_same_cost_at_any_number_of_heads(sizes):
    n_heads, n_kv_heads = sizes
    count = sum(p.numel() for p in MultiHeadAttention(24, n_heads, n_kv_heads, bias=False).parameters())
    assert count == 2 * 24 * 24 + 2 * 24 * 24 * n_kv_heads // n_heads


# The cache --------------------------------------------------------------------------------------------------------


@given(sizes=heads, rope=ropes, cuts=st.lists(st.integers(1, 3), min_size=1, max_size=5), seed=seeds)
def test_prefill_then_step_by_step_equals_the_full_pass(sizes, rope, cuts, seed):
    torch.manual_seed(seed)
    ours, n = layer(*sizes, rope=rope), sum(cuts)
    x = tokens(2, n, 4 * sizes[0])
    full, full_weights = ours(x, mask=masks.causal(n, like=x), return_weights=True)
    cache, start = KeyValueCache(limit=n), 0
    for cut in cuts:
        stop = start + cut
        mask = masks.causal(cut, stop, like=x)
        out, weights = ours(x[:, start:stop], mask=mask, cache=cache, return_weights=True)
        close(out, full[:, start:stop])
        close(weights, full_weights[:, :, start:stop, :stop])
        assert cache.length == stop
        start = stop
    assert cache.k.shape == cache.v.shape == (2, sizes[1], n, 4)  # the shared heads, once


def test_the_cache_in_float32_and_batch_second():
    ours = MultiHeadAttention(16, 4, 2, rope="half", batch_first=False)
    x = torch.randn(12, 2, 16)
    full = ours(x, mask=masks.causal(12, like=x))
    cache = KeyValueCache(12)
    parts = [ours(x[:5], mask=masks.causal(5, like=x), cache=cache)]
    parts += [ours(x[i : i + 1], cache=cache) for i in range(5, 12)]  # one token may see all
    close(torch.cat(parts), full, 1e-5)


def test_a_call_that_fails_leaves_the_cache_as_it_was():
    ours, x, cache = layer(), tokens(1, 2, 8), KeyValueCache(3)
    ours(x, cache=cache)
    before = cache.k
    with pytest.raises(ValueError, match="limit = 3"):
        ours(x, cache=cache)
    with pytest.raises(ValueError, match="mask must broadcast"):
        ours(x[:, :1], mask=masks.causal(2, like=x), cache=cache)
    assert cache.k is before and cache.length == 2
    ours(x[:, :1], cache=cache)
    assert cache.length == 3


def test_learned_positions():
    table = LearnedPositions(6, 4)
    assert torch.equal(table(2, offset=3), table.table[3:5])
    table(2).sum().backward()
    assert table.table.grad[:, 0].tolist() == [1, 1, 0, 0, 0, 0]
    with pytest.raises(ValueError, match=r"table must have a row for each of 7 positions.*got \(6, 4\)"):
        table(2, offset=5)


def test_mixed_precision_is_torchs_to_choose():
    first, second, x = MultiHeadAttention(8, 2, rope="half"), MultiHeadAttention(8, 2), torch.randn(2, 3, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert second(first(x)).dtype == torch.bfloat16


# What is wrong is named -------------------------------------------------------------------------------------------

X = torch.zeros(2, 3, 8)
SQUARE, BATCH_OF_3 = torch.ones(4, 4, dtype=torch.bool), torch.ones(3, 1, 3, dtype=torch.bool)
WHOLE = "must be an integer of at least 1"


def mha(m, *args, **options):
    return m.MultiHeadAttention(8, 2, *args, **options)


def filled(m, limit=9):
    cache = m.KeyValueCache(limit)
    mha(m)(X, cache=cache)
    return cache


def from_torch(m, theirs=None, **options):
    return m.MultiHeadAttention.from_torch(theirs or nn.MultiheadAttention(8, 2, **options))


CASES = {
    "d_model": (ValueError, ["d_model must be .* of n_heads = 3", "got 8"], lambda m: m.MultiHeadAttention(8, 3)),
    "n_heads": (ValueError, ["n_heads must be .* n_kv_heads = 3", "got 4"], lambda m: m.MultiHeadAttention(8, 4, 3)),
    "no heads": (ValueError, [f"n_heads {WHOLE}", "got 0"], lambda m: m.MultiHeadAttention(8, 0)),
    "no kv heads": (ValueError, [f"n_kv_heads {WHOLE}", "got 0"], lambda m: mha(m, 0)),
    "d_model a float": (ValueError, [f"d_model {WHOLE}", "got 8.0"], lambda m: m.MultiHeadAttention(8.0, 2)),
    "d_kv": (ValueError, [f"d_kv {WHOLE}", "got 0"], lambda m: mha(m, d_kv=(4, 0))),
    "odd d_k": (ValueError, ["must be even for rope", "9 / 3 = 3"], lambda m: m.MultiHeadAttention(9, 3, rope="half")),
    "rope": (ValueError, ['rope must be "half" or "interleaved"', "got True"], lambda m: mha(m, rope=True)),
    "rope_base": (TypeError, ["rope_base must be a number", "got '1'"], lambda m: mha(m, rope="half", rope_base="1")),
    "x width": (ValueError, ["x must have shape", "d = 8", r"got \(2, 3, 7\)"], lambda m: mha(m)(X[..., :7])),
    "x axes": (ValueError, [r"x must have shape \(batch, n, d\)", r"got \(3, 8\)"], lambda m: mha(m)(X[0])),
    "batch second": (ValueError, [r"x must .* \(n, batch, d\)", "got"], lambda m: mha(m, batch_first=False)(X[0])),
    "x a list": (TypeError, ["x must be a torch tensor", "got list"], lambda m: mha(m)([1.0])),
    "x dtype": (TypeError, ["x must have the dtype of the weights", "got torch.float64"], lambda m: mha(m)(X.double())),
    "memory width": (ValueError, ["memory must .* d = 5", r"got \(2, 3, 8\)"], lambda m: mha(m, d_kv=5)(X, X)),
    "values' width": (ValueError, ["memory must .* d = 5", "got"], lambda m: mha(m, d_kv=(8, 5))(X, (X, X))),
    "no memory": (ValueError, [r"memory must be given.*\(5, 5\)", "got None"], lambda m: mha(m, d_kv=5)(X)),
    "memory a string": (TypeError, ["memory must be a torch tensor", "got str"], lambda m: mha(m)(X, "text")),
    "memory of three": (ValueError, ["memory must be a tensor or a pair", "got 3"], lambda m: mha(m)(X, (X, X, X))),
    "memory's batch": (ValueError, ["memory must .* batch size of x, 2", "got 1"], lambda m: mha(m)(X, X[:1])),
    "values' batch": (ValueError, ["memory must .* batch size of x, 2", "got 1"], lambda m: mha(m)(X, (X, X[:1]))),
    "memory's lengths": (ValueError, ["as many tokens", r"got \(3, 2\)"], lambda m: mha(m)(X, (X, X[:, :2]))),
    "memory and rope": (ValueError, ["memory must be None with rope", "got a"], lambda m: mha(m, rope="half")(X, X)),
    "memory and cache": (ValueError, ["None with cache", "got"], lambda m: mha(m)(X, X, cache=m.KeyValueCache(9))),
    "mask": (ValueError, [r"mask must broadcast .* \(2, 2, 3, 3\)", r"got \(4, 4\)"], lambda m: mha(m)(X, mask=SQUARE)),
    "mask of 3 axes": (ValueError, ["mask must broadcast", r"\(3, 1, 1, 3\)"], lambda m: mha(m)(X, mask=BATCH_OF_3)),
    "mask additive": (TypeError, ["mask must be boolean", "got dtype torch.float32"], lambda m: mha(m)(X, mask=X)),
    "mask a list": (TypeError, ["mask must be a", "got list"], lambda m: mha(m)(X, mask=[True])),
    "mask of NumPy": (TypeError, ["mask must come from the same", "numpy"], lambda m: mha(m)(X, mask=SQUARE.numpy())),
    "cache full": (ValueError, ["cache .* limit = 4", "got 3 held .* 3 new"], lambda m: mha(m)(X, cache=filled(m, 4))),
    "long prompt": (ValueError, ["cache .* limit = 2", "0 held"], lambda m: mha(m)(X, cache=m.KeyValueCache(2))),
    "cache's batch": (ValueError, [r"cache .* \(2, 2, 'n', 4\)", r"got \(1"], lambda m: mha(m)(X[:1], cache=filled(m))),
    "cache's heads": (ValueError, ["cache must be this", r"got \(2, 1"], lambda m: mha(m, 1)(X, cache=filled(m))),
    "cache a dict": (TypeError, ["cache must be a KeyValueCache", "got dict"], lambda m: mha(m)(X, cache={})),
    "limit": (ValueError, [f"limit {WHOLE}", "got 0"], lambda m: m.KeyValueCache(0)),
    "n_max": (ValueError, [f"n_max {WHOLE}", "got -1"], lambda m: m.LearnedPositions(-1, 4)),
    "split": (ValueError, ["x must .* of n_heads = 3", r"got shape \(2, 3, 8\)"], lambda m: m.split_heads(X, 3)),
    "split into none": (ValueError, [f"n_heads {WHOLE}", "got 0"], lambda m: m.split_heads(X, 0)),
    "theirs": (TypeError, ["theirs must be a torch.nn.Multi", "got Linear"], lambda m: from_torch(m, nn.Linear(2, 2))),
    "add_bias_kv": (ValueError, ["add_bias_kv=False", "got True"], lambda m: from_torch(m, add_bias_kv=True)),
    "add_zero_attn": (ValueError, ["add_zero_attn=False", "got True"], lambda m: from_torch(m, add_zero_attn=True)),
    "dropout": (ValueError, [r"theirs must be in eval\(\)", "got dropout=0.5"], lambda m: from_torch(m, dropout=0.5)),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_named(plain_layers, case):
    error, parts, call = CASES[case]
    for part in parts:
        with pytest.raises(error, match=part) as caught:
            call(plain_layers)
        assert caught.type is error

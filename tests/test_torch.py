"""The same numbers as ``torch.nn.LSTM`` and ``torch.nn.GRU`` with the same random weights, gradients included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstm_jax as lj
from lstm_jax.cells import GRU, GRUParams

torch = pytest.importorskip("torch", reason="torch is not installed; pip install torch to compare with it")

T, B, D, H = 12, 3, 4, 6
LENGTHS = [12, 5, 1]


def tensors(layer):
    return [getattr(layer, f"{name}_l0").detach().numpy() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


def inputs(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(T, B, D)), rng.normal(size=(B, H)), rng.normal(size=(B, H)), rng.normal(size=(T, B, H))


def leaf(array):
    return torch.tensor(array, requires_grad=True)


def assert_close(got, want):
    np.testing.assert_allclose(got, want.detach().numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("packed", [False, True])
def test_lstm(seed, packed):
    torch.manual_seed(seed)
    layer = torch.nn.LSTM(D, H).double()
    x, h0, c0, weight = inputs(seed)
    tx, th, tc = leaf(x), leaf(h0[None]), leaf(c0[None])
    sequence = torch.nn.utils.rnn.pack_padded_sequence(tx, torch.tensor(LENGTHS)) if packed else tx
    ty, (th_out, tc_out) = layer(sequence, (th, tc))
    if packed:
        ty, _ = torch.nn.utils.rnn.pad_packed_sequence(ty, total_length=T)
    ((ty * torch.tensor(weight)).sum() + th_out.sum() + tc_out.sin().sum()).backward()

    w_ih, w_hh, b_ih, b_hh = tensors(layer)
    params = lj.LSTMParams(jnp.asarray(w_ih.T), jnp.asarray(w_hh.T), jnp.asarray(b_ih + b_hh))
    lengths = jnp.array(LENGTHS) if packed else None

    def loss(params, xs, state):
        final, ys = lj.lstm(params, xs, state, lengths=lengths)
        return jnp.sum(ys * weight) + final.h.sum() + jnp.sin(final.c).sum(), (final, ys)

    gradient, (final, ys) = jax.grad(loss, (0, 1, 2), has_aux=True)(
        params, jnp.asarray(x), lj.LSTMState(jnp.asarray(h0), jnp.asarray(c0))
    )
    assert_close(ys, ty)
    assert_close(final.h, th_out[0])
    assert_close(final.c, tc_out[0])
    assert_close(gradient[0].input_kernel.T, layer.weight_ih_l0.grad)
    assert_close(gradient[0].recurrent_kernel.T, layer.weight_hh_l0.grad)
    assert_close(gradient[0].bias, layer.bias_ih_l0.grad)
    assert_close(gradient[1], tx.grad)
    assert_close(gradient[2].h, th.grad[0])
    assert_close(gradient[2].c, tc.grad[0])


def test_bidirectional_with_lengths():
    """The reverse direction of a packed batch reads each row from its own end."""
    torch.manual_seed(0)
    layer = torch.nn.LSTM(D, H, bidirectional=True).double()
    x, *_ = inputs(0)
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.tensor(x), torch.tensor(LENGTHS))
    ty, (th, _) = layer(packed)
    ty, _ = torch.nn.utils.rnn.pad_packed_sequence(ty, total_length=T)
    w_ih, w_hh, b_ih, b_hh = (
        getattr(layer, f"{n}_l0_reverse").detach().numpy() for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    params = lj.LSTMParams(jnp.asarray(w_ih.T), jnp.asarray(w_hh.T), jnp.asarray(b_ih + b_hh))
    state, ys = lj.lstm(params, jnp.asarray(x), lengths=jnp.array(LENGTHS), reverse=True)
    assert_close(ys, ty[..., H:])
    assert_close(state.h, th[1])


@pytest.mark.parametrize("seed", range(2))
def test_gru(seed):
    torch.manual_seed(seed)
    layer = torch.nn.GRU(D, H).double()
    x, h0, _, weight = inputs(seed)
    tx, th = leaf(x), leaf(h0[None])
    ty, th_out = layer(tx, th)
    ((ty * torch.tensor(weight)).sum() + th_out.sin().sum()).backward()

    w_ih, w_hh, b_ih, b_hh = tensors(layer)
    merged = b_ih + np.concatenate([b_hh[: 2 * H], np.zeros(H)])
    params = GRUParams(*(jnp.asarray(leaf) for leaf in (w_ih.T, w_hh.T, merged, b_hh[2 * H :])))

    def loss(params, xs, state):
        final, ys = lj.unroll(GRU, params, xs, state)
        return jnp.sum(ys * weight) + jnp.sin(final).sum(), (final, ys)

    gradient, (final, ys) = jax.grad(loss, (0, 1, 2), has_aux=True)(params, jnp.asarray(x), jnp.asarray(h0))
    assert_close(ys, ty)
    assert_close(final, th_out[0])
    assert_close(gradient[0].input_kernel.T, layer.weight_ih_l0.grad)
    assert_close(gradient[0].recurrent_kernel.T, layer.weight_hh_l0.grad)
    assert_close(gradient[0].bias, layer.bias_ih_l0.grad)
    assert_close(gradient[0].candidate_bias, layer.bias_hh_l0.grad[2 * H :])
    assert_close(gradient[1], tx.grad)
    assert_close(gradient[2], th.grad[0])

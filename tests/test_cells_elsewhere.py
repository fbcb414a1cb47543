"""Cells against other people's implementations: ConvLSTM of Keras and Flax, layer normalization as torch has it."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstm_jax as lj
from lstm_jax import cells

os.environ.setdefault("KERAS_BACKEND", "jax")
pytestmark = [pytest.mark.usefixtures("standard_promotion"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]

T, B, D, H = 5, 2, 3, 4
F32 = jnp.float32
SPACES = {1: ((6,), (3,)), 2: ((6, 5), (3, 2))}


def randomized(tree):
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: jnp.asarray((0.3 * rng.normal(size=leaf.shape)).astype(F32)), tree)


def assert_close(got, want):
    """To 1e-6 of the largest entry or of 1: float32, sums over a window in another order."""
    for got_leaf, want_leaf in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        limit = 1e-6 * max(1.0, float(np.abs(want_leaf).max()))
        np.testing.assert_allclose(got_leaf, want_leaf, rtol=0, atol=limit)


def inputs(places):
    return jnp.asarray(np.random.default_rng(3).normal(size=(T, B, *places, D)).astype(F32))


def ours(space, params, xs):
    return lj.unroll(cells.conv_lstm(space), params, xs)


def value_and_gradients(run, weights, xs):
    """Outputs, and the gradients of a weighted sum."""
    weight = np.random.default_rng(2).normal(size=jax.eval_shape(run, weights, xs).shape).astype(F32)

    def loss(weights, xs):
        ys = run(weights, xs)
        return jnp.sum(ys * weight), ys

    return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(weights, xs)


@pytest.mark.parametrize("space", SPACES)
def test_conv_lstm_of_keras(space):
    """Keras keeps kernels and gates as we do: its weights are the parameters as they are."""
    keras = pytest.importorskip("keras", reason="keras is not installed; pip install keras to compare with it")
    places, window = SPACES[space]
    layer = {1: keras.layers.ConvLSTM1D, 2: keras.layers.ConvLSTM2D}[space](
        H, window, padding="same", return_sequences=True
    )
    layer.build((B, T, *places, D))
    weights = randomized([variable.value for variable in layer.trainable_variables])
    xs = inputs(places)

    def theirs(weights, xs):
        seeds = [variable.value for variable in layer.non_trainable_variables]
        return jnp.moveaxis(layer.stateless_call(weights, seeds, jnp.moveaxis(xs, 0, 1))[0], 1, 0)

    got = value_and_gradients(lambda weights, xs: ours(space, cells.ConvLSTMParams(*weights), xs)[1], weights, xs)
    assert_close(got, value_and_gradients(theirs, weights, xs))


@pytest.mark.parametrize("space", SPACES)
def test_conv_lstm_of_flax(space):
    """Flax has gates i, g, f, o, adds 1 to f at run time, and has two biases."""
    linen = pytest.importorskip("flax.linen", reason="flax is not installed; pip install flax to compare with it")
    places, window = SPACES[space]
    cell = linen.ConvLSTMCell(H, window)
    xs = inputs(places)
    carry = cell.initialize_carry(jax.random.key(0), xs[0].shape)
    weights = randomized(cell.init(jax.random.key(0), carry, xs[0])["params"])

    def theirs(weights, xs):
        return jax.lax.scan(lambda carry, x: cell.apply({"params": weights}, carry, x), carry, xs)[1]

    def converted(weights):
        def reorder(leaf):
            i, g, f, o = jnp.split(leaf, 4, -1)
            return jnp.concatenate([i, f, g, o], -1)

        kernels = (reorder(weights[name]["kernel"]) for name in ("ih", "hh"))
        bias = reorder(weights["ih"]["bias"] + weights["hh"]["bias"]) + jnp.repeat(jnp.array([0, 1, 0, 0], F32), H)
        return cells.ConvLSTMParams(*kernels, bias)

    got = value_and_gradients(lambda weights, xs: ours(space, converted(weights), xs)[1], weights, xs)
    assert_close(got, value_and_gradients(theirs, weights, xs))


def test_layer_norm_by_torch():
    """The formula of the layer-normalized cell in torch's own benchmarks, on ``torch.nn.functional.layer_norm``.

    It normalizes x W and h R over all gates and the memory before the output; its normalizations of x W and h R have
    biases, whose sum is our one.
    """
    torch = pytest.importorskip("torch", reason="torch is not installed; pip install torch to compare with it")
    params = cells.CELLS["layer_norm"].init(jax.random.key(0), D, H, dtype=jnp.float64)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf) + 0.3 * rng.normal(size=leaf.shape)), params)
    xs = rng.normal(size=(T, B, D))
    p = {name: torch.tensor(np.asarray(leaf), requires_grad=True) for name, leaf in params._asdict().items()}
    norm = torch.nn.functional.layer_norm
    h = c = torch.zeros(B, H, dtype=torch.float64)
    total = 0.0
    for x in torch.tensor(xs):
        from_x = norm(x @ p["input_kernel"], (4 * H,), p["input_scale"], p["bias"])
        i, f, g, o = (from_x + norm(h @ p["recurrent_kernel"], (4 * H,), p["recurrent_scale"])).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(norm(c, (H,), p["memory_scale"], p["memory_bias"]))
        total = total + (h**2).sum()
    total.backward()

    def loss(params):
        return jnp.sum(lj.unroll(cells.LAYER_NORM_LSTM, params, jnp.asarray(xs))[1] ** 2)

    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    np.testing.assert_allclose(value, total.detach().numpy(), rtol=1e-12)
    for name, leaf in gradient._asdict().items():
        np.testing.assert_allclose(leaf, p[name].grad.numpy(), rtol=1e-10, atol=1e-12, err_msg=name)

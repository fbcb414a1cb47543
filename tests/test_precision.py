"""Training in half precision on a real task: characters of Python's own source."""

import inspect
import typing

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lstm_jax as lj

pytestmark = pytest.mark.long

T, B, D, H, STEPS = 64, 32, 32, 64, 200
CHARACTERS, TEXT = np.unique(list(inspect.getsource(inspect) + inspect.getsource(typing)), return_inverse=True)
TEXT = TEXT.astype(np.int32)


def init():
    keys = jax.random.split(jax.random.key(0), 3)
    return {
        "embedding": 0.1 * jax.random.normal(keys[0], (len(CHARACTERS), D), jnp.float32),
        "layers": lj.init_stack(keys[1], D, H, 2),
        "readout": 0.1 * jax.random.normal(keys[2], (H, len(CHARACTERS)), jnp.float32),
    }


def windows(step):
    starts = np.random.default_rng(step).integers(0, len(TEXT) - T - 1, B)
    return jnp.asarray(np.stack([TEXT[start : start + T + 1] for start in starts], axis=1))


def trained_loss(dtype):
    """Mean loss of the last quarter of the steps; weights stay in float32, the model runs in the dtype."""
    optimizer = optax.adam(3e-3)
    params = init()
    opt_state = optimizer.init(params)

    def loss(params, text):
        p = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
        _, ys = lj.lstm_stack(p["layers"], p["embedding"][text[:-1]])
        logits = (ys @ p["readout"]).astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, text[1:]).mean()

    @jax.jit
    def step(params, opt_state, text):
        value, gradient = jax.value_and_grad(loss)(params, text)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return optax.apply_updates(params, updates), opt_state, value

    losses = []
    for number in range(STEPS):
        params, opt_state, value = step(params, opt_state, windows(number))
        losses.append(float(value))
    return np.mean(losses[-STEPS // 4 :])


@pytest.fixture(scope="module")
def float32_loss():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return trained_loss(jnp.float32)


def test_the_task_is_learned(float32_loss):
    """Below what a model of single characters can reach, the entropy of their frequencies."""
    shares = np.bincount(TEXT) / len(TEXT)
    assert float32_loss < -np.sum(shares * np.log(shares)) - 0.3


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_two_layers_in_half_precision_reach_the_loss_of_float32(dtype, float32_loss):
    """Within 1 %, without a scaled loss: gradients are summed in float32."""
    assert abs(trained_loss(dtype) / float32_loss - 1) < 0.01

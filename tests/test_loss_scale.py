"""A scaled loss keeps small float16 gradients; a dynamic scale finds its size, and a step that overflows is skipped."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lstm_jax import training
from lstm_jax.training import loss_scaling

pytestmark = pytest.mark.usefixtures("standard_promotion")
SLOPE = 2.0**-27
"""Below half of the smallest float16, 2 ** -24."""
KEY = jax.random.key(0)


@training.stateless
def linear(params, batch, key):
    """Its gradient is ``SLOPE`` times the batch's number, computed in float32 and rounded to the parameter's dtype."""
    return jnp.sum(params["w"].astype(jnp.float32)) * SLOPE * batch, {}


def fit(dtype, loss_scale, **options):
    return training.fit(
        linear,
        {"w": jnp.zeros(2, dtype)},
        [np.float32(1)],
        optax.sgd(2.0**15, momentum=0.0),
        steps=1,
        key=KEY,
        loss_scale=loss_scale,
        progress_bar=False,
        **options,
    )


@pytest.mark.parametrize("loss_scale", [2.0**14, "dynamic"])
def test_small_gradients_of_float16_parameters_are_unscaled_in_float32(loss_scale):
    assert not fit(jnp.float16, 1.0).params["w"].any()  # it vanishes
    fitted = fit(jnp.float16, loss_scale)
    assert fitted.params["w"].dtype == jnp.float16
    np.testing.assert_array_equal(fitted.params["w"], np.full(2, -(2.0**-12), np.float16))
    assert {leaf.dtype for leaf in jax.tree.leaves(fitted.state.opt_state)} == {jnp.dtype(jnp.float32)}


def test_float32_parameters_are_the_same_with_a_scale_and_without():
    for scale in (2.0**10, "dynamic"):
        np.testing.assert_array_equal(fit(jnp.float32, scale).params["w"], fit(jnp.float32, 1.0).params["w"])


def test_a_dynamic_scale_halves_skips_and_doubles(monkeypatch):
    monkeypatch.setattr(loss_scaling, "GROWTH_INTERVAL", 3)

    @training.stateless
    def loss(params, batch, key):
        return jnp.sum(params["w"] * batch["slope"]).astype(jnp.float32), {}

    optimizer = optax.adam(0.1)
    step = training.make_train_step(loss, optimizer, loss_scale="dynamic")
    state = step.init({"w": jnp.ones(2, jnp.float16)}, KEY, None)
    assert state.loss_scale.scale == 2.0**15
    compiled, scales = jax.jit(step), []
    for number, slope in enumerate([1.0, 3.0, 0.5, 0.5, 0.5, 0.5]):
        before = state
        state, measured = compiled(state, {"slope": np.full(2, slope, np.float16)})
        assert measured["loss_scale"].value() == before.loss_scale.scale
        scales.append(float(state.loss_scale.scale))
        assert int(state.step) == number + 1
        if slope == 3.0:  # 3 * 2 ** 15 is beyond the largest float16
            jax.tree.map(np.testing.assert_array_equal, (state.params, state.opt_state), before[:2])
            assert measured["gradient_norm"].weight == 0
    assert scales == [2.0**15, 2.0**14, 2.0**14, 2.0**14, 2.0**15, 2.0**15]
    assert int(state.failure.step) == -1


def test_a_gradient_that_no_scale_makes_finite_stops_training():
    @training.stateless
    def loss(params, batch, key):
        return jnp.sum(jnp.sqrt(params["w"])).astype(jnp.float32) * batch, {}

    with pytest.raises(FloatingPointError, match="a number is not finite, first in gradient"):
        training.fit(
            loss,
            {"w": jnp.zeros(2, jnp.float16)},
            [np.float32(1)],
            optax.sgd(0.1),
            steps=40,
            key=KEY,
            loss_scale="dynamic",
            progress_bar=False,
        )


def test_a_run_with_a_dynamic_scale_is_resumed_with_it(tmp_path):
    options = {"loss_scale": "dynamic", "key": KEY, "progress_bar": False}
    batches = [np.float32(k) for k in (1e9, 1, 2, 3)]  # the first ones overflow

    def train(steps, saving=None):
        params = {"w": jnp.zeros(2, jnp.float16)}
        return training.fit(linear, params, batches, optax.adam(0.1), steps=steps, saving=saving, **options)

    saving = training.Saving(tmp_path, every=3)
    train(6, saving)
    resumed, whole = train(12, saving._replace(resume=True)), train(12)
    jax.tree.map(np.testing.assert_array_equal, resumed.state[:2], whole.state[:2])
    assert float(resumed.state.loss_scale.scale) == float(whole.state.loss_scale.scale) < 2.0**15
    assert resumed.history[-1]["loss_scale"] == float(whole.state.loss_scale.scale)


@pytest.mark.parametrize("loss_scale", ["static", 0.0, -1.0])
def test_wrong_scales_are_named(loss_scale):
    with pytest.raises(ValueError, match="loss_scale: got"):
        fit(jnp.float16, loss_scale)


def test_a_state_without_a_scale_is_named():
    step = training.make_train_step(linear, optax.sgd(1.0), loss_scale=8.0)
    with pytest.raises(ValueError, match=r"state: has no loss scale, want .*init_state\(.*loss_scale=8\.0\)"):
        step(training.init_state({"w": jnp.zeros(2)}, optax.sgd(1.0), KEY), np.float32(1))

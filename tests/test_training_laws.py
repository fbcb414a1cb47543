"""Laws of training that no run shows: keys by step, statistics by feature, whose checkpoint it is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lstm_jax import training

pytestmark = pytest.mark.usefixtures("standard_promotion")


@training.stateless
def loss_of_the_key(params, batch, key):
    """Its gradient is the number that the key gives."""
    return params["w"] * jax.random.normal(key, (), jnp.float32), {}


def test_each_step_has_a_key_of_its_own():
    optimizer, key = optax.sgd(1.0), jax.random.key(0)
    step = jax.jit(training.make_train_step(loss_of_the_key, optimizer))
    states = [training.init_state({"w": jnp.float32(0.0)}, optimizer, key)]
    for _ in range(3):
        states.append(step(states[-1], jnp.zeros(()))[0])
    params = [float(state.params["w"]) for state in states]
    want = [-float(jax.random.normal(jax.random.fold_in(key, number), (), jnp.float32)) for number in range(3)]
    np.testing.assert_allclose(np.diff(params), want, rtol=1e-5)


def test_each_feature_has_a_scale_of_its_own():
    train = np.stack([np.arange(10.0), 100 * np.arange(10.0)], axis=1)
    scaled = training.fit_scaler(train).transform(train)
    np.testing.assert_allclose(scaled.std(axis=0), [1, 1], rtol=1e-5)
    np.testing.assert_allclose(scaled.mean(axis=0), [0, 0], atol=1e-6)


def test_the_checkpoint_of_another_model_is_refused(tmp_path):
    def fit(size, resume):
        params = {"w": jnp.zeros(size, jnp.float32)}

        @training.stateless
        def loss(params, batch, key):
            return jnp.sum(params["w"] ** 2) + 0 * jnp.sum(batch["x"]), {}

        batches = training.Shuffled({"x": np.zeros((4, 1), np.float32)}, 2)
        options = {"key": jax.random.key(0), "progress_bar": False}
        saving = training.Saving(tmp_path, resume=resume)
        return training.fit(loss, params, batches, optax.sgd(0.1), steps=2, saving=saving, **options)

    fit(3, resume=False)
    with pytest.raises(
        training.CheckpointError, match=r"another model: .*w is float32\[3\], this one has float32\[4\]"
    ):
        fit(4, resume=True)


@pytest.mark.parametrize("warmup", [-0.1, 1.0, 1.5, float("nan")])
def test_a_warmup_that_leaves_no_time_to_decay_is_refused(warmup):
    for make in (training.warmup_cosine, training.adam):
        with pytest.raises(ValueError, match=f"warmup: got {warmup}, want .* at least 0 and less than 1"):
            make(1.0, warmup=warmup)


@pytest.mark.parametrize("warmup", [0.0, 0.5, 0.999])
def test_the_learning_rate_ends_at_zero(warmup):
    assert float(training.warmup_cosine(1.0, warmup=warmup)(jnp.float32(1.0))) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("patience", [0, -1])
def test_averaging_without_patience_is_refused(patience):
    with pytest.raises(ValueError, match=f"patience: got {patience}, want at least 1"):
        training.nt_asgd(patience)


def test_averaging_without_a_validation_says_what_to_pass():
    optimizer = optax.chain(optax.sgd(1.0), training.nt_asgd())
    params = {"w": jnp.float32(1.0)}
    opt_state = optimizer.init(params)
    with pytest.raises(ValueError, match=r"validation: got none, want .* or NaN .*validation=\.\.\."):
        optimizer.update(params, opt_state, params)
    _, opt_state = optimizer.update(params, opt_state, params, validation=jnp.nan)
    assert float(training.averaged_params(opt_state)["w"]) == 0.0

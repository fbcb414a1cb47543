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

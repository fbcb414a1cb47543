"""Truncated back-propagation: whole windows are full back-propagation, short ones forget, states read on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import assert_trees_close

import lstm_jax as lj
from lstm_jax import training
from lstm_jax.training import metrics

T, B, D, H = 24, 2, 3, 4
PARAMS = lj.init_params(jax.random.key(0), D, H, dtype=jnp.float64)
XS, TARGETS = jax.random.normal(jax.random.key(1), (2, T, B, D))
START = lj.LSTMState(*jax.random.normal(jax.random.key(2), (2, B, H)))
SUMMED = optax.chain(optax.trace(1.0), optax.scale(0.0))  # adds gradients up, moves nothing


def loss_fn(params, carry, batch, key):
    xs, targets = batch
    carry, ys = lj.lstm(params, xs, carry)
    errors = (ys[..., :D] - targets) ** 2
    return errors.sum(), (carry, {"loss": metrics.mean(errors)})


def gradient_of(window, backward=None):
    step = jax.jit(training.make_tbptt_step(loss_fn, SUMMED, window, backward))
    state, measured = step(training.init_state(PARAMS, SUMMED, jax.random.key(0), START), (XS, TARGETS))
    return state, state.opt_state[0].trace, measured


def full(parts):
    """The gradient of losses at steps from ``start`` on, back-propagated to ``begin``."""

    def loss(params, begin, start, end):
        state = jax.lax.stop_gradient(lj.lstm(params, XS[:begin], START)[0])
        state = lj.lstm(params, XS[begin:start], state)[0]
        return loss_fn(params, state, (XS[start:end], TARGETS[start:end]), None)[0]

    gradients = [jax.grad(loss)(PARAMS, *part) for part in parts]
    return jax.tree.map(lambda *leaves: sum(leaves), *gradients)


@pytest.mark.parametrize("backward", [None, 24])
def test_one_window_is_full_back_propagation(backward):
    state, gradient, measured = gradient_of(24, backward)
    assert_trees_close(gradient, full([(0, 0, 24)]), 1e-12)
    final, ys = lj.lstm(PARAMS, XS, START)
    assert_trees_close(state.carry, final, 1e-12)
    np.testing.assert_allclose(measured["loss"].value(), ((ys[..., :D] - TARGETS) ** 2).mean(), rtol=1e-12)


def test_looking_back_over_all_windows_is_full_back_propagation():
    _, gradient, _ = gradient_of(6, 24)
    assert_trees_close(gradient, full([(0, 0, 24)]), 1e-12)


def test_windows_by_themselves_cut_the_gradient():
    _, gradient, _ = gradient_of(8)
    assert_trees_close(gradient, full([(0, 0, 8), (8, 8, 16), (16, 16, 24)]), 1e-12)


def test_looking_back_two_windows():
    state, gradient, _ = gradient_of(6, 12)
    assert_trees_close(gradient, full([(0, 0, 6), (0, 6, 12), (6, 12, 18), (12, 18, 24)]), 1e-12)
    assert_trees_close(state.carry, lj.lstm(PARAMS, XS, START)[0], 1e-12)


def test_updates_happen_at_each_window():
    optimizer = optax.sgd(1e-2)
    step = jax.jit(training.make_tbptt_step(loss_fn, optimizer, 8))
    state, _ = step(training.init_state(PARAMS, optimizer, jax.random.key(0), START), (XS, TARGETS))
    assert int(state.step) == 3
    single_step = jax.jit(training.make_train_step(loss_fn, optimizer))
    want = training.init_state(PARAMS, optimizer, jax.random.key(0), START)
    for start in (0, 8, 16):
        want, _ = single_step(want, (XS[start : start + 8], TARGETS[start : start + 8]))
    assert_trees_close((state.params, state.carry), (want.params, want.carry), 1e-12)


def test_wrong_windows_are_named():
    with pytest.raises(ValueError, match="backward: got 9 with window 6"):
        training.make_tbptt_step(loss_fn, SUMMED, 6, 9)
    with pytest.raises(ValueError, match="batch: got T = 24, want a multiple of the window, 7"):
        gradient_of(7)


class Windows:
    """Batches of T steps of a long series, and the values that follow."""

    def __len__(self):
        return 5

    def __getitem__(self, step):
        xs = np.asarray(jax.random.normal(jax.random.fold_in(jax.random.key(9), step % 5), (T, B, D)))
        return xs, np.roll(xs, -1, axis=0)


@pytest.mark.usefixtures("standard_promotion")
def test_fit_runs_windows_with_validation_checkpoints_and_resumption(tmp_path):
    optimizer = optax.chain(optax.scale_by_adam(), training.schedule_by_progress(training.warmup_cosine(1e-2)))

    def fit(steps, **options):
        step = training.make_tbptt_step(loss_fn, optimizer, 8)
        validation = training.Validation(Windows(), 4, carry=START)
        return training.fit(
            step, PARAMS, Windows(), steps=steps, key=jax.random.key(0), carry=START, validation=validation, **options
        )

    saving = training.Saving(tmp_path, every=3)
    whole = fit(12, progress_bar=False)
    assert (whole.stop_reason, whole.history[-1]["step"], int(whole.state.step)) == ("steps", 12, 36)
    assert "valid loss" in whole.history[-1]

    class Stop(Exception):
        pass

    def stop(row, state):
        if row["step"] == 8:
            raise Stop

    with pytest.raises(Stop):
        fit(12, saving=saving, callbacks=[stop], progress_bar=False)
    assert training.Checkpoints(tmp_path / "checkpoints").latest() == 6
    resumed = fit(12, saving=saving._replace(resume=True), progress_bar=False)
    jax.tree.map(np.testing.assert_array_equal, (resumed.params, resumed.state[:3]), (whole.params, whole.state[:3]))


def test_a_validation_is_told_to_the_first_window_alone():
    validations = []

    def update(updates, state, params=None, *, validation, **extra):
        jax.debug.callback(lambda value: validations.append(float(value)), validation, ordered=True)
        return updates, state

    spy = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    step = training.make_tbptt_step(loss_fn, spy, 8)
    jax.jit(step)(step.init(PARAMS, jax.random.key(0), START), (XS, TARGETS), validation=jnp.float32(2))
    jax.effects_barrier()
    assert validations[0] == 2
    assert np.isnan(validations[1:]).all()
    assert len(validations) == 3

"""Attribution, units that track features, monitors: exact where a closed form is known, planted where not."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics import roc_auc_score

import lstm_jax as lj
from lstm_jax import diagnostics, training
from lstm_jax.diagnostics import plots
from lstm_jax.models.classifier import classify, init_classifier
from lstm_jax.training import metrics

pytestmark = pytest.mark.usefixtures("standard_promotion")


def make_score(key=0, dtype=jnp.float64):
    params = lj.init_params(jax.random.key(key), 3, 6, dtype=dtype)
    return lambda xs: jnp.tanh(3 * lj.lstm(params, xs)[1].sum())


def test_a_linear_score_is_attributed_exactly():
    weights, xs = jax.random.normal(jax.random.key(0), (7, 3)), jax.random.normal(jax.random.key(1), (7, 3))
    base = jnp.full((1, 3), 0.5)
    for attribution, want in (
        (diagnostics.gradient_times_input(lambda xs: (weights * xs).sum(), xs), weights * xs),
        (
            diagnostics.integrated_gradients(lambda xs: (weights * xs).sum(), xs, base, num_points=2),
            weights * (xs - base),
        ),
    ):
        np.testing.assert_allclose(attribution.per_feature, want, rtol=1e-12)
        np.testing.assert_allclose(attribution.per_step, want.sum(axis=1), rtol=1e-12)


def test_integrated_gradients_are_complete():
    xs = jax.random.normal(jax.random.key(2), (25, 3))
    for seed in range(3):
        score = make_score(seed)
        attribution = diagnostics.integrated_gradients(score, xs)
        assert diagnostics.completeness_error(attribution, score, xs) < 1e-3
        plain = diagnostics.gradient_times_input(score, xs)
        assert diagnostics.completeness_error(plain, score, xs) > 0.05, "a gradient alone is not complete"
    mapped = jax.vmap(lambda xs: diagnostics.integrated_gradients(score, xs).per_step)(jnp.stack([xs, 2 * xs]))
    np.testing.assert_allclose(mapped[0], attribution.per_step, rtol=1e-9)


def test_a_score_is_one_number():
    with pytest.raises(ValueError, match=r"score: got shape \(3,\), want one number"):
        diagnostics.integrated_gradients(lambda xs: xs[-1], jnp.ones((4, 3)))


def test_occlusion_by_hand():
    score, xs = make_score(), jax.random.normal(jax.random.key(2), (6, 3))
    falls = diagnostics.occlusion(score, xs, window_size=2)
    assert falls.shape == (5,)
    np.testing.assert_allclose(falls[3], score(xs) - score(xs.at[3:5].set(0)), atol=1e-14)  # of two numbers below 1
    with pytest.raises(ValueError, match="window_size: got 7, want 1 to the 6 steps"):
        diagnostics.occlusion(score, xs, window_size=7)


POINTS = 256
WORDS = 20
KEYS = (3, 4)
"""The planted words: the label says which of them occurs."""


def planted(rows, seed):
    rng = np.random.default_rng(seed)
    codes = rng.integers(5, WORDS, (12, rows))
    labels, places = rng.integers(0, 2, rows), rng.integers(0, 12, rows)
    codes[places, np.arange(rows)] = np.array(KEYS)[labels]
    return codes.astype(np.int32), labels.astype(np.int32), places


@pytest.fixture(scope="module")
def keyword_model():
    """A classifier that has learned to look for the planted words."""
    params = init_classifier(jax.random.key(0), WORDS, 2, embedding_size=8, hidden_size=12)
    lengths = np.full(64, 12, np.int32)

    @training.stateless
    def loss(params, batch, key):
        codes, labels = batch
        logits = classify(params, codes.T, lengths).logits
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return nats.mean(), {"accuracy": metrics.mean(logits.argmax(-1) == labels)}

    codes, labels, _ = planted(640, 0)
    batches = training.Shuffled((codes.T, labels), 64)
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        fitted = training.fit(
            loss, params, batches, training.adam(2e-2), steps=120, key=jax.random.key(1), progress_bar=False
        )
    assert fitted.history[-1]["accuracy"] > 0.99
    return fitted.params


def test_the_planted_word_receives_the_highest_score(keyword_model):
    codes, labels, places = planted(40, 1)
    baseline = keyword_model.embedding[5:].mean(axis=0, keepdims=True)

    def look(codes, sign):
        def score(xs):
            logits = classify(keyword_model._replace(embedding=None), xs, jnp.asarray(12)).logits
            return sign * (logits[1] - logits[0])

        xs = keyword_model.embedding[codes]
        attribution = diagnostics.integrated_gradients(score, xs, baseline, num_points=POINTS)
        falls = diagnostics.occlusion(score, xs, baseline)
        return (
            attribution.per_step.argmax(),
            falls.argmax(),
            diagnostics.completeness_error(attribution, score, xs, baseline),
        )

    by_gradients, by_occlusion, gaps = jax.jit(jax.vmap(look, in_axes=(1, 0)))(codes, 2.0 * labels.astype("f4") - 1)
    assert (np.asarray(by_gradients) == places).sum() >= 39
    assert (np.asarray(by_occlusion) == places).sum() >= 39
    assert gaps.max() < 0.01


def test_the_planted_unit_is_found():
    rng = np.random.default_rng(0)
    feature = np.repeat(rng.random(40) < 0.4, 20)
    values = rng.normal(size=(800, 30)).cumsum(axis=0) / 5
    values[:, 17] = np.where(feature, -1.0, 1.0) + rng.normal(size=800)
    result = diagnostics.track(values, feature)
    assert result.best_unit == 17
    assert result.signs[17] == -1
    assert result.scores[17] == pytest.approx(abs(2 * roc_auc_score(feature, values[:, 17]) - 1))
    assert result.scores[17] > result.chance_level > np.median(np.delete(result.scores, 17))
    values[:, 4] = np.exp(feature + np.linspace(0, 0.1, 800))
    values[:, 5], values[:, 6] = 1 - feature, np.maximum(values[:, 6], 0)
    tied = diagnostics.track(values, feature)
    np.testing.assert_allclose(tied.scores[[4, 5]], 1)
    for unit in (5, 6, 17):
        area = roc_auc_score(feature, values[:, unit])
        assert tied.scores[unit] == pytest.approx(abs(2 * area - 1)), "ties share their ranks"
    np.testing.assert_array_equal(diagnostics.track(values, 3.0 * feature).scores, tied.scores)


def test_a_number_is_tracked_by_its_order():
    rng = np.random.default_rng(1)
    feature = np.tile(np.arange(50), 20)
    values = rng.normal(size=(1000, 8))
    values[:, 2] = -np.sqrt(feature)
    result = diagnostics.track(values, feature)
    assert (result.best_unit, result.scores[2], result.signs[2]) == (2, pytest.approx(1), -1)


def test_chance_is_not_beaten_by_chance():
    """Slow noise beside a slow feature: the best of 10 units passes the level of one in twenty about that often."""
    beaten, seeds = 0, 400
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        feature = np.repeat(rng.random(40) < 0.5, 10)
        smooth = np.cumsum(rng.normal(size=(400, 10)), axis=0)
        result = diagnostics.track(smooth - np.roll(smooth, 20, axis=0), feature, num_shifts=100)
        beaten += result.scores[result.best_unit] > result.chance_level
    assert beaten <= 36, (
        beaten
    )  # at 1 in 20 more than that comes once in three thousand; at 1 in 10, four times in five


def test_a_feature_that_says_nothing():
    values, steps = np.zeros((50, 2)), np.arange(50.0)
    with pytest.raises(ValueError, match="got 1 throughout, want a feature that changes"):
        diagnostics.track(values, np.ones(50))
    with pytest.raises(ValueError, match="feature: got 39 steps, want at least 40"):
        diagnostics.track(values[:39], steps[:39])
    with pytest.raises(ValueError, match="feature: got numbers that are not finite"):
        diagnostics.track(values, np.where(steps > 40, np.nan, steps))
    with pytest.raises(ValueError, match="num_shifts: got 0"):
        diagnostics.track(values, steps, num_shifts=0)
    assert diagnostics.track(values, steps).scores.max() == 0, "units that never change follow nothing"
    with pytest.raises(ValueError, match=r"want \[T\] beside \[T, H\]"):
        diagnostics.track(values, np.ones(40))


def test_monitored_training_is_the_same_training(tmp_path):
    params = {"lstm": lj.init_params(jax.random.key(0), 2, 3), "head": jnp.ones((3, 1), jnp.float32)}
    xs = jax.random.normal(jax.random.key(1), (8, 5, 2), jnp.float32)

    @training.stateless
    def loss(params, batch, key):
        ys = lj.lstm(params["lstm"], jnp.swapaxes(batch, 0, 1))[1]
        return jnp.mean((ys[-1] @ params["head"] - 1) ** 2), {}

    rows = []
    runs = [
        training.fit(
            loss,
            params,
            training.Shuffled(np.asarray(xs), 4),
            optimizer,
            steps=6,
            key=jax.random.key(2),
            log_every=2,
            callbacks=callbacks,
            progress_bar=False,
        )
        for optimizer, callbacks in (
            (optax.sgd(0.1), ()),
            (diagnostics.monitor(optax.sgd(0.1)), (diagnostics.recorder(rows),)),
        )
    ]
    jax.tree.map(np.testing.assert_array_equal, runs[0].params, runs[1].params)
    assert [row["step"] for row in rows] == [2, 4, 6]
    last = rows[-1]
    assert "update_ratio lstm.recurrent_kernel" in last
    norms = [value for name, value in last.items() if name.startswith("gradient_norm")]
    step = training.make_train_step(loss, optax.sgd(0.1))
    before = training.init_state(runs[0].params, optax.sgd(0.1), jax.random.key(2))
    _, step_metrics = step(before, xs[:4])
    state = diagnostics.monitor(optax.sgd(0.1)).init(params)
    gradient = jax.grad(lambda params: loss(params, None, xs[:4], None)[0])(runs[0].params)
    updates, state = diagnostics.monitor(optax.sgd(0.1)).update(gradient, state, runs[0].params)
    row = diagnostics.monitor_readings({"anything": state})
    total = np.sqrt(sum(value**2 for name, value in row.items() if name.startswith("gradient_norm")))
    assert total == pytest.approx(float(step_metrics["gradient_norm"].value()), rel=1e-5)
    ratio = np.linalg.norm(updates["head"]) / np.linalg.norm(runs[0].params["head"])
    assert row["update_ratio head"] == pytest.approx(float(ratio), rel=1e-5)
    assert len(norms) == 4
    plots.plot_readings(rows, Path(tmp_path / "readings.png"))
    with pytest.raises(ValueError, match="want monitor"):
        diagnostics.monitor_readings(runs[0].state.opt_state)

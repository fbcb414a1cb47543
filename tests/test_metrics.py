"""Metrics equal scikit-learn's, add up over batches, and count nothing where the mask is false."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from lstm_jax.training import metrics

CLASSES, N = 4, 60
RNG = np.random.default_rng(0)
LOGITS, LABELS = RNG.normal(size=(N, CLASSES)), RNG.integers(0, CLASSES - 1, N)  # the last class never is a label
PREDICTED = LOGITS.argmax(-1)
Y, FORECAST = RNG.normal(size=N) + 5, RNG.normal(size=N) + 5
LEVELS = np.array([0.1, 0.5, 0.9])
QUANTILES = np.sort(RNG.normal(size=(N, 3)) + 5, axis=-1)
MASK = RNG.random(N) < 0.7


def sk_pinball(keep):
    losses = [
        sklearn_metrics.mean_pinball_loss(Y[keep], QUANTILES[keep, k], alpha=level) for k, level in enumerate(LEVELS)
    ]
    return np.mean(losses)


CASES = {
    "accuracy": (metrics.accuracy, (LOGITS, LABELS), lambda k: sklearn_metrics.accuracy_score(LABELS[k], PREDICTED[k])),
    "mse": (metrics.squared_error, (FORECAST, Y), lambda k: sklearn_metrics.mean_squared_error(Y[k], FORECAST[k])),
    "rmse": (
        metrics.root_squared_error,
        (FORECAST, Y),
        lambda k: sklearn_metrics.root_mean_squared_error(Y[k], FORECAST[k]),
    ),
    "mae": (metrics.absolute_error, (FORECAST, Y), lambda k: sklearn_metrics.mean_absolute_error(Y[k], FORECAST[k])),
    "mape": (
        metrics.percentage_error,
        (FORECAST, Y),
        lambda k: sklearn_metrics.mean_absolute_percentage_error(Y[k], FORECAST[k]),
    ),
    "pinball": (lambda q, y, mask: metrics.pinball(q, y, jnp.asarray(LEVELS), mask), (QUANTILES, Y), sk_pinball),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_equal_to_scikit_learn_in_one_batch_or_two(name, masked):
    function, arrays, wanted = CASES[name]
    mask = MASK if masked else np.ones(N, bool)
    spoiled = [np.where(mask.reshape(N, *(1,) * (array.ndim - 1)), array, 7) for array in arrays]
    if name != "accuracy":
        spoiled[0] = np.where(mask.reshape(N, *(1,) * (arrays[0].ndim - 1)), arrays[0], np.nan)
    run = jax.jit(function)
    halves = [
        run(*(jnp.asarray(a[part]) for a in spoiled), jnp.asarray(mask[part])) for part in (slice(25), slice(25, N))
    ]
    np.testing.assert_allclose(metrics.add(*halves).value(), wanted(mask), rtol=1e-6)


def test_confusion_equals_scikit_learn():
    counts = jax.jit(metrics.confusion)(jnp.asarray(LOGITS), jnp.asarray(LABELS), jnp.asarray(MASK))
    labels, predicted = LABELS[MASK], PREDICTED[MASK]
    options = {"labels": range(CLASSES), "zero_division": 0}
    np.testing.assert_array_equal(
        counts.counts, sklearn_metrics.confusion_matrix(labels, predicted, labels=range(CLASSES))
    )
    for name, function in (
        ("precision", sklearn_metrics.precision_score),
        ("recall", sklearn_metrics.recall_score),
        ("f1", sklearn_metrics.f1_score),
    ):
        want = function(labels, predicted, average=None, **options)
        np.testing.assert_allclose(getattr(counts, name)(), want, rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(
        counts.macro_f1(), sklearn_metrics.f1_score(labels, predicted, average="macro", **options)
    )
    np.testing.assert_allclose(
        counts.micro_f1(), sklearn_metrics.f1_score(labels, predicted, average="micro", **options)
    )


def test_likelihoods():
    nats = jnp.array([1.0, 2.0, jnp.nan])
    mask = jnp.array([True, True, False])
    np.testing.assert_allclose(metrics.perplexity(nats, mask).value(), np.exp(1.5))
    np.testing.assert_allclose(metrics.bits(nats, mask).value(), 1.5 / np.log(2))


def test_mase_of_the_naive_forecast_is_one():
    naive = np.abs(np.diff(Y)).mean()
    np.testing.assert_allclose(metrics.scaled_error(jnp.asarray(Y[:-1]), jnp.asarray(Y[1:]), naive).value(), 1)


def test_crps_by_its_definition_and_as_twice_the_pinball_loss():
    samples = RNG.normal(size=(40, N))
    spread = np.abs(samples[:, None] - samples[None]).mean((0, 1))
    want = (np.abs(samples - Y).mean(0) - spread / 2).mean()
    got = metrics.crps(jnp.asarray(samples), jnp.asarray(Y)).value()
    np.testing.assert_allclose(got, want, rtol=1e-10)
    levels = (np.arange(40) + 0.5) / 40
    pinball = metrics.pinball(jnp.asarray(np.sort(samples, 0).T), jnp.asarray(Y), jnp.asarray(levels)).value()
    np.testing.assert_allclose(2 * pinball, got, rtol=1e-10)


def test_half_precision_is_summed_in_float32():
    ones = jnp.ones(5000, jnp.bfloat16)
    assert metrics.mean(ones).total == 5000


def test_all_numbers_of_an_accumulator_have_names():
    counts = metrics.confusion(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    named = metrics.values({"classes": counts, "loss": metrics.mean(jnp.ones(3))})
    assert list(named) == ["classes accuracy", "classes macro_f1", "loss"]
    assert named["classes accuracy"] == float(counts.accuracy())
    assert named["classes macro_f1"] == float(counts.macro_f1())
    assert all(type(value) is float for value in named.values())

"""Metrics that add up: over batches, over devices, over steps inside jit.

Each function returns an accumulator, a NamedTuple of sums; ``add`` joins two of them leaf by leaf, and ``value()`` is
the number they stand for. Where the mask is false nothing counts, whatever the values there.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core.structs import PyTree, accumulator_dtype


class Mean(NamedTuple):
    """A weighted mean."""

    total: jax.Array
    weight: jax.Array

    def value(self) -> jax.Array:
        """``total / weight``; NaN if nothing was counted."""
        return self.total / self.weight


class RootMean(NamedTuple):
    """The root of a mean."""

    total: jax.Array
    weight: jax.Array

    def value(self) -> jax.Array:
        """``sqrt(total / weight)``."""
        return jnp.sqrt(self.total / self.weight)


class Perplexity(NamedTuple):
    """exp of the mean negative log-likelihood, in nats, of a word."""

    total: jax.Array
    weight: jax.Array

    def value(self) -> jax.Array:
        """``exp(total / weight)``."""
        return jnp.exp(self.total / self.weight)


class Bits(NamedTuple):
    """The mean negative log-likelihood, given in nats, in bits: of a character, where one is predicted at a time."""

    total: jax.Array
    weight: jax.Array

    def value(self) -> jax.Array:
        """``total / weight / ln 2``."""
        return self.total / self.weight / math.log(2)


class Confusion(NamedTuple):
    """How often each label got each prediction."""

    counts: jax.Array
    """``[labels, predictions]``"""

    def value(self) -> jax.Array:
        """The accuracy."""
        return jnp.trace(self.counts) / jnp.sum(self.counts)

    def precision(self) -> jax.Array:
        """``[classes]``: of those predicted as a class, the share that is; 0 if none was."""
        return _share(jnp.diagonal(self.counts), jnp.sum(self.counts, axis=0))

    def recall(self) -> jax.Array:
        """``[classes]``: of those of a class, the share found; 0 if there is none."""
        return _share(jnp.diagonal(self.counts), jnp.sum(self.counts, axis=1))

    def f1(self) -> jax.Array:
        """``[classes]``: the harmonic mean of both; 0 if both are."""
        return _share(2 * jnp.diagonal(self.counts), jnp.sum(self.counts, axis=0) + jnp.sum(self.counts, axis=1))

    def macro_f1(self) -> jax.Array:
        """The mean over classes."""
        return jnp.mean(self.f1())

    def micro_f1(self) -> jax.Array:
        """Over all decisions; with one label each it is the accuracy."""
        return self.value()


def add(left: PyTree, right: PyTree) -> PyTree:
    """Two trees of accumulators joined."""
    return jax.tree.map(jnp.add, left, right)


def values(tree: Any) -> dict[str, float]:
    """A dict of accumulators as numbers."""
    return {name: float(accumulator.value()) for name, accumulator in tree.items()}


def rank_value(row: dict[str, Any], metric: str) -> float:
    """How good a row is, the smaller the better: ``"loss"``, or ``"-accuracy"`` where the larger is the better.

    A number that is not finite is the worst. The name may stand behind ``valid``.
    """
    name = metric.removeprefix("-")
    value = row.get(f"valid {name}", row.get(name))
    if value is None:
        known = [key.removeprefix("valid ") for key in row if key != "step"]
        raise ValueError(f"metric: got {metric!r}, want one of {known}, with - in front where larger is better")
    return math.inf if not math.isfinite(value) else -value if metric.startswith("-") else value


def mean(values: jax.Array, mask: jax.Array | None = None) -> Mean:
    """Of any values ``[...]``."""
    return Mean(*_sums(values, mask))


def perplexity(nats: jax.Array, mask: jax.Array | None = None) -> Perplexity:
    """Of the negative log-likelihoods ``[...]`` of words."""
    return Perplexity(*_sums(nats, mask))


def bits(nats: jax.Array, mask: jax.Array | None = None) -> Bits:
    """Of the negative log-likelihoods ``[...]`` of characters."""
    return Bits(*_sums(nats, mask))


def accuracy(logits: jax.Array, labels: jax.Array, mask: jax.Array | None = None) -> Mean:
    """How often the largest of ``logits [..., classes]`` is the label ``[...]``."""
    return mean((jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32), mask)


def confusion(logits: jax.Array, labels: jax.Array, mask: jax.Array | None = None) -> Confusion:
    """Accuracy, precision, recall and F1 from ``logits [..., classes]`` and labels ``[...]``."""
    classes = logits.shape[-1]
    predicted = jnp.argmax(logits, axis=-1)
    here = jnp.ones(labels.shape, jnp.float32) if mask is None else mask.astype(jnp.float32)
    return Confusion(jnp.zeros((classes, classes), jnp.float32).at[labels, predicted].add(here))


def squared_error(predictions: jax.Array, targets: jax.Array, mask: jax.Array | None = None) -> Mean:
    """MSE."""
    _same_shape(predictions, targets)
    return mean((predictions - targets) ** 2, mask)


def root_squared_error(predictions: jax.Array, targets: jax.Array, mask: jax.Array | None = None) -> RootMean:
    """RMSE."""
    _same_shape(predictions, targets)
    return RootMean(*_sums((predictions - targets) ** 2, mask))


def absolute_error(predictions: jax.Array, targets: jax.Array, mask: jax.Array | None = None) -> Mean:
    """MAE."""
    _same_shape(predictions, targets)
    return mean(jnp.abs(predictions - targets), mask)


def percentage_error(predictions: jax.Array, targets: jax.Array, mask: jax.Array | None = None) -> Mean:
    """MAPE, as a share: of ``|prediction - target| / |target|``, so it has no meaning near a target of 0."""
    return mean(jnp.abs(predictions - targets) / jnp.abs(targets), mask)


def scaled_error(
    predictions: jax.Array, targets: jax.Array, naive_error: float | jax.Array, mask: jax.Array | None = None
) -> Mean:
    """MASE: absolute errors over the naive forecast's on the training part (Hyndman and Koehler 2006).

    Args:
        naive_error: mean of ``|y[t] - y[t - season]|`` over the training part; broadcasts.
    """
    return mean(jnp.abs(predictions - targets) / naive_error, mask)


def pinball(quantiles: jax.Array, targets: jax.Array, levels: jax.Array, mask: jax.Array | None = None) -> Mean:
    """Quantile loss, the mean over levels ``[Q]`` of forecasts ``[..., Q]`` for targets ``[...]``."""
    errors = targets[..., None] - quantiles
    shares = jnp.broadcast_to(levels, errors.shape)
    return mean(jnp.mean(jnp.maximum(shares * errors, (shares - 1) * errors), axis=-1), mask)


def crps(samples: jax.Array, targets: jax.Array, mask: jax.Array | None = None) -> Mean:
    """Continuous ranked probability score of samples ``[S, ...]`` for targets ``[...]``: E|X - y| - E|X - X'| / 2.

    From the sorted samples, in S log S (Gneiting and Raftery 2007). Of quantile forecasts at evenly spaced levels it is
    twice the pinball loss.
    """
    count = samples.shape[0]
    ranks = jnp.arange(1, count + 1, dtype=samples.dtype).reshape(count, *(1,) * targets.ndim)
    spread = jnp.sum((2 * ranks - count - 1) * jnp.sort(samples, axis=0), axis=0) / count**2
    return mean(jnp.mean(jnp.abs(samples - targets[None]), axis=0) - spread, mask)


def _sums(values: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Sum and count, in float32 or wider; by selection, so that a NaN elsewhere does not count."""
    wide = accumulator_dtype(values.dtype)
    if mask is None:
        return jnp.sum(values, dtype=wide), jnp.asarray(values.size, wide)
    mask = jnp.broadcast_to(mask, values.shape)
    return jnp.sum(jnp.where(mask, values, 0), dtype=wide), jnp.sum(mask, dtype=wide)


def _same_shape(predictions: jax.Array, targets: jax.Array) -> None:
    if jnp.shape(predictions) != jnp.shape(targets):
        raise ValueError(f"predictions: got shape {jnp.shape(predictions)}, want that of targets, {jnp.shape(targets)}")


def _share(part: jax.Array, whole: jax.Array) -> jax.Array:
    return jnp.where(whole > 0, part / jnp.maximum(whole, 1e-30), 0.0)

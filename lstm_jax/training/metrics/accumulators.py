"""Metric accumulators: NamedTuples of sums over batches, devices and steps, from which a metric is computed.

``add`` sums two accumulators leaf by leaf, ``value()`` computes the metric, and ``values`` converts a dict of
accumulators to floats. An accumulator of several metrics also has a method ``values() -> dict``.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core.structs import PyTree, accumulator_dtype


class Mean(NamedTuple):
    """Accumulator of a weighted mean."""

    total: jax.Array
    """scalar: weighted sum of the values"""
    weight: jax.Array
    """scalar: sum of the weights"""

    def value(self) -> jax.Array:
        """Returns ``total / weight``; NaN if ``weight`` is 0."""
        return self.total / self.weight


class RootMean(NamedTuple):
    """Accumulator of the square root of a mean."""

    total: jax.Array
    """scalar: weighted sum of the values, such as squared errors"""
    weight: jax.Array
    """scalar: sum of the weights"""

    def value(self) -> jax.Array:
        """Returns ``sqrt(total / weight)``."""
        return jnp.sqrt(self.total / self.weight)


class Perplexity(NamedTuple):
    """Accumulator of perplexity, the exponential of a mean negative log-likelihood."""

    total: jax.Array
    """scalar: summed negative log-likelihood in nats"""
    weight: jax.Array
    """scalar: number of tokens"""

    def value(self) -> jax.Array:
        """Returns ``exp(total / weight)``."""
        return jnp.exp(self.total / self.weight)


class Bits(NamedTuple):
    """Accumulator of a mean negative log-likelihood, summed in nats and reported in bits."""

    total: jax.Array
    """scalar: summed negative log-likelihood in nats"""
    weight: jax.Array
    """scalar: number of tokens"""

    def value(self) -> jax.Array:
        """Returns ``total / weight / ln 2``."""
        return self.total / self.weight / math.log(2)


class Confusion(NamedTuple):
    """Accumulator of a confusion matrix, from which accuracy, precision, recall and F1 are computed."""

    counts: jax.Array
    """``[num_classes, num_classes]``: number of positions with label i (row) and prediction j (column)"""

    def value(self) -> jax.Array:
        """Returns the accuracy, the summary used where an accumulator yields a single value."""
        return self.accuracy()

    def values(self) -> dict[str, jax.Array]:
        """Returns ``accuracy`` and ``macro_f1``, the metrics shown in the history of ``fit``."""
        return {"accuracy": self.accuracy(), "macro_f1": self.macro_f1()}

    def accuracy(self) -> jax.Array:
        """Returns the fraction of predictions that equal their label."""
        return jnp.trace(self.counts) / jnp.sum(self.counts)

    def precision(self) -> jax.Array:
        """Returns ``[num_classes]``: the fraction of predictions of each class that are correct; 0 if none."""
        return _safe_divide(jnp.diagonal(self.counts), jnp.sum(self.counts, axis=0))

    def recall(self) -> jax.Array:
        """Returns ``[num_classes]``: the fraction of labels of each class that are predicted; 0 if none."""
        return _safe_divide(jnp.diagonal(self.counts), jnp.sum(self.counts, axis=1))

    def f1(self) -> jax.Array:
        """Returns ``[num_classes]``: the harmonic mean of precision and recall of each class; 0 if both are 0."""
        return _safe_divide(2 * jnp.diagonal(self.counts), jnp.sum(self.counts, axis=0) + jnp.sum(self.counts, axis=1))

    def macro_f1(self) -> jax.Array:
        """Returns the unweighted mean of F1 over classes."""
        return jnp.mean(self.f1())

    def micro_f1(self) -> jax.Array:
        """Returns F1 over all predictions, which equals the accuracy for single-label classification."""
        return self.accuracy()


class PerMember(NamedTuple):
    """Accumulators of all members of a population, stacked along a leading axis ``[K]``."""

    members: Any
    """an accumulator such as ``Mean`` whose arrays have a leading axis ``[K]``"""

    def value(self) -> jax.Array:
        """Returns the mean of the metric over members, ignoring NaN."""
        return jnp.nanmean(jax.vmap(lambda member: member.value())(self.members))

    def values(self) -> dict[str, jax.Array]:
        """Returns each metric's mean over members, ignoring NaN, and its value for each member by index.

        For an accumulator called ``"loss"`` the history of ``fit`` shows ``"loss"``, ``"loss 0"``, ``"loss 1"``.
        """
        named_values: dict[str, jax.Array] = {}
        for name, member_values in jax.vmap(_named_values)(self.members).items():
            named_values[name] = jnp.nanmean(member_values)
            named_values |= {f"{name} {member}".strip(): value for member, value in enumerate(member_values)}
        return named_values


def add(left: PyTree, right: PyTree) -> PyTree:
    """Adds two pytrees of accumulators, leaf by leaf.

    Args:
        left: pytree of accumulators, such as a dict of metrics.
        right: pytree of accumulators with the same structure.
    Returns:
        accumulators: pytree of accumulators over the data of both.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> float(metrics.add(metrics.mean(jnp.array([1.0, 2.0])), metrics.mean(jnp.array([6.0]))).value())
        3.0
    """
    return jax.tree.map(jnp.add, left, right)


def values(accumulators: dict[str, Any]) -> dict[str, float]:
    """Converts a dict of accumulators to a dict of floats.

    An accumulator of several metrics gives one entry per metric, prefixed with the accumulator's name: a ``Confusion``
    called ``"classes"`` gives ``"classes accuracy"`` and ``"classes macro_f1"``.

    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> logits, labels = jnp.array([[2.0, 1.0], [0.0, 1.0]]), jnp.array([0, 1])
        >>> metrics.values({"loss": metrics.mean(jnp.ones(3)), "classes": metrics.confusion(logits, labels)})
        {'loss': 1.0, 'classes accuracy': 1.0, 'classes macro_f1': 1.0}
    """
    floats = {}
    for name, accumulator in accumulators.items():
        for metric, value in _named_values(accumulator).items():
            floats[f"{name} {metric}".strip()] = float(value)
    return floats


def rank_value(row: dict[str, Any], metric: str) -> float:
    """Returns the value by which to rank a row of metrics; smaller is better.

    Args:
        row: metric values by name, such as a row of the history; ``"valid loss"`` takes precedence over ``"loss"``.
        metric: name of the metric. The prefix ``-`` means that larger is better, as in ``"-accuracy"`` or
            ``"-classes macro_f1"``.
    Returns:
        rank_value: the value of the metric, negated with the prefix ``-``; infinity if it is not finite.
    Raises:
        ValueError: the row lacks the metric; the message lists the metrics of the row.
    Example:
        >>> from lstm_jax.training import metrics
        >>> rows = [{"step": 1, "accuracy": 0.5}, {"step": 2, "accuracy": 0.75}]
        >>> min(rows, key=lambda row: metrics.rank_value(row, "-accuracy"))
        {'step': 2, 'accuracy': 0.75}
    """
    name = metric.removeprefix("-")
    value = row.get(f"valid {name}", row.get(name))
    if value is None:
        names = sorted({key.removeprefix("valid ") for key in row} - {"step"})
        raise ValueError(f"metric: got {metric!r}, want one of {names}, with - in front where larger is better")
    return math.inf if not math.isfinite(value) else -value if metric.startswith("-") else value


def mean(values: jax.Array, mask: jax.Array | None = None) -> Mean:
    """Computes the mean of an array, summed in float32 or wider.

    Args:
        values: ``[...]``, array of any shape.
        mask: bool, broadcastable to the shape of ``values``; positions to include. None includes all.
    Returns:
        Mean: sum and number of the included values.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> float(metrics.mean(jnp.array([1.0, 3.0, jnp.nan]), jnp.array([True, True, False])).value())
        2.0
    """
    return Mean(*sums(values, mask))


def sums(values: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Returns the sum and the number of the values of an array, in float32 or wider.

    Args:
        values: ``[...]``, array of any shape.
        mask: bool, broadcastable to the shape of ``values``; positions to include, so that NaN elsewhere has no effect.
            None includes all.
    Returns:
        (total, weight): sum and number of the included values, scalars of the same dtype.
    """
    wide = accumulator_dtype(values.dtype)
    if mask is None:
        return jnp.sum(values, dtype=wide), jnp.asarray(values.size, wide)
    mask = jnp.broadcast_to(mask, values.shape)
    return jnp.sum(jnp.where(mask, values, 0), dtype=wide), jnp.sum(mask, dtype=wide)


def _named_values(accumulator: Any) -> dict[str, jax.Array]:
    """Returns the metrics of an accumulator by name; the name of a single metric is empty."""
    return accumulator.values() if hasattr(accumulator, "values") else {"": accumulator.value()}


def _safe_divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """Divides nonnegative arrays; the result is 0 where the denominator is 0."""
    return jnp.where(denominator > 0, numerator / jnp.maximum(denominator, 1e-30), 0.0)

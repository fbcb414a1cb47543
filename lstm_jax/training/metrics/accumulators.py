"""Accumulators: sums that are joined over batches, devices and steps, and the numbers that they stand for.

``add`` joins two accumulators leaf by leaf, ``value()`` is the number that one stands for, and ``values`` names the
numbers of a dict of them. An accumulator that stands for several numbers has a method ``values() -> dict`` besides.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lstm_jax._core.structs import PyTree, accumulator_dtype


class Mean(NamedTuple):
    """The sums of a weighted mean."""

    total: jax.Array
    weight: jax.Array

    def value(self) -> jax.Array:
        """``total / weight``; NaN if nothing was counted."""
        return self.total / self.weight


class RootMean(NamedTuple):
    """The sums of the square root of a mean."""

    total: jax.Array
    weight: jax.Array

    def value(self) -> jax.Array:
        """``sqrt(total / weight)``."""
        return jnp.sqrt(self.total / self.weight)


class Perplexity(NamedTuple):
    """The sums of the exponential of a mean negative log-likelihood in nats."""

    total: jax.Array
    weight: jax.Array

    def value(self) -> jax.Array:
        """``exp(total / weight)``."""
        return jnp.exp(self.total / self.weight)


class Bits(NamedTuple):
    """The sums of a mean negative log-likelihood, added up in nats and reported in bits."""

    total: jax.Array
    weight: jax.Array

    def value(self) -> jax.Array:
        """``total / weight / ln 2``."""
        return self.total / self.weight / math.log(2)


class Confusion(NamedTuple):
    """Counts of each pair of label and prediction."""

    counts: jax.Array
    """``[num_classes, num_classes]``, labels by predictions"""

    def value(self) -> jax.Array:
        """The accuracy, the number by which a confusion matrix stands in a single place."""
        return self.accuracy()

    def values(self) -> dict[str, jax.Array]:
        """The numbers that a row of the history holds: ``accuracy`` and ``macro_f1``."""
        return {"accuracy": self.accuracy(), "macro_f1": self.macro_f1()}

    def accuracy(self) -> jax.Array:
        """The share of predictions that are the label."""
        return jnp.trace(self.counts) / jnp.sum(self.counts)

    def precision(self) -> jax.Array:
        """``[num_classes]``: the share of right ones among the predictions of a class; 0 if there is none."""
        return _share(jnp.diagonal(self.counts), jnp.sum(self.counts, axis=0))

    def recall(self) -> jax.Array:
        """``[num_classes]``: the share of right ones among the labels of a class; 0 if there is none."""
        return _share(jnp.diagonal(self.counts), jnp.sum(self.counts, axis=1))

    def f1(self) -> jax.Array:
        """``[num_classes]``: the harmonic mean of precision and recall; 0 if both are 0."""
        return _share(2 * jnp.diagonal(self.counts), jnp.sum(self.counts, axis=0) + jnp.sum(self.counts, axis=1))

    def macro_f1(self) -> jax.Array:
        """The mean of F1 over classes."""
        return jnp.mean(self.f1())

    def micro_f1(self) -> jax.Array:
        """F1 over all decisions, which for one label each is the accuracy."""
        return self.accuracy()


class PerMember(NamedTuple):
    """An accumulator of each member of a population, stacked ``[K, ...]``."""

    members: Any

    def value(self) -> jax.Array:
        """The mean over the members whose number is finite."""
        return jnp.nanmean(jax.vmap(lambda member: member.value())(self.members))

    def values(self) -> dict[str, jax.Array]:
        """The mean over members under each name, and after it the number of each member: ``"loss 0"``, ``"loss 1"``."""
        named: dict[str, jax.Array] = {}
        for name, numbers in jax.vmap(_numbers)(self.members).items():
            named[name] = jnp.nanmean(numbers)
            named |= {f"{name} {member}".strip(): number for member, number in enumerate(numbers)}
        return named


def add(left: PyTree, right: PyTree) -> PyTree:
    """Adds two trees of accumulators.

    Args:
        left: accumulators, for example a dict of them.
        right: accumulators of the same structure.
    Returns:
        accumulators: the sums over what both have counted.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> float(metrics.add(metrics.mean(jnp.array([1.0, 2.0])), metrics.mean(jnp.array([6.0]))).value())
        3.0
    """
    return jax.tree.map(jnp.add, left, right)


def values(accumulators: dict[str, Any]) -> dict[str, float]:
    """Turns a dict of accumulators into floats by name.

    An accumulator of several numbers gives an entry for each of them, its own name before theirs: a ``Confusion``
    called ``"classes"`` gives ``"classes accuracy"`` and ``"classes macro_f1"``.

    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> logits, labels = jnp.array([[2.0, 1.0], [0.0, 1.0]]), jnp.array([0, 1])
        >>> metrics.values({"loss": metrics.mean(jnp.ones(3)), "classes": metrics.confusion(logits, labels)})
        {'loss': 1.0, 'classes accuracy': 1.0, 'classes macro_f1': 1.0}
    """
    named = {}
    for name, accumulator in accumulators.items():
        for part, number in _numbers(accumulator).items():
            named[f"{name} {part}".strip()] = float(number)
    return named


def rank_value(row: dict[str, Any], metric: str) -> float:
    """Returns how good a row is, the smaller the better.

    Args:
        row: numbers by name, as in the history; ``"valid loss"`` goes before ``"loss"``.
        metric: a name where the smallest is the best, ``"loss"``, or with ``-`` before it where the largest is,
            ``"-accuracy"``, ``"-classes macro_f1"``.
    Returns:
        rank_value: the number, negated for a metric with ``-``; infinity for one that is not finite.
    Raises:
        ValueError: the row has no such metric; the message lists those that it has.
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
    """Accumulates the mean of an array.

    Args:
        values: ``[...]``, of any shape; half precision is summed in float32.
        mask: bool, broadcasts to the shape of ``values``: what counts; None means everything.
    Returns:
        mean: the accumulator.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> float(metrics.mean(jnp.array([1.0, 3.0, jnp.nan]), jnp.array([True, True, False])).value())
        2.0
    """
    return Mean(*sums(values, mask))


def sums(values: jax.Array, mask: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Sums and counts an array in float32 or wider.

    Args:
        values: ``[...]``.
        mask: bool, broadcasts; where it is false a value is selected away, so that NaN there does not count.
    Returns:
        (total, weight): scalars, both of the accumulator's dtype.
    """
    wide = accumulator_dtype(values.dtype)
    if mask is None:
        return jnp.sum(values, dtype=wide), jnp.asarray(values.size, wide)
    mask = jnp.broadcast_to(mask, values.shape)
    return jnp.sum(jnp.where(mask, values, 0), dtype=wide), jnp.sum(mask, dtype=wide)


def _numbers(accumulator: Any) -> dict[str, jax.Array]:
    """The numbers of an accumulator by name; a single one has the empty name."""
    return accumulator.values() if hasattr(accumulator, "values") else {"": accumulator.value()}


def _share(part: jax.Array, whole: jax.Array) -> jax.Array:
    return jnp.where(whole > 0, part / jnp.maximum(whole, 1e-30), 0.0)

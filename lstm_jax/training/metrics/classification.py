"""Metrics of classes and of likelihoods."""

import jax
import jax.numpy as jnp

from lstm_jax.training.metrics.accumulators import Bits, Confusion, Mean, Perplexity, mean, sums


def accuracy(logits: jax.Array, labels: jax.Array, mask: jax.Array | None = None) -> Mean:
    """Accumulates how often the largest logit is that of the label.

    Args:
        logits: ``[..., num_classes]``.
        labels: int ``[...]``.
        mask: bool ``[...]``, what counts; None means everything.
    Returns:
        accuracy: the accumulator of a share from 0 to 1.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> float(metrics.accuracy(jnp.array([[2.0, 1.0], [3.0, 1.0]]), jnp.array([0, 1])).value())
        0.5
    """
    return mean((jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32), mask)


def confusion(logits: jax.Array, labels: jax.Array, mask: jax.Array | None = None) -> Confusion:
    """Counts each pair of label and prediction, from which accuracy, precision, recall and F1 follow.

    In the history of ``fit`` a confusion called ``"classes"`` gives ``"classes accuracy"`` and ``"classes macro_f1"``.

    Args:
        logits: ``[..., num_classes]``; the largest one is the prediction.
        labels: int ``[...]``.
        mask: bool ``[...]``, what counts; None means everything.
    Returns:
        confusion: the accumulator, its ``counts`` ``[num_classes, num_classes]``.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> counts = metrics.confusion(jnp.array([[2.0, 1.0], [3.0, 1.0]]), jnp.array([0, 1]))
        >>> counts.counts.tolist(), counts.recall().tolist()
        ([[1.0, 0.0], [1.0, 0.0]], [1.0, 0.0])
    """
    num_classes = logits.shape[-1]
    predicted = jnp.argmax(logits, axis=-1)
    weight = jnp.ones(labels.shape, jnp.float32) if mask is None else mask.astype(jnp.float32)
    return Confusion(jnp.zeros((num_classes, num_classes), jnp.float32).at[labels, predicted].add(weight))


def perplexity(nats: jax.Array, mask: jax.Array | None = None) -> Perplexity:
    """Accumulates the exponential of the mean negative log-likelihood of words.

    Args:
        nats: ``[...]``, the negative natural logarithm of each word's probability.
        mask: bool ``[...]``, what counts; None means everything.
    Returns:
        perplexity: the accumulator.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> round(float(metrics.perplexity(jnp.full(5, jnp.log(10.0))).value()), 3)
        10.0
    """
    return Perplexity(*sums(nats, mask))


def bits(nats: jax.Array, mask: jax.Array | None = None) -> Bits:
    """Accumulates the mean negative log-likelihood of characters in bits.

    Args:
        nats: ``[...]``, the negative natural logarithm of each character's probability.
        mask: bool ``[...]``, what counts; None means everything.
    Returns:
        bits: the accumulator.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> round(float(metrics.bits(jnp.full(5, jnp.log(8.0))).value()), 3)
        3.0
    """
    return Bits(*sums(nats, mask))

"""Metrics for classification and language models: accuracy, confusion matrix, perplexity, bits per character."""

import jax
import jax.numpy as jnp

from lstm_jax.training.metrics.accumulators import Bits, Confusion, Mean, Perplexity, mean, sums


def accuracy(logits: jax.Array, labels: jax.Array, mask: jax.Array | None = None) -> Mean:
    """Computes the accuracy: the fraction of positions where the largest logit is that of the label.

    Args:
        logits: ``[..., num_classes]``.
        labels: int ``[...]``, class indices.
        mask: bool ``[...]``, positions to include; None includes all.
    Returns:
        Mean: the accuracy, from 0 to 1.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> float(metrics.accuracy(jnp.array([[2.0, 1.0], [3.0, 1.0]]), jnp.array([0, 1])).value())
        0.5
    """
    return mean((jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32), mask)


def confusion(logits: jax.Array, labels: jax.Array, mask: jax.Array | None = None) -> Confusion:
    """Computes the confusion matrix, from which accuracy, precision, recall and F1 follow.

    A confusion matrix called ``"classes"`` appears in the history of ``fit`` as ``"classes accuracy"`` and
    ``"classes macro_f1"``.

    Args:
        logits: ``[..., num_classes]``; the largest logit is the prediction.
        labels: int ``[...]``, class indices.
        mask: bool ``[...]``, positions to include; None includes all.
    Returns:
        Confusion: counts ``[num_classes, num_classes]``, labels by predictions.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> counts = metrics.confusion(jnp.array([[2.0, 1.0], [3.0, 1.0]]), jnp.array([0, 1]))
        >>> counts.counts.tolist(), counts.recall().tolist()
        ([[1.0, 0.0], [1.0, 0.0]], [1.0, 0.0])
    """
    num_classes = logits.shape[-1]
    predictions = jnp.argmax(logits, axis=-1)
    weight = jnp.ones(labels.shape, jnp.float32) if mask is None else mask.astype(jnp.float32)
    return Confusion(jnp.zeros((num_classes, num_classes), jnp.float32).at[labels, predictions].add(weight))


def perplexity(nats: jax.Array, mask: jax.Array | None = None) -> Perplexity:
    """Computes the perplexity: the exponential of the mean negative log-likelihood per token.

    Args:
        nats: ``[...]``, negative log-likelihood of each token, in nats.
        mask: bool ``[...]``, positions to include; None includes all.
    Returns:
        Perplexity: sum of ``nats`` and number of included tokens.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> round(float(metrics.perplexity(jnp.full(5, jnp.log(10.0))).value()), 3)
        10.0
    """
    return Perplexity(*sums(nats, mask))


def bits(nats: jax.Array, mask: jax.Array | None = None) -> Bits:
    """Computes the mean negative log-likelihood in bits, such as bits per character.

    Args:
        nats: ``[...]``, negative log-likelihood of each character or token, in nats.
        mask: bool ``[...]``, positions to include; None includes all.
    Returns:
        Bits: sum of ``nats`` and number of included positions.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> round(float(metrics.bits(jnp.full(5, jnp.log(8.0))).value()), 3)
        3.0
    """
    return Bits(*sums(nats, mask))

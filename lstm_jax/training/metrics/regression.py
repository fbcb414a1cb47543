"""Metrics of forecasts: of one number, of quantiles, of samples."""

import jax
import jax.numpy as jnp

from lstm_jax.training.metrics.accumulators import Mean, RootMean, mean, sums


def squared_error(predictions: jax.Array, targets: jax.Array, mask: jax.Array | None = None) -> Mean:
    """Accumulates the mean squared error (MSE).

    Args:
        predictions: ``[...]``.
        targets: ``[...]``, of the same shape.
        mask: bool ``[...]``, what counts; None means everything.
    Returns:
        error: the accumulator.
    Raises:
        ValueError: the shapes differ, which would broadcast.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> float(metrics.squared_error(jnp.array([1.0, 5.0]), jnp.array([1.0, 3.0])).value())
        2.0
    """
    _check_same_shape(predictions, targets)
    return mean((predictions - targets) ** 2, mask)


def root_squared_error(predictions: jax.Array, targets: jax.Array, mask: jax.Array | None = None) -> RootMean:
    """Accumulates the root of the mean squared error (RMSE).

    Args:
        predictions: ``[...]``.
        targets: ``[...]``, of the same shape.
        mask: bool ``[...]``, what counts; None means everything.
    Returns:
        error: the accumulator; its root is taken after all batches are added.
    Raises:
        ValueError: the shapes differ, which would broadcast.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> float(metrics.root_squared_error(jnp.array([1.0, 5.0]), jnp.array([3.0, 3.0])).value())
        2.0
    """
    _check_same_shape(predictions, targets)
    return RootMean(*sums((predictions - targets) ** 2, mask))


def absolute_error(predictions: jax.Array, targets: jax.Array, mask: jax.Array | None = None) -> Mean:
    """Accumulates the mean absolute error (MAE).

    Args:
        predictions: ``[...]``.
        targets: ``[...]``, of the same shape.
        mask: bool ``[...]``, what counts; None means everything.
    Returns:
        error: the accumulator.
    Raises:
        ValueError: the shapes differ, which would broadcast.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> float(metrics.absolute_error(jnp.array([1.0, 5.0]), jnp.array([1.0, 3.0])).value())
        1.0
    """
    _check_same_shape(predictions, targets)
    return mean(jnp.abs(predictions - targets), mask)


def percentage_error(predictions: jax.Array, targets: jax.Array, mask: jax.Array | None = None) -> Mean:
    """Accumulates the mean of ``|prediction - target| / |target|`` (MAPE, as a share), which has no meaning near 0.

    Args:
        predictions: ``[...]``.
        targets: ``[...]``, of the same shape.
        mask: bool ``[...]``, what counts; None means everything.
    Returns:
        error: the accumulator.
    Raises:
        ValueError: the shapes differ, which would broadcast.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> float(metrics.percentage_error(jnp.array([1.0, 6.0]), jnp.array([2.0, 4.0])).value())
        0.5
    """
    _check_same_shape(predictions, targets)
    return mean(jnp.abs(predictions - targets) / jnp.abs(targets), mask)


def scaled_error(
    predictions: jax.Array, targets: jax.Array, naive_error: float | jax.Array, mask: jax.Array | None = None
) -> Mean:
    """Accumulates absolute errors over those of the naive forecast (MASE, Hyndman and Koehler 2006).

    Args:
        predictions: ``[...]``.
        targets: ``[...]``, of the same shape.
        naive_error: mean of ``|y[t] - y[t - season]|`` over the training part; broadcasts to the errors.
        mask: bool ``[...]``, what counts; None means everything.
    Returns:
        error: the accumulator; below 1 is better than the naive forecast.
    Raises:
        ValueError: the shapes of predictions and targets differ, which would broadcast.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> float(metrics.scaled_error(jnp.array([1.0, 5.0]), jnp.array([1.0, 3.0]), naive_error=4.0).value())
        0.25
    """
    _check_same_shape(predictions, targets)
    return mean(jnp.abs(predictions - targets) / naive_error, mask)


def pinball(quantiles: jax.Array, targets: jax.Array, levels: jax.Array, mask: jax.Array | None = None) -> Mean:
    """Accumulates the quantile loss ``max(q (y - f), (q - 1) (y - f))``, its mean over levels q.

    Args:
        quantiles: ``[..., num_quantiles]``, the forecast f of each level.
        targets: ``[...]``, y.
        levels: ``[num_quantiles]``, each between 0 and 1.
        mask: bool ``[...]``, what counts; None means everything.
    Returns:
        loss: the accumulator.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> float(metrics.pinball(jnp.array([[0.0, 2.0]]), jnp.array([1.0]), jnp.array([0.5, 0.5])).value())
        0.5
    """
    errors = targets[..., None] - quantiles
    shares = jnp.broadcast_to(levels, errors.shape)
    return mean(jnp.mean(jnp.maximum(shares * errors, (shares - 1) * errors), axis=-1), mask)


def crps(samples: jax.Array, targets: jax.Array, mask: jax.Array | None = None) -> Mean:
    """Accumulates the continuous ranked probability score ``E|X - y| - E|X - X'| / 2``.

    It is computed from the sorted samples, in S log S (Gneiting and Raftery 2007). For quantile forecasts at evenly
    spaced levels it is twice the pinball loss.

    Args:
        samples: ``[S, ...]``, S draws from the forecast X.
        targets: ``[...]``, y.
        mask: bool ``[...]``, what counts; None means everything.
    Returns:
        score: the accumulator.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> float(metrics.crps(jnp.array([[1.0], [3.0]]), jnp.array([2.0])).value())
        0.5
    """
    count = samples.shape[0]
    ranks = jnp.arange(1, count + 1, dtype=samples.dtype).reshape(count, *(1,) * targets.ndim)
    spread = jnp.sum((2 * ranks - count - 1) * jnp.sort(samples, axis=0), axis=0) / count**2
    return mean(jnp.mean(jnp.abs(samples - targets[None]), axis=0) - spread, mask)


def _check_same_shape(predictions: jax.Array, targets: jax.Array) -> None:
    if jnp.shape(predictions) != jnp.shape(targets):
        raise ValueError(f"predictions: got shape {jnp.shape(predictions)}, want that of targets, {jnp.shape(targets)}")

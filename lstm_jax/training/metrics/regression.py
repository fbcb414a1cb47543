"""Metrics for regression and forecasting: errors of point, quantile and sample forecasts."""

import jax
import jax.numpy as jnp

from lstm_jax.training.metrics.accumulators import Mean, RootMean, mean, sums


def squared_error(predictions: jax.Array, targets: jax.Array, mask: jax.Array | None = None) -> Mean:
    """Computes the mean squared error (MSE).

    Args:
        predictions: ``[...]``.
        targets: ``[...]``, same shape as ``predictions``.
        mask: bool ``[...]``, positions to include; None includes all.
    Returns:
        Mean: the MSE.
    Raises:
        ValueError: ``predictions`` and ``targets`` differ in shape; they are not broadcast.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> float(metrics.squared_error(jnp.array([1.0, 5.0]), jnp.array([1.0, 3.0])).value())
        2.0
    """
    _check_same_shape(predictions, targets)
    return mean((predictions - targets) ** 2, mask)


def root_squared_error(predictions: jax.Array, targets: jax.Array, mask: jax.Array | None = None) -> RootMean:
    """Computes the root mean squared error (RMSE).

    Args:
        predictions: ``[...]``.
        targets: ``[...]``, same shape as ``predictions``.
        mask: bool ``[...]``, positions to include; None includes all.
    Returns:
        RootMean: the RMSE; accumulators of several batches sum squared errors before the root is taken.
    Raises:
        ValueError: ``predictions`` and ``targets`` differ in shape; they are not broadcast.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> float(metrics.root_squared_error(jnp.array([1.0, 5.0]), jnp.array([3.0, 3.0])).value())
        2.0
    """
    _check_same_shape(predictions, targets)
    return RootMean(*sums((predictions - targets) ** 2, mask))


def absolute_error(predictions: jax.Array, targets: jax.Array, mask: jax.Array | None = None) -> Mean:
    """Computes the mean absolute error (MAE).

    Args:
        predictions: ``[...]``.
        targets: ``[...]``, same shape as ``predictions``.
        mask: bool ``[...]``, positions to include; None includes all.
    Returns:
        Mean: the MAE.
    Raises:
        ValueError: ``predictions`` and ``targets`` differ in shape; they are not broadcast.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> float(metrics.absolute_error(jnp.array([1.0, 5.0]), jnp.array([1.0, 3.0])).value())
        1.0
    """
    _check_same_shape(predictions, targets)
    return mean(jnp.abs(predictions - targets), mask)


def percentage_error(predictions: jax.Array, targets: jax.Array, mask: jax.Array | None = None) -> Mean:
    """Computes the mean absolute percentage error (MAPE) as a fraction: ``mean(|prediction - target| / |target|)``.

    The error is infinite or NaN where a target is 0; mask such positions or use ``scaled_error``.

    Args:
        predictions: ``[...]``.
        targets: ``[...]``, same shape as ``predictions``.
        mask: bool ``[...]``, positions to include; None includes all.
    Returns:
        Mean: the MAPE.
    Raises:
        ValueError: ``predictions`` and ``targets`` differ in shape; they are not broadcast.
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
    """Computes the mean absolute scaled error (MASE, Hyndman and Koehler 2006).

    It is the mean absolute error relative to that of the seasonal naive forecast on the training part.

    Args:
        predictions: ``[...]``.
        targets: ``[...]``, same shape as ``predictions``.
        naive_error: mean of ``|y[t] - y[t - season]|`` over the training part; broadcastable to ``targets``.
        mask: bool ``[...]``, positions to include; None includes all.
    Returns:
        Mean: the MASE; below 1 means better than the naive forecast.
    Raises:
        ValueError: ``predictions`` and ``targets`` differ in shape; they are not broadcast.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> float(metrics.scaled_error(jnp.array([1.0, 5.0]), jnp.array([1.0, 3.0]), naive_error=4.0).value())
        0.25
    """
    _check_same_shape(predictions, targets)
    return mean(jnp.abs(predictions - targets) / naive_error, mask)


def pinball(quantiles: jax.Array, targets: jax.Array, levels: jax.Array, mask: jax.Array | None = None) -> Mean:
    """Computes the pinball loss ``max(q (y - f), (q - 1) (y - f))`` of quantile forecasts, averaged over levels q.

    Args:
        quantiles: ``[..., num_quantiles]``, the forecast f for each level.
        targets: ``[...]``, the observations y.
        levels: ``[num_quantiles]``, the quantile levels q, between 0 and 1.
        mask: bool ``[...]``, positions to include; None includes all.
    Returns:
        Mean: the pinball loss.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> float(metrics.pinball(jnp.array([[0.0, 2.0]]), jnp.array([1.0]), jnp.array([0.5, 0.5])).value())
        0.5
    """
    errors = targets[..., None] - quantiles
    q = jnp.broadcast_to(levels, errors.shape)
    return mean(jnp.mean(jnp.maximum(q * errors, (q - 1) * errors), axis=-1), mask)


def crps(samples: jax.Array, targets: jax.Array, mask: jax.Array | None = None) -> Mean:
    """Computes the continuous ranked probability score (CRPS) ``E|X - y| - E|X - X'| / 2`` of sample forecasts.

    The samples are sorted, which takes O(S log S) instead of O(S^2) (Gneiting and Raftery 2007). For quantile forecasts
    at evenly spaced levels the CRPS is twice the pinball loss.

    Args:
        samples: ``[S, ...]``, S samples of the forecast X.
        targets: ``[...]``, the observations y.
        mask: bool ``[...]``, positions to include; None includes all.
    Returns:
        Mean: the CRPS.
    Example:
        >>> import jax.numpy as jnp
        >>> from lstm_jax.training import metrics
        >>> float(metrics.crps(jnp.array([[1.0], [3.0]]), jnp.array([2.0])).value())
        0.5
    """
    num_samples = samples.shape[0]
    ranks = jnp.arange(1, num_samples + 1, dtype=samples.dtype).reshape(num_samples, *(1,) * targets.ndim)
    spread = jnp.sum((2 * ranks - num_samples - 1) * jnp.sort(samples, axis=0), axis=0) / num_samples**2
    return mean(jnp.mean(jnp.abs(samples - targets[None]), axis=0) - spread, mask)


def _check_same_shape(predictions: jax.Array, targets: jax.Array) -> None:
    """Checks that predictions and targets agree in shape, since broadcasting would hide a missing or extra axis."""
    if jnp.shape(predictions) != jnp.shape(targets):
        raise ValueError(f"predictions: got shape {jnp.shape(predictions)}, want that of targets, {jnp.shape(targets)}")

"""Attribution of a score to the inputs of each step: three methods.

    gradient times input        x_t . dscore/dx_t
    integrated gradients        (x_t - b_t) . mean over a in [0, 1] of dscore/dx_t at b + a (x - b)
    occlusion                   score(x) - score(x with step t replaced by that of b)

The baseline b is an input that carries no information. Integrated gradients sum to ``score(x) - score(b)``
(Sundararajan, Taly and Yan 2017, arXiv:1703.01365); ``completeness_error`` measures the deviation.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from lstm_jax._core.structs import accumulator_dtype

ScoreFn = Callable[[jax.Array], jax.Array]
"""``score(xs [T, D]) -> scalar``, such as the logit of a class or the difference of two logits."""


class Attribution(NamedTuple):
    """Contributions of the inputs to a score."""

    per_feature: jax.Array
    """``[T, D]``: the contribution of each feature at each step"""
    per_step: jax.Array
    """``[T]``: the contribution of each step, summed over features"""


def gradient_times_input(score: ScoreFn, xs: ArrayLike) -> Attribution:
    """Attributes a score to its input by ``xs * dscore/dxs``, which is exact for a linear score.

    Args:
        score: ``score(xs) -> scalar`` for one sequence; use ``jax.vmap`` for batches.
        xs: features or token embeddings ``[T, D]``.
    Returns:
        ``Attribution`` in float32, or in float64 for float64 inputs.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> weights = jnp.array([[1.0], [-2.0]])
        >>> attribution = lj.diagnostics.gradient_times_input(lambda xs: (weights * xs).sum(), jnp.ones((2, 1)))
        >>> attribution.per_step.tolist()
        [1.0, -2.0]
    """
    xs = jnp.asarray(xs)
    wide_dtype = accumulator_dtype(xs.dtype)
    return _sum_features(xs.astype(wide_dtype) * jax.grad(score)(xs).astype(wide_dtype))


def integrated_gradients(
    score: ScoreFn, xs: ArrayLike, baseline: ArrayLike | None = None, *, num_points: int = 32
) -> Attribution:
    """Attributes a score to its input by the mean gradient along the straight path from a baseline to the input.

        attribution = (xs - baseline) * mean over a in [0, 1] of dscore/dxs at baseline + a (xs - baseline)

    Args:
        score: ``score(xs) -> scalar`` for one sequence; use ``jax.vmap`` for batches.
        xs: features or token embeddings ``[T, D]``.
        baseline: input without information, broadcast to ``[T, D]``; None means zeros.
        num_points: points of the Gauss-Legendre quadrature along the path, one gradient per point. Increase it if
            ``completeness_error`` is not near 0, for example to 256 for a score with a maximum over time.
    Returns:
        ``Attribution`` in float32, or in float64 for float64 inputs.
    Raises:
        ValueError: if ``score`` does not return a scalar.

    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> params = lj.init_params(jax.random.key(0), 3, 8)
        >>> score = lambda xs: lj.lstm(params, xs)[1][-1].sum()
        >>> attribution = lj.diagnostics.integrated_gradients(score, jnp.ones((5, 3)))
        >>> attribution.per_step.shape
        (5,)
        >>> bool(lj.diagnostics.completeness_error(attribution, score, jnp.ones((5, 3))) < 0.01)
        True
    """
    xs = jnp.asarray(xs)
    shape = jax.eval_shape(score, xs).shape
    if shape != ():
        raise ValueError(f"score: got shape {shape}, want one number, such as a class's logit or a sum")
    start = _broadcast_baseline(xs, baseline)
    nodes, weights = np.polynomial.legendre.leggauss(num_points)
    fractions = jnp.asarray((nodes + 1) / 2, xs.dtype)
    gradients = lax.map(lambda fraction: jax.grad(score)(start + fraction * (xs - start)), fractions)
    wide_dtype = accumulator_dtype(xs.dtype)
    mean_gradient = jnp.tensordot(jnp.asarray(weights / 2, wide_dtype), gradients.astype(wide_dtype), axes=1)
    return _sum_features((xs - start).astype(wide_dtype) * mean_gradient)


def completeness_error(
    attribution: Attribution, score: ScoreFn, xs: ArrayLike, baseline: ArrayLike | None = None
) -> jax.Array:
    """Computes the relative error between the sum of an attribution and the difference in score it should explain.

        |sum(attribution) - (score(xs) - score(baseline))| / |score(xs) - score(baseline)|

    Args:
        attribution: the result of ``integrated_gradients`` or ``gradient_times_input`` for ``score`` and ``xs``.
        score: ``score(xs) -> scalar``, the attributed score.
        xs: features or token embeddings ``[T, D]``.
        baseline: the baseline given to ``integrated_gradients``, broadcast to ``[T, D]``; None means zeros.
    Returns:
        a scalar, 0 for a complete attribution; inf or NaN if the two scores are equal.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> score, xs = lambda xs: (xs**2).sum(), jnp.array([[1.0], [3.0]])
        >>> attribution = lj.diagnostics.gradient_times_input(score, xs)  # 2 + 18, for a difference of 10
        >>> float(lj.diagnostics.completeness_error(attribution, score, xs))
        1.0
    """
    xs = jnp.asarray(xs)
    difference = score(xs) - score(_broadcast_baseline(xs, baseline))
    return jnp.abs(attribution.per_step.sum() - difference) / jnp.abs(difference)


def occlusion(score: ScoreFn, xs: ArrayLike, baseline: ArrayLike | None = None, *, window_size: int = 1) -> jax.Array:
    """Computes the decrease of a score when a window of steps is replaced by a baseline.

    Args:
        score: ``score(xs) -> scalar`` for one sequence; use ``jax.vmap`` for batches.
        xs: features or token embeddings ``[T, D]``.
        baseline: replacement of the occluded steps, broadcast to ``[T, D]``; None means zeros.
        window_size: number of consecutive steps replaced at once, 1 to T.
    Returns:
        ``[T - window_size + 1]``: entry t is the decrease when steps t to t + window_size - 1 are replaced.
    Raises:
        ValueError: if ``window_size`` is not between 1 and T.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> lj.diagnostics.occlusion(lambda xs: xs.max(), jnp.array([[1.0], [3.0], [2.0]])).tolist()
        [0.0, 1.0, 0.0]
    """
    xs = jnp.asarray(xs)
    replacement = _broadcast_baseline(xs, baseline)
    if not 1 <= window_size <= len(xs):
        raise ValueError(f"window_size: got {window_size}, want 1 to the {len(xs)} steps of xs")
    times = jnp.arange(len(xs))

    def occluded_score(start: jax.Array) -> jax.Array:
        occluded = (times >= start) & (times < start + window_size)
        return score(jnp.where(occluded[:, None], replacement, xs))

    return score(xs) - lax.map(occluded_score, jnp.arange(len(xs) - window_size + 1))


def _broadcast_baseline(xs: jax.Array, baseline: ArrayLike | None) -> jax.Array:
    """Returns the baseline broadcast to the shape of the input, zeros if it is None."""
    return jnp.zeros_like(xs) if baseline is None else jnp.broadcast_to(baseline, xs.shape)


def _sum_features(per_feature: jax.Array) -> Attribution:
    """Returns the ``Attribution`` of contributions ``[T, D]`` and their sums over features."""
    return Attribution(per_feature, per_feature.sum(axis=tuple(range(1, per_feature.ndim))))

"""Attribution: how much each step of a sequence contributes to a score.

    gradient times input        x_t . dscore/dx_t
    integrated gradients        (x_t - b_t) . mean over a in 0..1 of dscore/dx_t at b + a (x - b)
    occlusion                   score(x) - score(x with step t as in b)

Here b is the baseline, an input that carries no information. Integrated gradients add up to ``score(x) - score(b)``
(Sundararajan, Taly and Yan 2017, arXiv:1703.01365), which ``completeness_error`` checks.
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
"""``score(xs [T, D]) -> number``, such as a class's logit, its distance to the next one, ``ys[-1].sum()``."""


class Attribution(NamedTuple):
    """Contributions to a score."""

    per_feature: jax.Array
    """``[T, D]``: the contribution of each number of the input"""
    per_step: jax.Array
    """``[T]``: the contribution of each step, the sum over its features"""


def gradient_times_input(score: ScoreFn, xs: ArrayLike) -> Attribution:
    """Attributes a score to its input by ``xs * dscore/dxs``, which is exact for a linear score.

    Args:
        score: ``score(xs) -> number``, of one sequence; ``jax.vmap`` does batches.
        xs: ``[T, D]``: features, or embeddings of tokens.
    Returns:
        ``Attribution`` in float32, or float64 for float64.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> weights = jnp.array([[1.0], [-2.0]])
        >>> attribution = lj.diagnostics.gradient_times_input(lambda xs: (weights * xs).sum(), jnp.ones((2, 1)))
        >>> attribution.per_step.tolist()
        [1.0, -2.0]
    """
    xs = jnp.asarray(xs)
    wide = accumulator_dtype(xs.dtype)
    return _sum_features(xs.astype(wide) * jax.grad(score)(xs).astype(wide))


def integrated_gradients(
    score: ScoreFn, xs: ArrayLike, baseline: ArrayLike | None = None, *, num_points: int = 32
) -> Attribution:
    """Attributes a score to its input by its mean gradient on the straight path from a baseline to the input.

        attribution = (xs - baseline) * mean over a in 0..1 of dscore/dxs at baseline + a (xs - baseline)

    Args:
        score: ``score(xs) -> number``, of one sequence; ``jax.vmap`` does batches.
        xs: ``[T, D]``: features, or embeddings of tokens.
        baseline: broadcasts to ``[T, D]``, an input that carries no information; None means zeros.
        num_points: points of Gauss-Legendre quadrature on the path, a gradient each. Take more if
            ``completeness_error`` is not near 0: 256 for a maximum over time, whose gradient jumps.
    Returns:
        ``Attribution`` in float32, or float64 for float64.
    Raises:
        ValueError: if ``score`` does not return one number.

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
    base = _broadcast_baseline(xs, baseline)
    nodes, weights = np.polynomial.legendre.leggauss(num_points)
    fractions = jnp.asarray((nodes + 1) / 2, xs.dtype)
    gradients = lax.map(lambda fraction: jax.grad(score)(base + fraction * (xs - base)), fractions)
    wide = accumulator_dtype(xs.dtype)
    mean_gradient = jnp.tensordot(jnp.asarray(weights / 2, wide), gradients.astype(wide), axes=1)
    return _sum_features((xs - base).astype(wide) * mean_gradient)


def completeness_error(
    attribution: Attribution, score: ScoreFn, xs: ArrayLike, baseline: ArrayLike | None = None
) -> jax.Array:
    """Measures how far an attribution is from adding up to the difference of scores, relative to that difference.

        |sum(attribution) - (score(xs) - score(baseline))| / |score(xs) - score(baseline)|

    Args:
        attribution: what ``integrated_gradients`` or ``gradient_times_input`` returned for ``score`` and ``xs``.
        score: ``score(xs) -> number``.
        xs: ``[T, D]``.
        baseline: broadcasts to ``[T, D]``, as for ``integrated_gradients``; None means zeros.
    Returns:
        a number: 0 for a complete attribution, not finite where the two scores are equal.

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
    """Measures how much a score falls when a window of steps is replaced by a baseline.

    Args:
        score: ``score(xs) -> number``, of one sequence; ``jax.vmap`` does batches.
        xs: ``[T, D]``: features, or embeddings of tokens.
        baseline: broadcasts to ``[T, D]``, what replaces the steps; None means zeros.
        window_size: how many neighboring steps are replaced together, 1 to T.
    Returns:
        ``[T - window_size + 1]``: entry t is the fall of the score when steps t to t + window_size - 1 are replaced.
    Raises:
        ValueError: for a window that is not 1 to T steps long.

    Example:
        >>> import jax.numpy as jnp, lstm_jax as lj
        >>> lj.diagnostics.occlusion(lambda xs: xs.max(), jnp.array([[1.0], [3.0], [2.0]])).tolist()
        [0.0, 1.0, 0.0]
    """
    xs = jnp.asarray(xs)
    base = _broadcast_baseline(xs, baseline)
    if not 1 <= window_size <= len(xs):
        raise ValueError(f"window_size: got {window_size}, want 1 to the {len(xs)} steps of xs")
    times = jnp.arange(len(xs))

    def occluded_score(start: jax.Array) -> jax.Array:
        occluded = (times >= start) & (times < start + window_size)
        return score(jnp.where(occluded[:, None], base, xs))

    return score(xs) - lax.map(occluded_score, jnp.arange(len(xs) - window_size + 1))


def _broadcast_baseline(xs: jax.Array, baseline: ArrayLike | None) -> jax.Array:
    """Returns the baseline in the shape of the input; zeros for None."""
    return jnp.zeros_like(xs) if baseline is None else jnp.broadcast_to(baseline, xs.shape)


def _sum_features(per_feature: jax.Array) -> Attribution:
    """Adds the sum over features to contributions ``[T, D]``."""
    return Attribution(per_feature, per_feature.sum(axis=tuple(range(1, per_feature.ndim))))

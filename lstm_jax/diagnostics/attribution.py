"""Which steps of a sequence a score rests on.

    gradient times input        x_t . dscore/dx_t
    integrated gradients        (x_t - b_t) . mean over a in 0..1 of dscore/dx_t at b + a (x - b)
    occlusion                   score(x) - score(x with step t as in b)

Integrated gradients add up to ``score(x) - score(b)`` (Sundararajan, Taly and Yan 2017, arXiv:1703.01365), which
``completeness`` checks.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lstm_jax._core.structs import accumulator_dtype

Score = Callable[[jax.Array], jax.Array]
"""``score(xs [T, D]) -> number``, such as a class's logit, its distance to the next one, ``ys[-1].sum()``"""


class Attribution(NamedTuple):
    """What each number of the input contributes, ``each [T, D]``, and each step, ``steps [T]``."""

    each: jax.Array
    """``[T, D]``"""
    steps: jax.Array
    """``[T]``: summed over features"""


def gradient_times_input(score: Score, xs: jax.Array) -> Attribution:
    """``xs * dscore/dxs``: exact for a linear score."""
    wide = accumulator_dtype(xs.dtype)
    return _summed(xs.astype(wide) * jax.grad(score)(xs).astype(wide))


def integrated_gradients(
    score: Score, xs: jax.Array, baseline: jax.Array | None = None, *, num_points: int = 32
) -> Attribution:
    """Gradients averaged on the way from the baseline to the input, times that way.

        score = lambda xs: classify(params._replace(embedding=None), xs, length).logits[label]
        found = diagnostics.integrated_gradients(score, params.embedding[codes])

    Args:
        score: of one sequence; ``jax.vmap`` does batches.
        xs: ``[T, D]``: features, or embeddings of tokens.
        baseline: ``[T, D]``, an input that says nothing; None means zeros.
        points: of Gauss-Legendre quadrature, each a gradient; more where ``completeness`` is not near 0, as for a
            maximum over time, whose gradient jumps (256 there).
    """
    shape = jax.eval_shape(score, xs).shape
    if shape != ():
        raise ValueError(f"score: got shape {shape}, want one number, such as a class's logit or a sum")
    base = _base(xs, baseline)
    nodes, weights = np.polynomial.legendre.leggauss(num_points)
    places = jnp.asarray((nodes + 1) / 2, xs.dtype)
    gradients = lax.map(lambda place: jax.grad(score)(base + place * (xs - base)), places)
    wide = accumulator_dtype(xs.dtype)
    mean = jnp.tensordot(jnp.asarray(weights / 2, wide), gradients.astype(wide), axes=1)
    return _summed((xs - base).astype(wide) * mean)


def completeness(found: Attribution, score: Score, xs: jax.Array, baseline: jax.Array | None = None) -> jax.Array:
    """How far an attribution's sum is from ``score(xs) - score(baseline)``, as a share of it; not finite where that
    is 0."""
    base = _base(xs, baseline)
    gap = score(xs) - score(base)
    return jnp.abs(found.steps.sum() - gap) / jnp.abs(gap)


def occlusion(score: Score, xs: jax.Array, baseline: jax.Array | None = None, *, window_size: int = 1) -> jax.Array:
    """How much the score falls when steps are replaced by the baseline's, ``[T - width + 1]``.

    Args:
        width: neighbouring steps that are replaced together; number t is that of steps t to t + width - 1.
    """
    base = _base(xs, baseline)
    if not 1 <= window_size <= len(xs):
        raise ValueError(f"width: got {window_size}, want 1 to the {len(xs)} steps of xs")
    times = jnp.arange(len(xs))

    def without(start: jax.Array) -> jax.Array:
        hidden = (times >= start) & (times < start + window_size)
        return score(jnp.where(hidden[:, None], base, xs))

    return score(xs) - lax.map(without, jnp.arange(len(xs) - window_size + 1))


def _base(xs: jax.Array, baseline: jax.Array | None) -> jax.Array:
    """The baseline in the shape of the input; zeros for None."""
    return jnp.zeros_like(xs) if baseline is None else jnp.broadcast_to(baseline, xs.shape)


def _summed(each: jax.Array) -> Attribution:
    return Attribution(each, each.sum(axis=tuple(range(1, each.ndim))))

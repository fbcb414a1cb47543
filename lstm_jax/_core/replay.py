"""Recurrent reinforcement learning: acting and learning agree."""

from collections.abc import Callable

import jax
import numpy as np

from lstm_jax._core.structs import PyTree


def check_replay(
    step: Callable[[PyTree, jax.Array, jax.Array], tuple[PyTree, jax.Array]],
    replay: Callable[[PyTree, jax.Array, jax.Array], tuple[PyTree, jax.Array]],
    initial_state: PyTree,
    xs: jax.Array,
    resets: jax.Array,
    *,
    tolerance: float = 1e-5,
) -> None:
    """Checks that acting step by step and replaying the sequence for training give the same outputs.

    In recurrent reinforcement learning the two are written apart and drift by one step at episode ends; then
    the PPO ratio is not 1 before the first update.

    Args:
        step: ``step(state, x, reset) -> (state, y)``, the actor's way; ``reset`` is the flag of this step.
        replay: ``replay(initial_state, xs, resets) -> (final_state, ys)``, the learner's way.
        initial_state: the state both start from.
        xs: ``[T, *batch, D]``.
        resets: bool ``[T, *batch]``.
        tolerance: absolute and relative.
    Raises:
        ValueError: naming the first step that differs and whether a reset lies there.
    Example:
        >>> import jax, jax.numpy as jnp, lstm_jax as lj
        >>> params = lj.init_params(jax.random.key(0), 3, 8)
        >>> def step(state, x, reset):
        ...     state = jax.tree.map(lambda leaf: jnp.where(reset, 0, leaf), state)
        ...     return lj.lstm_cell(params, state, x)
        >>> def replay(state, xs, resets):
        ...     return lj.lstm(params, xs, state, resets=resets)
        >>> resets = jnp.array([False, False, True, False])
        >>> lj.check_replay(step, replay, lj.zero_state(params), jnp.ones((4, 3)), resets)
    """
    replayed_state, replayed = replay(initial_state, xs, resets)
    state = initial_state
    for t in range(xs.shape[0]):
        state, y = step(state, xs[t], resets[t])
        wrong = ~np.isclose(y, replayed[t], rtol=tolerance, atol=tolerance)
        if wrong.any():
            where = "a reset lies there" if bool(np.any(resets[t])) else "no reset lies there"
            raise ValueError(f"replay: outputs differ from the roll-out's, first at step {t} ({where})")
    for acted, relearned in zip(jax.tree.leaves(state), jax.tree.leaves(replayed_state), strict=True):
        if not np.allclose(acted, relearned, rtol=tolerance, atol=tolerance):
            raise ValueError("replay: the outputs agree but the final state differs from the roll-out's")

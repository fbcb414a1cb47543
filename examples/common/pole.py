"""Simulates a batch of cart-pole environments (Barto, Sutton and Anderson 1983) with CartPole-v1's constants."""

import math
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

MAX_STEPS = 500
"""steps after which an episode ends"""

GRAVITY = 9.8
CART_MASS = 1.0
POLE_MASS = 0.1
HALF_LENGTH = 0.5
"""meters from the hinge to the middle of the pole"""
FORCE = 10.0
TIME_STEP = 0.02
"""seconds"""
X_LIMIT = 2.4
THETA_LIMIT = 12 * math.pi / 180


class EnvState(NamedTuple):
    """State of B environments; each field is ``[B]``."""

    x: jax.Array
    x_dot: jax.Array
    theta: jax.Array
    theta_dot: jax.Array
    time: jax.Array
    """steps since the start of the episode"""


def reset(key: jax.Array, num_envs: int) -> EnvState:
    """Starts an episode in each environment; positions and speeds are uniform in [-0.05, 0.05]."""
    x, x_dot, theta, theta_dot = jax.random.uniform(key, (4, num_envs), minval=-0.05, maxval=0.05)
    return EnvState(x, x_dot, theta, theta_dot, jnp.zeros(num_envs, jnp.int32))


def step(key: jax.Array, state: EnvState, action: jax.Array) -> tuple[EnvState, jax.Array]:
    """Takes one Euler step in each environment and resets those whose episode is done.

    Args:
        key: PRNG key of the resets.
        state: state of B environments.
        action: 1 pushes the cart to the right, 0 to the left, ``[B]``.
    Returns:
        (state, done): the next state, and whether the episode ended with this step, ``[B]``.
    """
    force = jnp.where(action == 1, FORCE, -FORCE)
    cos, sin = jnp.cos(state.theta), jnp.sin(state.theta)
    mass = CART_MASS + POLE_MASS
    push = (force + POLE_MASS * HALF_LENGTH * state.theta_dot**2 * sin) / mass
    theta_acceleration = (GRAVITY * sin - cos * push) / (HALF_LENGTH * (4 / 3 - POLE_MASS * cos**2 / mass))
    x_acceleration = push - POLE_MASS * HALF_LENGTH * theta_acceleration * cos / mass
    state = EnvState(
        state.x + TIME_STEP * state.x_dot,
        state.x_dot + TIME_STEP * x_acceleration,
        state.theta + TIME_STEP * state.theta_dot,
        state.theta_dot + TIME_STEP * theta_acceleration,
        state.time + 1,
    )
    done = (jnp.abs(state.x) > X_LIMIT) | (jnp.abs(state.theta) > THETA_LIMIT) | (state.time >= MAX_STEPS)
    return jax.tree.map(lambda new, old: jnp.where(done, new, old), reset(key, len(done)), state), done


def observe(state: EnvState) -> jax.Array:
    """Returns the cart's position and the pole's angle in units of their limits, ``[B, 2]``, without the speeds."""
    return jnp.stack([state.x / X_LIMIT, state.theta / THETA_LIMIT], axis=-1)


def plot_learning(
    angles: dict[str, np.ndarray], history: list[tuple[int, float]], solved_steps: int, path: Path
) -> None:
    """Plots the mean episode length during training, and the angle of a pole over time.

    Args:
        angles: the pole's angle in radians at each step, ``[T]``, by label.
        history: pairs of environment steps and mean episode length.
        solved_steps: the episode length that counts as solved.
        path: the image file to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(*zip(*history, strict=True), "o-", color="#0072B2")
    left.axhline(solved_steps, color="#D55E00", linestyle="--", label="solved")
    left.set(xlabel="environment steps", ylabel="mean episode length", ylim=(0, MAX_STEPS * 1.05))
    left.legend()
    for name, angle in angles.items():
        right.plot(np.degrees(angle), label=f"{name}: {len(angle)} steps")
    right.set(xlabel="step", ylabel="angle of one pole (degrees)")
    right.legend()
    figure.savefig(path, dpi=110)

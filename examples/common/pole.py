"""A pole on a cart, many at once: Barto, Sutton and Anderson 1983, with the constants of CartPole-v1."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

LONGEST = 500
"""steps of an episode, at most"""

GRAVITY, CART, POLE, HALF_LENGTH, FORCE, TAU = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
X_LIMIT, ANGLE_LIMIT = 2.4, 12 * math.pi / 180


class World(NamedTuple):
    """A pole on a cart; ``[B]`` each."""

    x: jax.Array
    speed: jax.Array
    angle: jax.Array
    spin: jax.Array
    age: jax.Array


def begin(key: jax.Array, count: int) -> World:
    """Nearly upright and nearly still."""
    x, speed, angle, spin = jax.random.uniform(key, (4, count), minval=-0.05, maxval=0.05)
    return World(x, speed, angle, spin, jnp.zeros(count, jnp.int32))


def move(key: jax.Array, world: World, action: jax.Array) -> tuple[World, jax.Array]:
    """One step of 0.02 s with the force to the right where ``action`` is 1; (world, ended). What ended begins anew."""
    force = jnp.where(action == 1, FORCE, -FORCE)
    cos, sin = jnp.cos(world.angle), jnp.sin(world.angle)
    push = (force + POLE * HALF_LENGTH * world.spin**2 * sin) / (CART + POLE)
    turn = (GRAVITY * sin - cos * push) / (HALF_LENGTH * (4 / 3 - POLE * cos**2 / (CART + POLE)))
    pull = push - POLE * HALF_LENGTH * turn * cos / (CART + POLE)
    after = World(
        world.x + TAU * world.speed,
        world.speed + TAU * pull,
        world.angle + TAU * world.spin,
        world.spin + TAU * turn,
        world.age + 1,
    )
    ended = (jnp.abs(after.x) > X_LIMIT) | (jnp.abs(after.angle) > ANGLE_LIMIT) | (after.age >= LONGEST)
    fresh = begin(key, len(ended))
    return jax.tree.map(lambda new, old: jnp.where(ended, new, old), fresh, after), ended


def see(world: World) -> jax.Array:
    """``[B, 2]``: place and angle, scaled; no speed."""
    return jnp.stack([world.x / X_LIMIT, world.angle / ANGLE_LIMIT], axis=-1)

"""Proximal policy optimization (Schulman et al. 2017) of a recurrent policy, with the poles in the same program.

A policy is ``policy(params, observation, state, is_first) -> (state, logits, value)`` over steps ``[T, B]``.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import lstm_jax as lj
from common import pole

Policy = Callable[..., tuple[Any, jax.Array, jax.Array]]
NUM_ENVS = 64
NUM_STEPS = 128
"""steps of a rollout in each environment"""
NUM_EPOCHS = 4
"""passes over a rollout"""
NUM_MINIBATCHES = 4
"""updates in each pass"""

GAMMA = 0.99
"""discount a step"""
GAE_LAMBDA = 0.95
CLIP_RANGE = 0.2
VALUE_COEFFICIENT = 0.005
ENTROPY_COEFFICIENT = 0.01


class Transition(NamedTuple):
    """Steps of a rollout; ``[T, B]`` each."""

    observation: jax.Array
    """``[T, B, D]``"""
    is_first: jax.Array
    """whether an episode begins with this observation"""
    action: jax.Array
    log_prob: jax.Array
    """of the action, when it was taken"""
    value: jax.Array
    """the critic's, before the action"""
    done: jax.Array
    """whether the action ended the episode"""


class Rollout(NamedTuple):
    """Steps of B environments, with what lies before and after them."""

    state: Any
    """of the policy's LSTM before the first step, ``[B, H]``"""
    steps: Transition
    last_value: jax.Array
    """the critic's after the last step, ``[B]``"""

    def select(self, rows: jax.Array) -> "Rollout":
        """Returns the rollout of some environments."""
        state, last_value = jax.tree.map(lambda leaf: leaf[rows], (self.state, self.last_value))
        return Rollout(state, jax.tree.map(lambda leaf: leaf[:, rows], self.steps), last_value)


def advantages(rollout: Rollout) -> jax.Array:
    """Returns generalized advantage estimates ``[T, B]`` (Schulman et al. 2016) where every step has reward 1."""

    def step(carry: tuple, transition: tuple) -> tuple[tuple, jax.Array]:
        """Computes the advantage of one step from that of the next."""
        next_value, advantage = carry
        value, done = transition
        not_done = 1.0 - done.astype(jnp.float32)
        delta = 1.0 + GAMMA * not_done * next_value - value
        advantage = delta + GAMMA * GAE_LAMBDA * not_done * advantage
        return (value, advantage), advantage

    start = (rollout.last_value, jnp.zeros_like(rollout.last_value))
    return jax.lax.scan(step, start, (rollout.steps.value, rollout.steps.done), reverse=True)[1]


def ppo_loss(
    logits: jax.Array, value: jax.Array, steps: Transition, advantage: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Computes the clipped loss of a policy that replays a rollout.

    Args:
        logits: of each action, ``[T, B, A]``, by the parameters that are trained.
        value: ``[T, B]``, by the same.
        steps: of the rollout.
        advantage: ``[T, B]``.
    Returns:
        (loss, ratio): ratio ``[T, B]`` is the probability of each action over that when it was taken.
    """
    log_probs = jax.nn.log_softmax(logits)
    log_prob = jnp.take_along_axis(log_probs, steps.action[..., None], axis=-1)[..., 0]
    ratio = jnp.exp(log_prob - steps.log_prob)
    scaled = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    clipped = jnp.clip(ratio, 1 - CLIP_RANGE, 1 + CLIP_RANGE)
    objective = jnp.minimum(ratio * scaled, clipped * scaled).mean()
    value_error = jnp.mean((value - (steps.value + advantage)) ** 2)
    entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1).mean()
    return VALUE_COEFFICIENT * value_error - objective - ENTROPY_COEFFICIENT * entropy, ratio


class RunnerState(NamedTuple):
    """What the next step of B environments starts from."""

    env_state: pole.EnvState
    lstm_state: lj.LSTMState
    is_first: jax.Array
    """whether an episode begins, ``[B]``"""


def init_runner(key: jax.Array, params: Any, num_envs: int) -> RunnerState:
    """Starts an episode in each environment."""
    return RunnerState(pole.reset(key, num_envs), lj.zero_state(params.lstm, (num_envs,)), jnp.ones(num_envs, bool))


def _step_policy(policy: Policy, params: Any, runner: RunnerState) -> tuple[Any, jax.Array, jax.Array]:
    """Returns (state, logits ``[B, 2]``, value ``[B]``) for the environments' present observations."""
    observation = pole.observe(runner.env_state)
    state, logits, value = policy(params, observation[None], runner.lstm_state, runner.is_first[None])
    return state, logits[0], value[0]


def collect_rollout(policy: Policy, params: Any, runner: RunnerState, key: jax.Array) -> tuple[RunnerState, Rollout]:
    """Acts for NUM_STEPS steps in every environment."""

    def step(runner: RunnerState, key: jax.Array) -> tuple[RunnerState, Transition]:
        """Acts once in every environment."""
        action_key, env_key = jax.random.split(key)
        state, logits, value = _step_policy(policy, params, runner)
        action = jax.random.categorical(action_key, logits)
        log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], axis=-1)[:, 0]
        env_state, done = pole.step(env_key, runner.env_state, action)
        observation = pole.observe(runner.env_state)
        transition = Transition(observation, runner.is_first, action, log_prob, value, done)
        return RunnerState(env_state, state, done), transition

    last, steps = jax.lax.scan(step, runner, jax.random.split(key, NUM_STEPS))
    return last, Rollout(runner.lstm_state, steps, _step_policy(policy, params, last)[2])


def replay_loss(params: Any, policy: Policy, rollout: Rollout, advantage: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Replays a rollout; returns PPO's loss and the ratio of new to old probabilities."""
    steps = rollout.steps
    _, logits, value = policy(params, steps.observation, rollout.state, steps.is_first)
    return ppo_loss(logits, value, steps, advantage)


def make_train_iteration(policy: Policy, optimizer: optax.GradientTransformation) -> Any:
    """Makes ``iterate(params, opt_state, runner, key, progress)``: a rollout, and the updates that learn from it.

    It returns the first three anew, and the ratios of the first update, which are 1: acting and replaying agree.
    """

    @jax.jit
    def iterate(params: Any, opt_state: Any, runner: RunnerState, key: jax.Array, progress: jax.Array) -> tuple:
        """Collects a rollout and learns from it."""
        acting_key, shuffling_key = jax.random.split(key)
        runner, rollout = collect_rollout(policy, params, runner, acting_key)
        advantage = advantages(rollout)

        def update(carry: tuple, rows: jax.Array) -> tuple[tuple, jax.Array]:
            """Updates the parameters by some of the environments."""
            params, opt_state = carry
            grads, ratio = jax.grad(replay_loss, has_aux=True)(params, policy, rollout.select(rows), advantage[:, rows])
            updates, opt_state = optimizer.update(grads, opt_state, params, progress=progress)
            return (optax.apply_updates(params, updates), opt_state), ratio

        keys = jax.random.split(shuffling_key, NUM_EPOCHS)
        orders = jax.vmap(lambda key: jax.random.permutation(key, NUM_ENVS))(keys)
        rows = orders.reshape(NUM_EPOCHS * NUM_MINIBATCHES, -1)
        (params, opt_state), ratios = jax.lax.scan(update, (params, opt_state), rows)
        return params, opt_state, runner, ratios[0]

    return iterate


@partial(jax.jit, static_argnames=("policy", "num_episodes"))
def play_episodes(policy: Policy, num_episodes: int, params: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Plays episodes by the likelier action; returns angles ``[T, N]`` and which steps belong to the first episode."""
    start = init_runner(key, params, num_episodes), jnp.ones(num_episodes, bool)

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, tuple]:
        """Plays one step in every environment."""
        runner, running = carry
        state, logits, _ = _step_policy(policy, params, runner)
        env_state, done = pole.step(key, runner.env_state, jnp.argmax(logits, axis=-1))
        return (RunnerState(env_state, state, done), running & ~done), (runner.env_state.theta, running)

    return jax.lax.scan(step, start, jax.random.split(key, pole.MAX_STEPS))[1]

"""Proximal policy optimization (Schulman et al. 2017) of a recurrent policy on the cart-poles of ``pole``.

A policy is ``policy(params, observation, state, is_first) -> (state, logits, value)``, with observations ``[T, B, D]``,
``is_first`` ``[T, B]``, logits ``[T, B, A]`` and values ``[T, B]``. The environments are part of the compiled program.
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
"""steps per rollout in each environment"""
NUM_EPOCHS = 4
"""passes over a rollout"""
NUM_MINIBATCHES = 4
"""updates per pass"""

GAMMA = 0.99
"""discount per step"""
GAE_LAMBDA = 0.95
CLIP_RANGE = 0.2
VALUE_COEFFICIENT = 0.005
ENTROPY_COEFFICIENT = 0.01


class Transition(NamedTuple):
    """T steps of B environments; each field but the observation is ``[T, B]``."""

    observation: jax.Array
    """``[T, B, D]``"""
    is_first: jax.Array
    """whether the observation is the first of an episode"""
    action: jax.Array
    log_prob: jax.Array
    """log-probability of the action when it was taken"""
    value: jax.Array
    """the critic's value of the observation"""
    done: jax.Array
    """whether the action ended the episode"""


class Rollout(NamedTuple):
    """T steps of B environments, with the LSTM state before them and the value after them."""

    state: Any
    """state of the policy's LSTM before the first step, ``[B, H]``"""
    steps: Transition
    last_value: jax.Array
    """the critic's value after the last step, ``[B]``"""

    def select(self, rows: jax.Array) -> "Rollout":
        """Returns the rollout of the environments with these indices."""
        state, last_value = jax.tree.map(lambda leaf: leaf[rows], (self.state, self.last_value))
        return Rollout(state, jax.tree.map(lambda leaf: leaf[:, rows], self.steps), last_value)


def advantages(rollout: Rollout) -> jax.Array:
    """Returns generalized advantage estimates (Schulman et al. 2016) for a reward of 1 per step, ``[T, B]``."""

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
    """Computes PPO's clipped loss: policy, value and entropy terms.

    Args:
        logits: action logits of the current parameters, ``[T, B, A]``.
        value: values of the current parameters, ``[T, B]``.
        steps: the steps of the rollout.
        advantage: advantage estimates, ``[T, B]``.
    Returns:
        (loss, ratio): ratio is the probability of each action divided by that when it was taken, ``[T, B]``.
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
    """State of B environments and of the policy between two steps."""

    env_state: pole.EnvState
    lstm_state: lj.LSTMState
    is_first: jax.Array
    """whether the next observation is the first of an episode, ``[B]``"""


def init_runner(key: jax.Array, params: Any, num_envs: int) -> RunnerState:
    """Starts an episode in each environment, with the LSTM's zero state.

    Args:
        key: PRNG key of the environments.
        params: parameters of the policy; ``params.lstm`` determines the size of the state.
        num_envs: number of environments.
    """
    return RunnerState(pole.reset(key, num_envs), lj.zero_state(params.lstm, (num_envs,)), jnp.ones(num_envs, bool))


def _step_policy(policy: Policy, params: Any, runner: RunnerState) -> tuple[Any, jax.Array, jax.Array]:
    """Applies the policy to the current observations; returns (state, logits ``[B, 2]``, value ``[B]``)."""
    observation = pole.observe(runner.env_state)
    state, logits, value = policy(params, observation[None], runner.lstm_state, runner.is_first[None])
    return state, logits[0], value[0]


def collect_rollout(policy: Policy, params: Any, runner: RunnerState, key: jax.Array) -> tuple[RunnerState, Rollout]:
    """Collects NUM_STEPS steps of every environment with sampled actions.

    Args:
        policy: the policy.
        params: its parameters.
        runner: state before the first step.
        key: PRNG key of actions and resets.
    Returns:
        (runner, rollout): state after the last step, and the steps.
    """

    def step(runner: RunnerState, key: jax.Array) -> tuple[RunnerState, Transition]:
        """Samples an action in every environment and takes it."""
        action_key, env_key = jax.random.split(key)
        state, logits, value = _step_policy(policy, params, runner)
        action = jax.random.categorical(action_key, logits)
        log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], axis=-1)[:, 0]
        env_state, done = pole.step(env_key, runner.env_state, action)
        observation = pole.observe(runner.env_state)
        transition = Transition(observation, runner.is_first, action, log_prob, value, done)
        return RunnerState(env_state, state, done), transition

    next_runner, steps = jax.lax.scan(step, runner, jax.random.split(key, NUM_STEPS))
    return next_runner, Rollout(runner.lstm_state, steps, _step_policy(policy, params, next_runner)[2])


def replay_loss(params: Any, policy: Policy, rollout: Rollout, advantage: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Computes PPO's loss of a rollout, with the policy unrolled from the rollout's LSTM state.

    Args:
        params: parameters of the policy.
        policy: the policy.
        rollout: T steps of B environments.
        advantage: advantage estimates, ``[T, B]``.
    Returns:
        (loss, ratio): as in ``ppo_loss``.
    """
    steps = rollout.steps
    _, logits, value = policy(params, steps.observation, rollout.state, steps.is_first)
    return ppo_loss(logits, value, steps, advantage)


def make_train_iteration(policy: Policy, optimizer: optax.GradientTransformation) -> Any:
    """Makes the compiled function that collects a rollout and updates the policy on it.

    Args:
        policy: the policy.
        optimizer: its ``update`` takes ``progress``.
    Returns:
        ``iterate(params, opt_state, runner, key, progress) -> (params, opt_state, runner, ratio)``: progress is the
        completed share of training; ratio is that of the first update, which is 1 up to rounding.
    """

    @jax.jit
    def iterate(params: Any, opt_state: Any, runner: RunnerState, key: jax.Array, progress: jax.Array) -> tuple:
        """Collects a rollout and takes NUM_EPOCHS * NUM_MINIBATCHES optimizer steps on it."""
        rollout_key, shuffle_key = jax.random.split(key)
        runner, rollout = collect_rollout(policy, params, runner, rollout_key)
        advantage = advantages(rollout)

        def update(carry: tuple, rows: jax.Array) -> tuple[tuple, jax.Array]:
            """Takes one optimizer step on a minibatch of environments."""
            params, opt_state = carry
            grads, ratio = jax.grad(replay_loss, has_aux=True)(params, policy, rollout.select(rows), advantage[:, rows])
            updates, opt_state = optimizer.update(grads, opt_state, params, progress=progress)
            return (optax.apply_updates(params, updates), opt_state), ratio

        keys = jax.random.split(shuffle_key, NUM_EPOCHS)
        orders = jax.vmap(lambda key: jax.random.permutation(key, NUM_ENVS))(keys)
        rows = orders.reshape(NUM_EPOCHS * NUM_MINIBATCHES, -1)
        (params, opt_state), ratios = jax.lax.scan(update, (params, opt_state), rows)
        return params, opt_state, runner, ratios[0]

    return iterate


@partial(jax.jit, static_argnames=("policy", "num_episodes"))
def play_episodes(policy: Policy, num_episodes: int, params: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Plays one episode per environment, with the most probable action at each step.

    Args:
        policy: the policy.
        num_episodes: number N of episodes.
        params: parameters of the policy.
        key: PRNG key of the environments.
    Returns:
        (theta, running): the pole's angle in radians, ``[MAX_STEPS, N]``, and whether the episode is still running,
        ``[MAX_STEPS, N]``.
    """
    start = init_runner(key, params, num_episodes), jnp.ones(num_episodes, bool)

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, tuple]:
        """Takes one step in every environment."""
        runner, running = carry
        state, logits, _ = _step_policy(policy, params, runner)
        env_state, done = pole.step(key, runner.env_state, jnp.argmax(logits, axis=-1))
        return (RunnerState(env_state, state, done), running & ~done), (runner.env_state.theta, running)

    return jax.lax.scan(step, start, jax.random.split(key, pole.MAX_STEPS))[1]

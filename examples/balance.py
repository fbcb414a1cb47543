"""Balances a pole whose speeds are not observed: PPO with an LSTM, agent and environment in one compiled program.

    python examples/balance.py                     # with memory
    python examples/balance.py --memory none       # without: the speeds stay unknown

A pole on a cart (Barto, Sutton and Anderson 1983, with CartPole-v1's constants) of which only the cart's position and
the pole's angle are observed. The LSTM acts step by step in many environments, and learns from whole rollouts with
`resets` where an episode ended (Schulman et al. 2017; recurrent as in Ni et al. 2022). Solved means 475 of 500 steps on
average. Expect that within 1.6 million steps, a minute; without memory the pole stays up for 42 steps after 8 million.

The model that --save keeps, from Python in the folder examples:

    import balance
    agent = balance.load("runs/balance")
    print(balance.mean_episode_length(agent, key=1), "of 500 steps")
"""

import argparse
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from common import pole, results, saved
from common.options import Count, Positive, new_parser, parse
from common.ppo import NUM_ENVS, NUM_STEPS, init_runner, make_train_iteration, play_episodes
from tqdm import tqdm

import lstm_jax as lj
from lstm_jax import training
from lstm_jax.models.layers import DenseParams, dense, init_dense

NUM_TEST_EPISODES, SOLVED_STEPS = 100, 475


class Settings(NamedTuple):
    """Settings of the model and its training; --set NAME=VALUE changes one."""

    hidden: Count = 64
    learning_rate: Positive = 2e-3
    iterations: Count = 1000  # rollouts at most


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = new_parser(__doc__)
    parser.add_argument("--memory", choices=("lstm", "none"), default="lstm", help="(%(default)s)")
    return parse(parser, arguments, __file__, Settings, smoke={"iterations": 2, "hidden": 8})


class Params(NamedTuple):
    """Parameters of actor and critic."""

    lstm: lj.LSTMParams
    actor: DenseParams
    critic: DenseParams


def init_model(key: jax.Array, hidden: int) -> Params:
    """Initializes an LSTM layer and two dense heads; a small actor head makes both actions about equally probable."""
    keys = jax.random.split(key, 3)
    actor = init_dense(keys[1], hidden, 2)
    critic = init_dense(keys[2], hidden, 1)
    return Params(lj.init_params(keys[0], 2, hidden), actor._replace(kernel=0.01 * actor.kernel), critic)


def apply_model(
    params: Params, observation: jax.Array, state: lj.LSTMState, is_first: jax.Array, memory: bool
) -> tuple[lj.LSTMState, jax.Array, jax.Array]:
    """Returns (state, logits ``[T, B, 2]``, value ``[T, B]``); without memory the state is reset at every step."""
    resets = is_first if memory else jnp.ones_like(is_first)
    state, ys = lj.lstm(params.lstm, observation, state, resets=resets)
    return state, dense(params.actor, ys), dense(params.critic, ys)[..., 0]


POLICIES = {"lstm": partial(apply_model, memory=True), "none": partial(apply_model, memory=False)}


def train(options: argparse.Namespace) -> tuple[saved.Model, saved.Model, list[tuple[int, float]]]:
    """Trains until solved; returns the untrained and the trained agent, and pairs (environment steps, mean length)."""
    policy, keys = POLICIES[options.memory], jax.random.split(jax.random.key(options.seed), 4)
    params = init_model(keys[0], options.hidden)
    untrained = saved.Model(params, {"sizes": {"hidden": options.hidden}, "memory": options.memory})
    optimizer = training.adam(options.learning_rate, warmup=0.0)
    opt_state, runner = optimizer.init(params), init_runner(keys[1], params, NUM_ENVS)
    iterate, history = make_train_iteration(policy, optimizer), [(0, mean_episode_length(untrained, keys[2]))]
    num_iterations = 0 if options.load else options.iterations
    with tqdm(range(1, num_iterations + 1), unit="rollout", dynamic_ncols=True, disable=not num_iterations) as bar:
        for number in bar:
            key = jax.random.fold_in(keys[3], number - 1)
            progress = (number - 1) / num_iterations
            params, opt_state, runner, _ = iterate(params, opt_state, runner, key, progress)
            if number % 10 == 0 or number == num_iterations:
                length = mean_episode_length(untrained._replace(params=params), keys[2])
                history.append((number * NUM_ENVS * NUM_STEPS, length))
                bar.set_postfix_str(f"{length:.0f} steps up")
                if length >= SOLVED_STEPS:
                    break
    return untrained, untrained._replace(params=params), history


def load(folder: str | Path) -> saved.Model:
    """Loads an agent that --save wrote."""
    return saved.load(folder, "balance", init_model)


def play(agent: saved.Model, key: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Plays 100 episodes greedily; returns the pole's angles and whether each episode still runs, ``[T, N]`` each."""
    theta, running = play_episodes(POLICIES[agent.notes["memory"]], NUM_TEST_EPISODES, agent.params, key)
    return np.asarray(theta), np.asarray(running)


def mean_episode_length(agent: saved.Model, key: jax.Array | int = 99) -> float:
    """Returns the mean length of 100 episodes in steps; the key, or its seed, determines their initial states."""
    key = jax.random.key(key) if isinstance(key, int) else key
    return float(play(agent, key)[1].sum(axis=0).mean())


def main(arguments: list[str] | None = None) -> float:
    """Trains until solved, plays and plots; returns the mean length of new episodes."""
    options = parse_options(arguments)
    with results.Timer() as timer:
        untrained, agent, history = train(options)
    if options.load:
        agent = load(options.load)
        if agent.notes["memory"] != options.memory:
            raise SystemExit(f"--memory: got {options.memory}, want {agent.notes['memory']}, as in --load")
    saved.save(options.save, options.example, agent)
    length = mean_episode_length(agent)
    verdict = "solved" if length >= SOLVED_STEPS else "not solved"
    print(f"{verdict}: {length:.0f} of {pole.MAX_STEPS} steps up on average, at first {history[0][1]:.0f}")
    key, angles = jax.random.split(jax.random.key(options.seed), 4)[2], {}
    for name, played in {"before": untrained, "after": agent}.items():
        theta, running = play(played, key)
        angles[name] = theta[running[:, 0], 0]
    pole.plot_learning(angles, history, SOLVED_STEPS, options.picture)
    scores = {"steps up": length, "environment steps": float(history[-1][0])}
    naive = {"before learning": history[0][1]}
    results.record(options, params=agent.params, seconds=timer.seconds, measured=scores, naive=naive)
    return length


if __name__ == "__main__":
    main()

"""Balances a pole without seeing how fast it falls: PPO with an LSTM, environment and all in one program.

    python examples/balance.py                     # with memory
    python examples/balance.py --memory none       # without: it cannot know the speeds

A pole on a cart (Barto, Sutton and Anderson 1983, with CartPole-v1's constants) of which only the cart's place and the
pole's angle are seen. Many poles at once; the LSTM acts step by step, and learns from whole roll-outs with `resets`
where an episode ended (Schulman et al. 2017; recurrent as in Ni et al. 2022). Solved means 475 of 500 steps on average.
Expect that within 1.6 million steps, a minute; without memory the pole stays up for 42 steps after 8 million.
"""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import pole, results, saved
from common.pole import LONGEST, World
from tqdm import tqdm

import lstm_jax as lj
from lstm_jax import training
from lstm_jax.models.layers import DenseParams, dense, init_dense

EXAMPLE = "balance"
HIDDEN = 64
POLES, STEPS = 64, 128
"""environments, and steps of a roll-out"""
ROUNDS = 1000
LOOKS, PARTS = 4, 4
"""times that a roll-out is learned from, each in so many parts"""
LEARNING_RATE = 2e-3
DISCOUNT, TRACE, CLIP, ENTROPY = 0.99, 0.95, 0.2, 0.01
SOLVED = 475


class Params(NamedTuple):
    """Parameters of actor and critic."""

    lstm: lj.LSTMParams
    actor: DenseParams
    critic: DenseParams


def init_model(key: jax.Array, hidden: int) -> Params:
    """One LSTM layer, and a dense layer for each; the actor's is small, so that it tries both ways."""
    keys = jax.random.split(key, 3)
    actor = init_dense(keys[1], hidden, 2)
    critic = init_dense(keys[2], hidden, 1)
    return Params(lj.init_params(keys[0], 2, hidden), actor._replace(kernel=0.01 * actor.kernel), critic)


def decide(
    params: Params, seen: jax.Array, state: lj.LSTMState, resets: jax.Array, memory: bool
) -> tuple[lj.LSTMState, jax.Array, jax.Array]:
    """(state, scores of both actions ``[T, B, 2]``, value ``[T, B]``) of what is seen ``[T, B, 2]``.

    Without memory each step is one of its own: a boundary before every one.
    """
    resets = resets if memory else jnp.ones_like(resets)
    state, ys = lj.lstm(params.lstm, seen, state, resets=resets)
    return state, dense(params.actor, ys), dense(params.critic, ys)[..., 0]


class Steps(NamedTuple):
    """What happened; ``[T, B]`` each."""

    seen: jax.Array
    """``[T, B, 2]``"""
    resets: jax.Array
    """whether an episode begins here"""
    action: jax.Array
    logp: jax.Array
    """of the action, when it was taken"""
    value: jax.Array
    ended: jax.Array


class Rollout(NamedTuple):
    """What happened, and what was before and behind it."""

    state: lj.LSTMState
    """before the first step, ``[B, H]``"""
    steps: Steps
    last_value: jax.Array
    """behind the last step, ``[B]``"""


class Place(NamedTuple):
    """Where acting goes on."""

    world: World
    state: lj.LSTMState
    fresh: jax.Array
    """whether an episode begins"""


def act(params: Params, place: Place, key: jax.Array, memory: bool) -> tuple[Place, Rollout]:
    """STEPS steps of every pole."""

    def step(place: Place, key: jax.Array) -> tuple[Place, Steps]:
        draw, again = jax.random.split(key)
        seen = pole.see(place.world)
        state, scores, value = decide(params, seen[None], place.state, place.fresh[None], memory)
        action = jax.random.categorical(draw, scores[0])
        logp = jnp.take_along_axis(jax.nn.log_softmax(scores[0]), action[:, None], axis=-1)[:, 0]
        world, ended = pole.move(again, place.world, action)
        return Place(world, state, ended), Steps(seen, place.fresh, action, logp, value[0], ended)

    after, steps = jax.lax.scan(step, place, jax.random.split(key, STEPS))
    last = decide(params, pole.see(after.world)[None], after.state, after.fresh[None], memory)[2][0]
    return after, Rollout(place.state, steps, last)


def advantages(rollout: Rollout) -> jax.Array:
    """Generalised advantage estimates (Schulman et al. 2016): every step is worth 1."""

    def back(carry: tuple, step: tuple) -> tuple[tuple, jax.Array]:
        following, ahead = carry
        value, ended = step
        goes_on = 1.0 - ended.astype(jnp.float32)
        surprise = 1.0 + DISCOUNT * goes_on * following - value
        ahead = surprise + DISCOUNT * TRACE * goes_on * ahead
        return (value, ahead), ahead

    start = (rollout.last_value, jnp.zeros_like(rollout.last_value))
    return jax.lax.scan(back, start, (rollout.steps.value, rollout.steps.ended), reverse=True)[1]


def loss_fn(params: Params, rollout: Rollout, gain: jax.Array, memory: bool) -> tuple[jax.Array, jax.Array]:
    """PPO's clipped loss, and the ratio of new to old probabilities ``[T, B]``."""
    steps = rollout.steps
    _, scores, value = decide(params, steps.seen, rollout.state, steps.resets, memory)
    logp = jax.nn.log_softmax(scores)
    taken = jnp.take_along_axis(logp, steps.action[..., None], axis=-1)[..., 0]
    ratio = jnp.exp(taken - steps.logp)
    aim = (gain - gain.mean()) / (gain.std() + 1e-8)
    better = jnp.minimum(ratio * aim, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * aim).mean()
    off = jnp.mean((value - (steps.value + gain)) ** 2)
    entropy = -jnp.sum(jnp.exp(logp) * logp, axis=-1).mean()
    return 0.5 * 1e-2 * off - better - ENTROPY * entropy, ratio


def rows_of(rollout: Rollout, rows: jax.Array) -> Rollout:
    """Some of the poles."""
    first, last = jax.tree.map(lambda leaf: leaf[rows], (rollout.state, rollout.last_value))
    return Rollout(first, jax.tree.map(lambda leaf: leaf[:, rows], rollout.steps), last)


def make_round(optimizer: optax.GradientTransformation, memory: bool) -> Any:
    """``round(params, opt_state, place, key, progress)``: a roll-out, and what is learned from it.

    It returns all of these anew, and the ratios of the first update, which are 1: acting and replaying agree.
    """

    @jax.jit
    def one(params: Params, opt_state: Any, place: Place, key: jax.Array, progress: jax.Array) -> tuple:
        acting, shuffling = jax.random.split(key)
        place, rollout = act(params, place, acting, memory)
        gain = advantages(rollout)

        def learn(carry: tuple, rows: jax.Array) -> tuple[tuple, jax.Array]:
            params, opt_state = carry
            part = rows_of(rollout, rows)
            gradient, ratio = jax.grad(loss_fn, has_aux=True)(params, part, gain[:, rows], memory)
            updates, opt_state = optimizer.update(gradient, opt_state, params, progress=progress)
            return (optax.apply_updates(params, updates), opt_state), ratio

        orders = jax.vmap(lambda key: jax.random.permutation(key, POLES))(jax.random.split(shuffling, LOOKS))
        (params, opt_state), ratios = jax.lax.scan(learn, (params, opt_state), orders.reshape(LOOKS * PARTS, -1))
        return params, opt_state, place, ratios[0]

    return one


def start(key: jax.Array, params: Params, count: int) -> Place:
    """Poles at the beginning of an episode."""
    return Place(pole.begin(key, count), lj.zero_state(params.lstm, (count,)), jnp.ones(count, bool))


@partial(jax.jit, static_argnames=("memory", "count"))
def watch(params: Params, key: jax.Array, memory: bool, count: int = 100) -> World:
    """The likelier action always; ``[LONGEST, count]`` of what happened, ages counting up to each one's first end."""
    place = start(key, params, count)

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, World]:
        place, up = carry
        state, scores, _ = decide(params, pole.see(place.world)[None], place.state, place.fresh[None], memory)
        world, ended = pole.move(key, place.world, jnp.argmax(scores[0], axis=-1))
        seen = place.world._replace(age=up.astype(jnp.int32))
        return (Place(world, state, ended), up & ~ended), seen

    return jax.lax.scan(step, (place, jnp.ones(count, bool)), jax.random.split(key, LONGEST))[1]


def draw(worlds: dict[str, World], history: list[tuple[int, float]], path: Path) -> None:
    """A picture: learning, and a pole's angle while the model acts."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(*zip(*history, strict=True), "o-", color="#0072B2")
    left.axhline(SOLVED, color="#D55E00", linestyle="--", label="solved")
    left.set(xlabel="environment steps", ylabel="steps up, mean of 100 poles", ylim=(0, LONGEST * 1.05))
    left.legend()
    for name, world in worlds.items():
        up = int(world.age[:, 0].sum())
        right.plot(np.degrees(world.angle[:up, 0]), label=f"{name}: {up} steps")
    right.set(xlabel="step", ylabel="angle of one pole (degrees)")
    right.legend()
    figure.savefig(path, dpi=110)


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", choices=("lstm", "none"), default="lstm", help="(%(default)s)")
    parser.add_argument("--hidden", type=results.whole, default=HIDDEN, help="units (%(default)s)")
    parser.add_argument("--rounds", type=results.whole, default=ROUNDS, help="roll-outs at most (%(default)s)")
    parser.add_argument("--load", type=Path, help="a folder that --save wrote: act only")
    parser.add_argument("--picture", type=Path, default=Path("balance.png"), help="(%(default)s)")
    options = results.parse(parser, arguments, __file__)
    if options.smoke:
        options.rounds, options.hidden = 2, 8
    return options


def main(arguments: list[str] | None = None) -> float:
    """Learns until solved, shows, draws; returns the mean steps up of 100 fresh poles."""
    options = parse_options(arguments)
    memory = options.memory == "lstm"
    keys = jax.random.split(jax.random.key(options.seed), 4)
    params = init_model(keys[0], options.hidden)
    before = params
    optimizer = training.adam(LEARNING_RATE, warmup=0.0)
    opt_state, place = optimizer.init(params), start(keys[1], params, POLES)
    one = make_round(optimizer, memory)
    history, began = [(0, steps_up(params, keys[2], memory))], time.monotonic()
    if options.load:
        params, notes, _ = saved.load(options.load, EXAMPLE, init_model)
        if notes["memory"] != options.memory:
            raise SystemExit(f"--load: got a model with --memory {notes['memory']}, want the same")
    else:
        with tqdm(range(options.rounds), unit="round", dynamic_ncols=True) as bar:
            for number in bar:
                key = jax.random.fold_in(keys[3], number)
                params, opt_state, place, _ = one(params, opt_state, place, key, number / options.rounds)
                if (number + 1) % 10 == 0 or number + 1 == options.rounds:
                    history.append(((number + 1) * POLES * STEPS, steps_up(params, keys[2], memory)))
                    bar.set_postfix_str(f"{history[-1][1]:.0f} steps up")
                    if history[-1][1] >= SOLVED:
                        break
    seconds = time.monotonic() - began
    if options.save:
        saved.save(options.save, EXAMPLE, params, {"sizes": {"hidden": options.hidden}, "memory": options.memory})
    found = steps_up(params, jax.random.key(99), memory)
    verdict = "solved" if found >= SOLVED else "not solved"
    print(f"{verdict}: {found:.0f} of {LONGEST} steps up on average, at first {history[0][1]:.0f}")
    worlds = {"before": watch(before, keys[2], memory), "after": watch(params, keys[2], memory)}
    draw(worlds, history, options.picture)
    results.record(
        options,
        params=params,
        seconds=seconds,
        measured={"steps up": found, "environment steps": float(history[-1][0])},
        naive={"before learning": history[0][1]},
    )
    return found


def steps_up(params: Params, key: jax.Array, memory: bool) -> float:
    """The mean of 100 poles."""
    return float(watch(params, key, memory).age.sum(axis=0).mean())


if __name__ == "__main__":
    main()

"""Speed and memory of a training step beside flax linen and PyTorch, in one process.

    python -m benchmarks.run                    # every workload
    python -m benchmarks.run base --rounds 30

Each row is the value and gradient of a mean squared error with respect to parameters and inputs. Rounds are
interleaved, each in a new random order, because whoever follows a spinning thread pool pays for it. The ratio is
linen's time over the row's, its median over the rounds: above 1 is faster than linen. Memory is the peak of temporary
arrays that XLA plans, in units of one [T, B, H] array. Losses and gradients are compared before anything is timed.
"""

import argparse
import importlib.metadata
import platform
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

import lstm_jax as lj
from benchmarks.workloads import WORKLOADS, Workload
from lstm_jax.structs import split_gates

WARM_UP = 2


class Contender(NamedTuple):
    """One row: a call that runs a training step to its end, and the peak of its temporary memory."""

    step: Callable[[], Any]
    bytes: int | None


def contenders(workload: Workload) -> dict[str, Contender]:
    """All rows of a workload, on the same weights and data, with equal outputs and gradients."""
    keys = jax.random.split(jax.random.key(0), 3)
    params = lj.init_params(keys[0], workload.D, workload.H)
    xs = jax.random.normal(keys[1], (workload.T, workload.B, workload.D))
    target = jax.random.normal(keys[2], (workload.T, workload.B, workload.H))
    layer = linen.RNN(linen.OptimizedLSTMCell(workload.H), time_major=True)
    rows = {"linen": _compiled(lambda params, xs: layer.apply(params, xs), to_linen(params), xs, target)}
    for remat in ("gates", "states"):
        apply = partial(_outputs, remat)
        rows[f"lstm_jax {remat}"] = _compiled(apply, params, xs, target)
    if (row := torch_row(params, xs, target)) is not None:
        rows["torch"] = row
    reference = rows["linen"].step()
    for name, row in list(rows.items())[1:]:
        loss, (dparams, dxs) = row.step()
        results = (loss, (to_linen(dparams), dxs))
        for got, want in zip(jax.tree.leaves(results), jax.tree.leaves(reference), strict=True):
            error = np.abs(got - want).max() / np.abs(want).max()
            if not error < 1e-4:
                raise AssertionError(
                    f"{name}: a loss or gradient differs from linen's by {error:.1e} of its largest entry"
                )
    return rows


def to_linen(params: lj.LSTMParams) -> dict:
    """The parameters as linen's LSTM cells store them: one kernel a gate, the bias on the recurrent side."""
    blocks = zip("ifgo", *(split_gates(leaf) for leaf in params), strict=True)
    cell = {}
    for gate, kernel, recurrent, bias in blocks:
        cell[f"i{gate}"] = {"kernel": kernel}
        cell[f"h{gate}"] = {"kernel": recurrent, "bias": bias}
    return {"params": {"cell": cell}}


def _outputs(remat: str, params: lj.LSTMParams, xs: jax.Array) -> jax.Array:
    return lj.lstm(params, xs, remat=remat)[1]


def _compiled(apply: Callable, params: Any, xs: jax.Array, target: jax.Array) -> Contender:
    def loss(params: Any, xs: jax.Array) -> jax.Array:
        return jnp.mean((apply(params, xs) - target) ** 2)

    step = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(params, xs).compile()
    memory = step.memory_analysis()
    return Contender(lambda: jax.block_until_ready(step(params, xs)), memory.temp_size_in_bytes if memory else None)


def torch_row(params: lj.LSTMParams, xs: jax.Array, target: jax.Array) -> Contender | None:
    """``torch.nn.LSTM`` on the CPU, or None with a message if torch is not installed."""
    try:
        import torch
    except ImportError:
        print("torch: not installed, no row")
        return None
    layer = torch.nn.LSTM(params.input_kernel.shape[0], params.recurrent_kernel.shape[0])
    values = (params.input_kernel.T, params.recurrent_kernel.T, params.bias, jnp.zeros_like(params.bias))
    with torch.no_grad():
        for parameter, value in zip(layer.parameters(), values, strict=True):
            parameter.copy_(torch.tensor(np.asarray(value)))
    inputs = torch.tensor(np.asarray(xs), requires_grad=True)
    wanted = torch.tensor(np.asarray(target))

    def step() -> Any:
        layer.zero_grad()
        inputs.grad = None
        loss = torch.nn.functional.mse_loss(layer(inputs)[0], wanted)
        loss.backward()
        kernel, recurrent, bias, _ = (jnp.asarray(np.asarray(parameter.grad).T) for parameter in layer.parameters())
        return loss.detach().numpy(), (lj.LSTMParams(kernel, recurrent, bias), np.asarray(inputs.grad))

    return Contender(step, None)


def measure(rows: dict[str, Contender], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of each row in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    order = np.random.default_rng(0)
    for number in range(WARM_UP + rounds):
        for name in order.permutation(list(rows)):
            start = time.perf_counter()
            rows[name].step()
            if number >= WARM_UP:
                seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def report(name: str, rounds: int) -> None:
    """Prints one workload's table."""
    workload = WORKLOADS[name]
    rows = contenders(workload)
    seconds = measure(rows, rounds)
    print(f"\n{name}: T={workload.T} B={workload.B} D={workload.D} H={workload.H}, float32, {rounds} rounds")
    print("| row | ms | quartiles | times linen's speed | memory, T*B*H | of linen's |\n|---|---|---|---|---|---|")
    unit = 4 * workload.T * workload.B * workload.H
    for row, times in seconds.items():
        low, middle, high = np.percentile(times * 1e3, [25, 50, 75])
        speed = np.median(seconds["linen"] / times)
        peak, whole = rows[row].bytes, rows["linen"].bytes
        memory = "not measured | -" if peak is None or whole is None else f"{peak / unit:.2f} | {peak / whole:.2f}"
        print(f"| {row} | {middle:.2f} | {low:.2f} to {high:.2f} | {speed:.2f} | {memory} |")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", default=list(WORKLOADS), help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--rounds", type=int, default=20, help="timed rounds (%(default)s)")
    options = parser.parse_args()
    unknown = sorted(set(options.workloads) - set(WORKLOADS))
    if unknown or options.rounds < 1:
        parser.error(
            f"want workloads of {', '.join(WORKLOADS)} and at least one round, got {unknown}, {options.rounds}"
        )
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "flax"))
    print(f"{date.today()}, {jax.devices()[0].device_kind} ({platform.machine()}), {versions}")
    for name in options.workloads:
        report(name, options.rounds)


if __name__ == "__main__":
    main()

"""Eight devices, or two processes, train as one does; gradients are reduced once a step, outside every loop."""

import os
import signal
import socket

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_resume import STEPS, finish, start

import lstm_jax as lj
from benchmarks.hlo import count_executed
from lstm_jax import training

T, B, D, H = 24, 8, 3, 16


@pytest.fixture(scope="module")
def one_device():
    return finish(start("--rate", 0))["history"]


def assert_same_curve(got, want):
    """Sums over rows in another order, 60 steps of Adam on: 1e-4 of each number."""
    assert [row.keys() for row in got] == [row.keys() for row in want]
    for got_row, want_row in zip(got, want, strict=True):
        for name in got_row:
            np.testing.assert_allclose(
                got_row[name], want_row[name], rtol=1e-4, atol=1e-6, err_msg=f"{name} of {got_row}"
            )


def test_eight_devices_train_as_one(one_device, tmp_path):
    flags = {"env": {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}}
    assert_same_curve(finish(start("--rate", 0, "--mesh", "data=8", **flags))["history"], one_device)


@pytest.mark.long
def test_two_processes_train_as_one(one_device, tmp_path):
    """Real processes that talk over a socket; the second run goes on from the checkpoint of the first."""
    environment = {**os.environ, "XLA_FLAGS": ""}

    def both(*arguments):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        common = ("--rate", 0, "--mesh", "data=2", "--processes", 2, "--port", port, *arguments)
        started = [start(*common, "--process", process, env=environment) for process in (0, 1)]
        return [finish(process) for process in started]

    first, second = both("--folder", tmp_path, "--steps", 30)
    assert first["bits"] == second["bits"]
    resumed, _ = both("--folder", tmp_path, "--resume", "--own-rows")  # each reads half of what the first run read
    assert_same_curve(resumed["history"], one_device)


@pytest.mark.long
def test_an_interruption_of_one_process_ends_both_at_the_same_step(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    common = ("--rate", 0, "--mesh", "data=2", "--processes", 2, "--port", port, "--folder", tmp_path, "--slow", 0.1)
    environment = {**os.environ, "XLA_FLAGS": ""}
    processes = [start(*common, "--announce", "--process", number, env=environment) for number in (0, 1)]
    next(line for line in processes[1].stdout if line == "row\n")  # Gloo prints lines of its own before
    processes[1].send_signal(signal.SIGTERM)
    first, second = map(finish, processes)
    assert first["stop_reason"] == second["stop_reason"] == "interrupted"
    assert first["bits"] == second["bits"]
    assert first["history"][-1]["step"] == second["history"][-1]["step"] < STEPS


@pytest.mark.usefixtures("standard_promotion")
def test_windows_over_devices_are_those_of_one():
    params = lj.init_params(jax.random.key(0), D, D, dtype=jnp.float64)
    batches = [np.asarray(jax.random.normal(jax.random.key(number), (T, B, D))) for number in range(3)]
    carry = lj.zero_state(params, (B,))

    def loss_fn(params, carry, xs, key):
        carry, ys = lj.lstm(params, xs, carry)
        errors = (ys - xs) ** 2
        return errors.mean(), (carry, {"loss": training.metrics.mean(errors)})

    def fit(loss_fn, devices):
        step = training.make_tbptt_step(loss_fn, training.optimizers.optax.sgd(0.1), 8, 16)
        validation = training.Validation(batches, 2, carry=carry)
        options = {"validation": validation, "devices": devices, "progress_bar": False}
        return training.fit(step, params, batches, steps=4, key=jax.random.key(0), carry=carry, **options)

    devices = training.Devices(training.parse_mesh("data=2"))
    got, want = fit(devices.parallel(loss_fn), devices), fit(loss_fn, None)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), got.params, want.params)
    np.testing.assert_allclose(got.best["valid loss"], want.best["valid loss"], rtol=1e-10)


@pytest.mark.usefixtures("standard_promotion", "short_chunks")
def test_each_gradient_is_reduced_once_where_a_plain_scan_of_linen_does_it_at_every_step():
    from flax import linen

    devices = training.Devices(training.parse_mesh("data=2"))
    xs = np.ones((T, B, D), np.float32)

    def step_of(loss_fn, parameters):
        optimizer = training.optimizers.optax.sgd(0.1)
        state = devices.place_state(training.init_state(parameters, optimizer, jax.random.key(0)))
        step = jax.jit(training.make_train_step(loss_fn, optimizer))
        return step.lower(state, devices.to_device(xs)).compile().as_text()

    ours = lj.init_params(jax.random.key(0), D, H)
    loss = training.stateless(lambda params, xs, key: (jnp.mean(lj.lstm(params, xs, remat="states")[1] ** 2), {}))
    layer = linen.RNN(linen.OptimizedLSTMCell(H), time_major=True)
    theirs = layer.init(jax.random.key(0), xs)
    scan = training.stateless(lambda params, xs, key: (jnp.mean(layer.apply(params, xs) ** 2), {}))

    reduces = lambda kind: kind in ("all-reduce", "all-reduce-start")  # noqa: E731
    our_reduces = count_executed(step_of(devices.parallel(loss), ours), reduces)
    linen_reduces = count_executed(step_of(scan, theirs), reduces)
    print(f"all-reduces in a step of T={T}: {our_reduces} here, {linen_reduces} in linen's scan")
    assert 1 <= our_reduces <= len(jax.tree.leaves(ours)) + 2  # and the loss with its weight
    assert linen_reduces >= T


def test_a_key_of_its_own_for_each_device():
    devices = training.Devices(training.parse_mesh("data=2"))
    loss_fn = training.stateless(
        lambda params, xs, key: (jnp.sum(params), {"loss": training.metrics.mean(jax.random.normal(key, (1000,)) ** 2)})
    )
    params, xs = jnp.ones(3), np.ones((T, B, D))
    both = jax.jit(devices.parallel(loss_fn))(params, None, devices.to_device(xs), jax.random.key(0))[1][1]["loss"]
    drawn = [jax.random.normal(jax.random.fold_in(jax.random.key(0), device), (1000,)) for device in (0, 1)]
    assert both.weight == 2000
    np.testing.assert_allclose(both.total, sum(jnp.sum(sample**2) for sample in drawn), rtol=1e-6)


def test_devices_count_by_what_they_hold():
    """Padding on one of them: the mean over all that counts, not the mean of two means."""
    devices = training.Devices(training.parse_mesh("data=2"), batch=(training.ROWS_SECOND, training.ROWS_SECOND))
    values = np.arange(T * B, dtype=np.float64).reshape(T, B)
    mask = np.ones((T, B), bool)
    mask[3:, : B // 2] = False

    def loss(params, batch, key):
        counted = training.metrics.mean(params * batch[0], batch[1])
        return counted.value(), {"loss": counted}

    state = training.stateless(loss)
    value, slope = jax.value_and_grad(
        lambda p: devices.parallel(state)(p, None, devices.to_device((values, mask)), None)[0]
    )(jnp.float64(2.0))
    np.testing.assert_allclose(value, 2 * values[mask].mean(), rtol=1e-12)
    np.testing.assert_allclose(slope, values[mask].mean(), rtol=1e-12)


def test_rows_on_another_axis_than_said_are_named():
    devices = training.Devices(training.parse_mesh("data=2"))
    with pytest.raises(ValueError, match=r"batch\.y: got shape \(8,\), .*batch=training\.ROWS_FIRST"):
        devices.to_device({"x": np.zeros((8, T, D)), "y": np.zeros(8)})
    with pytest.raises(ValueError, match=r"batch: got 3 rows on axis 0 .*, want a multiple of 2"):
        devices._replace(batch=training.ROWS_FIRST).to_device(np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"carry: got shape \(\)"):
        devices.place_state(training.init_state({}, training.optimizers.optax.sgd(0.1), jax.random.key(0), np.ones(())))


def test_a_hidden_size_cut_over_devices():
    """The same numbers, and kernels that stay cut."""
    mesh = training.parse_mesh("model=2")
    params = lj.init_params(jax.random.key(0), D, H, dtype=jnp.float64)
    xs = jax.random.normal(jax.random.key(1), (T, B, D))
    loss = jax.jit(jax.value_and_grad(lambda params, xs: jnp.mean(lj.lstm(params, xs)[1] ** 2)))
    cut = training.shard_hidden(mesh, params)
    assert {shard.data.shape for shard in cut.recurrent_kernel.addressable_shards} == {(H, 2 * H)}
    whole = loss(params, xs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), loss(cut, xs), whole)

"""The loop: it learns, stops, remembers the best, keeps its hands off the caller's arrays, and explains failures."""

import csv
import json
import os
import re
import signal
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lstm_jax as lj
from lstm_jax import training
from lstm_jax.training import metrics
from lstm_jax.training.records import Records

pytestmark = pytest.mark.usefixtures("standard_promotion")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(256, 10, 3)).astype(np.float32)
Y = (X[:, :, 0].sum(1) > 0).astype(np.int32)
TRAIN = training.Shuffled({"x": X[:192], "y": Y[:192]}, 32)
HELD = training.Shuffled({"x": X[192:], "y": Y[192:]}, 24, shuffle=False)
KEY = jax.random.key(0)
ADAM = optax.adam(1e-2)


def init(hidden=12):
    return {"lstm": lj.init_params(jax.random.key(1), 3, hidden), "dense": jnp.zeros((hidden, 2), jnp.float32)}


@training.stateless
def loss_fn(params, batch, key):
    state, _ = lj.lstm(params["lstm"], jnp.swapaxes(batch["x"], 0, 1))
    logits = state.h @ params["dense"]
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])
    return nats.mean(), {"loss": metrics.mean(nats), "accuracy": metrics.accuracy(logits, batch["y"])}


def fit(steps=30, params=None, batches=TRAIN, optimizer=ADAM, **options):
    return training.fit(
        loss_fn, params or init(), batches, optimizer, steps=steps, key=KEY, progress_bar=False, **options
    )


def test_it_learns_and_keeps_the_best():
    fitted = fit(90, validation=training.Validation(HELD, 10))
    assert fitted.stop_reason == "steps"
    assert int(fitted.state.step) == 90
    valid_losses = [row["valid loss"] for row in fitted.history if "valid loss" in row]
    assert len(valid_losses) == 9
    assert fitted.best["valid loss"] == min(valid_losses) < 0.4
    evaluated = metrics.values(training.make_evaluate(loss_fn)(fitted.params, HELD))
    assert evaluated["loss"] == fitted.best["valid loss"]
    want = loss_fn(fitted.params, None, {"x": X[192:], "y": Y[192:]}, None)[0]
    np.testing.assert_allclose(evaluated["loss"], want, rtol=1e-5)  # the last batch is smaller and counts less


def test_a_row_holds_the_step_s_metrics_and_the_validation_of_it():
    rows = []
    fitted = fit(20, log_every=4, validation=training.Validation(HELD, 10), callbacks=[lambda row, _: rows.append(row)])
    assert [row["step"] for row in fitted.history] == [4, 8, 10, 12, 16, 20]
    assert [row["step"] for row in fitted.history if "valid loss" in row] == [10, 20]
    assert all("loss" in row for row in fitted.history)
    assert fitted.history[-1]["loss"] > 0
    assert rows == fitted.history
    assert fitted.best in fitted.history


def test_every_number_of_a_metric_has_a_name():
    @training.stateless
    def loss(params, batch, key):
        state, _ = lj.lstm(params["lstm"], jnp.swapaxes(batch["x"], 0, 1))
        logits = state.h @ params["dense"]
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])
        return nats.mean(), {"classes": metrics.confusion(logits, batch["y"])}

    best_f1 = training.Validation(HELD, 10, metric="-classes macro_f1")
    fitted = training.fit(loss, init(), TRAIN, ADAM, steps=30, key=KEY, validation=best_f1, progress_bar=False)
    assert {"classes accuracy", "classes macro_f1", "valid classes accuracy"} <= set(fitted.history[-1])
    assert fitted.best["valid classes macro_f1"] == max(row.get("valid classes macro_f1", 0) for row in fitted.history)
    confusion = training.make_evaluate(loss)(fitted.params, HELD)["classes"]
    assert confusion.counts.sum() == 64
    assert float(confusion.macro_f1()) == fitted.best["valid classes macro_f1"]


def test_without_validation_a_checkpoint_holds_the_state_alone(tmp_path):
    saving = training.Saving(tmp_path, every=10)
    fit(10, saving=saving)
    layout = json.loads((tmp_path / "checkpoints" / "10" / "notes" / "metadata").read_text())["layout"]
    assert {path.split(".")[0] for path in layout} == {"state"}
    resumed = fit(20, saving=saving._replace(resume=True), validation=training.Validation(HELD, 10))
    assert resumed.best["step"] == 20
    jax.tree.map(np.testing.assert_array_equal, resumed.params, fit(20).params)


def test_a_step_instead_of_a_loss():
    """A step holds its loss and optimizer; the result is the same to the bit."""
    step = training.make_train_step(loss_fn, ADAM)
    validation = training.Validation(HELD, 5)
    got = training.fit(step, init(), TRAIN, steps=12, key=KEY, validation=validation, progress_bar=False)
    want = fit(12, validation=validation)
    jax.tree.map(np.testing.assert_array_equal, (got.params, got.state.opt_state), (want.params, want.state.opt_state))
    assert got.history == want.history


def test_the_loop_is_the_step_repeated():
    step = jax.jit(training.make_train_step(loss_fn, ADAM))
    state = training.init_state(init(), ADAM, KEY)
    losses = []
    for number in range(12):
        state, measured = step(state, TRAIN[number])
        losses.append(measured["loss"].value())
    fitted = fit(12, log_every=4)
    jax.tree.map(np.testing.assert_array_equal, fitted.state.params, state.params)
    assert [row["step"] for row in fitted.history] == [4, 8, 12]
    np.testing.assert_allclose(fitted.history[-1]["loss"], np.mean(losses[8:]), rtol=1e-6)


def test_the_caller_s_arrays_stay():
    params = init()
    fit(3, params=params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_accumulating_four_small_batches_is_one_large_step():
    small = training.Shuffled({"x": X[:128], "y": Y[:128]}, 32, shuffle=False)
    large = training.Shuffled({"x": X[:128], "y": Y[:128]}, 128, shuffle=False)
    accumulated = fit(4, batches=small, optimizer=optax.MultiSteps(optax.sgd(0.1), 4))
    single = fit(1, batches=large, optimizer=optax.sgd(0.1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), accumulated.params, single.params)


def test_patience_ends_training():
    fitted = fit(500, optimizer=optax.sgd(0.0), validation=training.Validation(HELD, 5, patience=3))
    assert (fitted.stop_reason, int(fitted.state.step)) == ("patience", 20)


def test_minutes_end_training_and_move_progress():
    progresses = []

    def update(updates, state, params=None, *, progress, **extra):
        jax.debug.callback(lambda value: progresses.append(float(value)), progress)
        return updates, state

    spy = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    fitted = fit(10**6, optimizer=spy, minutes=0.05)
    assert fitted.stop_reason == "minutes"
    assert progresses == sorted(progresses)
    assert progresses[-1] == 1.0
    progresses.clear()
    fit(4, optimizer=spy)
    assert progresses == [0.25, 0.5, 0.75, 1.0]


def test_the_step_after_a_validation_alone_is_told_of_it():
    validations = []

    def update(updates, state, params=None, *, validation, **extra):
        jax.debug.callback(lambda value: validations.append(float(value)), validation)
        return updates, state

    spy = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    fitted = fit(9, optimizer=spy, validation=training.Validation(HELD, 3))
    valid_losses = [row["valid loss"] for row in fitted.history if "valid loss" in row]
    assert [number for number, value in enumerate(validations) if np.isfinite(value)] == [3, 6]
    np.testing.assert_allclose([validations[3], validations[6]], valid_losses[:2], rtol=1e-6)


def test_ctrl_c_ends_training_after_the_step(tmp_path):
    def press(row, state):
        if row["step"] == 10:
            threading.Timer(0.0, os.kill, (os.getpid(), signal.SIGINT)).start()

    saving = training.Saving(tmp_path, every=10**6)
    fitted = fit(10**6, callbacks=[press], saving=saving)
    assert fitted.stop_reason == "interrupted"
    stopped = int(fitted.state.step)
    resumed = fit(stopped + 5, saving=saving._replace(resume=True))
    jax.tree.map(np.testing.assert_array_equal, resumed.params, fit(stopped + 5).params)


@pytest.mark.parametrize("where", ["batch.x", "gradient", "loss"])
def test_what_is_not_finite_is_named_and_the_state_before_stays(where, tmp_path):
    params, batches, optimizer = init(), TRAIN, ADAM
    if where == "batch.x":
        bad = X[:192].copy()
        bad[:, 3, 1] = np.nan
        batches = training.Shuffled({"x": bad, "y": Y[:192]}, 32)
    if where == "gradient":
        optimizer = optax.chain(optax.scale(1e38), optax.sgd(1e10))
    if where == "loss":
        params["dense"] = params["dense"].at[0, 0].set(jnp.inf)
    want = {"batch.x": r"step 0: .* first in batch\.x", "gradient": "step 0: .* first in params", "loss": "step 0: .*"}
    with pytest.raises(FloatingPointError, match=want[where]):
        fit(20, params=params, batches=batches, optimizer=optimizer, saving=training.Saving(tmp_path, every=1))
    checkpoints = training.Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.latest() is None  # a state that is not finite is never saved


def test_a_failed_step_and_those_after_it_leave_the_state_alone():
    step = jax.jit(training.make_train_step(loss_fn, ADAM))
    before, _ = step(training.init_state(init(), ADAM, KEY), TRAIN[0])
    failed, _ = step(before, {"x": TRAIN[1]["x"] * np.nan, "y": TRAIN[1]["y"]})
    after, _ = step(failed, TRAIN[2])
    assert int(before.failure.step) == -1
    assert int(failed.failure.step) == int(after.failure.step) == 1
    for state in (failed, after):
        jax.tree.map(np.testing.assert_array_equal, state[:3], before[:3])
        assert int(state.step) == 1


def test_what_was_best_is_remembered_over_a_resumption(tmp_path):
    """Training that goes wrong after it: the best, and how long nothing was better, are those of the parts before."""
    saving = training.Saving(tmp_path, every=10)
    validation = training.Validation(HELD, 10, patience=4)
    first = fit(20, optimizer=optax.sgd(0.3), saving=saving, validation=validation)
    assert first.best["step"] == 20
    climb = {"optimizer": optax.sgd(-0.3), "saving": saving._replace(resume=True), "validation": validation}
    assert fit(40, **climb).stop_reason == "steps"
    last = fit(200, **climb)
    assert last.best == first.best
    jax.tree.map(np.testing.assert_array_equal, last.params, first.params)
    assert (last.stop_reason, int(last.state.step)) == ("patience", 60)


def test_history_on_disk(tmp_path):
    saving = training.Saving(tmp_path / "run", every=10, tensorboard=True)
    fitted = fit(20, saving=saving, validation=training.Validation(HELD, 10))
    lines = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert lines == fitted.history
    training.to_csv(fitted.history, tmp_path / "history.csv")
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["loss"]) == lines[0]["loss"]
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    training.plot_curve(fitted.history, tmp_path / "curve.png", title="two classes", lines={"chance": 0.69})
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_checkpoint_or_history_that_cannot_be_written_loses_nothing(tmp_path, monkeypatch):
    def full(self, step, tree, notes):
        raise training.CheckpointError("no space left")

    monkeypatch.setattr(training.Checkpoints, "save", full)
    with pytest.raises(training.CheckpointError, match="no space left") as caught:
        fit(20, saving=training.Saving(tmp_path / "run", every=5))
    assert int(caught.value.result.state.step) == 20
    records = Records(tmp_path)
    records.write({"step": 1, "loss": 0.5})
    path, records.path = records.path, Path("/dev/full")
    records.write({"step": 2, "loss": 0.4})
    assert records.problem == "/dev/full: could not be written (No space left on device); training goes on"
    records.path = path
    records.write({"step": 3, "loss": 0.3})
    assert records.problem is None
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_decay_by_name_and_nothing_else():
    decay = optax.add_decayed_weights(0.1, mask=training.named("kernel|dense"))
    params = init()
    updates, _ = decay.update(jax.tree.map(jnp.zeros_like, params), decay.init(params), params)
    np.testing.assert_allclose(updates["lstm"].recurrent_kernel, 0.1 * params["lstm"].recurrent_kernel)
    assert not updates["lstm"].bias.any()
    for patterns, unmatched in ((["kernels"], "kernels"), (["kernel", "dens$"], "dens$"), (["kernel|dens$"], "dens$")):
        with pytest.raises(ValueError, match=re.escape(f"pattern: got {unmatched!r}, which matches no parameter")):
            training.named(*patterns)(params)
    with pytest.raises(ValueError, match=r"pattern: got 'gain'.*lstm\.bias"):  # says what there is
        training.adam(1e-3, weight_decay=0.1, decayed=("kernel", "gain")).init(params)
    assert training.matching_paths("kernel|dense", params) == ["dense", "lstm.input_kernel", "lstm.recurrent_kernel"]
    assert training.matching_paths("kernels", params) == []


def test_decay_by_name_in_a_group_that_has_no_such_parameter_is_named():
    params = init()
    groups = optax.multi_transform(
        {"a": optax.add_decayed_weights(0.1, mask=training.named("kernel")), "b": optax.sgd(0.1)},
        {"lstm": "b", "dense": "a"},
    )
    with pytest.raises(ValueError, match="pattern: got 'kernel', which matches no parameter"):
        groups.init(params)


def test_the_largest_is_the_best_with_a_minus_in_front():
    fitted = fit(60, validation=training.Validation(HELD, 10, metric="-accuracy"))
    valid_losses = [row["valid accuracy"] for row in fitted.history if "valid accuracy" in row]
    assert fitted.best["valid accuracy"] == max(valid_losses) > min(valid_losses)


def test_a_run_whose_patience_is_over_stays_where_it_is(tmp_path):
    saving = training.Saving(tmp_path, every=5)
    still = {"optimizer": optax.sgd(0.0), "validation": training.Validation(HELD, 5, patience=2)}
    assert int(fit(500, saving=saving, **still).state.step) == 15
    resumed = fit(500, saving=saving._replace(resume=True), **still)
    assert (resumed.stop_reason, int(resumed.state.step)) == ("patience", 15)


LSTM_CARRY = lj.zero_state(init()["lstm"], (32,))


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda params, batch, key: 0.0, r"loss_fn: takes params, batch, key, want .* @training\.stateless"),
        (training.stateless(lambda params, batch, key: jnp.float32(0)), r"loss: got .*, want \(loss, metrics\)"),
        (lambda params, carry, batch, key: jnp.float32(0), r"loss_fn: want \(loss, \(carry, metrics\)\)"),
        (lambda params, carry, batch, key: (jnp.float32(0), carry), r"loss_fn: want \(loss, \(carry, metrics\)\)"),
        (
            training.stateless(lambda params, batch, key: (jnp.float32(0), {"a": jnp.float32(1)})),
            r"loss_fn: metrics\['a'\] is no accumulator",
        ),
        (
            lambda params, carry, batch, key: (jnp.float32(0), (LSTM_CARRY, {})),
            "carry: got .*None.*LSTMState.* carry=",
        ),
    ],
)
def test_a_loss_that_returns_something_else_is_told_so(loss, message):
    with pytest.raises(ValueError, match=message):
        training.fit(loss, init(), TRAIN, ADAM, steps=2, key=KEY, progress_bar=False)


def test_half_cosine_with_warmup():
    rate = training.warmup_cosine(2.0, warmup=0.25)
    np.testing.assert_allclose([rate(jnp.float32(p)) for p in (0, 0.125, 0.25, 0.625, 1)], [0, 1, 2, 1, 0], atol=1e-6)


def test_averaging_starts_once_validation_no_longer_improves():
    """The trigger of the paper's algorithm, and the mean of the iterates from there on."""
    optimizer = optax.chain(optax.sgd(1.0), training.nt_asgd(patience=2))
    params = {"w": jnp.float32(0.0)}
    opt_state = optimizer.init(params)
    logs, started, iterates = [], False, []
    for number, validation in enumerate([5, np.nan, 4, 3, np.nan, 3.5, 4.5, np.nan, 9, 2, np.nan]):
        updates, opt_state = optimizer.update({"w": jnp.float32(-number)}, opt_state, params, validation=validation)
        params = optax.apply_updates(params, updates)
        if np.isfinite(validation):
            started = started or (len(logs) > 2 and validation > min(logs[:-2]))
            logs.append(validation)
        iterates += [float(params["w"])] * started
        want = np.mean(iterates) if started else float(params["w"])
        np.testing.assert_allclose(training.averaged_params(opt_state)["w"], want, rtol=1e-6)
    assert 0 < len(iterates) < 11


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fit(-1), ValueError, "steps: got -1, want at least 0"),
        (
            lambda: fit(5, validation=training.Validation(HELD, 5, metric="f1")),
            ValueError,
            "metric: got 'f1'",
        ),
        (lambda: fit(5, saving="folder"), ValueError, "saving: got str, want Saving"),
        (lambda: fit(5, log_every=0), ValueError, "log_every: got 0, want at least 1"),
        (
            lambda: fit(5, validation=training.Validation(HELD, 5, patience=0)),
            ValueError,
            r"Validation\.patience: got 0, want at least 1",
        ),
        (lambda: fit(5, validation=training.Validation(HELD, 0)), ValueError, r"Validation\.every: got 0"),
        (lambda: fit(5, saving=training.Saving("folder", every=0)), ValueError, r"Saving\.every: got 0"),
        (lambda: fit(5, optimizer=None), ValueError, "optimizer: got None"),
        (
            lambda: training.fit(training.make_train_step(loss_fn, ADAM), init(), TRAIN, ADAM, steps=5, key=KEY),
            ValueError,
            "optimizer: got one beside a step",
        ),
        (
            lambda: training.plot_curve([{"step": 1, "loss": 1.0}], "c.png", metric="acc"),
            ValueError,
            "metric: got 'acc'",
        ),
        (lambda: metrics.squared_error(jnp.ones((3, 1)), jnp.ones(3)), ValueError, r"predictions: got shape \(3, 1\)"),
        (lambda: training.parse_mesh("data:8"), ValueError, "mesh: got 'data:8', want axes and sizes"),
        (lambda: training.parse_mesh("data=3"), ValueError, "mesh: got 'data=3', which is 3 devices"),
    ],
)
def test_wrong_calls_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_validation_of_another_metric_and_of_an_average():
    optimizer = optax.chain(optax.sgd(0.5), training.nt_asgd(patience=1))
    validation = training.Validation(HELD, 5, params=lambda state: training.averaged_params(state.opt_state))
    fitted = fit(40, optimizer=optimizer, validation=validation)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        metrics.values(training.make_evaluate(loss_fn)(fitted.params, HELD))["loss"],
        fitted.best["valid loss"],
    )

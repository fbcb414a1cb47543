"""What a run shows: a bar on a terminal, plain lines elsewhere, nothing if so wanted; and what is missing is named."""

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_resume import STEPS, finish, start

from lstm_jax import training
from lstm_jax.training import metrics, progress
from lstm_jax.training.records import Records

pytestmark = pytest.mark.usefixtures("standard_promotion")
BATCHES = training.Shuffled(np.arange(8, dtype=np.float32), 4)


@training.stateless
def loss_fn(params, batch, key):
    return jnp.mean((params - batch) ** 2), {"loss": metrics.mean((params - batch) ** 2)}


def fit(steps=20, **options):
    return training.fit(
        loss_fn, jnp.float32(0), BATCHES, optax.sgd(0.01), steps=steps, key=jax.random.key(0), **options
    )


def block(monkeypatch, module):
    """Imports of the module fail as if it were not installed."""
    for name in {module, *(name for name in sys.modules if name.split(".")[0] == module)}:
        monkeypatch.setitem(sys.modules, name, None)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_piped_output_gets_plain_lines_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 1e9)
    fit(validation=training.Validation(BATCHES, 5))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2  # the first row and the last
    assert lines[0].startswith("step 5/20: loss ")
    assert lines[1].startswith("step 20/20: loss ")
    assert all("valid loss " in line for line in lines)
    assert "\r" not in "".join(lines)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    fit(validation=training.Validation(BATCHES, 20))
    assert len(capsys.readouterr().err.splitlines()) == 2  # rows of steps 10 and 20


def test_the_last_validation_stays_on_the_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    fit(30, log_every=5, validation=training.Validation(BATCHES, 10))
    drawn = [part for part in terminal.getvalue().split("\r") if "loss" in part]
    assert drawn
    assert "valid loss" in drawn[-1]
    shown = progress.Progress(3, 0, enabled=True)
    shown.update({"step": 1, "loss": 2.0, "valid loss": 3.0})
    shown.update({"step": 2, "loss": 1.0})
    assert shown.text() == "loss 1, valid loss 3"
    shown.close()


def test_no_bar_needs_no_tqdm(monkeypatch, capsys):
    block(monkeypatch, "tqdm")
    fit(progress_bar=False)
    fit()  # plain lines need none either
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(ImportError, match=r"pip install 'lstm_jax\[training\]'"):
        fit()


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("orbax", lambda folder: training.Checkpoints(folder)),
        ("tensorboardX", lambda folder: Records(folder, tensorboard=True)),
        ("matplotlib", lambda folder: training.plot_curve([{"step": 1, "loss": 1.0}], folder / "a.png")),
        ("matplotlib", lambda folder: training.plot_search([{"rate": 1.0, "loss": 1.0}], ["rate"], folder / "a.png")),
    ],
)
def test_a_missing_extra_is_named(module, call, monkeypatch, tmp_path):
    block(monkeypatch, module)
    with pytest.raises(ImportError, match=rf"{module} .*pip install 'lstm_jax\[training\]'"):
        call(tmp_path)


@pytest.mark.long
def test_sigterm_saves_a_checkpoint_and_ends(tmp_path):
    history = tmp_path / "history.jsonl"
    process = start("--folder", tmp_path, "--resume", "--slow", "0.05")
    while process.poll() is None and (not history.exists() or len(history.read_text().splitlines()) < 3):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    stopped = finish(process)
    assert stopped["stop_reason"] == "interrupted"
    step = stopped["history"][-1]["step"]
    assert step < STEPS
    assert training.Checkpoints(tmp_path / "checkpoints").latest() == step
    whole = finish(start())
    assert finish(start("--folder", tmp_path, "--resume"))["bits"] == whole["bits"]


@pytest.mark.long
def test_sigterm_without_saving_ends_the_program_as_usual():
    process = start("--slow", "0.2", "--announce")
    assert process.stdout.readline() == "row\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM


def test_the_package_gives_training_without_an_import_of_it():
    code = "import lstm_jax as lj; print(lj.training.fit.__name__)"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True
    )
    assert json.loads(f'"{run.stdout.strip()}"') == "fit"

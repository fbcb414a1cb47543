"""A run that is killed goes on and ends with the same bits; a disk that fills up loses nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.long

PROGRAM = Path(__file__).parent / "train_small.py"
STEPS = 60


def start(*arguments, **options):
    environment = {**options.pop("env", os.environ), "PYTHONPATH": str(PROGRAM.parent.parent)}
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), "--steps", str(STEPS), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def whole():
    return finish(start())


def test_killed_five_times_and_the_same_bits(whole, tmp_path):
    """Each time somewhere in the 10 or so steps after it has begun: in a step, in a row, or in a checkpoint."""
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
    history, deaths = tmp_path / "history.jsonl", []
    for _ in range(5):
        process = start("--folder", tmp_path, "--resume", "--slow", "0.02")
        begun = len(history.read_text().splitlines()) if history.exists() else 0
        until = begun + int(rng.integers(2, 14))
        while process.poll() is None and (not history.exists() or len(history.read_text().splitlines()) < until):
            time.sleep(0.005)
        time.sleep(rng.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        deaths.append(until)
        if process.returncode == 0:
            break
    got = finish(start("--folder", tmp_path, "--resume"))
    assert got["bits"] == whole["bits"], f"killed after rows {deaths}"
    assert got["history"] == whole["history"]
    assert [json.loads(line) for line in history.read_text().splitlines()] == whole["history"]


def test_a_disk_that_fills_up_is_told_and_costs_nothing(tmp_path):
    """Files may not grow beyond 20 kB, as if the disk were full: older checkpoints stay, the run goes on."""
    wide = ("--hidden", 64, "--folder", tmp_path / "run")
    finish(start(*wide, "--steps", 20))
    kept = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    process = start(*wide, "--resume", "--largest", 20_000)
    _, err = process.communicate(timeout=300)
    assert process.returncode != 0
    assert f"the checkpoint of step {STEPS} could not be written" in err
    history = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    assert json.loads(history[-1])["step"] == STEPS
    assert kept <= {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    whole = finish(start("--hidden", 64))
    assert finish(start(*wide, "--resume"))["bits"] == whole["bits"]

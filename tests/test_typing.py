"""A user's script, as type checkers and Python see it."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "user_script.py"


def run(*command):
    result = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_it_runs():
    run(SCRIPT)


@pytest.mark.parametrize("checker", [["mypy"], ["basedpyright", "--level", "error"]], ids=lambda command: command[0])
def test_type_checkers_agree(checker):
    if importlib.util.find_spec(checker[0]) is None:
        pytest.skip(f"{checker[0]} is not installed")
    run("-m", *checker, SCRIPT)

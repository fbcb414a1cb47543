"""The README's Python runs as printed, under jax's defaults."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)


def test_there_are_examples():
    assert len(BLOCKS) >= 1
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) <= 18


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_an_example_runs_as_printed(number):
    result = subprocess.run([sys.executable, "-c", BLOCKS[number]], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for expected in re.findall(r"print\(.*\)\s+# (.*)", BLOCKS[number]):
        assert expected in result.stdout

"""The Python of the README and of docs/ runs as printed, under jax's defaults."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
BLOCKS = BLOCK.findall(README)
PAGES = sorted((ROOT / "docs").glob("*.md"))
PRINTS = re.compile(r"print\(.*\)\s+# (.*)")


def test_there_are_examples():
    assert len(BLOCKS) >= 1
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) <= 18


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_an_example_runs_as_printed(number):
    result = subprocess.run([sys.executable, "-c", BLOCKS[number]], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for expected in PRINTS.findall(BLOCKS[number]):
        assert expected in result.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_from_top_to_bottom(page, tmp_path):
    """Its blocks are one program; those that need torch are left out where it is not installed."""
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    if importlib.util.find_spec("torch") is None:
        blocks = [block for block in blocks if "import torch" not in block]
    program = "\n".join(blocks)
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == PRINTS.findall(program)


def test_the_programs_of_keras_tutorials_take_15_lines_each():
    """The imports of the first serve the other two, which are counted with them."""
    text, sequence, series = BLOCK.findall((ROOT / "docs" / "training.md").read_text(encoding="utf-8"))[:3]
    imports = [line for line in text.splitlines() if line.startswith(("import", "from"))]
    for program, more in ((text, []), (sequence, imports), (series, imports)):
        assert len([line for line in [*more, *program.splitlines()] if line.strip()]) <= 15

"""The way of a call, followed: the frames between ``lstm`` and ``lax.scan`` are those that ARCHITECTURE.md names."""

import re
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import lstm_jax as lj

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


@pytest.fixture
def paths(monkeypatch):
    """The functions of this package on the stack, outermost first, each time that ``lax.scan`` is called."""
    found = []
    scan = jax.lax.scan

    def noting(*arguments, **options):
        frames = [frame for frame in traceback.extract_stack() if f"{ROOT / 'lstm_jax'}/" in frame.filename]
        found.append([frame.name for frame in frames])
        return scan(*arguments, **options)

    monkeypatch.setattr(jax.lax, "scan", noting)
    return found


def test_a_call_takes_the_documented_way(paths):
    """T is long enough for a loop over chunks, whose body holds the loop over steps."""
    params = lj.init_params(jax.random.key(0), 3, 7)
    lj.lstm(params, jnp.zeros((4099, 64, 3), params.bias.dtype))
    to_chunks, to_steps = (re.findall(r"`([a-z_]+)`", line) for line in re.findall(r"^\d\. (.*)$", PAGE, re.M)[:2])
    assert len(to_chunks) == 4
    assert to_chunks in paths
    assert [*to_chunks, *to_steps] in paths

"""The benchmark compares like with like; its times are never tested."""

import re

import jax
import pytest

from benchmarks import run
from benchmarks.workloads import WORKLOADS, Workload


@pytest.fixture(autouse=True)
def as_users_run_it(monkeypatch):
    """Under jax's defaults, on a workload small enough for a test."""
    monkeypatch.setitem(WORKLOADS, "tiny", Workload(T=6, B=2, D=3, H=4))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), jax.enable_x64(False):
        yield


def test_a_table_has_a_row_for_each_contender(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run", "tiny", "--rounds", "2"])
    run.main()
    printed = capsys.readouterr().out
    assert re.search(r"^tiny: T=6 B=2 D=3 H=4", printed, re.M)
    assert re.search(r"^\| linen \| .* \| 1.00 \| .* \| 1.00 \|$", printed, re.M)
    for name in ("lstm_jax gates", "lstm_jax states"):
        assert re.search(rf"^\| {name} \|( [\d.]+| [\d.]+ to [\d.]+)( \| .*)* \|$", printed, re.M)
    assert "torch" in printed


def test_a_contender_with_other_numbers_is_refused(monkeypatch):
    genuine = run.to_linen

    def wrong(params):
        return genuine(params._replace(bias=params.bias + 0.1))

    monkeypatch.setattr(run, "to_linen", wrong)
    with pytest.raises(AssertionError, match="lstm_jax"):
        run.contenders(WORKLOADS["tiny"])


def test_an_unknown_workload_is_explained(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run", "magic"])
    with pytest.raises(SystemExit):
        run.main()
    assert "want workloads of base" in capsys.readouterr().err

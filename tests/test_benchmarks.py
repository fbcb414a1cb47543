"""The benchmark suite compares like with like and writes what its report reads; its times are never tested."""

import json
import re
from functools import partial

import jax
import numpy as np
import pytest

from benchmarks import cells, competitors, gpu, gpu_report, measure, plots, profile_scopes, report, run, workloads
from benchmarks.programs import make_problem, max_relative_error
from benchmarks.workloads import Workload
from lstm_jax.cells import CELLS

TINY = {
    "tiny": Workload(T=6, B=2, D=3, H=4),
    "tiny ragged": Workload(T=6, B=3, D=3, H=4, kind="ragged"),
}
KINDS = ("sequence", "ragged", "resets", "stepwise", "per-example", "hvp", "two layers", "bidirectional", "final")


@pytest.fixture(autouse=True)
def as_users_run_it(monkeypatch):
    """Every test runs under jax's defaults, with workloads that are small enough."""
    for names in (workloads.ALL_WORKLOADS, workloads.WORKLOADS):
        for name, workload in TINY.items():
            monkeypatch.setitem(names, name, workload)
    monkeypatch.setattr(measure, "REST_SECONDS", 0.0)
    monkeypatch.setattr(measure, "MIN_TIMING_SECONDS", 0.0)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), jax.enable_x64(False):
        yield


def run_suite(monkeypatch, output, *names):
    monkeypatch.setattr("sys.argv", ["run", *names, "--output", str(output)])
    run.main()
    return json.loads(output.read_text())


@pytest.fixture
def measures_nothing(monkeypatch):
    """Cases get no rows, since these tests are about the file; returns what was measured, in order."""
    measured = []

    def measure_case(name, mode, seconds):
        measured.append((name, mode, seconds))
        return {"workload": name, "mode": mode, **workloads.ALL_WORKLOADS[name]._asdict()}

    monkeypatch.setattr(run, "measure_case", measure_case)
    monkeypatch.setattr(run, "summary", lambda case: "")
    return measured


@pytest.mark.long
def test_the_suite_measures_every_row_and_the_report_reads_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run, "SECONDS_PER_CASE", 1e-9)
    results = run_suite(monkeypatch, tmp_path / "cpu.json", *TINY)
    assert [(case["workload"], case["mode"]) for case in results["cases"]] == [
        (name, mode) for name in TINY for mode in ("forward", "value_and_grad")
    ]
    for case in results["cases"]:
        assert next(iter(case["rows"])).startswith("lstm_jax")
        for name, row in case["rows"].items():
            if row["reason"] is not None:
                assert row["seconds"] is None
                continue
            assert len(row["seconds"]) == len(case["matrix_product"]["seconds"]) == run.MIN_ROUNDS
            assert min(row["seconds"]) > 0, name
            assert row["first_seconds"] > 0
            assert name == "torch" or row["temporary_bytes"] > 0
    ragged = results["cases"][-1]["rows"]
    assert "no lengths" in ragged["haiku"]["reason"]
    assert {"lstm_jax gates, plain", "lstm_jax states, plain"} < set(ragged)
    assert {"jax", "numpy"} < {package for package, version in results["environment"]["versions"].items() if version}

    monkeypatch.setattr("sys.argv", ["report", str(tmp_path / "cpu.json")])
    report.main()
    written = (tmp_path / "report.md").read_text()
    assert "| tiny | 6, 2, 3, 4 | lstm_jax gates |" in written
    assert "| tiny ragged, forward, lstm_jax: time / time without lengths |" in written
    assert "haiku.dynamic_unroll takes no lengths" in written


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda results: results["environment"].update(device="abacus"), "made with another device; want a new file"),
        (lambda results: results["cases"][0].update(H=5), "made with another tiny; want a new file"),
        (lambda results: results.pop("cases"), r"which holds no results \(KeyError\('cases'\)\)"),
    ],
)
def test_a_file_of_something_else_is_not_continued(change, message, monkeypatch, tmp_path, measures_nothing):
    results = run_suite(monkeypatch, tmp_path / "cpu.json", "tiny")
    change(results)
    (tmp_path / "cpu.json").write_text(json.dumps(results))
    with pytest.raises(SystemExit, match=message):
        run_suite(monkeypatch, tmp_path / "cpu.json", "tiny")


def test_a_sweep_makes_a_plot(tmp_path):
    rows = {row: {"seconds": [2.0, 2.5], "temporary_bytes": 8} for row in (plots.BASELINE, "lstm_jax gates", "torch")}
    cases = [
        {"workload": name, "mode": "value_and_grad", "rows": rows, **workload._asdict()}
        for sweep in workloads.SWEEPS.values()
        for name, workload in sweep.items()
    ]
    paths = plots.plot_sweeps(cases, tmp_path, "cpu")
    assert [path.name for path in paths] == [f"cpu-{sweep}.png" for sweep in workloads.SWEEPS]
    assert all(path.stat().st_size > 5000 for path in paths)


def test_an_interrupted_run_goes_on_with_what_it_was_asked_for(monkeypatch, tmp_path, measures_nothing):
    def interrupted(name, mode, seconds):
        if name == "tiny ragged":
            raise KeyboardInterrupt
        return measure_case(name, mode, seconds)

    measure_case, path = run.measure_case, tmp_path / "cpu.json"
    monkeypatch.setattr(run, "measure_case", interrupted)
    with pytest.raises(SystemExit, match=f"goes on with: python -m benchmarks.run --output {path}"):
        run_suite(monkeypatch, path, *TINY, "--seconds", "2.5")
    monkeypatch.setattr(run, "measure_case", measure_case)
    results = run_suite(monkeypatch, path)
    wanted = [(name, mode, 2.5) for name in TINY for mode in ("forward", "value_and_grad")]
    assert measures_nothing == wanted
    assert [(case["workload"], case["mode"], 2.5) for case in results["cases"]] == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_every_library_computes_the_same(kind):
    """``make_rows`` compares all rows and raises if one differs."""
    workload = Workload(T=1 if kind == "stepwise" else 5, B=1 if kind == "stepwise" else 2, D=3, H=4, kind=kind)
    for mode in run.modes(workload):
        rows = measure.make_rows(workload, mode)
        assert sum(row.call is not None for row in rows.values()) >= 2, rows


@pytest.mark.long
def test_a_competitor_with_other_numbers_is_refused(monkeypatch):
    naive = competitors.load("naive scan")["naive scan"]
    wrong = naive._replace(export_params=lambda params: params._replace(bias=params.bias + 0.1))
    monkeypatch.setattr("benchmarks.competitors.naive.layers", lambda: {"naive scan": wrong})
    for mode in ("forward", "value_and_grad"):
        with pytest.raises(AssertionError, match="naive scan: a result differs"):
            measure.make_rows(TINY["tiny"], mode)


def test_the_relative_error_is_that_of_the_worst_array_and_keeps_nan():
    ones = np.ones(3)
    assert max_relative_error((ones, ones), (ones, ones)) == 0
    assert max_relative_error((ones, 1.5 * ones), (ones, ones)) == 0.5
    assert np.isnan(max_relative_error((np.array([np.nan]), ones), (np.ones(1), ones)))


def test_a_problem_is_the_same_every_time():
    first, second = make_problem(TINY["tiny ragged"]), make_problem(TINY["tiny ragged"])
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))
    assert first.lengths.min() >= 1


def test_the_speedup_is_the_ratio_of_paired_rounds():
    case = {"rows": {"ours": {"seconds": [1.0, 2.0, 4.0]}, "theirs": {"seconds": [2.0, 4.0, 12.0]}}}
    assert report.speedup(case, "ours", "theirs") == (2.0, 2.0, 3.0)
    assert report.speedup(case, "ours", "absent") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["magic"], "want workloads of control"),
        (["tiny", "--output"], "expected one argument"),
        (["tiny", "--quick"], "--quick: got workloads as well"),
        (["tiny", "--seconds", "-1"], "--seconds: got -1.0, want more than 0"),
    ],
)
def test_a_wrong_call_is_explained(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run", *arguments])
    with pytest.raises(SystemExit):
        run.main()
    assert message in capsys.readouterr().err


def test_the_page_of_cells_is_filled():
    """Every cell has its row on the page, and a measurement changes the numbers alone."""
    results = cells.measure_cells(
        Workload(T=4, B=2, D=64, H=128), seconds=0.0, names=["lstm", "conv_2d", "min_gru, parallel"]
    )
    assert results["lstm"].num_parameters == (64 + 128 + 1) * 512
    assert results["lstm"].forward == results["lstm"].gradient == 1.0
    page = cells.PAGE.read_text(encoding="utf-8")
    rows = {name: cells.CellResult(12345, 1.25, 1.5) for name in [*CELLS, *cells.PARALLEL_ROWS]}
    filled = cells.fill_table(page, rows, "today")
    assert filled.count("| 12345 | 1.25 | 1.50 |") == len(rows)
    assert f"{cells.MEASURED_PREFIX}today" in filled
    before = cells.fill_table(page, {name: cells.CellResult(0, 0, 0) for name in rows}, "")
    assert cells.fill_table(filled, {name: cells.CellResult(0, 0, 0) for name in rows}, "") == before


@pytest.mark.long
def test_the_gpu_suite_measures_what_runs_and_says_why_the_rest_does_not(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "measure", partial(measure_briefly, gpu.measure))
    monkeypatch.setattr(gpu, "UNROLLS", (1, 2))
    monkeypatch.setattr(gpu, "list_cases", lambda smoke: [CASE, (CASE[0], "forward", "bfloat16")])
    path = tmp_path / "gpu.json"
    gpu.main(["--smoke", "--output", str(path)])
    first, second = json.loads(path.read_text())["cases"]
    assert [first["dtype"], second["dtype"]] == ["float32", "bfloat16"]
    for name in ("lstm_jax scan, unroll 1", "lstm_jax scan, unroll 2", "flax linen OptimizedLSTMCell"):
        assert first["rows"][name]["error"] < 1e-5
        assert 1e-5 < second["rows"][name]["error"] < 0.05, "half precision is held against float64 too"
    for name, reason in (("mosaic_gpu", "jax 0.11|Hopper"), ("cudnn", "NVIDIA GPUs only")):
        assert re.search(reason, first["rows"][f"lstm_jax {name}"]["reason"])
    assert "NVIDIA" in first["rows"]["jax.experimental.rnn"]["reason"]
    written = gpu_report.write_report(json.loads(path.read_text()), tmp_path).read_text()
    assert "| 2 | 8 | float32 | forward + backward | lstm_jax scan, unroll 2 | " in written
    assert "| flax linen, by the engine alone | forward + backward | at least 2.0 | " in written
    assert "![gpu-B2](gpu-B2.png)" in written
    assert (tmp_path / "gpu-B2.png").read_bytes()[:4] == b"\x89PNG"


def measure_briefly(measure, rows, seconds, min_rounds, max_rounds):
    return measure(rows, 0.0, 2, 2)


CASE = (workloads.Workload(T=5, B=2, D=4, H=8), "value_and_grad", "float32")


def test_the_gpu_table_says_that_nothing_was_measured(tmp_path):
    """The committed table says so until a file of results lies beside it."""
    results = sorted(gpu.RESULTS.glob("gpu-*.json"))
    measured = json.loads(results[-1].read_text()) if results else None
    assert gpu_report.write_report(measured, tmp_path).read_text() == (gpu.RESULTS / "gpu.md").read_text()


def test_the_gpu_ratios_are_those_of_the_fastest_rows():
    def make_case(**seconds):
        rows = {name: {"seconds": [value], "error": 0.0, "reason": None} for name, value in seconds.items()}
        return {"T": 100, "B": 1, "H": 128, "mode": "forward", "dtype": "bfloat16", "rows": rows}

    case = make_case(
        **{"lstm_jax scan, unroll 1": 8.0, "lstm_jax scan, unroll 8": 2.0, "flax linen": 6.0, "torch bfloat16": 5.0}
    )
    case["rows"]["torch float16"] = {"seconds": [1e-9], "error": 0.0, "reason": None}  # not what is compared
    case["rows"]["lstm_jax mosaic_gpu"] = {"seconds": [80e-6], "error": 0.0, "reason": None}
    wide = {**case, "H": 256}
    table = gpu_report.target_table([case, wide])
    assert "| flax linen, by the engine alone | forward | at least 1.5 | 3.00 | 3.00 | 2 |" in table
    assert f"| torch (cuDNN), H to 128, by the kernel | forward | at least 1.0 | {5 / 80e-6:.2f} |" in table
    assert "bfloat16 | forward | at most 3.0 times | 2.00 | 2.00 | 1 |" in table, "0.8 us a step"


@pytest.mark.parametrize("content", [None, "{}", '{"cases": [{"workload": "base"}]}', "no"])
def test_a_gpu_report_of_something_else_is_refused(content, tmp_path):
    path = tmp_path / "one.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit, match=r"--report: got .*one\.json, want a file of results of this suite"):
        gpu.main(["--report", str(path)])


def test_a_profile_names_the_parts_of_the_engine(tmp_path):
    seconds = profile_scopes.profile_program("control", tmp_path)
    for part in ("input_projection", "time_loop", "input_projection_tangent", "time_loop_tangent"):
        assert any(scope.endswith(f": {part}") for scope in seconds), part

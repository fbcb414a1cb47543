"""Programs compiled for an absent GPU: how many kernels they launch, and the machine code of ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from benchmarks import gpu_kernels, gpu_programs, hlo

ROOT = Path(__file__).parent.parent
COMPILER = Path(sys.prefix) / "cuda"

PROGRAM = """HloModule jit_f, is_scheduled=true

%fused (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %tanh.1 = f32[4]{0} tanh(%p)
}

%body.1 (arg: (s32[], f32[4])) -> (s32[], f32[4]) {
  %arg = (s32[], f32[4]{0}) parameter(0)
  %x.1 = f32[4]{0} get-tuple-element(%arg), index=1
  %copy-start.1 = ((f32[4]{0}, s32[]), f32[4]{0}, u32[]) fusion-start(%x.1), kind=kLoop, calls=%fused
  %y = f32[4]{0} fusion-done(%copy-start.1)
  %z = f32[4]{0} fusion(%y), kind=kLoop, calls=%fused
  ROOT %tuple.1 = (s32[], f32[4]{0}) tuple(%n, %z)
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %call.1 = f32[4]{0} call(%x), to_apply=%fused
  %while.1 = (s32[], f32[4]{0}) while(%tuple.2), condition=%c, body=%body.1, TRIPS
  ROOT %all-reduce.1 = f32[4]{0} all-reduce(%call.1), to_apply=%add
}
"""

CODE = """
.L_x_0:
   -:-:-:Y:01        /*0000*/                   LDC R1, c[0x0][0x28]
.L_x_1:
   -:-:2:Y:04        /*0010*/                   SYNCS.PHASECHK P0, [R2]
   1&0:-:-:Y:05        /*0020*/              @!P0 BRA `(.L_x_1)
.L_x_2:
   -:-:-:Y:06        /*0030*/               @P1 FFMA R4, R5, R6, R7
   -:-:0:Y:08        /*0040*/                   MUFU.EX2 R4, R4
   -:-:-:-:09        /*4b50*/                   HGMMA.64x16x16.F32.BF16 R24, gdesc[UR4]
   -:-:-:Y:06        /*4da0*/               @P0 BRA `(.L_x_2)
   -:-:-:-:00        /*4dc0*/                   BRA `(.L_x_9)
"""


THUNKS = """
000: kCustomKernel [source | next=001 (1)] fill grid: [1, 1, 1]
001: kWhile         [prev=000 (1) | next=024 (1)]
condition:
    002: kCustomKernel [source | sink] compare grid: [1, 1, 1]
  body:
    003: kCopy         [source | sink        ] kCopy
    004: kWhile         [prev=003 (1) | sink]
condition:
        005: kCustomKernel [source | sink] compare grid: [1, 1, 1]
      body:
        000: kCommandBuffer [source | sink]
            006: kCustomKernel [source       | next=007 (1)] product grid: [64, 1, 1]
            007: kCustomKernel [prev=006 (1) | sink        ] gates grid: [64, 1, 1]
    008: kCustomKernel [source | sink        ] weights grid: [1, 1, 1]
000: kCommandBuffer [prev=001 (1) | sink        ]
    009: kCustomKernel [source | sink        ] sum grid: [1, 1, 1]
"""


def test_operations_are_counted_as_often_as_they_run():
    text = PROGRAM.replace("TRIPS", 'backend_config={"known_trip_count":{"n":"7"}}')
    assert hlo.count_executed(text, hlo.launches_kernel) == 1 + 7 * 2 + 1, (
        "tanh by itself, two fusions in each iteration, all-reduce"
    )
    assert hlo.count_executed(text, lambda kind: kind == "all-reduce") == 1
    with pytest.raises(ValueError, match="loops with a known trip count"):
        hlo.count_executed(PROGRAM, hlo.launches_kernel)


def test_a_program_that_cannot_be_read_is_refused():
    lines = "ENTRY %main (x: f32[4]) -> f32[4] {\n  %w = f32[4]{0} while((s32[]) %t), condition=%c, body=%b\n}\n"
    with pytest.raises(ValueError, match="not read as a loop"):
        hlo.count_executed(lines, hlo.launches_kernel)
    assert not hlo.launches_kernel("all-reduce-done")
    with pytest.raises(ValueError, match="want a loop among them"):
        gpu_kernels.loop_instructions(CODE.replace("BRA", "EXIT"))


def test_the_host_starts_graphs_loops_and_kernels():
    """The host starts a kernel; 3 times a copy, a loop of 5 graphs, and a kernel; then a graph."""
    assert hlo.count_host_starts(THUNKS, [3, 5]) == 1 + 3 * (1 + 5 + 1) + 1
    with pytest.raises(ValueError, match="got 2 loops, want 3"):
        hlo.count_host_starts(THUNKS, [3, 5, 7])


def test_a_loop_inside_a_graph_is_started_with_it():
    inside = "000: kCommandBuffer [source | sink]\n" + "".join(f"    {line}\n" for line in THUNKS.strip().splitlines())
    assert hlo.count_host_starts(inside, [3, 5]) == 1


def test_the_loop_over_time_is_found_in_machine_code():
    assert gpu_kernels.loop_instructions(CODE) == ["FFMA", "MUFU.EX2", "HGMMA.64x16x16.F32.BF16", "BRA"]


def test_without_the_compiler_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(SystemExit, match=r"make cuda|jax 0\.11 or newer"):
        gpu_programs.describe_device(tmp_path)


def test_few_kernels_a_step_and_none_spills(tmp_path):
    """In training the engine runs less than a third of linen's kernels; a loop body of 4 steps is one CUDA graph."""
    if jax.__version_info__ < (0, 11):
        pytest.skip(f"the kernels are written for jax 0.11 and newer, this is {jax.__version__}")
    if not (COMPILER / "nvidia" / "cu13" / "bin" / "nvdisasm").exists():
        pytest.skip(f"no compiler for CUDA in {COMPILER}: make cuda")
    output = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks.gpu_programs", "--smoke", "--output", str(output)]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment["PYTHONPATH"] = str(COMPILER)
    process = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-3000:]
    results = json.loads(output.read_text())
    rows = {entry["row"]: [mode["kernels"] for mode in entry["modes"].values()] for entry in results["programs"]}
    starts = {entry["row"]: [mode["starts"] for mode in entry["modes"].values()] for entry in results["programs"]}
    scan, kernel, linen = (rows[name] for name in gpu_programs.SMOKE_ROWS)
    assert starts[gpu_programs.SMOKE_ROWS[0]][1] < 1
    assert starts[gpu_programs.SMOKE_ROWS[2]][1] > 2
    assert scan[0] <= 3.5
    assert scan[0] < linen[0]
    assert 3 * scan[1] < linen[1]
    assert max(kernel) < 0.5, "no kernel for each step at all"
    assert [entry["spilled"] for entry in results["kernels"]] == [0] * 4
    assert [entry["products"] for entry in results["kernels"]] == [16] * 4
    forward, _, backward, _ = (entry["instructions"] for entry in results["kernels"])
    assert forward < 800, "with sigmoids by tanh it has 911"
    assert backward < 350
    assert "| 16 | 64 | bfloat16 | lstm_jax mosaic_gpu | " in output.with_suffix(".md").read_text()

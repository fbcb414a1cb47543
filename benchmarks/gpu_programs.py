"""What is compiled for a GPU, counted on a machine without one: kernels a step, memory, instructions.

    make cuda PYTHON=python3.13 VENV=.venv-newest     # NVIDIA's compiler, 700 MB, apart from the rest
    PYTHONPATH=.venv-newest/cuda .venv-newest/bin/python -m benchmarks.gpu_programs

XLA compiles for an H100 that is described to it; no driver is needed and nothing runs. While layers are small, a loop
over time waits for its kernels to begin and end rather than for what they compute, and for the host, which starts the
body of a loop as one CUDA graph. So how many kernels run a step, and how many times the host starts something, tells
more of a program's speed than anything else that can be known without a GPU; times are for ``benchmarks.gpu``. On a
device XLA also tries variants of products, which may change a count by one or two. Kernels of our own are disassembled.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from tqdm import tqdm

from benchmarks import competitors, gpu, gpu_report, hlo
from benchmarks.competitors.layer import Layer
from benchmarks.programs import build, make_problem
from benchmarks.run import environment, write_whole
from benchmarks.workloads import Workload
from lstm_jax._core import engine, tuning
from lstm_jax._core.implementations import layout, mosaic_gpu

STEPS = 512
SIZES = ((16, 128), (1, 256), (128, 512))
"""B and H."""
DTYPES = "float32", "bfloat16"
UNROLLS = (1, 2, 4, 16)
LIBRARIES = "flax linen", "flax nnx", "haiku", "equinox"
KERNELS = (("bfloat16", 64), ("bfloat16", 128), ("float32", 64))
"""dtype and H"""
OURS, WHOLE, SMALL = "lstm_jax scan, {} a body", "lstm_jax scan, whole loop a graph", "lstm_jax scan, a CPU's chunks"
KERNEL = "lstm_jax mosaic_gpu"
"""Names of rows; a whole loop becomes a graph by the compiler options ``gpu.GRAPH``."""
ALL = STEPS, SIZES, DTYPES, KERNELS
SMOKE = 64, ((16, 64),), ("bfloat16",), KERNELS[:1]
"""T, sizes, dtypes and kernels, without and with ``--smoke``."""
SMOKE_ROWS = OURS.format(4), KERNEL, "flax linen OptimizedLSTMCell"
SCHEDULERS = 4
"""Of a multiprocessor: each starts an instruction of one of its warps a cycle."""
H100 = """
gpu_device_info {
  name: "NVIDIA H100 80GB HBM3"
  cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  reserved_shared_memory_per_block: 1024 max_blocks_per_multiprocessor: 32
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 device_memory_size: 84978434048
  driver_version: "13.0.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0" dnn_version: "9.10.0"
}
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
"""
"""Stream executor's GpuTargetConfigProto; figures of NVIDIA's data sheet and of the CUDA programming guide."""


def prepare(dumps: Path) -> Any:
    """The device that is compiled for; compilers leave programs and the machine code of our kernels in the folder.

    Raises:
        SystemExit: the compiler is not there, or jax is too old.
    """
    if jax.__version_info__ < (0, 11):
        raise SystemExit(f"Want jax 0.11 or newer, which the kernels are written for; this is {jax.__version__}")
    tools = [Path(folder) / "nvidia" / "cu13" for folder in sys.path if (Path(folder) / "nvidia" / "cu13").is_dir()]
    if not tools:
        raise SystemExit(f"The compiler for CUDA is not on the path:\n{(__doc__ or '').split(chr(10) * 2)[1]}")
    os.environ["PATH"] = f"{tools[0] / 'bin'}{os.pathsep}{os.environ['PATH']}"
    os.environ |= {"JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1", "MOSAIC_GPU_CUDA_ROOT": str(tools[0])}
    os.environ["MOSAIC_GPU_DUMP_TO"] = str(dumps / "kernels")
    for folder in ("kernels", "programs"):
        (dumps / folder).mkdir()
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={dumps / 'programs'} --xla_dump_hlo_as_text"
    )
    jax.config.update("jax_platforms", "cpu")  # for what little is computed
    mosaic_gpu.INTERPRET = lambda kernel, *arrays: kernel(*arrays)  # do not ask for a device that is not there
    return topologies.get_topology_desc("", "cuda", target_config=H100, topology="1x1x1").devices[0]


def compiled_for(device: Any, function: Any, *arguments: Any, options: dict[str, Any] | None = None) -> Any:
    """A program, compiled with XLA's own options or others."""
    place = jax.sharding.SingleDeviceSharding(device)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), arguments)
    return jax.jit(function).lower(*shapes).compile(options)


def layers() -> dict[str, Layer]:
    """Every form of ours, and the libraries that are installed."""
    scan = tuning.scan_config("gpu")
    found = {OURS.format(n): gpu.ours(engine.scan_loop(scan._replace(unroll=n))) for n in UNROLLS}
    found[WHOLE] = gpu.ours(engine.scan_loop(scan))
    found[SMALL] = gpu.ours(engine.scan_loop(tuning.scan_config("cpu")._replace(unroll=scan.unroll)))
    found[KERNEL] = gpu.ours(mosaic_gpu.LOOP)
    for library in LIBRARIES:
        rows = competitors.load(library)
        found |= {} if isinstance(rows, str) else rows
    return found


def program(
    device: Any, workload: Workload, mode: str, dtype: str, name: str, layer: Layer, dumps: Path
) -> dict[str, Any]:
    """Kernels and starts by the host a step, temporary memory; or the reason why it is not compiled."""
    cast = partial(jax.tree.map, lambda leaf: leaf.astype(dtype))
    problem = make_problem(workload)
    given = problem._replace(params=cast(problem.params), xs=cast(problem.xs))
    reason = mosaic_gpu.why_not(given.xs, workload.H) if name == KERNEL else None
    if reason:
        return {"reason": reason}
    function, arguments, _ = build(workload, mode, layer, given)
    empty(dumps)
    try:
        found = compiled_for(device, function, *arguments, options=gpu.GRAPH if name == WHOLE else None)
        text, (thunks,) = found.as_text(), dumps.glob("*thunk_sequence_after_thunk_passes.txt")
        kernels = hlo.executed(text, hlo.launches) / workload.T
        starts = hlo.started(thunks.read_text(), hlo.turns(text)) / workload.T
    except Exception as error:  # any library's: the others are still counted
        return {"reason": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120]}"}
    memory = found.memory_analysis().temp_size_in_bytes
    return {"kernels": round(kernels, 2), "starts": round(starts, 2), "MiB": round(memory / 2**20, 1)}


def empty(folder: Path) -> None:
    """Removes all in it."""
    shutil.rmtree(folder)
    folder.mkdir()


def kernel(device: Any, direction: str, dtype: str, units: int, flagged: bool, dumps: Path) -> dict[str, Any]:
    """What a kernel of our own is made of, from its machine code.

    Args:
        flagged: whether there are lengths, a mask or resets.
    """
    from lstm_jax._core.implementations import kernels

    steps, ends, parts = 64, (units, layout.COLUMNS), mosaic_gpu.PARTS[jnp.dtype(dtype)]
    weights = jnp.zeros((parts * layout.GATES, units, units), jnp.bfloat16)
    state = (jnp.zeros(ends),) * 2
    flags, reset = (kernels.Flags(*[jnp.ones((steps, layout.COLUMNS))] * 2), state) if flagged else (None, None)
    empty(dumps)
    if direction == "forward":
        z = jnp.zeros((steps, layout.GATES, *ends))
        compiled_for(device, partial(kernels.forward, reverse=False), z, weights, state, flags, reset)
    else:
        by, dys = jnp.zeros((steps, kernels.COEFFICIENTS, *ends)), jnp.zeros((steps, *ends))
        compiled_for(device, partial(kernels.backward, reverse=False), by, weights, dys, state, flags)
    (assembled,), (code,) = dumps.glob("*.ptxas"), dumps.glob("*.sass_ctrl")
    words, every = assembled.read_text(), loop_of(code.read_text())
    kinds = Counter(one.split(".")[0] for one in every)
    return {
        "registers": int(re.findall(r"Used (\d+) registers", words)[0]),
        "spilled": int(re.findall(r"(\d+) bytes spill stores", words)[0]),
        "instructions": len(every),
        "products": kinds["HGMMA"],
        "special": kinds["MUFU"],
        "cycles": len(every) * 4 * (units // layout.ROWS) // SCHEDULERS,
    }


def loop_of(code: str) -> list[str]:
    """The instructions in the largest loop of a disassembled kernel, which is that over time."""
    found: list[str] = []
    labels: dict[str, int] = {}
    loops: list[tuple[int, int]] = []
    for line in code.splitlines():
        if label := re.match(r"\.(L_x_\d+):", line):
            labels[label[1]] = len(found)
        elif one := re.match(r".*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?(\S+)(.*)", line):
            found.append(one[1])
            back = re.search(r"\.(L_x_\d+)\)", one[2]) if one[1].startswith("BRA") else None
            if back and back[1] in labels:
                loops.append((labels[back[1]], len(found)))
    if not loops:
        raise ValueError(f"code: got {len(found)} instructions, want a loop among them")
    return found[slice(*max(loops, key=lambda loop: loop[1] - loop[0]))]


def report(results: dict[str, Any], picture: str) -> str:
    """Tables in Markdown."""
    day, version = results["environment"]["date"], results["environment"]["versions"]["jax"]
    lines = [
        f"# Compiled for an H100\n\n{(__doc__ or '').split(chr(10) * 2)[2]}\n",
        f"{day}, jax {version}, T = {results['T']}; nothing was run.",
        f"On a GPU `lstm` takes {tuning.scan_config('gpu').unroll} steps a body.\n\n![Kernels a step]({picture})\n",
        "## Kernels a step, starts by the host a step, temporary memory\n",
        "| B | H | dtype | row | forward | forward + backward |\n" + "| --- " * 6 + "|",
    ]
    for cell in results["programs"]:
        shown = [one.get("reason") or "{kernels}, {starts}, {MiB} MiB".format(**one) for one in cell["modes"].values()]
        if len(set(shown)) == 1:
            shown = [shown[0], ""]
        lines.append(f"| {cell['B']} | {cell['H']} | {cell['dtype']} | {cell['row']} | {' | '.join(shown)} |")
    lines.append(
        "\n## The kernels of `mosaic_gpu`, for 16 sequences\n\nInstructions are those of a warp and a step, of them "
        "`products` for matrices and `special` for exponentials and\nroots; cycles are what a step takes at least to "
        "start them all. Spilled are bytes of registers, flags are lengths, masks or\nresets.\n"
    )
    names = "dtype", "H", "direction", "flags", "registers", "spilled", "instructions", "products", "special", "cycles"
    lines.append("| " + " | ".join(names) + " |\n" + "| --- " * len(names) + "|")
    lines += ["| " + " | ".join(str(one[name]) for name in names) + " |" for one in results["kernels"]]
    return "\n".join(lines) + "\n"


def draw(results: dict[str, Any], path: Path) -> None:
    """Bars of kernels a step by row, a panel for each mode, a colour for each size, in the last dtype."""
    from matplotlib.figure import Figure

    cells = [cell for cell in results["programs"] if cell["dtype"] == results["programs"][-1]["dtype"]]
    rows = list(dict.fromkeys(cell["row"] for cell in cells))
    sizes = list(dict.fromkeys((cell["B"], cell["H"]) for cell in cells))
    figure = Figure(figsize=(10, 0.5 + 0.5 * len(rows)), layout="constrained")
    for axes, (mode, title) in zip(figure.subplots(1, 2, sharey=True), gpu_report.MODES.items(), strict=True):
        for k, size in enumerate(sizes):
            those = [cell for cell in cells if (cell["B"], cell["H"]) == size and "MiB" in cell["modes"][mode]]
            places = [rows.index(cell["row"]) + (k + 0.5) * 0.8 / len(sizes) - 0.4 for cell in those]
            counts = [cell["modes"][mode]["kernels"] for cell in those]
            bars = axes.barh(places, counts, 0.75 / len(sizes), label=f"B={size[0]} H={size[1]}")
            axes.bar_label(bars, fmt="{:.3g}", padding=2, fontsize=7)
        axes.set(title=f"{title}, {cells[0]['dtype']}", xlabel="kernels a step")
        axes.set_yticks(range(len(rows)), rows)
        axes.grid(axis="x", alpha=0.3)
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one small size")
    parser.add_argument("--output", type=Path, default=gpu.RESULTS / "gpu_programs.json", help="and .md (%(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as dumps:
        results = count(options.smoke, Path(dumps))
    write_whole(options.output, results)
    picture = options.output.with_suffix(".png")
    draw(results, picture)
    text = report(results, picture.name)
    options.output.with_suffix(".md").write_text(text)
    print(text)


def count(smoke: bool, dumps: Path) -> dict[str, Any]:
    """Compiles everything in an empty folder."""
    device = prepare(dumps)
    steps, sizes, dtypes, blocks = SMOKE if smoke else ALL
    rows = {name: layer for name, layer in layers().items() if name in SMOKE_ROWS or not smoke}
    results: dict[str, Any] = {"environment": environment(), "T": steps, "programs": [], "kernels": []}
    for dtype, units in blocks:  # before the programs: what was compiled once is not written again
        for direction in ("forward", "backward"):
            for flagged in (False, True):
                made = kernel(device, direction, dtype, units, flagged, dumps / "kernels")
                asked = {"dtype": dtype, "H": units, "direction": direction, "flags": "with" if flagged else "without"}
                results["kernels"].append({**asked, **made})
    cells = [(B, H, dtype, row) for B, H in sizes for dtype in dtypes for row in rows.items()]
    for batch, units, dtype, (name, layer) in tqdm(cells, unit="program"):
        workload = Workload(T=steps, B=batch, D=units, H=units)
        modes = {mode: program(device, workload, mode, dtype, name, layer, dumps / "programs") for mode in gpu.MODES}
        results["programs"].append({"B": batch, "H": units, "dtype": dtype, "row": name, "modes": modes})
    return results


if __name__ == "__main__":
    main()

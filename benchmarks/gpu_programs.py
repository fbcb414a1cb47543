"""Counts kernels per time step, memory and instructions of programs compiled for a GPU, on a machine without one.

    make cuda PYTHON=python3.13 VENV=.venv-newest     # NVIDIA's compiler, 700 MB, in a separate folder
    PYTHONPATH=.venv-newest/cuda .venv-newest/bin/python -m benchmarks.gpu_programs

XLA compiles for an H100 that is only described to it; no driver is needed and nothing runs. The loop over time of a
small layer waits mostly for kernels to start and end, and for the host, which starts the body of the loop as one CUDA
graph; what the kernels compute takes little time. Therefore the number of kernels per time step, and how often the host
starts something, say more about a program's speed than anything else that can be known without a GPU. `benchmarks.gpu`
measures times. On a device XLA also tries variants of products, which may change a count by one or two. The kernels of
`mosaic_gpu` are disassembled.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies
from tqdm import tqdm

from benchmarks import competitors, gpu, gpu_kernels, gpu_programs_report, hlo, internals
from benchmarks.competitors.layer import Layer
from benchmarks.gpu_report import KERNEL_ROW, UNROLLED_ROW, WHOLE_LOOP_ROW
from benchmarks.programs import build_program, make_problem
from benchmarks.run import describe_environment, write_atomically
from benchmarks.workloads import Workload

UNROLLS = (1, 2, 4, 16)
"""Numbers of time steps in the body of a scan."""
CPU_CHUNKS_ROW = "lstm_jax scan, CPU chunk sizes"
"""The row of a scan with the chunk sizes of a CPU and the unroll of a GPU."""
LIBRARIES = "flax linen", "flax nnx", "haiku", "equinox"
"""Other libraries to count, keys of ``competitors.LIBRARIES``."""
SMOKE_ROWS = UNROLLED_ROW.format(4), KERNEL_ROW, "flax linen OptimizedLSTMCell"
"""The rows that ``--smoke`` counts."""


class Sizes(NamedTuple):
    """The sizes and dtypes of the programs and kernels to compile."""

    num_steps: int
    """T of the programs"""
    layers: tuple[tuple[int, int], ...]
    """(B, H) of the programs"""
    dtypes: tuple[str, ...]
    """dtypes of the programs"""
    kernels: tuple[tuple[str, int], ...]
    """(dtype, H) of the kernels"""


FULL_SIZES = Sizes(
    512,
    ((16, 128), (1, 256), (128, 512)),
    ("float32", "bfloat16"),
    (("bfloat16", 64), ("bfloat16", 128), ("float32", 64)),
)
SMOKE_SIZES = Sizes(64, ((16, 64),), ("bfloat16",), (("bfloat16", 64),))
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
"""The target as XLA's GpuTargetConfigProto, from NVIDIA's data sheet and the CUDA programming guide."""


def describe_device(dumps: Path) -> Any:
    """Configures the compilers, and returns a description of an H100 to compile for.

    Args:
        dumps: the folder into which the compilers write programs and machine code.

    Raises:
        SystemExit: if NVIDIA's compiler is not installed, or jax is older than 0.11.
    """
    if jax.__version_info__ < (0, 11):
        raise SystemExit(f"Want jax 0.11 or newer, which the kernels are written for; this is {jax.__version__}")
    toolkits = [Path(folder) / "nvidia" / "cu13" for folder in sys.path if (Path(folder) / "nvidia" / "cu13").is_dir()]
    if not toolkits:
        raise SystemExit(f"The compiler for CUDA is not on the path:\n{_paragraph(1)}")
    os.environ["PATH"] = f"{toolkits[0] / 'bin'}{os.pathsep}{os.environ['PATH']}"
    os.environ |= {"JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1", "MOSAIC_GPU_CUDA_ROOT": str(toolkits[0])}
    os.environ["MOSAIC_GPU_DUMP_TO"] = str(dumps / "kernels")
    for folder in ("kernels", "programs"):
        (dumps / folder).mkdir()
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={dumps / 'programs'} --xla_dump_hlo_as_text"
    )
    jax.config.update("jax_platforms", "cpu")  # for the few arrays that are computed
    return topologies.get_topology_desc("", "cuda", target_config=H100, topology="1x1x1").devices[0]


def compile_for(device: Any, function: Any, *arguments: Any, options: dict[str, Any] | None = None) -> Any:
    """Compiles a function for a device; ``options`` are compiler options, and None means XLA's defaults."""
    sharding = jax.sharding.SingleDeviceSharding(device)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), arguments)
    return jax.jit(function).lower(*shapes).compile(options)


def make_layers() -> dict[str, Layer]:
    """Maps names of rows to layers: every implementation of lstm_jax, and the installed libraries."""
    layers = {UNROLLED_ROW.format(unroll): internals.scan_layer("gpu", unroll) for unroll in UNROLLS}
    layers[WHOLE_LOOP_ROW] = internals.scan_layer("gpu")
    layers[CPU_CHUNKS_ROW] = internals.scan_layer("cpu", internals.default_unroll("gpu"))
    layers[KERNEL_ROW] = internals.kernel_layer()
    for library in LIBRARIES:
        library_layers = competitors.load(library)
        layers |= {} if isinstance(library_layers, str) else library_layers
    return layers


def count_program(
    device: Any, workload: Workload, mode: str, dtype: str, row: str, layer: Layer, dumps: Path
) -> dict[str, Any]:
    """Counts kernels and starts by the host per time step, and temporary memory.

    Returns:
        ``{"kernels": ..., "starts": ..., "MiB": ...}``, or ``{"reason": ...}`` if the program does not compile.
    """
    problem = gpu.cast_problem(make_problem(workload), dtype)
    reason = internals.why_not_on_hopper(problem.xs, workload.H) if row == KERNEL_ROW else None
    if reason:
        return {"reason": reason}
    program = build_program(workload, mode, layer, problem)
    empty_folder(dumps)
    options = gpu.WHOLE_LOOP_GRAPH if row == WHOLE_LOOP_ROW else None
    try:
        compiled = compile_for(device, program.function, *program.arguments, options=options)
        text, (thunks,) = compiled.as_text(), dumps.glob("*thunk_sequence_after_thunk_passes.txt")
        kernels = hlo.count_executed(text, hlo.launches_kernel) / workload.T
        starts = hlo.count_host_starts(thunks.read_text(), hlo.trip_counts(text)) / workload.T
    except Exception as error:  # any library may fail; the others are still counted
        return {"reason": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120]}"}
    memory = compiled.memory_analysis().temp_size_in_bytes
    return {"kernels": round(kernels, 2), "starts": round(starts, 2), "MiB": round(memory / 2**20, 1)}


def empty_folder(folder: Path) -> None:
    """Removes everything in a folder."""
    shutil.rmtree(folder)
    folder.mkdir()


def count_all(smoke: bool, dumps: Path) -> dict[str, Any]:
    """Compiles and counts all programs and kernels.

    Args:
        smoke: whether to count only ``SMOKE_ROWS`` at ``SMOKE_SIZES``.
        dumps: an empty folder.

    Returns:
        The content of the file of results.
    """
    device = describe_device(dumps)
    sizes = SMOKE_SIZES if smoke else FULL_SIZES
    # kernels first: a kernel that a program has compiled already would not be dumped again
    kernels = list(_count_kernels(device, sizes, dumps / "kernels"))
    layers = {row: layer for row, layer in make_layers().items() if row in SMOKE_ROWS or not smoke}
    entries = [(B, H, dtype, row) for B, H in sizes.layers for dtype in sizes.dtypes for row in layers]
    programs = []
    for B, H, dtype, row in tqdm(entries, unit="program"):
        workload = Workload(T=sizes.num_steps, B=B, D=H, H=H)
        modes = {
            mode: count_program(device, workload, mode, dtype, row, layers[row], dumps / "programs")
            for mode in gpu.MODES
        }
        programs.append({"B": B, "H": H, "dtype": dtype, "row": row, "modes": modes})
    return {"environment": describe_environment(), "T": sizes.num_steps, "programs": programs, "kernels": kernels}


def _count_kernels(device: Any, sizes: Sizes, dumps: Path) -> Iterator[dict[str, Any]]:
    """Yields the counts of each kernel, forward and backward, with and without flags."""
    compile_program = partial(compile_for, device)
    for dtype, hidden_size in sizes.kernels:
        for direction in ("forward", "backward"):
            for has_flags in (False, True):
                empty_folder(dumps)
                counts = gpu_kernels.describe_kernel(compile_program, direction, dtype, hidden_size, has_flags, dumps)
                flags = "with" if has_flags else "without"
                yield {"dtype": dtype, "H": hidden_size, "direction": direction, "flags": flags, **counts}


def _paragraph(number: int) -> str:
    """Returns a paragraph of the module docstring."""
    return (__doc__ or "").split("\n\n")[number].strip("\n")


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one small size")
    parser.add_argument(
        "--output",
        type=Path,
        default=gpu.RESULTS / "gpu_programs.json",
        help="file of results; .md and .png are written beside it (%(default)s)",
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as dumps:
        results = count_all(options.smoke, Path(dumps))
    write_atomically(options.output, results)
    print(write_report(results, options.output))


def write_report(results: dict[str, Any], output: Path) -> str:
    """Writes the tables and the plot beside the file of results, and returns the tables."""
    plot_path = output.with_suffix(".png")
    gpu_programs_report.plot_kernels(results, plot_path)
    text = gpu_programs_report.format_report(results, _paragraph(2), plot_path.name)
    output.with_suffix(".md").write_text(text)
    return text


if __name__ == "__main__":
    main()

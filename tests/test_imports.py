"""The table of imports, and what importing the package does."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lstm_jax"

PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
TABLE = PAGE[PAGE.index("| modules |") : PAGE.index("The core imports")]
LAYERS = [set(re.findall(r"`([\w.]+)`", line.split("|")[1])) for line in TABLE.splitlines()[2:] if line.startswith("|")]
"""Each module imports from the rows above its own, and nothing else from this package."""

STANDARD = (
    "base64 collections concurrent contextlib csv functools importlib inspect itertools json logging math os pathlib "
    "pickle re signal sys threading time types typing warnings"
)
ALLOWED = {"jax", "numpy", *STANDARD.split()}
"""What every module may import from elsewhere."""

EXTRAS = {
    "flax_modules.linen": {"flax"},
    "flax_modules.nnx": {"flax"},
    "interop.onnx": {"onnx"},
    "interop.safetensors": {"safetensors"},
    "training.optimizers": {"optax"},
    "training.step": {"optax"},
    "training.tbptt": {"optax"},
    "training.population": {"optax"},
    "training.fit": {"optax"},
    "diagnostics.dynamics": {"optax"},
    "diagnostics.monitors": {"optax"},
    "diagnostics.page": {"scipy"},
    "diagnostics.plots.figures": {"matplotlib"},
    "diagnostics.tracking": {"scipy"},
}
"""What some may besides, each an extra of the package; scipy comes with jax."""


def modules():
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        yield name.removesuffix(".__init__"), path


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)


def test_imports_only_look_down():
    rank = {name: row for row, names in enumerate(LAYERS) for name in names}
    found = dict(modules())
    assert set(found) == set(rank), "the table of ARCHITECTURE.md and the package differ"
    for name, path in found.items():
        for module, part in imported(path):
            if not module.startswith("lstm_jax"):
                assert module.split(".")[0] in ALLOWED | EXTRAS.get(name, set()), f"{name} imports {module}"
                continue
            inside = module.removeprefix("lstm_jax").removeprefix(".")
            target = inside if inside in rank else part
            target = f"{inside}.{part}" if f"{inside}.{part}" in rank else target
            assert rank[target] < rank[name], f"{name} imports {target}, which is not below it"


def run(code):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_touches_no_device_and_no_framework():
    run(
        "import sys, lstm_jax\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge._backends, 'a device was initialized'\n"
        "frameworks = 'flax haiku torch chex matplotlib optax keras equinox onnx safetensors jax.extend'.split()\n"
        "assert not set(frameworks) & set(sys.modules)\n"
    )


def test_the_core_leaves_global_configuration_alone():
    run(
        "import jax\n"
        "before = dict(jax.config.values)\n"
        "import lstm_jax, jax.numpy as jnp\n"
        "lstm_jax.lstm(lstm_jax.init_params(jax.random.key(0), 2, 3), jnp.zeros((4, 2)))\n"
        "assert dict(jax.config.values) == before\n"
    )


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_files_and_functions_stay_short(path):
    text = path.read_text()
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            assert not body or body[-1].end_lineno - body[0].lineno < 40, node.name


def test_what_the_package_shows_is_what_it_promises():
    """``dir`` shows the public names and no others, and the version is that of the package."""
    printed = run(
        "import sys, lstm_jax\n"
        "assert dir(lstm_jax) == sorted(lstm_jax.__all__)\n"
        "assert 'lstm_jax.training' not in sys.modules\n"
        "assert all(hasattr(lstm_jax, name) for name in dir(lstm_jax))\n"
        "assert 'lstm_jax.training' in sys.modules\n"
        "print(lstm_jax.__version__)\n"
    )
    assert f'version = "{printed.strip()}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")

"""A trained model in a folder: its parameters, what else it needs, and tokenisers."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
from safetensors import SafetensorError
from tokenizers import Tokenizer

from lstm_jax.interop import safetensors


def save(folder: Path, example: str, params: Any, notes: dict[str, Any], **codes: Tokenizer) -> None:
    """Parameters, what else a model needs to be loaded, and tokenisers by name."""
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.save(folder / "model.safetensors", params)
    (folder / "model.json").write_text(json.dumps({"example": example, **notes}, indent=1))
    for name, one in codes.items():
        one.save(str(folder / f"{name}.json"))


def read_notes(folder: Path, example: str, *codes: str) -> dict[str, Any]:
    """What ``save`` noted beside the parameters."""
    for name in ("model.json", "model.safetensors", *(f"{one}.json" for one in codes)):
        if not (folder / name).is_file():
            raise SystemExit(f"--load: {folder} has no {name}, want a folder that --save of {example} wrote")
    try:
        notes: dict[str, Any] = json.loads((folder / "model.json").read_text())
        kind = notes["example"]
    except (ValueError, KeyError) as error:
        raise SystemExit(f"--load: {folder} cannot be read: {error}") from None
    if kind != example:
        raise SystemExit(f"--load: {folder} holds a model of {kind}, want one of {example}")
    return notes


def load(
    folder: Path, example: str, init: Callable[..., Any], *codes: str
) -> tuple[Any, dict[str, Any], list[Tokenizer]]:
    """What ``save`` wrote, where ``notes["sizes"]`` are the arguments of ``init``."""
    notes = read_notes(folder, example, *codes)
    try:
        like = jax.eval_shape(partial(init, jax.random.key(0), **notes["sizes"]))
        params = safetensors.load(folder / "model.safetensors", like)
        return params, notes, [Tokenizer.from_file(str(folder / f"{one}.json")) for one in codes]
    except (ValueError, KeyError, SafetensorError) as error:
        raise SystemExit(f"--load: {folder} cannot be read: {error}") from None

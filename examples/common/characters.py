"""A text as numbers, one for each character, divided for training, validation and test."""

import argparse
import math
import re
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from common import texts
from lstm_jax import training

SMOKE_CHARACTERS = 200_000
"""The number of characters that --smoke reads."""


class Corpus(NamedTuple):
    """A text as integers below ``len(alphabet)``."""

    alphabet: list[str]
    train: np.ndarray
    """the first nine tenths, if there is no test part"""
    valid: np.ndarray
    """the last tenth, or the tenth before the test part"""
    test: np.ndarray
    """the last part, whose share may be 0"""


def read_corpus(options: argparse.Namespace) -> Corpus:
    """Reads --data, by default the standard library's source; SystemExit if it is too short to serve."""
    batch, window = options.batch, options.window
    if options.data is None:
        files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
        text = "".join(file.read_text(encoding="utf-8") for file in files)
    else:
        text = texts.read_text("--data", options.data, options.encoding)
    text = text[:SMOKE_CHARACTERS] if options.smoke else text
    test_start = len(text) - int(options.test_share * len(text))
    valid_start = test_start - len(text) // 10
    min_characters = batch * window + 1
    if valid_start < min_characters:
        raise SystemExit(
            f"--data: {options.data} has {len(text):,} characters, too short: one step of batch={batch} streams of "
            f"window={window} characters needs {math.ceil(min_characters * 10 / 9):,}; use a longer text or --set "
            "smaller ones"
        )
    if 0 < len(text) - test_start <= window:
        raise SystemExit(f"--set test_share: {len(text) - test_start} characters, want more than window={window}")
    alphabet = sorted(set(text))
    number = {character: code for code, character in enumerate(alphabet)}
    codes = np.array([number[character] for character in text], np.int32)
    encode(alphabet, options.prompt, options.encoding)  # a prompt that cannot be read ends the program here
    train, valid, test = np.split(codes, [valid_start, test_start])
    print(f"{len(train):,} characters to train on, {len(valid):,} held out, {len(alphabet)} different ones")
    return Corpus(alphabet, train, valid, test)


def encode(alphabet: list[str], text: str | None, encoding: str = "utf-8", flag: str = "--prompt") -> np.ndarray:
    """Turns a text into codes ``[T]``, an empty one into a line break; SystemExit if a character has no code."""
    if not text:
        text = "\n" if "\n" in alphabet else alphabet[0]
    if encoding == "bytes":
        text = text.encode().decode("latin-1")
    unknown = sorted(set(text) - set(alphabet))
    if unknown:
        shown = text if len(text) < 80 else f"{text[:80]}..."
        raise SystemExit(f"{flag}: got {shown!r}, want characters that occur in the corpus; these do not: {unknown}")
    return np.array([alphabet.index(character) for character in text], np.int32)


def decode(alphabet: list[str], codes: Iterable[int], encoding: str = "utf-8") -> str:
    """Turns codes into text."""
    text = "".join(alphabet[code] for code in codes)
    return text.encode("latin-1").decode(errors="replace") if encoding == "bytes" else text


def stream_held_out(
    codes: np.ndarray, options: argparse.Namespace, num_devices: int = 1
) -> tuple[training.Stream, int]:
    """Divides a held-out text into as many streams as it fills, at most ``batch``; also returns their number."""
    rows = min(options.batch, max(1, (len(codes) - 1) // options.window))
    rows -= rows % num_devices
    return training.Stream(codes, rows, min(options.window, len(codes) - 1)), rows


def join_processes(processes: str | None) -> None:
    """Joins the processes that share a mesh: "HOST:PORT,NUMBER,INDEX", the address of process 0, or None."""
    if processes is None:
        return
    match = re.fullmatch(r"(\S+:\d+),(\d+),(\d+)", processes)
    if match is None:
        raise SystemExit(f"--set processes: got {processes}, want for example localhost:1234,2,0")
    jax.distributed.initialize(match[1], int(match[2]), int(match[3]))

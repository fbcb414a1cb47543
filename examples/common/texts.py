"""Reads text files into lists and turns words into numbers; an error names flag, file and line."""

import gzip
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

UNKNOWN, START, END = "<unk>", "<s>", "</s>"
"""The first three tokens of every vocabulary, so that their codes are 0, 1 and 2."""


def read_text(flag: str, path: Path, encoding: str = "utf-8") -> str:
    """Reads a file, unpacked if it ends in .gz, with \\n as line ends; with encoding "bytes" a byte is a character."""
    if not path.is_file():
        raise SystemExit(f"{flag}: {path} is not a file")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SystemExit(f"{flag}: {path} cannot be unpacked: {error}") from None
    if encoding == "bytes":
        return data.decode("latin-1")
    try:
        text = data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except LookupError:
        raise SystemExit(
            f"--set encoding: got {encoding!r}, which Python does not know; want utf-8, latin-1, ..."
        ) from None
    except UnicodeDecodeError as error:
        raise SystemExit(
            f"{flag}: {path} is not {encoding} text ({error.reason} at byte {error.start}); "
            "if it is text in another encoding say so: --set encoding=latin-1"
        ) from None
    if not text.strip():
        raise SystemExit(f"{flag}: {path} is empty")
    if "\0" in text:
        raise SystemExit(f"{flag}: {path} looks binary: it holds a zero byte at {text.index(chr(0))}")
    return text.replace("\r\n", "\n")


def read_lines(flag: str, path: Path, encoding: str = "utf-8") -> list[str]:
    """Reads the lines of a file; only \\n ends one."""
    return read_text(flag, path, encoding).removesuffix("\n").split("\n")


class LabeledTexts(NamedTuple):
    """Texts, the label of each, and where each stands."""

    texts: list[str]
    labels: list[str]
    places: list[str]


def read_labeled(flag: str, path: Path, encoding: str = "utf-8") -> LabeledTexts:
    """Reads lines of a label, a tab or else a blank, and a text; empty lines are skipped."""
    rows = LabeledTexts([], [], [])
    for number, line in enumerate(read_lines(flag, path, encoding), start=1):
        if not line.strip():
            continue
        label, _, text = line.partition("\t" if "\t" in line else " ")
        if not label.strip() or not text.strip():
            raise SystemExit(f"{flag}: {path}, line {number}: got {line!r}, want a label, a tab or blank, and a text")
        for column, value in zip(rows, (text.strip(), label.strip(), f"{path}, line {number}"), strict=True):
            column.append(value)
    return rows


def split_rows(rows: LabeledTexts, share: float, seed: int) -> tuple[LabeledTexts, LabeledTexts]:
    """Divides rows at random into all but this share, and the share; the first part keeps one row of each label."""
    order = np.random.default_rng(seed).permutation(len(rows.labels))
    first = {rows.labels[place]: place for place in order[::-1]}
    free = [place for place in order if place != first[rows.labels[place]]]
    second_part = set(free[: max(1, round(share * len(order)))])

    def select(in_second: bool) -> LabeledTexts:
        """Takes the rows of one part."""
        return LabeledTexts(
            *([value for k, value in enumerate(column) if (k in second_part) == in_second] for column in rows)
        )

    return select(False), select(True)


def label_numbers(flag: str, rows: LabeledTexts, names: Sequence[str]) -> np.ndarray:
    """Turns labels into their places in ``names``."""
    number = {name: place for place, name in enumerate(names)}
    for label, place in zip(rows.labels, rows.places, strict=True):
        if label not in number:
            shown = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
            raise SystemExit(f"{flag}: {place}: got label {label!r}, which no training text has: {shown}")
    return np.array([number[label] for label in rows.labels], np.int32)


def train_word_tokenizer(texts: Iterable[str], min_count: int, lower: bool = True) -> Tokenizer:
    """Makes a tokenizer whose tokens are the words that occur at least ``min_count`` times, the most frequent first.

    Blanks alone divide a text into words.
    """
    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), *([normalizers.Lowercase()] if lower else [])])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(
        min_frequency=min_count, vocab_size=10**9, special_tokens=[UNKNOWN, START, END], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def train_subword_tokenizer(texts: Iterable[str], max_tokens: int) -> Tokenizer:
    """Makes a tokenizer of at most ``max_tokens`` lower-case subwords, by byte-pair encoding (Sennrich et al. 2016)."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=max_tokens, special_tokens=[UNKNOWN, START, END], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """Turns each text into its tokens' numbers."""
    return [np.array(encoding.ids, np.int32) for encoding in tokenizer.encode_batch(list(texts))]

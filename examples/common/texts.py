"""Text files into lists, and words into numbers; what cannot serve is told by option, file and line."""

import gzip
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

UNKNOWN, START, END = "<unk>", "<s>", "</s>"
"""Always the first three of a vocabulary, so that their codes are 0, 1 and 2."""


def read_text(option: str, path: Path, encoding: str = "utf-8") -> str:
    """The whole file, unpacked if it ends in .gz; line ends as \\n; of encoding "bytes" each byte is one character."""
    if not path.is_file():
        raise SystemExit(f"{option}: {path} is not a file")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SystemExit(f"{option}: {path} cannot be unpacked: {error}") from None
    if encoding == "bytes":
        return data.decode("latin-1")
    try:
        text = data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except LookupError:
        raise SystemExit(
            f"--encoding: got {encoding!r}, which Python does not know; want utf-8, latin-1, ..."
        ) from None
    except UnicodeDecodeError as error:
        raise SystemExit(
            f"{option}: {path} is not {encoding} text ({error.reason} at byte {error.start}); "
            "if it is text in another encoding say so: --encoding latin-1"
        ) from None
    if not text.strip():
        raise SystemExit(f"{option}: {path} is empty")
    if "\0" in text:
        raise SystemExit(f"{option}: {path} looks binary: it holds a zero byte at {text.index(chr(0))}")
    return text.replace("\r\n", "\n")


def read_lines(option: str, path: Path, encoding: str = "utf-8") -> list[str]:
    """The lines of a file; only \\n ends one."""
    return read_text(option, path, encoding).removesuffix("\n").split("\n")


class Labelled(NamedTuple):
    """Texts, what each is, and where it stands."""

    texts: list[str]
    labels: list[str]
    places: list[str]


def read_labelled(option: str, path: Path, encoding: str = "utf-8") -> Labelled:
    """Lines of a label, a tab or else a blank, and a text; empty lines are passed over."""
    found = Labelled([], [], [])
    for number, line in enumerate(read_lines(option, path, encoding), start=1):
        if not line.strip():
            continue
        label, _, text = line.partition("\t" if "\t" in line else " ")
        if not label.strip() or not text.strip():
            raise SystemExit(f"{option}: {path}, line {number}: got {line!r}, want a label, a tab or blank, and a text")
        for column, value in zip(found, (text.strip(), label.strip(), f"{path}, line {number}"), strict=True):
            column.append(value)
    return found


def cut_off(rows: Labelled, share: float, seed: int) -> tuple[Labelled, Labelled]:
    """All but this share of the rows, and the share, drawn at random; one row of each label is always kept."""
    order = np.random.default_rng(seed).permutation(len(rows.labels))
    first = {rows.labels[place]: place for place in order[::-1]}
    free = [place for place in order if place != first[rows.labels[place]]]
    cut = set(free[: max(1, round(share * len(order)))])

    def those(chosen: bool) -> Labelled:
        return Labelled(*([one for place, one in enumerate(column) if (place in cut) == chosen] for column in rows))

    return those(False), those(True)


def numbers(option: str, rows: Labelled, names: Sequence[str]) -> np.ndarray:
    """Labels as places in ``names``."""
    number = {name: place for place, name in enumerate(names)}
    for label, place in zip(rows.labels, rows.places, strict=True):
        if label not in number:
            known = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
            raise SystemExit(f"{option}: {place}: got label {label!r}, which no training text has: {known}")
    return np.array([number[label] for label in rows.labels], np.int32)


def word_codes(texts: Iterable[str], least: int, lower: bool = True) -> Tokenizer:
    """A tokeniser whose tokens are words and punctuation marks that occur at least so often, the most frequent first.

    Text that is divided by blanks already stays divided so.
    """
    made = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    made.normalizer = normalizers.Sequence([normalizers.NFC(), *([normalizers.Lowercase()] if lower else [])])
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(
        min_frequency=least, vocab_size=10**9, special_tokens=[UNKNOWN, START, END], show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    return made


def piece_codes(texts: Iterable[str], most: int) -> Tokenizer:
    """A tokeniser of at most so many pieces of words, in lower case, by byte-pair encoding (Sennrich et al. 2016)."""
    made = Tokenizer(models.BPE(unk_token=UNKNOWN))
    made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase(), normalizers.Strip()])
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    made.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=most, special_tokens=[UNKNOWN, START, END], show_progress=False)
    made.train_from_iterator(texts, trainer)
    return made


def encode(codes: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """Each text as its tokens' numbers."""
    return [np.array(found.ids, np.int32) for found in codes.encode_batch(list(texts))]

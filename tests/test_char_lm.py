"""The character language model: it learns, writes, and explains what it cannot read."""

import gzip
import json
import os
import signal
import threading
from argparse import Namespace
from typing import Literal, NamedTuple

import char_lm
import jax
import pytest
from common import characters, options

SMALL = ["hidden=16", "batch=4", "window=8", "length=20", "seed=1"]
PATTERN = "the cat sat on the mat. " * 100


def read_options(**changes):
    """The options of ``read_corpus``, by default those of the example."""
    return Namespace(**char_lm.Settings()._asdict() | {"data": None, "prompt": None, "smoke": False} | changes)


@pytest.fixture(autouse=True)
def as_users_run_it():
    """The example runs under jax's defaults."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), jax.enable_x64(False):
        yield


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text(PATTERN, encoding="utf-8")
    return path


def test_it_learns_a_pattern_and_writes(corpus, tmp_path, capsys):
    curve = tmp_path / "curve.png"
    loss = char_lm.main(["--data", str(corpus), "--prompt", "the c", "--set", "steps=200", f"picture={curve}", *SMALL])
    assert loss < 0.5
    assert curve.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("unigram", "bigram", "trigram", "LSTM", "nats"))
    sample = printed.split("temperature 0.7:\n\n")[1]
    assert sample.startswith("the c")
    assert len(sample.strip("\n")) >= 20


def test_the_default_corpus_is_the_standard_library():
    corpus = characters.read_corpus(read_options())
    assert len(corpus.train) > 2_000_000
    assert "def __init__(self" in "".join(corpus.alphabet[code] for code in corpus.train[:2_000_000])


def test_ctrl_c_ends_training_and_still_writes(corpus, tmp_path, capsys):
    press = threading.Timer(6.0, os.kill, (os.getpid(), signal.SIGINT))
    press.start()
    options = ["--minutes", "2", "--set", "steps=1000000", f"picture={tmp_path / 'c.png'}"]
    try:
        char_lm.main(["--data", str(corpus), *options, *SMALL])
    finally:
        press.cancel()
    printed = capsys.readouterr().out
    assert "Training ended: interrupted" in printed
    assert "The model writes" in printed


def test_it_goes_on_from_where_it_was(corpus, tmp_path, capsys):
    def run(steps, *more):
        options = ["--set", f"steps={steps}", "dropout=0.2", f"picture={tmp_path / 'c.png'}", *SMALL]
        return char_lm.main(["--data", str(corpus), *options, *more])

    saved = ["--save", str(tmp_path / "run")]
    run(20, *saved)
    with pytest.raises(SystemExit, match=r"--save: .* holds a run at step 20"):
        run(40, *saved)
    run(40, *saved, "--resume")
    assert "step 40" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not a file"),
        (b"", "is empty"),
        (b"\xff\xfe\x00binary", "is not utf-8 text"),
        (b"text with a \0 byte" * 1000, "looks binary"),
        (b"short", "too short"),
    ],
)
def test_a_corpus_that_cannot_serve_is_explained(content, message, tmp_path):
    path = tmp_path / "corpus"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit, match=f"--data: .*{message}"):
        char_lm.main(["--data", str(path), "--set", *SMALL])


def test_a_prompt_with_unknown_characters_is_explained(corpus):
    with pytest.raises(SystemExit, match=r"--prompt: got '100%', .* do not: \['%', '0', '1'\]"):
        char_lm.main(["--data", str(corpus), "--prompt", "100%", "--set", *SMALL])


@pytest.mark.parametrize("setting", ["steps=0", "temperature=0", "dropout=1"])
def test_numbers_out_of_range_are_explained(setting, capsys):
    with pytest.raises(SystemExit):
        char_lm.main(["--set", setting])
    name, _, value = setting.partition("=")
    assert f"--set {name}: got {value}, want" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "hiden=3"], "--set: got no setting 'hiden', want one of seed, picture, hidden"),
        (["--set", "hidden"], "--set: got 'hidden', want NAME=VALUE"),
        (["--set", "seed=x"], "--set seed: got x, want a whole number"),
        (["--resume"], "--resume: got no --save, want the folder"),
        (["--smo"], "unrecognized arguments: --smo"),
    ],
)
def test_wrong_settings_and_flags_are_explained(words, message, capsys):
    with pytest.raises(SystemExit):
        char_lm.main(words)
    assert message in capsys.readouterr().err


class OneOfEach(NamedTuple):
    """A setting of each type."""

    count: options.Count | None = 3
    share: float = 0.5
    name: Literal["a", "b"] = "a"
    fast: bool = False


def test_a_setting_has_its_type_and_goes_before_smoke_and_default():
    def read(*words):
        parser = options.new_parser("doc")
        return options.parse(parser, list(words), "x.py", OneOfEach, smoke={"count": 1, "share": 0.25})

    given = read("--set", "count=none", "share=0.75", "name=b", "fast=true", "seed=7")
    assert (given.count, given.share, given.name, given.fast, given.seed) == (None, 0.75, "b", True, 7)
    smoked = read("--smoke", "--set", "share=0.75")
    assert (smoked.count, smoked.share, smoked.name, smoked.fast) == (1, 0.75, "a", False)
    with pytest.raises(SystemExit):
        read("--set", "name=c")
    with pytest.raises(SystemExit):
        read("--set", "fast=yes")


def test_the_recorded_command_names_neither_folders_nor_files_written_nor_the_seed(tmp_path):
    (tmp_path / "text.txt").write_text("text")
    words = ["--load", str(tmp_path / "text.txt"), "--save", "out", "--set", "seed=1", "count=4", "--record", "r.json"]
    read = options.parse(options.new_parser("doc"), words, "x.py", OneOfEach)
    assert read.command == "python examples/x.py --load text.txt --set count=4"
    read = options.parse(options.new_parser("doc"), ["--set", "seed=1", "picture=x.png"], "x.py", OneOfEach)
    assert read.command == "python examples/x.py"


def test_a_test_part_and_bytes(corpus, tmp_path, capsys):
    raw = tmp_path / "raw.txt.gz"
    raw.write_bytes(gzip.compress(b"\xef\xbb\xbf" + b"the cat\r\n" * 300))
    read = characters.read_corpus(read_options(data=raw, batch=4, window=8, test_share=0.25, encoding="bytes"))
    whole = len(read.train) + len(read.valid) + len(read.test)
    assert whole == 2703
    assert (len(read.test), len(read.valid)) == (int(whole * 0.25), whole // 10)
    assert {"\xef", "\r"} < set(read.alphabet)
    settings = ["--set", "steps=100", "test_share=0.2", f"picture={tmp_path / 'c.png'}", *SMALL]
    loss = char_lm.main(["--data", str(corpus), "--record", str(tmp_path / "one.json"), *settings])
    assert "Test text" in capsys.readouterr().out
    record = json.loads((tmp_path / "one.json").read_text())
    assert abs(record["measured"]["nats a character"] - loss) < 1e-3 * loss
    assert record["command"] == (
        "python examples/char_lm.py --data corpus.txt --set steps=100 test_share=0.2 "
        + " ".join(SMALL[:-1])  # but for the seed
    )

"""The character language model: it learns, writes, and explains what it cannot read."""

import gzip
import json
import os
import signal
import threading

import jax
import pytest

from examples import char_lm

SMALL = ["--hidden", "16", "--batch", "4", "--window", "8", "--length", "20", "--seed", "1"]
PATTERN = "the cat sat on the mat. " * 100


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
    loss = char_lm.main(
        ["--corpus", str(corpus), "--steps", "200", "--prompt", "the c", "--picture", str(curve), *SMALL]
    )
    assert loss < 0.5
    assert curve.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("unigram", "bigram", "trigram", "LSTM", "nats"))
    sample = printed.split("temperature 0.7:\n\n")[1]
    assert sample.startswith("the c")
    assert len(sample.strip("\n")) >= 20


def test_the_default_corpus_is_the_standard_library():
    corpus = char_lm.read_corpus(None, 32, 128)
    assert len(corpus.train) > 2_000_000
    assert "def __init__(self" in "".join(corpus.alphabet[code] for code in corpus.train[:2_000_000])


def test_ctrl_c_ends_training_and_still_writes(corpus, tmp_path, capsys):
    press = threading.Timer(6.0, os.kill, (os.getpid(), signal.SIGINT))
    press.start()
    options = ["--steps", "1000000", "--minutes", "2", "--picture", str(tmp_path / "c.png")]
    try:
        char_lm.main(["--corpus", str(corpus), *options, *SMALL])
    finally:
        press.cancel()
    printed = capsys.readouterr().out
    assert "Training ended: interrupted" in printed
    assert "The model writes" in printed


def test_it_goes_on_from_where_it_was(corpus, tmp_path, capsys):
    def run(steps, *more):
        options = ["--steps", str(steps), "--dropout", "0.2", "--picture", str(tmp_path / "c.png"), *SMALL]
        return char_lm.main(["--corpus", str(corpus), *options, *more])

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
    with pytest.raises(SystemExit, match=f"--corpus: .*{message}"):
        char_lm.main(["--corpus", str(path), *SMALL])


def test_a_prompt_with_unknown_characters_is_explained(corpus):
    with pytest.raises(SystemExit, match=r"--prompt: got '100%', .* do not: \['%', '0', '1'\]"):
        char_lm.main(["--corpus", str(corpus), "--prompt", "100%", *SMALL])


@pytest.mark.parametrize("option", [["--steps", "0"], ["--temperature", "0"], ["--dropout", "1"]])
def test_numbers_out_of_range_are_explained(option, capsys):
    with pytest.raises(SystemExit):
        char_lm.main(option)
    assert f"{option[0]}: got" in capsys.readouterr().err


def test_a_test_part_and_bytes(corpus, tmp_path, capsys):
    raw = tmp_path / "raw.txt.gz"
    raw.write_bytes(gzip.compress(b"\xef\xbb\xbf" + b"the cat\r\n" * 300))
    read = char_lm.read_corpus(raw, 4, 8, test=0.25, encoding="bytes")
    whole = len(read.train) + len(read.valid) + len(read.test)
    assert whole == 2703
    assert (len(read.test), len(read.valid)) == (int(whole * 0.25), whole // 10)
    assert {"\xef", "\r"} < set(read.alphabet)
    files = ["--picture", str(tmp_path / "c.png"), "--record", str(tmp_path / "one.json")]
    loss = char_lm.main(["--corpus", str(corpus), "--steps", "100", "--test", "0.2", *files, *SMALL])
    assert "Test text" in capsys.readouterr().out
    record = json.loads((tmp_path / "one.json").read_text())
    assert abs(record["measured"]["nats a character"] - loss) < 1e-3 * loss
    assert record["command"] == (
        "python examples/char_lm.py --corpus corpus.txt --steps 100 --test 0.2 "
        + " ".join(SMALL[:-2])  # but for the seed
    )

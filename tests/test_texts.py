"""What the examples on text share: files, tokens, the naive language model."""

import gzip
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import saved, texts
from common.ngrams import ngram_loss


def write(tmp_path, content, name="file.txt"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "file.txt", "--data: .*file.txt is empty"),
        (b" \n\n", "file.txt", "--data: .*file.txt is empty"),
        (b"a\x00b", "file.txt", "looks binary: it holds a zero byte at 1"),
        (b"caf\xe9 \xff", "file.txt", "is not utf-8 text .*at byte 3.*--set encoding=latin-1"),
        (b"not packed", "file.gz", "file.gz cannot be unpacked"),
        (gzip.compress(b"some text that is long enough", mtime=0)[:-9], "file.gz", "file.gz cannot be unpacked"),
        (b"\ttext after no label\n", "file.txt", "line 1: got .*, want a label, a tab or blank, and a text"),
        (b"\xef\xbb\xbf", "file.txt", "--data: .*file.txt is empty"),
        (b"1 good\nbad\n", "file.txt", "line 2: got 'bad', want a label, a tab or blank, and a text"),
    ],
)
def test_a_file_that_cannot_serve_is_explained(tmp_path, content, name, message):
    with pytest.raises(SystemExit, match=message):
        texts.read_labeled("--data", write(tmp_path, content, name))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"--valid: .*nowhere is not a file"):
        texts.read_text("--valid", tmp_path / "nowhere")


def test_labels_and_texts_by_tab_or_blank(tmp_path):
    content = "0 a stirring film\r\n\r\nvery good\tno\u2028movement , no yuks \n".encode("utf-8-sig")
    path = write(tmp_path, content)
    rows = texts.read_labeled("--data", path)
    assert rows.texts == ["a stirring film", "no\u2028movement , no yuks"]
    assert rows.labels == ["0", "very good"]
    assert rows.places == [f"{path}, line 1", f"{path}, line 3"]
    packed = write(tmp_path, gzip.compress("1 caf\xe9".encode("latin-1")), "file.gz")
    assert texts.read_labeled("--data", packed, "latin-1").texts == ["caf\xe9"]


def test_an_unknown_label_is_named_with_those_known():
    rows = texts.LabeledTexts(["x", "y"], ["b", "a"], ["file, line 1", "file, line 2"])
    np.testing.assert_array_equal(texts.label_numbers("--test", rows, ["a", "b"]), [1, 0])
    with pytest.raises(SystemExit, match="--test: file, line 1: got label 'b', which no training text has: 'a', 'c'"):
        texts.label_numbers("--test", rows, ["a", "c"])


def test_what_is_cut_off_is_not_kept():
    labels = ["once", *(str(k % 3) for k in range(1, 20))]
    rows = texts.LabeledTexts([str(k) for k in range(20)], labels, [f"line {k}" for k in range(20)])
    for seed in range(20):
        kept, cut = texts.split_rows(rows, 0.25, seed)
        assert len(cut.texts) == 5
        assert sorted([*kept.texts, *cut.texts], key=int) == rows.texts
        assert set(kept.labels) == set(labels), "one of each stays"
        assert all(place == f"line {text}" for text, place in zip(kept.texts, kept.places, strict=True))
    assert len({tuple(texts.split_rows(rows, 0.25, seed)[1].texts) for seed in range(5)}) == 5


def test_words_are_numbered_by_frequency_after_the_three_that_are_always_there():
    codes = texts.train_word_tokenizer(["b a b", "b c a", "B d"], min_count=2)
    assert [codes.id_to_token(number) for number in range(codes.get_vocab_size())] == ["<unk>", "<s>", "</s>", "b", "a"]
    np.testing.assert_array_equal(texts.encode(codes, ["a b zebra"])[0], [4, 3, 0])


def test_pieces_give_the_text_back():
    lines = ["ein Hund rennt durch den Schnee .", "zwei Hunde, die rennen!", "der Schneemann"]
    codes = texts.train_subword_tokenizer(lines, 60)
    for line, found in zip(lines, texts.encode(codes, lines), strict=True):
        assert codes.decode(found.tolist()) == line.lower()
        assert 0 not in found


def init(key, size):
    return {"kernel": jax.random.normal(key, (size,), jnp.float32)}


def test_a_model_comes_back(tmp_path):
    tokenizer = texts.train_word_tokenizer(["a b"], 1)
    params = {"kernel": jnp.arange(3.0, dtype=jnp.float32)}
    notes = {"names": ["x"], "sizes": {"size": 3}}
    saved.save(tmp_path / "model", "one", saved.Model(params, notes, {"words": tokenizer}))
    model = saved.load(str(tmp_path / "model"), "one", init)
    np.testing.assert_array_equal(model.params["kernel"], params["kernel"])
    assert model.notes["names"] == ["x"]
    assert model.tokenizers["words"].encode("b a").ids == tokenizer.encode("b a").ids


def test_without_a_folder_nothing_is_saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved.save(None, "one", saved.Model({}, {}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "words.json").unlink(), "has no words.json, want a folder that --save of one wrote"),
        (lambda folder: (folder / "model.json").write_text("{"), "model cannot be read"),
        (lambda folder: (folder / "model.json").write_text('{"example": "two"}'), "a model of two, want one of one"),
        (lambda folder: (folder / "model.json").write_text('{"example": "one"}'), "model cannot be read"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"broken"), "model cannot be read"),
    ],
)
def test_a_folder_that_cannot_be_loaded_is_explained(tmp_path, spoil, message):
    folder = tmp_path / "model"
    tokenizers = {"words": texts.train_word_tokenizer(["a"], 1)}
    saved.save(folder, "one", saved.Model(init(jax.random.key(0), 3), {"sizes": {"size": 3}}, tokenizers))
    spoil(folder)
    with pytest.raises(SystemExit, match=f"--load: .*{message}"):
        saved.load(folder, "one", init)


def test_an_unknown_encoding_is_named(tmp_path):
    with pytest.raises(SystemExit, match="--set encoding: got 'latin-99', which Python does not know"):
        texts.read_text("--data", write(tmp_path, b"text"), "latin-99")


def test_ngram_losses_against_direct_counting():
    rng = np.random.default_rng(0)
    codes = rng.choice(4, p=[0.5, 0.3, 0.1, 0.1], size=600)
    train, valid = codes[:540], codes[540:]

    def probability(context, code):
        if context is None:
            return 1 / 4
        n = len(context) + 1
        behind = [train[k + n - 1] for k in range(540 - n + 1) if tuple(train[k : k + n - 1]) == context]
        shorter = probability(context[1:] if context else None, code)
        if not behind:
            return shorter
        return (max(behind.count(code) - 0.75, 0) + 0.75 * len(set(behind)) * shorter) / len(behind)

    for order in (1, 2, 3):
        losses = [
            -math.log(probability(tuple(valid[k - order + 1 : k]), valid[k])) for k in range(order - 1, len(valid))
        ]
        np.testing.assert_allclose(ngram_loss(train, valid, 4, order), np.mean(losses), rtol=1e-9)


def test_probabilities_of_the_next_code_add_up():
    train = np.random.default_rng(1).integers(0, 3, 40)
    total = sum(math.exp(-ngram_loss(train, np.array([1, 2, code]), 3, 3)) for code in range(3))
    assert abs(total - 1) < 1e-12


def test_tiny_shakespeare_baselines_are_those_known(data_folder):
    """Unigram, bigram and trigram of the 90/10 split: 3.347, 2.488 and 2.053 by other smoothings."""
    text = (data_folder / "tiny_shakespeare" / "input.txt").read_text()
    alphabet = sorted(set(text))
    codes = np.array([alphabet.index(one) for one in text])
    train, valid = np.split(codes, [len(codes) * 9 // 10])
    found = [ngram_loss(train, valid, len(alphabet), order) for order in (1, 2, 3)]
    np.testing.assert_allclose(found, [3.347, 2.488, 2.053], atol=0.005)

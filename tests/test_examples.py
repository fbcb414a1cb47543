"""Every application runs from its command line, on what needs no file and on files; wrong files are explained."""

import importlib
import inspect
import json
import re
import shutil
from functools import partial

import answer_questions
import balance
import char_lm
import classify_text
import compose
import flip_flop
import forecast
import gradient_flow
import jax
import jax.numpy as jnp
import look_inside
import numpy as np
import pandas as pd
import pytest
import read_digits
import recognize_actions
import recognize_speech
import remember
import speak
import translate
import watch_digits
import word_lm
from common import python_source, results, series, stories, synthetic, windows

from lstm_jax import training
from lstm_jax.models import classifier, seq2seq

SMOKED = [
    *(char_lm, classify_text, word_lm, translate, answer_questions, forecast, compose),
    *(read_digits, recognize_speech, recognize_actions, remember, balance, speak, watch_digits, flip_flop),
]
EXAMPLES = sorted(results.EXAMPLES_FOLDER.glob("*.py"))
WORDS = ["the", "old", "dog", "sees", "a", "small", "cat", "near", "the", "green", "house", "and", "runs"]


@pytest.fixture(autouse=True)
def as_users_run_it(tmp_path, monkeypatch, standard_promotion):
    """Under jax's defaults, in a folder where pictures and models go."""
    monkeypatch.chdir(tmp_path)
    with jax.enable_x64(False):
        yield


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.all_cases
def test_an_example_is_short_has_few_flags_and_says_how_its_model_is_used(path, capsys):
    assert len(path.read_text().splitlines()) <= 150
    example = importlib.import_module(path.stem)
    if "arguments" not in inspect.signature(example.main).parameters:
        assert "argparse" not in path.read_text(), "it has no command line"
        return
    with pytest.raises(SystemExit):
        example.main(["--help"])
    flags = set(re.findall(r"^  (?:-h, )?(--[\w-]+)", capsys.readouterr().out, re.MULTILINE)) - {"--help"}
    assert "--set" in flags
    assert len(flags) < 10, flags
    if "--save" in flags:
        first, second, _ = results.usage(example.__doc__).splitlines()
        assert first == f"import {path.stem}"
        assert f'= {path.stem}.load("' in second


@pytest.mark.parametrize("example", SMOKED)
def test_smoke(example, tmp_path, capsys):
    """A few steps on what is always there; a picture, a model and a record are left, and the model is used as told."""
    example.main(["--smoke", "--save", "model", "--record", "records/one.json", "--set", "picture=one.png"])
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    assert any((tmp_path / "model").rglob("*"))
    record = json.loads((tmp_path / "records" / "one.json").read_text())
    assert record["measured"]
    assert record["naive"]
    assert record["parameters"] > 0
    assert record["command"] == f"python examples/{example.__name__}.py --smoke"
    usage = capsys.readouterr().out.split("The model in three lines of Python, in the folder examples:\n\n")[1]
    assert len(usage.strip().splitlines()) == 3
    files = set(tmp_path.iterdir())
    exec(usage, {})
    assert capsys.readouterr().out.strip() or set(tmp_path.iterdir()) - files, "it prints or writes something"


def lines(path, rows):
    path.write_text("".join(f"{row}\n" for row in rows))
    return str(path)


@pytest.mark.long
def test_a_classifier_of_files_is_saved_and_loaded(tmp_path, capsys):
    train = lines(tmp_path / "train.tsv", [f"{k % 3}\t{' '.join(WORDS[k % 5 : 5 + k % 8])}" for k in range(60)])
    test = lines(tmp_path / "test.tsv", ["0\tthe old dog", "2 runs near the house"])
    common = ["--smoke", "--data", train]
    texts_given = ["--text", "the old dog", "--text", "an <s>unknown</s> thing"]
    classify_text.main([*common, "--test", test, "--save", "model", "--set", "pooling=attention", *texts_given])
    shown = capsys.readouterr().out.splitlines()
    start = shown.index("class, probability, text; capitals: words that speak most for the class")
    classify_text.main(["--load", "model", *texts_given])
    *loaded, last = capsys.readouterr().out.splitlines()
    assert (loaded, last) == (shown[start : start + 3], "words colored by what they say: classify_words.png")
    with pytest.raises(SystemExit, match="--load: model holds a model of classify_text, want one of word_lm"):
        word_lm.main(["--load", "model"])
    lines(tmp_path / "test.tsv", ["7 the old dog"])
    with pytest.raises(SystemExit, match=r"--test: .*line 1: got label '7', which no training text has: '0', '1', '2'"):
        classify_text.main([*common, "--test", test])
    lines(tmp_path / "train.tsv", ["1 a", "1 b"])
    with pytest.raises(SystemExit, match=r"--data: got 1 classes in 1 texts \('1'\), want at least two"):
        classify_text.main([*common, "--test", test])


def test_a_language_model_of_files_is_saved_and_loaded(tmp_path, capsys):
    text = lines(tmp_path / "text.txt", [" ".join(WORDS[k % 7 :]) for k in range(700)])
    files = ["--data", text, "--valid", text, "--test", text]
    wanted = ["--prompt", "the old", "--set", "length=10"]
    word_lm.main(["--smoke", *files, "--save", "model", *wanted, "optimizer=nt-asgd", "learning_rate=1"])
    first = capsys.readouterr().out.split("The model writes:\n\n")[1].split("picture: ")[0]
    assert first.startswith("the old ")
    word_lm.main(["--load", "model", *wanted])
    assert capsys.readouterr().out == first
    with pytest.raises(SystemExit, match="--data: got no --valid or no --test"):
        word_lm.main(["--smoke", "--data", text])
    few = lines(tmp_path / "few.txt", ["the dog"])
    with pytest.raises(SystemExit, match=r"--test: got 3 words, want more than batch=32"):
        word_lm.main(["--smoke", *files[:4], "--test", few])


@pytest.mark.long
def test_a_translator_of_files_is_saved_and_loaded(tmp_path, capsys):
    source = lines(tmp_path / "de.txt", [" ".join(WORDS[k % 7 :]) for k in range(70)])
    target = lines(tmp_path / "en.txt", [" ".join(WORDS[: k % 7 + 1]) for k in range(70)])
    files = [part for name in ("--data", "--valid", "--test") for part in (name, source, target)]
    translate.main(["--smoke", *files, "--save", "model", "--set", "attention=none"])
    first = [line.strip() for line in capsys.readouterr().out.splitlines()]
    translate.main(["--load", "model", "--text", " ".join(WORDS)])
    loaded = capsys.readouterr().out.splitlines()
    assert loaded[0] == " ".join(WORDS)
    assert first[first.index(loaded[0]) + 1] == f"-> {loaded[1].strip()}".strip()
    short = lines(tmp_path / "short.txt", ["a"] * 69)
    with pytest.raises(SystemExit, match=r"--data: .*de\.txt has 70 lines and .*short\.txt 69, want as many"):
        translate.main(["--smoke", "--data", source, short, *files[3:]])
    hole = lines(tmp_path / "hole.txt", ["a", "", *["a"] * 68])
    with pytest.raises(SystemExit, match=r"--data: line 2 of .*de\.txt or .*hole\.txt is empty"):
        translate.main(["--smoke", "--data", source, hole, *files[3:]])


STORY = [
    "1 Ana went to the hall.",
    "2 Ben ran to the garden.",
    "3 Where is Ana?\thall\t1",
    "4 Where is Ben?\tgarden\t2",
]


@pytest.mark.long
def test_stories_of_a_folder_are_read(tmp_path, capsys):
    lines(tmp_path / "qa1_one_train.txt", STORY * 20)
    lines(tmp_path / "qa1_one_test.txt", STORY)
    answer_questions.main(["--smoke", "--data", str(tmp_path)])
    assert "qa1_one" in capsys.readouterr().out
    questions = stories.read_questions("--data", tmp_path / "qa1_one_test.txt")
    assert questions[1] == (["ana went to the hall", "ben ran to the garden"], "where is ben", "garden")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["Ana went to the hall."], "line 1: got 'Ana went to the hall.', want a number, a blank and a sentence"),
        (["1 Where is Ana?\thall"], "line 1: want a question after a sentence of its story, a tab, and an answer"),
        (["1 Ana went.", "2 Where is Ana?"], "line 2: got a question alone, want a tab and its answer after it"),
        (["1 Ana went.", "2 Where is Ana?\t\t1"], "line 2: want a question after a sentence of its story, a tab"),
        (["1 ..."], "line 1: got no word, want a sentence"),
        (["1 Ana went to the hall."], "has no question, want lines of a number, a question, a tab and its answer"),
    ],
)
def test_stories_that_cannot_serve_are_explained(tmp_path, rows, message):
    with pytest.raises(SystemExit, match=re.escape(message)):
        stories.read_questions("--data", tmp_path / lines(tmp_path / "story.txt", rows))


def test_numbers_in_words():
    assert synthetic.in_words(0) == "zero"
    assert synthetic.in_words(45) == "forty five"
    assert synthetic.in_words(300_219) == "three hundred thousand two hundred and nineteen"


def test_synthetic_reviews_need_more_than_their_words():
    """The share of good words tells nothing of the label when there is a negation."""
    rows = synthetic.reviews(200, 0)
    for text, label in zip(rows.texts, rows.labels, strict=True):
        last = text.split("but ")[-1]
        good = any(word in last for word in ("gripping", "funny", "moving", "clever", "fine"))
        assert (good != (" not " in last)) == (label == "positive")


RECORD = {"parameters": 12345, "seconds": 90, "machine": "m", "versions": {"jax": "1"}, "date": "d", "notes": ""}


def test_the_table_of_results_is_made_of_records(tmp_path):
    (tmp_path / "records").mkdir()
    for seed, accuracy in enumerate((0.8, 0.9)):
        scores = {
            "measured": {"a": accuracy, results.COVERAGE: accuracy - 0.1},
            "naive": {"guess": 0.5, "of another row": 1},
        }
        record = {**RECORD, **scores, "command": "python x", "seed": seed}
        (tmp_path / "records" / f"one-{seed}.json").write_text(json.dumps(record))
    row = '[[row]]\nrecord = "{}"\napplication = "app"\ndata = "set"\nmeasure = "a"\nshow = ".1%"\n'
    known = 'naive = ["guess"]\npublished = [{ value = "88 %", model = "net", source = "paper", verified = false }]\n'
    (tmp_path / "published.toml").write_text(row.format("one") + known + row.format("two"))
    results.main(["--folder", str(tmp_path)])
    table = (tmp_path / "RESULTS.md").read_text()
    assert (
        "| app | set | a **85.0%** (80.0%, 90.0%); 75.0% inside the 80 % interval | 50.0% guess | "
        "88 % net (paper, not verified) | 12,345 | 1.5, m, jax 1, d |" in table
    )
    assert "| app | set | not measured | | none | | |" in table
    assert "- app, set: `python x`" in table
    (tmp_path / "published.toml").write_text(row.format("two"))
    with pytest.raises(SystemExit, match=r"published.toml: got no row for the records \['one'\]"):
        results.main(["--folder", str(tmp_path)])


def test_the_table_in_the_repository_is_that_of_its_records(tmp_path):
    shutil.copytree(results.EXAMPLES_FOLDER / "records", tmp_path / "records")
    shutil.copy(results.EXAMPLES_FOLDER / "published.toml", tmp_path)
    results.main(["--folder", str(tmp_path)])
    assert (tmp_path / "RESULTS.md").read_text() == (results.EXAMPLES_FOLDER / "RESULTS.md").read_text(), (
        "run python examples/common/results.py"
    )


@pytest.mark.parametrize("example", SMOKED[:7])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("hidden=0", "--set hidden: got 0, want a whole number of at least 1"),
        ("minutes=0", "minutes: got 0, want a number above 0"),
        ("dropout=1", "--set dropout: got 1, want a number from 0 to below 1"),
        ("picture=nowhere/one.png", "--set picture: nowhere is not a folder"),
    ],
)
def test_numbers_out_of_range_and_missing_folders_are_told_before_training(example, setting, message, capsys):
    if setting == "minutes=0" and example in (classify_text, answer_questions):
        pytest.skip("it has no minutes: a run takes a minute or two")
    is_flag = setting == "minutes=0" and example is char_lm
    with pytest.raises(SystemExit):
        example.main(["--minutes", "0"] if is_flag else ["--set", setting])
    assert message in capsys.readouterr().err


@pytest.mark.long
def test_rows_that_only_fill_up_do_not_count():
    """Each loss and its gradient are the same when more such rows are added, whatever they hold."""

    def widened(batch):
        again = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[..., :1] + 1], axis=-1), batch.xs)
        lengths = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[:1]]), batch.lengths)
        labels = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[:1]]), batch.labels)
        return batch._replace(xs=again, lengths=lengths, labels=labels, row_mask=jnp.append(batch.row_mask, False))

    def equal(loss, params, batch, more):
        @jax.jit
        def look(batch):
            return jax.value_and_grad(lambda params: loss(params, None, batch, None), has_aux=True)(params)

        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), look(batch), look(more))

    draw = partial(jax.random.randint, minval=3, maxval=9)
    key, real = jax.random.key(0), jnp.array([True, True])
    codes, lengths = draw(key, (5, 2)), jnp.array([5, 3])
    batch = training.RaggedBatch(codes, lengths, jnp.array([0, 1]), real)
    params = classifier.init_classifier(key, 12, 3, embedding_size=4, hidden_size=4)
    equal(classify_text.make_loss("max", 0.0), params, batch, widened(batch))
    pairs = training.RaggedBatch((codes, draw(key, (6, 2))), (lengths, jnp.array([4, 6])), None, real)
    params = seq2seq.init_seq2seq(key, 12, 12, embedding_size=4, hidden_size=4)
    equal(translate.make_loss(0.0), params, pairs, widened(pairs))
    notes = jax.random.bernoulli(key, shape=(5, 2, 88)).astype(jnp.float32)
    music = training.RaggedBatch(notes, lengths, None, real)
    wider = jnp.pad(notes, ((0, 0), (0, 1), (0, 0)))
    more = training.RaggedBatch(wider, jnp.array([5, 3, 4]), None, jnp.append(real, False))
    equal(compose.make_loss(0.0), compose.init_model(key, 4, 2), music, more)


def test_the_translators_loss_is_that_of_each_next_piece():
    """By one call of ``next_token`` a piece: what is read, what is scored, where a target ends."""
    key = jax.random.key(1)
    params = seq2seq.init_seq2seq(key, 12, 12, embedding_size=4, hidden_size=4)
    source, target = jnp.array([[3, 4, 5]]).T, jnp.array([[1, 7, 8, 2, 0, 0]]).T
    lengths = jnp.array([3]), jnp.array([4])
    memory, state = seq2seq.encode(params, source[:, 0], lengths[0][0])
    nats = 0.0
    for read, wanted in ((1, 7), (7, 8), (8, 2)):
        state, scores = seq2seq.decode_step((params, memory), state, jnp.array(read))
        nats -= jax.nn.log_softmax(scores)[wanted] / 3
    batch = training.RaggedBatch((source, target), lengths, None, jnp.array([True]))
    loss, (_, measured) = translate.make_loss(0.3)(params, None, batch, None)
    np.testing.assert_allclose(loss, nats, rtol=1e-5)
    np.testing.assert_allclose(measured["perplexity"].value(), np.exp(nats), rtol=1e-5)


def test_one_beam_and_greedy_are_not_the_same_column():
    """Greedy stops at the first end that is most probable; a beam goes on looking."""
    params = seq2seq.init_seq2seq(jax.random.key(2), 12, 12, embedding_size=4, hidden_size=4)
    params = params._replace(bias=params.bias.at[2].set(9.0))
    found = translate.search(params, jnp.array([[3, 4]]).T, jnp.array([2]), 6, beam_size=0)
    assert found.length[0] == 0


SOURCE = '''def join(parts):  # with commas
    """Text."""
    return ", ".join(f"{part}" for part in list(parts))


class Empty:
    names = ["one", "two"]  # two
'''


def test_what_pythons_tokenizer_says_of_each_character():
    found = python_source.features(SOURCE)
    strings = "".join(one for one, inside in zip(SOURCE, found["inside a string"], strict=True) if inside)
    assert strings == '"""Text.""", f"{part}"one"two', "read up to the last quote"
    comments = "".join(one for one, inside in zip(SOURCE, found["inside a comment"], strict=True) if inside)
    assert comments == "# with commas# two"
    first = SOURCE.splitlines()[2]
    start = SOURCE.index(first)
    depths = found["brackets open"][start : start + len(first)]
    assert [int(depths[first.index(one)]) for one in ("return", "(f", "part}", "parts)")] == [0, 1, 1, 2]
    assert depths[-1] == 0
    assert found["indentation"][start] == 4
    assert list(found["place in the line"][start : start + 3]) == [0, 1, 2]


@pytest.mark.long
def test_a_character_model_is_looked_into(tmp_path, capsys):
    lines(tmp_path / "corpus.txt", [SOURCE] * 60)
    lines(tmp_path / "one.py", [SOURCE] * 4)
    prompt = ["--prompt", "def ", "--set", "length=20"]
    char_lm.main(["--smoke", "--data", "corpus.txt", "--save", "model", *prompt])
    written = capsys.readouterr().out.split("\npicture: ")[0].splitlines()[-1]
    char_lm.main(["--load", "model", *prompt])
    assert capsys.readouterr().out.splitlines()[-1] == written
    found = look_inside.main(["--load", "model", "--data", "one.py"])
    assert {one.feature for one in found} >= {"inside a string", "inside a comment", "brackets open", "indentation"}
    assert all(0 <= one.score <= 1 and 0 <= one.chance <= 1 for one in found)
    assert (tmp_path / "cells.html").read_text().count("<script>") == 1
    assert (tmp_path / "look_inside_inside_a_string.png").read_bytes().startswith(b"\x89PNG")
    lines(tmp_path / "one.py", ["def x(:"] * 100)
    with pytest.raises(SystemExit, match=r"one\.py is not Python source"):
        look_inside.main(["--load", "model", "--data", "one.py"])


def test_what_comes_after_the_last_row(tmp_path, capsys):
    """Daily sales that follow the weekday: the week after the file, with dates and the calendar going on."""
    dates = pd.date_range("2023-01-02", periods=500, freq="D")
    sales = 100 + 20 * np.sin(2 * np.pi * dates.day_of_week.to_numpy() / 7)
    pd.DataFrame({"date": dates, "sales": sales}).to_csv(tmp_path / "sales.csv", index=False)
    ahead = tmp_path / "ahead.csv"
    files = ["--data", str(tmp_path / "sales.csv"), "--ahead", str(ahead), "--save", str(tmp_path / "model")]
    forecast.main([*files, "--horizon", "7", "--set", "history=21", "epochs=2", "hidden=8", "picture=one.png"])
    said = capsys.readouterr().out
    assert "corrects: 7 steps ago" in said, "a week, since the dates are a day apart"
    assert "after the last row, sales, with the 80 % interval:" in said
    found = pd.read_csv(ahead, index_col="date", parse_dates=True)
    assert list(found.index) == list(pd.date_range(dates[-1], periods=8, freq="D")[1:])
    assert (found.low <= found.high).all()
    want = 100 + 20 * np.sin(2 * np.pi * found.index.day_of_week.to_numpy() / 7)
    np.testing.assert_allclose(found["median"], want, atol=3)
    again = forecast.forecast_next(forecast.load(tmp_path / "model"))
    np.testing.assert_allclose(again["median"], found["median"], rtol=1e-4, err_msg="of the file it was trained on")


def test_a_relative_forecast_knows_no_level(tmp_path):
    """A series that lies 100 higher from its last quarter on, where the model is tested: it moves with it."""
    rows = [f"2024-01-{1 + k // 24:02} {k % 24:02}:00" for k in range(24 * 30)]
    values = [10 + k % 7 + k % 24 / 5 + 100 * (k >= 540) for k in range(24 * 30)]
    path = lines(tmp_path / "one.csv", ["date,load", *(f"{row},{one}" for row, one in zip(rows, values, strict=True))])
    common = ["--smoke", "--data", path, "--target", "load", "--set", "history=24", "seasons=24", "calendar=hour"]
    assert forecast.main([*common, "relative=true"]) < 10
    table = series.synthetic_load(200)
    low, high = (
        windows.make_windows(table._replace(target=table.target + by), np.arange(100, 150), 72, 24, True)
        for by in (0, 50)
    )
    np.testing.assert_allclose(low.past, high.past)
    np.testing.assert_allclose(low.target, high.target)
    np.testing.assert_allclose(low.level + 50, high.level)
    with pytest.raises(SystemExit, match="calendar: got 'moon', want some of hour,weekday,year"):
        forecast.main([*common, "calendar=moon"])


def test_gradients_vanish_and_do_not(tmp_path, capsys):
    shares = gradient_flow.main(["--set", "time=60", "hidden=8"])
    assert shares["simple network"] < 1e-3 < 1e-2 < shares["LSTM, chrono biases"]
    assert "GRU" in capsys.readouterr().out
    assert (tmp_path / "gradient_flow.png").read_bytes().startswith(b"\x89PNG")

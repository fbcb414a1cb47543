"""Every application runs from its command line, on what needs no file and on files; wrong files are explained."""

import json
import shutil

import answer_questions
import classify_text
import jax
import pytest
import results
import translate
import word_lm

WORDS = ["the", "old", "dog", "sees", "a", "small", "cat", "near", "the", "green", "house", "and", "runs"]


@pytest.fixture(autouse=True)
def as_users_run_it(tmp_path, monkeypatch, standard_promotion):
    """Under jax's defaults, in a folder where pictures and models go."""
    monkeypatch.chdir(tmp_path)
    with jax.enable_x64(False):
        yield


@pytest.mark.parametrize("example", [classify_text, word_lm, translate, answer_questions])
def test_smoke(example, tmp_path):
    """A few steps on what is always there; a picture, a model and a record are left."""
    example.main(["--smoke", "--save", "model", "--record", "records/one.json", "--picture", "one.png"])
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "model").rglob("model.safetensors"))
    record = json.loads((tmp_path / "records" / "one.json").read_text())
    assert record["measured"]
    assert record["naive"]
    assert record["parameters"] > 0
    assert record["command"].startswith(f"python examples/{example.__name__}.py")


def lines(path, rows):
    path.write_text("".join(f"{row}\n" for row in rows))
    return str(path)


def test_a_classifier_of_files_is_saved_and_loaded(tmp_path, capsys):
    train = lines(tmp_path / "train.tsv", [f"{k % 3}\t{' '.join(WORDS[k % 5 : 5 + k % 8])}" for k in range(60)])
    test = lines(tmp_path / "test.tsv", ["0\tthe old dog", "2 runs near the house"])
    common = ["--smoke", "--data", train]
    classify_text.main([*common, "--test", test, "--save", "model", "--pooling", "attention"])
    capsys.readouterr()
    classify_text.main(["--load", "model", "--text", "the old dog", "--text", "an unknown thing"])
    assert len(capsys.readouterr().out.splitlines()) == 2
    lines(tmp_path / "test.tsv", ["7 the old dog"])
    with pytest.raises(SystemExit, match="--test: text 1 has label '7', which no training text has: '0', '1', '2'"):
        classify_text.main([*common, "--test", test])
    lines(tmp_path / "train.tsv", ["1 a", "1 b"])
    with pytest.raises(SystemExit, match="--data: got one class, '1', want at least two"):
        classify_text.main([*common, "--test", test])


def test_a_language_model_of_files_is_saved_and_loaded(tmp_path, capsys):
    text = lines(tmp_path / "text.txt", [" ".join(WORDS[k % 7 :]) for k in range(700)])
    files = ["--data", text, "--valid", text, "--test", text]
    word_lm.main(["--smoke", *files, "--save", "model", "--optimizer", "nt-asgd", "--rate", "1"])
    capsys.readouterr()
    word_lm.main(["--load", "model", "--prompt", "the old", "--length", "6"])
    written = capsys.readouterr().out
    assert written.startswith("the old ")
    assert "<unk>" not in written
    with pytest.raises(SystemExit, match="--data: got no --valid or no --test"):
        word_lm.main(["--smoke", "--data", text])
    few = lines(tmp_path / "few.txt", ["the dog"])
    with pytest.raises(SystemExit, match=r"--valid, --test: got 3 words, want more than --batch 32"):
        word_lm.main(["--smoke", *files[:4], "--test", few])


def test_a_translator_of_files_is_saved_and_loaded(tmp_path, capsys):
    source = lines(tmp_path / "de.txt", [" ".join(WORDS[k % 7 :]) for k in range(70)])
    target = lines(tmp_path / "en.txt", [" ".join(WORDS[: k % 7 + 1]) for k in range(70)])
    files = [part for name in ("--data", "--valid", "--test") for part in (name, source, target)]
    translate.main(["--smoke", *files, "--save", "model", "--attention", "none"])
    capsys.readouterr()
    translate.main(["--load", "model", "--text", "the old dog"])
    assert capsys.readouterr().out.startswith("the old dog\n")
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


def test_stories_of_a_folder_are_read(tmp_path, capsys):
    lines(tmp_path / "qa1_one_train.txt", STORY * 20)
    lines(tmp_path / "qa1_one_test.txt", STORY)
    answer_questions.main(["--smoke", "--data", str(tmp_path)])
    assert "qa1_one" in capsys.readouterr().out
    found = answer_questions.read_questions("--data", tmp_path / "qa1_one_test.txt")
    assert found[1] == (["ana went to the hall", "ben ran to the garden"], "where is ben", "garden")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["Ana went to the hall."], "line 1: got 'Ana went to the hall.', want a number, a blank and a sentence"),
        (["1 Where is Ana?\thall"], "line 1: a question before any sentence of its story"),
        (["1 Ana went to the hall."], "has no question, want lines of a number, a question, a tab and its answer"),
    ],
)
def test_stories_that_cannot_serve_are_explained(tmp_path, rows, message):
    with pytest.raises(SystemExit, match=message.replace("?", r"\?").replace(".'", r"\.'")):
        answer_questions.read_questions("--data", tmp_path / lines(tmp_path / "story.txt", rows))


def test_numbers_in_words():
    assert translate.in_words(0) == "zero"
    assert translate.in_words(45) == "forty five"
    assert translate.in_words(300_219) == "three hundred thousand two hundred and nineteen"


def test_made_up_reviews_need_more_than_their_words():
    """The share of good words tells nothing of the label when there is a negation."""
    rows = classify_text.made_up(200, 0)
    for text, label in zip(*rows, strict=True):
        last = text.split("but ")[-1]
        good = any(word in last for word in ("gripping", "funny", "moving", "clever", "fine"))
        assert (good != (" not " in last)) == (label == "positive")


RECORD = {"parameters": 12345, "seconds": 90, "machine": "m", "versions": {"jax": "1"}, "date": "d", "notes": ""}


def test_the_table_of_results_is_made_of_records(tmp_path):
    (tmp_path / "records").mkdir()
    for seed, accuracy in enumerate((0.8, 0.9)):
        record = {**RECORD, "command": "python x", "seed": seed, "measured": {"a": accuracy}, "naive": {"guess": 0.5}}
        (tmp_path / "records" / f"one-{seed}.json").write_text(json.dumps(record))
    row = '[[row]]\nrecord = "{}"\napplication = "app"\ndata = "set"\nmeasure = "a"\nshow = ".1%"\n'
    known = 'published = [{ value = "88 %", model = "net", source = "paper", verified = false }]\n'
    (tmp_path / "published.toml").write_text(row.format("one") + known + row.format("two"))
    results.main(["--folder", str(tmp_path)])
    table = (tmp_path / "RESULTS.md").read_text()
    assert (
        "| app | set | a **85.0%** (80.0%, 90.0%) | 50.0% guess | 88 % net (paper, not verified) | 12,345 | "
        "1.5, m, jax 1, d |" in table
    )
    assert "| app | set | not measured | | none | | |" in table
    assert "- app, set: `python x`" in table
    (tmp_path / "published.toml").write_text(row.format("two"))
    with pytest.raises(SystemExit, match=r"published.toml: got no row for the records \['one'\]"):
        results.main(["--folder", str(tmp_path)])


def test_the_table_in_the_repository_is_that_of_its_records(tmp_path):
    shutil.copytree(results.HERE / "records", tmp_path / "records")
    shutil.copy(results.HERE / "published.toml", tmp_path)
    results.main(["--folder", str(tmp_path)])
    assert (tmp_path / "RESULTS.md").read_text() == (results.HERE / "RESULTS.md").read_text(), (
        "run python examples/results.py"
    )

"""The examples on signals: what they are made of is what they say."""

import balance
import compose
import forecast
import jax
import jax.numpy as jnp
import mido
import numpy as np
import pytest
import read_digits
import recognise_actions
import recognise_speech
import remember
import watch_digits
from common import pole
from scipy.io import savemat

import lstm_jax as lj
from lstm_jax import training


@pytest.fixture(autouse=True)
def as_users_run_it(standard_promotion):
    """Under jax's defaults."""
    with jax.enable_x64(False):
        yield


@pytest.mark.parametrize("example", [forecast, read_digits, recognise_actions, remember, balance, watch_digits])
def test_a_model_that_is_loaded_does_what_it_did(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = example.main(["--smoke", "--save", "model"])
    assert example.main(["--smoke", "--load", "model"]) == first
    with pytest.raises(SystemExit, match=r"--load: nowhere has no model\.json, want a folder that --save of"):
        example.main(["--smoke", "--load", "nowhere"])


def test_acting_and_replaying_agree():
    """The ratio of PPO's first update is 1 everywhere: what was done is as likely as when it was done."""
    params = balance.init_model(jax.random.key(0), 8)
    optimizer = training.adam(1e-3)
    one = balance.make_round(optimizer, True)
    place = balance.start(jax.random.key(1), params, balance.POLES)
    opt_state = optimizer.init(params)
    for number in range(2):  # in the second round, states are carried on and episodes have ended
        params, opt_state, place, ratio = one(params, opt_state, place, jax.random.key(number), 0.5)
        np.testing.assert_allclose(ratio, 1, atol=1e-5)


def test_without_memory_nothing_is_carried():
    params = balance.init_model(jax.random.key(0), 8)
    seen = jax.random.normal(jax.random.key(1), (5, 3, 2))
    state, resets = lj.zero_state(params.lstm, (3,)), jnp.zeros((5, 3), bool)
    other = seen.at[1].add(1.0)
    for memory in (True, False):
        one, two = (balance.decide(params, xs, state, resets, memory)[1] for xs in (seen, other))
        assert np.allclose(one[3], two[3]) != memory


def test_the_pole_falls_as_the_equations_say():
    """One step of CartPole-v1 from a known state, worked out by hand."""
    world = pole.World(*(jnp.array([value]) for value in (0.0, 0.0, 0.1, 0.0)), jnp.zeros(1, jnp.int32))
    after, ended = pole.move(jax.random.key(0), world, jnp.array([1]))
    push = 10 / 1.1
    turn = (9.8 * np.sin(0.1) - np.cos(0.1) * push) / (0.5 * (4 / 3 - 0.1 * np.cos(0.1) ** 2 / 1.1))
    np.testing.assert_allclose(after.spin, 0.02 * turn, rtol=1e-5)
    np.testing.assert_allclose(after.speed, 0.02 * (push - 0.05 * turn * np.cos(0.1) / 1.1), rtol=1e-5)
    assert not ended[0]
    fallen, ended = pole.move(jax.random.key(0), world._replace(angle=jnp.array([0.3])), jnp.array([1]))
    assert ended[0]
    assert abs(float(fallen.angle[0])) <= 0.05
    assert fallen.age[0] == 0


@pytest.mark.parametrize("kind", [remember.Adding, remember.Copying])
def test_memory_tasks_are_as_defined(kind):
    read, wanted = kind(30, 4, 9, 0)[3]
    if kind is remember.Adding:
        assert (read[..., 1].sum(axis=0) == 2).all()
        np.testing.assert_allclose(wanted, (read[..., 0] * read[..., 1]).sum(axis=0))
        return
    symbols = read.argmax(axis=-1)
    assert symbols.shape == (50, 4)
    np.testing.assert_array_equal(symbols[:10], wanted[-10:])
    assert not symbols[10:39].any()
    assert (symbols[39:] == 9).all()
    assert not wanted[:40].any()


def test_a_digit_moves_evenly_bounces_and_hides():
    digits = np.ones((1, 14, 14), np.float32)
    video = watch_digits.Videos(digits, 8, 5, 0)[2]
    seen, place, hidden = video
    for t, row in np.ndindex(20, 8):
        if not hidden[t, row] and not 4 < place[t, row, 1] < 28:
            mass = seen[t, row] / seen[t, row].sum()
            found = np.array([(mass * grid).sum() for grid in np.indices((32, 32))])
            assert np.abs(found - place[t, row])[0] <= 0.51
    assert not seen[..., watch_digits.SCREEN].any()
    assert (place >= 6.5).all()
    assert (place <= 24.5).all()
    moves = np.abs(np.diff(place, axis=0))
    assert np.quantile(np.ptp(moves[:, :, 0], axis=0), 0.1) < 2.6


def test_music_as_text_and_back(tmp_path):
    path = tmp_path / "piece.txt"
    path.write_text("60 64 67\n60 64 67\n-\n\n21 108\n60\n")
    pieces = compose.read_pieces("--data", path)
    assert [len(piece) for piece in pieces] == [3, 2]
    assert list(np.flatnonzero(pieces[0][0]) + 21) == [60, 64, 67]
    assert not pieces[0][2].any()
    compose.save_midi(pieces[0], tmp_path / "piece.mid")
    notes = [
        (one.type, one.note, one.time) for one in mido.MidiFile(tmp_path / "piece.mid").tracks[0] if not one.is_meta
    ]
    assert notes[:3] == [("note_on", 60, 0), ("note_on", 64, 0), ("note_on", 67, 0)]
    assert notes[3] == ("note_off", 60, 2 * compose.FRAME_TICKS), "what sounds on is held"
    for wrong in ("60 x", "20", "109"):
        path.write_text(f"60\n{wrong}\n")
        with pytest.raises(SystemExit, match=f"line 2: got '{wrong}', want MIDI numbers from 21 to 108"):
            compose.read_pieces("--data", path)


def test_pieces_are_moved_by_semitones():
    pieces = compose.synthetic(20, 0)
    inner = training.Bucketed(pieces, None, 4, buckets=1)
    moved, plain = compose.Transposed(inner, 3, 0), compose.Transposed(inner, 0, 0)
    np.testing.assert_array_equal(plain[2].xs, inner[2].xs)
    by = set()
    for row in range(4):
        was, now = inner[2].xs[:, row], moved[2].xs[:, row]
        shifts = [shift for shift in range(-3, 4) if (np.roll(was, shift, axis=-1) == now).all()]
        assert len(shifts) == 1
        by |= set(shifts)
    assert len(by) > 1, "each piece by its own distance"
    np.testing.assert_array_equal(moved[2].xs, compose.Transposed(inner, 3, 0)[2].xs)
    high = training.RaggedBatch(np.eye(88, dtype=np.float32)[[[87]]], np.array([1]), None, np.array([True]))
    up = next(one for one in (compose.Transposed([high], 1, seed)[0].xs for seed in range(20)) if one[0, 0, 87] == 0)
    assert up.sum() in (0, 1)
    assert up[0, 0, 0] == 0, "what leaves the keyboard does not come back below"


def test_frequencies_of_keys_are_those_published(data_folder):
    """11.09 and 10.49 nats a frame on the test part."""
    pieces = compose.read_matlab(data_folder / "jsb_chorales" / "JSB_Chorales.mat")
    found = compose.naive_nats(pieces.train, pieces.test)
    np.testing.assert_allclose(list(found.values()), [11.09, 10.49], atol=0.01)


def test_options_that_do_nothing_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        recognise_speech.main(["--listen", str(tmp_path / "one.wav")])
    assert "--listen: got no --load" in capsys.readouterr().err
    for options in (["--ahead", "one.csv"], ["--ahead", "one.csv", "--data", "two.csv", "--known", "free"]):
        with pytest.raises(SystemExit):
            forecast.main(options)
        assert "--ahead: want --data, and no --known" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [b"short", {"traindata": np.eye(3), "validdata": np.eye(3), "testdata": np.eye(3)}],
    ids=["broken", "other"],
)
def test_a_mat_file_of_something_else_is_explained(content, tmp_path):
    path = tmp_path / "one.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        savemat(path, content)
    with pytest.raises(SystemExit, match=r"want a \.mat file with traindata, validdata and testdata"):
        compose.read_matlab(path)

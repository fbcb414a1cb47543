"""The examples on signals: data, models and losses are what their docstrings say."""

import balance
import compose
import forecast
import jax
import jax.numpy as jnp
import mido
import numpy as np
import pytest
import read_digits
import recognize_actions
import recognize_speech
import remember
import watch_digits
from common import memory_tasks, music, pole, ppo, videos
from scipy.io import savemat

import lstm_jax as lj
from lstm_jax import training


@pytest.fixture(autouse=True)
def as_users_run_it(standard_promotion):
    """Under jax's defaults."""
    with jax.enable_x64(False):
        yield


LOADABLE = forecast, read_digits, recognize_actions, recognize_speech, remember, balance, watch_digits, compose


@pytest.mark.parametrize("example", LOADABLE)
def test_a_model_that_is_loaded_does_what_it_did(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = example.main(["--smoke", "--save", "model"])
    assert example.main(["--smoke", "--load", "model"]) == first
    with pytest.raises(SystemExit, match=r"--load: nowhere has no model\.json, want a folder that --save of"):
        example.main(["--smoke", "--load", "nowhere"])


def test_acting_and_replaying_agree():
    """The ratio of PPO's first update is 1 everywhere: an action is as likely as when it was taken."""
    params = balance.init_model(jax.random.key(0), 8)
    optimizer = training.adam(1e-3)
    iterate = ppo.make_train_iteration(balance.POLICIES["lstm"], optimizer)
    runner = ppo.init_runner(jax.random.key(1), params, ppo.NUM_ENVS)
    opt_state = optimizer.init(params)
    for number in range(2):  # in the second iteration, states are carried on and episodes have ended
        params, opt_state, runner, ratio = iterate(params, opt_state, runner, jax.random.key(number), 0.5)
        np.testing.assert_allclose(ratio, 1, atol=1e-5)


def test_without_memory_nothing_is_carried():
    params = balance.init_model(jax.random.key(0), 8)
    observation = jax.random.normal(jax.random.key(1), (5, 3, 2))
    state, is_first = lj.zero_state(params.lstm, (3,)), jnp.zeros((5, 3), bool)
    perturbed = observation.at[1].add(1.0)
    for memory, policy in balance.POLICIES.items():
        logits, perturbed_logits = (policy(params, xs, state, is_first)[1] for xs in (observation, perturbed))
        assert np.allclose(logits[3], perturbed_logits[3]) == (memory == "none")


def test_the_pole_falls_as_the_equations_say():
    """One step of CartPole-v1 from a known state, worked out by hand."""
    state = pole.EnvState(*(jnp.array([value]) for value in (0.0, 0.0, 0.1, 0.0)), jnp.zeros(1, jnp.int32))
    next_state, done = pole.step(jax.random.key(0), state, jnp.array([1]))
    push = 10 / 1.1
    acceleration = (9.8 * np.sin(0.1) - np.cos(0.1) * push) / (0.5 * (4 / 3 - 0.1 * np.cos(0.1) ** 2 / 1.1))
    np.testing.assert_allclose(next_state.theta_dot, 0.02 * acceleration, rtol=1e-5)
    np.testing.assert_allclose(next_state.x_dot, 0.02 * (push - 0.05 * acceleration * np.cos(0.1) / 1.1), rtol=1e-5)
    assert not done[0]
    fallen, done = pole.step(jax.random.key(0), state._replace(theta=jnp.array([0.3])), jnp.array([1]))
    assert done[0]
    assert abs(float(fallen.theta[0])) <= 0.05
    assert fallen.time[0] == 0


@pytest.mark.parametrize("task", [memory_tasks.Adding, memory_tasks.Copying])
def test_memory_tasks_are_as_defined(task):
    inputs, targets = task(30, 4, 9, 0)[3]
    if task is memory_tasks.Adding:
        assert (inputs[..., 1].sum(axis=0) == 2).all()
        np.testing.assert_allclose(targets, (inputs[..., 0] * inputs[..., 1]).sum(axis=0))
        return
    symbols = inputs.argmax(axis=-1)
    assert symbols.shape == (50, 4)
    np.testing.assert_array_equal(symbols[:10], targets[-10:])
    assert not symbols[10:39].any()
    assert (symbols[39:] == 9).all()
    assert not targets[:40].any()


def test_a_digit_moves_evenly_bounces_and_hides():
    digits = np.ones((1, 14, 14), np.float32)
    frames, position, hidden = videos.MovingDigits(digits, 8, 5, 0)[2]
    for t, row in np.ndindex(20, 8):
        if not hidden[t, row] and not 4 < position[t, row, 1] < 28:
            mass = frames[t, row] / frames[t, row].sum()
            center = np.array([(mass * grid).sum() for grid in np.indices((32, 32))])
            assert np.abs(center - position[t, row])[0] <= 0.51
    assert not frames[..., videos.SCREEN].any()
    assert (position >= 6.5).all()
    assert (position <= 24.5).all()
    speed = np.abs(np.diff(position, axis=0))
    assert np.quantile(np.ptp(speed[:, :, 0], axis=0), 0.1) < 2.6


def test_music_as_text_and_back(tmp_path):
    path = tmp_path / "piece.txt"
    path.write_text("60 64 67\n60 64 67\n-\n\n21 108\n60\n")
    pieces = music.read_pieces("--data", path)
    assert [len(piece) for piece in pieces] == [3, 2]
    assert list(np.flatnonzero(pieces[0][0]) + 21) == [60, 64, 67]
    assert not pieces[0][2].any()
    music.save_midi(pieces[0], tmp_path / "piece.mid")
    messages = mido.MidiFile(tmp_path / "piece.mid").tracks[0]
    notes = [(message.type, message.note, message.time) for message in messages if not message.is_meta]
    assert notes[:3] == [("note_on", 60, 0), ("note_on", 64, 0), ("note_on", 67, 0)]
    assert notes[3] == ("note_off", 60, 2 * music.FRAME_TICKS), "a key that sounds in successive frames is held"
    for wrong in ("60 x", "20", "109"):
        path.write_text(f"60\n{wrong}\n")
        with pytest.raises(SystemExit, match=f"line 2: got '{wrong}', want MIDI numbers from 21 to 108"):
            music.read_pieces("--data", path)


def test_frames_and_notes_are_the_same_piece():
    frames = music.synthetic_cadences(1, 0)[0]
    np.testing.assert_array_equal(music.to_frames(music.to_notes(frames)), frames)


def test_pieces_are_moved_by_semitones():
    pieces = music.synthetic_cadences(20, 0)
    batches = training.Bucketed(pieces, None, 4, buckets=1)
    transposed, unchanged = music.Transposed(batches, 3, 0), music.Transposed(batches, 0, 0)
    np.testing.assert_array_equal(unchanged[2].xs, batches[2].xs)
    distances = set()
    for row in range(4):
        original, moved = batches[2].xs[:, row], transposed[2].xs[:, row]
        shifts = [shift for shift in range(-3, 4) if (np.roll(original, shift, axis=-1) == moved).all()]
        assert len(shifts) == 1
        distances |= set(shifts)
    assert len(distances) > 1, "each piece by its own distance"
    np.testing.assert_array_equal(transposed[2].xs, music.Transposed(batches, 3, 0)[2].xs)
    high = training.RaggedBatch(np.eye(88, dtype=np.float32)[[[87]]], np.array([1]), None, np.array([True]))
    candidates = (music.Transposed([high], 1, seed)[0].xs for seed in range(20))
    up = next(frames for frames in candidates if frames[0, 0, 87] == 0)
    assert up.sum() in (0, 1)
    assert up[0, 0, 0] == 0, "a key that leaves the keyboard does not come back below"


def test_frequencies_of_keys_are_those_published(data_folder):
    """11.09 and 10.49 nats a frame on the test part."""
    pieces = music.read_matlab(data_folder / "jsb_chorales" / "JSB_Chorales.mat")
    nats = music.naive_nats(pieces.train, pieces.test)
    np.testing.assert_allclose(list(nats.values()), [11.09, 10.49], atol=0.01)


def test_options_that_do_nothing_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="--wav: got no --load"):
        recognize_speech.main(["--wav", str(tmp_path / "one.wav")])
    with pytest.raises(SystemExit):
        compose.main(["--set", "transpose=-1"])
    assert "--set transpose: got -1, want 0 or more semitones" in capsys.readouterr().err
    for options in (["--ahead", "one.csv"], ["--ahead", "one.csv", "--data", "two.csv", "--set", "future=free"]):
        with pytest.raises(SystemExit):
            forecast.main(options)
        assert "--ahead: want --data, and no columns of the future" in capsys.readouterr().err


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
        music.read_matlab(path)

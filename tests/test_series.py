"""CSV files of measurements and sound files become series and frames; files that cannot be used are explained."""

import io
import tarfile
import wave

import numpy as np
import pandas as pd
import pytest
from common import intervals, series, sounds, windows


def write(tmp_path, content):
    path = tmp_path / "table.csv"
    path.write_text(content)
    return path


HOURS = "time,load,warm,free\n" + "".join(
    f"2024-03-0{1 + k // 24} {k % 24:02}:00,{k},{k / 2},{k > 24}\n" for k in range(72)
)


def test_columns_are_read_with_the_calendar(tmp_path):
    table = series.read_table(write(tmp_path, HOURS), target="load", inputs="warm", future="free")
    np.testing.assert_array_equal(table.target, np.arange(72))
    np.testing.assert_array_equal(table.past[:, 0], np.arange(72) / 2)
    np.testing.assert_array_equal(table.future[:, 0], np.arange(72) > 24)
    hour = 2 * np.pi * np.arange(72) / 24
    np.testing.assert_allclose(table.future[:, 1:3], np.stack([np.sin(hour), np.cos(hour)], axis=1), atol=1e-12)
    assert table.future.shape[1] == 1 + 6, "hour, weekday and day of the year"


def test_the_clock_on_the_wall_counts_for_the_calendar(tmp_path):
    """Across the end of summer time the steps are even in UTC, and the hour is the one shown."""
    utc = pd.date_range("2012-03-31 12:00", periods=8, freq="h", tz="UTC")
    local = utc.tz_convert("Australia/Melbourne")
    path = write(tmp_path, "time,load\n" + "".join(f"{stamp},1\n" for stamp in local))
    table = series.read_table(path)
    want = 2 * np.pi * local.hour.to_numpy() / 24
    np.testing.assert_allclose(table.future[:, 0], np.sin(want), atol=1e-12)


def test_dates_in_several_columns_and_numbers_that_are_missing(tmp_path):
    rows = "year,month,day,hour,load\n" + "".join(f"2010,1,1,{k},{'NA' if k == 3 else k}\n" for k in range(9))
    path = write(tmp_path, rows)
    table = series.read_table(path, date="year,month,day,hour", fill=0.0)
    assert table.target[3] == 0
    assert table.dates[5] == pd.Timestamp("2010-01-01 05:00", tz="UTC")
    with pytest.raises(SystemExit, match=r"column load has 1 cell without a number, the first 'nan' in row 5"):
        series.read_table(path, date="year,month,day,hour")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is no CSV file that can be read"),
        ("load\n1\n2\n", r"has the columns \['load'\], want dates and numbers$"),
        ("time,other\n2024-01-01,1\n", r"--target: .* has the columns \['time', 'other'\], not \['load'\]"),
        ("time,load\nmonday,1\ntuesday,2\n", r"column \['time'\] holds no dates"),
        ("time,load\n2024-01-02,1\n2024-01-01,2\n", "in row 3 comes after .*, each once: sort the file"),
        ("time,load\n2024-01-02,1\n2024-01-02,2\n", "2024-01-02 .* in row 3 is there twice"),
        ("time;load\n2024-01-02;1\n", r"\['time;load'\], want dates and numbers; commas between them, not semicolons"),
        ("time,load\n2024-01-01,1\n2024-01-02,2\n2024-01-05,3\n2024-01-06,3\n", "a gap from .* in row 4"),
        (
            "time,load\n2024-01-01,1\n2024-01-02,much\n",
            "column load has 1 cell without a number, the first 'much'",
        ),
    ],
)
def test_a_table_that_cannot_serve_is_explained(tmp_path, content, message):
    with pytest.raises(SystemExit, match=message):
        series.read_table(write(tmp_path, content), target="load")


def test_gaps_may_be_allowed(tmp_path):
    path = write(tmp_path, "time,load\n2024-01-05,1\n2024-01-08,2\n2024-01-09,3\n2024-01-10,3\n2024-01-11,3\n")
    assert len(series.read_table(path, gaps=True).target) == 5


def test_naive_forecasts_know_the_past_alone():
    target = np.arange(100.0)
    forecasts = windows.naive_forecasts(target, np.array([50, 60]), 5, [3])
    np.testing.assert_array_equal(forecasts["last value"], [[49] * 5, [59] * 5])
    np.testing.assert_array_equal(forecasts["3 steps ago"], [[47, 48, 49, 47, 48], [57, 58, 59, 57, 58]])


def test_windows_lie_in_their_part_and_never_overlap_the_next():
    table, history, horizon = series.synthetic_load(500), 48, 12
    split = windows.split_starts(500, [300, 100, 100], history, horizon, [24])
    assert (split.train[0], split.train[-1] + 12) == (48, 300)
    assert (split.valid[0], split.valid[-1] + 12) == (300, 400)
    assert (split.test[0], split.test[-1] + 12) == (400, 500)
    data = windows.make_windows(table, split.test, history, horizon, relative=False)
    np.testing.assert_allclose(data.target[0], table.target[400:412])
    np.testing.assert_allclose(data.past[0][:, 0], table.target[352:400])
    np.testing.assert_allclose(data.future[0], table.future[400:412])
    for sizes in ([300, 100], [300, 100, 200], [300, 100, 5]):
        with pytest.raises(SystemExit, match="split: got"):
            windows.split_starts(500, sizes, history, horizon, [24])


@pytest.mark.parametrize("log", [False, True])
def test_scalers_are_those_of_the_first_rows_and_invert(log):
    table = series.synthetic_load(100)
    scalers = windows.fit_scalers(table, 60, log)
    scaled = windows.scale_table(table, scalers, log)
    np.testing.assert_allclose(windows.unscale_target(scaled.target, scalers, log), table.target)
    train = np.log(table.target[:60]) if log else table.target[:60]
    np.testing.assert_allclose(scaled.target[:60], (train - train.mean()) / train.std(), rtol=1e-6)
    wilder = table._replace(target=np.where(np.arange(100) < 60, table.target, 5 * table.target))
    wilder_scaled = windows.scale_table(wilder, windows.fit_scalers(wilder, 60, log), log)
    np.testing.assert_allclose(wilder_scaled.target[:60], scaled.target[:60])


def test_the_margin_at_the_end_knows_the_newest_outcomes():
    size = intervals.CALIBRATION_SIZE
    scores = np.concatenate([np.full((size, 2), 9.0), np.linspace(0, 1, size)[:, None] * [1, 2]])
    np.testing.assert_allclose(intervals.latest_margin(scores), [0.8, 1.6])


def test_a_calibrated_interval_covers_what_it_says():
    rng = np.random.default_rng(0)
    target = rng.normal(size=(4000, 3)) * np.array([1, 2, 3])
    quantiles = np.stack([target * 0 - 0.1, target * 0, target * 0 + 0.1], axis=-1)
    scores = intervals.conformity_scores(quantiles, target)
    margins = intervals.rolling_margins(scores[:2000], scores[2000:])
    inside = np.abs(target[2000:]) <= 0.1 + margins
    np.testing.assert_allclose(inside.mean(axis=0), 0.8, atol=0.03)
    target[3000:] *= 4  # from here on everything is wilder, which the interval learns
    scores = intervals.conformity_scores(quantiles, target)
    margins = intervals.rolling_margins(scores[:2000], scores[2000:])
    np.testing.assert_allclose((np.abs(target[3600:]) <= 0.1 + margins[1600:]).mean(axis=0), 0.8, atol=0.06)
    assert (np.abs(target[3000:3050]) <= 0.1 + margins[1000:1050]).mean() < 0.5


def test_a_margin_knows_no_outcome_that_is_still_to_come():
    """A forecast at n knows the k-th outcome of the forecast at n - k - 1 and of none later."""
    scores = np.random.default_rng(0).normal(size=(60, 4))
    for row in range(20, 60):
        low, high = scores.copy(), scores.copy()
        low[row], high[row] = -100.0, 100.0
        differs = intervals.rolling_margins(low[:20], low[20:]) != intervals.rolling_margins(high[:20], high[20:])
        for ahead in range(4):
            first = row - 20 + ahead + 1
            assert not differs[:first, ahead].any()
            assert differs[first : first + 1, ahead].all()


def wav(samples, rate=8000, channels=1, width=2):
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((channels, width, rate, 0, "NONE", "not compressed"))
        out.writeframes(samples.tobytes())
    return file.getvalue()


SINE = (np.sin(2 * np.pi * 440 * np.arange(4000) / 8000) * 20000).astype("<i2")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (wav(SINE, rate=16000), "got 1 channels of 16 bits at 16000 Hz, want 1 of 16 bits at 8000 Hz; convert it"),
        (wav(SINE, channels=2), "got 2 channels"),
        (b"no sound", "is no WAV file that can be read"),
        (b"", "is no WAV file that can be read"),
        (wav(SINE[:0]), "has no samples"),
    ],
)
def test_a_sound_that_cannot_serve_is_explained(data, message):
    with pytest.raises(SystemExit, match=f"one.wav.*{message}"):
        sounds.read_wav("one.wav", data)


def test_clips_of_a_folder_and_of_an_archive_are_the_same(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("7_ann_0.wav", "3_bob_12.wav"):
        (folder / name).write_bytes(wav(SINE))
    with tarfile.open(tmp_path / "clips.tar.gz", "w:gz") as archive:
        archive.add(folder, "recordings")
    one, other = sounds.read_clips("--data", folder), sounds.read_clips("--data", tmp_path / "clips.tar.gz")
    assert [clip[:3] for clip in one] == [clip[:3] for clip in other] == [("3", "bob", 12), ("7", "ann", 0)]
    np.testing.assert_allclose(one[0].samples * 32768, SINE, atol=1e-3)
    (folder / "wrong.wav").write_bytes(wav(SINE))
    with pytest.raises(SystemExit, match=r"got wrong\.wav, want names such as 7_jackson_32\.wav"):
        sounds.read_clips("--data", folder)
    with pytest.raises(SystemExit, match=r"is neither a folder nor a \.tar\.gz file"):
        sounds.read_clips("--data", tmp_path / "nowhere")


def test_a_tone_lies_in_its_band_and_comes_back():
    """440 Hz is in the mel band around it; sound made of its frames has its frequency."""
    samples = SINE.astype(np.float32) / 32768
    frames = sounds.log_mel(samples)
    assert frames.shape[1] == sounds.NUM_MELS
    band = sounds.mel_filterbank()[:, int(np.median(frames.argmax(axis=1)))]
    center = band @ np.fft.rfftfreq(sounds.FRAME_LENGTH, 1 / 8000) / band.sum()
    assert abs(center - 440) < 40
    inverted = sounds.griffin_lim(frames)
    peak = np.abs(np.fft.rfft(inverted)).argmax() * 8000 / len(inverted)
    assert abs(peak - 440) < 40
    loud = frames[5:40] > frames.max() - 6
    assert np.abs(sounds.log_mel(inverted)[5:40] - frames[5:40])[loud].mean() < 1.0


@pytest.mark.parametrize(
    ("every", "periods", "seasons"),
    [("30min", 99, [48, 336]), ("h", 99, [24, 168]), ("D", 99, [7]), ("MS", 36, [12]), ("YS", 9, [])],
)
def test_seasons_follow_from_the_dates(every, periods, seasons):
    assert series.usual_seasons(pd.date_range("2020-01-01", periods=periods, freq=every)) == seasons


def test_a_target_is_asked_for_where_there_are_several(tmp_path):
    path = write(tmp_path, HOURS)
    with pytest.raises(SystemExit, match=r"--target: got none, want one of .*\['load', 'warm', 'free'\]"):
        series.read_table(path)
    assert series.read_table(path, inputs="warm", future="free").name == "load"

"""Batches by number: the same every time, whole epochs, bounded padding, statistics of the training part alone."""

import numpy as np
import pytest

from lstm_jax import training


def epoch(batches, number=0):
    return [batches[number * len(batches) + k] for k in range(len(batches))]


def test_an_epoch_visits_each_row_once_in_an_order_of_its_own():
    rows = training.Shuffled({"x": np.arange(20)}, 5, seed=3)
    first, second = (np.concatenate([batch["x"] for batch in epoch(rows, number)]) for number in (0, 1))
    assert sorted(first) == sorted(second) == list(range(20))
    assert list(first) != list(second)
    same_seed = training.Shuffled({"x": np.arange(20)}, 5, seed=3)
    np.testing.assert_array_equal(same_seed[6]["x"], rows[6]["x"])
    assert list(training.Shuffled({"x": np.arange(20)}, 5, seed=4)[0]["x"]) != list(rows[0]["x"])


def test_unshuffled_rows_keep_their_order_and_the_rest():
    rows = training.Shuffled(np.arange(7), 3, shuffle=False)
    assert [list(batch) for batch in epoch(rows)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert len(training.Shuffled(np.arange(7), 3)) == 2


def test_a_stream_predicts_each_code_once_and_resets_at_its_start():
    stream = training.Stream(np.arange(101), 2, 10)
    assert len(stream) == 5
    pieces = epoch(stream)
    np.testing.assert_array_equal(np.concatenate([piece.targets[:, 1] for piece in pieces]), np.arange(51, 101))
    np.testing.assert_array_equal(np.concatenate([piece.inputs[:, 0] for piece in pieces]), np.arange(50))
    resets = np.concatenate([piece.resets for piece in [*pieces, stream[5]]])
    assert np.argwhere(resets[:, 0]).ravel().tolist() == [0, 50]
    assert all(piece.mask.all() for piece in pieces)


@pytest.mark.parametrize("number", [0, 1, 7])
def test_windows_of_random_length_read_on_without_gaps(number):
    stream = training.Stream(np.arange(4001), 2, 20, jitter=4.0, seed=1)
    pieces = epoch(stream, number)
    read = np.concatenate([piece.inputs[piece.mask[:, 0], 0] for piece in pieces])
    np.testing.assert_array_equal(read, np.arange(len(read)))
    lengths = [int(piece.mask[:, 0].sum()) for piece in pieces]
    assert min(lengths) >= 5
    assert len(set(lengths)) > 5
    assert len(read) > 0.9 * 2000
    assert {piece.inputs.shape for piece in pieces} == {(36, 2)}
    assert lengths != [int(piece.mask[:, 0].sum()) for piece in epoch(stream, number + 1)]


def ragged(count=50):
    rng = np.random.default_rng(0)
    return [np.full((length, 2), row, np.float32) for row, length in enumerate(rng.integers(1, 40, count))]


def test_buckets_hold_each_sequence_once_with_little_padding():
    sequences = ragged()
    batches = training.Bucketed(sequences, np.arange(50), 6, buckets=4)
    rows_read, padded, shapes = [], 0, set()
    for batch in epoch(batches):
        shapes.add(batch.xs.shape)
        for column, (length, label, counts) in enumerate(zip(batch.lengths, batch.labels, batch.row_mask, strict=True)):
            np.testing.assert_array_equal(batch.xs[:length, column], sequences[label])
            assert not batch.xs[length:, column].any()
            padded += (len(batch.xs) - length) * bool(counts)
            rows_read += [int(label)] * bool(counts)
    assert sorted(rows_read) == list(range(50))
    assert len(shapes) == 4
    total = sum(map(len, sequences))
    assert padded < 0.35 * total < 50 * max(map(len, sequences)) - total  # by padding to the longest it would be more


def test_pairs_are_filled_up_each_to_its_own_longest():
    sources, targets = ragged(), [np.arange(1, 2 + (7 * k) % 19) for k in range(50)]
    batches = training.Bucketed((list(sources), targets), batch_size=6, buckets=3)
    rows_read = 0
    for batch in epoch(batches):
        assert batch.labels is None
        (xs, ys), (ns, ms) = batch.xs, batch.lengths
        for column in np.flatnonzero(batch.row_mask):
            place = next(
                k
                for k in range(50)
                if np.array_equal(sources[k], xs[: ns[column], column]) and len(targets[k]) == ms[column]
            )
            np.testing.assert_array_equal(ys[: ms[column], column], targets[place])
            assert not xs[ns[column] :, column].any()
            assert not ys[ms[column] :, column].any()
            rows_read += 1
    assert rows_read == 50
    shapes = {(len(batch.xs[0]), len(batch.xs[1])) for batch in epoch(batches)}
    assert len(shapes) == 3
    assert any(first != second for first, second in shapes)


def test_time_axes_are_multiples():
    batches = training.Bucketed(ragged(), batch_size=6, buckets=4, multiple=8)
    plain = training.Bucketed(ragged(), batch_size=6, buckets=4)
    for number in range(len(batches)):
        assert len(batches[number].xs) == -(-len(plain[number].xs) // 8) * 8
        np.testing.assert_array_equal(batches[number].xs[: len(plain[number].xs)], plain[number].xs)


def test_an_empty_sequence_has_a_place():
    batches = training.Bucketed([np.zeros((0, 2)), np.ones((3, 2))], np.arange(2), 2, buckets=1)
    assert sorted(batches[0].lengths) == [0, 3]


def test_windows_slide_and_statistics_are_of_the_training_part():
    series = np.arange(12.0)[:, None] * [1.0, 2.0]
    past, future = training.sliding_windows(series, 3, 2)
    assert past.shape == (8, 3, 2)
    np.testing.assert_array_equal(past[1, :, 0], [1, 2, 3])
    np.testing.assert_array_equal(future[1, :, 0], [4, 5])
    scale = training.fit_scaler(series[:6])
    np.testing.assert_allclose(scale.transform(series[:6]).mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(scale.inverse(scale.transform(series)), series, atol=1e-5)
    assert scale.transform(series)[-1, 0] > 2
    assert training.fit_scaler(np.ones((4, 1))).std == 1


def test_prefetching_keeps_order_and_passes_errors_on():
    rows = training.Shuffled(np.arange(40), 4)
    got = list(training.prefetch(rows, 3, 17, np.asarray))
    for step, batch in enumerate(got, 3):
        np.testing.assert_array_equal(batch, rows[step])

    class Broken:
        def __len__(self):
            return 5

        def __getitem__(self, step):
            if step == 3:
                raise RuntimeError("the disk is gone")
            return step

    read = []
    with pytest.raises(RuntimeError, match="the disk is gone"):
        read.extend(iter(training.prefetch(Broken(), 0, 5, int)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: training.Shuffled(np.zeros((0, 3)), 4), "arrays: got no rows"),
        (lambda: training.Shuffled((np.zeros(3), np.zeros(4)), 2), r"arrays: got first axes of sizes \[3, 4\]"),
        (lambda: training.Shuffled(np.zeros(3), 0), "batch_size: got 0"),
        (lambda: training.Stream(np.arange(20), 2, 10), r"codes: got 20, want at least batch_size \* window \+ 1 = 21"),
        (lambda: training.Stream("a text", 2, 10), "codes: got <U6"),
        (lambda: training.Bucketed([], np.zeros(0), 2), "sequences: got none"),
        (lambda: training.Bucketed(ragged(3), np.zeros(2), 2), "labels: got 2, want 3"),
        (
            lambda: training.Bucketed((ragged(3), ragged(2))),
            "sequences: got lists of \\[3, 2\\], want lists of as many",
        ),
        (
            lambda: training.sliding_windows(np.zeros(4), 3, 2),
            r"series: got 4 steps, want at least history \+ horizon = 5",
        ),
        (lambda: training.fit_scaler(np.array([[1.0], [np.nan]])), "train: got a value that is not finite in row 1"),
        (lambda: training.check_labels(np.array([0, 3]), 3), "labels: got values from 0 to 3, want 0 to 2"),
        (lambda: training.check_labels(np.array([0.0]), 3), "labels: got dtype float64, want integers"),
        (lambda: training.check_lengths(np.array([3, 9]), 8), "lengths: got values from 3 to 9, want 0 to T = 8"),
        (lambda: training.check_finite("xs", np.array([[1, np.inf]])), r"xs: got 1 values .* the first at \(0, 1\)"),
    ],
)
def test_bad_data_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

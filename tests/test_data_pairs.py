"""Tables of digits and pairs, how pairs are drawn, how digits are split and batches cut."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist100.data import (
    PAIRING_SEED,
    SPLIT_SEED,
    DigitSet,
    PairSet,
    Source,
    Table,
    balanced,
    batches,
    pair,
    published_pairs,
    split,
)
from mnist100.data.pairs import halves

PUBLISHED_PARTNERS = [2, 3, 8, 0, 4, 5, 6, 1, 11, 9, 10, 7]
PUBLISHED_DEV = [1, 7, 14, 18, 21, 24, 34, 39]


def numbered(count: int, labels: NDArray[np.uint8] | None = None) -> DigitSet:
    """Digits that carry their own number in their first two pixels."""
    images = np.zeros((count, 28, 28), dtype=np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.divmod(np.arange(count), 256)
    if labels is None:
        labels = (np.arange(count) % 10).astype(np.uint8)
    return DigitSet(images, labels)


def numbers(digits: Table) -> set[int]:
    assert isinstance(digits, DigitSet)
    high, low = digits.images[:, 0, 0].astype(int), digits.images[:, 0, 1]
    return set((256 * high + low).tolist())


def source(count: int, *, dev_size: int = 0) -> Source:
    return Source("test", numbered(count), numbered(4), repeats=1, default_dev_size=dev_size)


# --- tables


def test_a_pair_is_its_left_and_its_right_digit() -> None:
    digits = DigitSet(
        np.stack([np.full((28, 28), value, dtype=np.uint8) for value in (10, 20, 30)]),
        np.array([4, 0, 9], dtype=np.uint8),
    )
    pairs = PairSet(digits, np.array([[0, 1], [2, 0], [1, 1]], dtype=np.int32))
    assert len(pairs) == 3
    assert pairs.labels.dtype == np.int64
    assert pairs.labels.tolist() == [40, 94, 0]
    images = pairs.images(np.array([1, 0]))
    assert images.dtype == np.uint8
    assert images.shape == (2, 28, 56)
    assert np.unique(images[0, :, :28]) == 30
    assert np.unique(images[0, :, 28:]) == 10
    assert np.unique(images[1, :, 28:]) == 20


def test_images_are_made_contiguous() -> None:
    turned = np.asfortranarray(numbered(5).images)
    digits = DigitSet(turned, np.zeros(5, dtype=np.uint8))
    assert digits.images.flags.c_contiguous
    np.testing.assert_array_equal(digits.images, turned)


IMAGES = np.zeros((3, 28, 28), dtype=np.uint8)
LABELS = np.zeros(3, dtype=np.uint8)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DigitSet(IMAGES.astype(float), LABELS), TypeError, "images: got float64"),
        (lambda: DigitSet([0], LABELS), TypeError, r"images: got list"),  # type: ignore[arg-type]
        (lambda: DigitSet(IMAGES[:, 1:], LABELS), ValueError, r"images: got shape \(3, 27, 28\)"),
        (lambda: DigitSet(IMAGES, LABELS[:2]), ValueError, r"labels: got shape \(2,\)"),
        (lambda: DigitSet(IMAGES, LABELS.astype(int)), TypeError, "labels: got int64"),
        (lambda: DigitSet(IMAGES, LABELS + np.uint8(10)), ValueError, "labels: got 10"),
        (lambda: PairSet(numbered(3), np.zeros((1, 2), dtype=int)), TypeError, "pairs: got int64"),
        (lambda: PairSet(numbered(3), np.zeros((2, 3), np.int32)), ValueError, r"got shape \(2, 3"),
        (lambda: PairSet(numbered(3), np.array([[0, 3]], np.int32)), ValueError, "rows 0 to 3"),
        (lambda: PairSet(numbered(3), np.array([[-1, 0]], np.int32)), ValueError, "rows -1 to 0"),
    ],
)
def test_a_wrong_table_is_refused(
    make: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


# --- pairing


@pytest.mark.parametrize("repeats", [1, 3])
def test_each_digit_is_once_on_each_side_in_a_repeat(repeats: int) -> None:
    pairs = pair(numbered(50), seed=1, repeats=repeats).pairs
    assert pairs.dtype == np.int32
    assert pairs.shape == (50 * repeats, 2)
    for rows in np.split(pairs, repeats):
        for side in (0, 1):
            assert sorted(rows[:, side]) == list(range(50))


def test_every_repeat_step_and_seed_pairs_differently() -> None:
    digits = numbered(50)
    partners = [
        tuple(rows[:, 1])
        for seed in (1, 2)
        for step in (0, 1, 2)
        for rows in np.split(pair(digits, seed=seed, step=step, repeats=2).pairs, 2)
    ]
    assert len(set(partners)) == len(partners)


def test_the_published_pairing_does_not_change() -> None:
    pairs = pair(numbered(12), seed=PAIRING_SEED).pairs
    assert pairs[:, 0].tolist() == list(range(12))
    assert pairs[:, 1].tolist() == PUBLISHED_PARTNERS


def test_pair_refuses_no_repeats() -> None:
    with pytest.raises(ValueError, match="repeats: got 0"):
        pair(numbered(3), seed=0, repeats=0)


def original_balanced(
    train: NDArray[np.uint8], test: NDArray[np.uint8]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The loop of the original script, on labels, with NumPy's global legacy generator."""
    state = np.random.get_state()
    try:
        np.random.seed(42)
        pairs: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        for tens in range(10):
            for ones in range(10):
                for labels, most, found in ((train, 500, pairs[0]), (test, 100, pairs[1])):
                    left, right = np.where(labels == tens)[0], np.where(labels == ones)[0]
                    n = min(most, len(left), len(right))
                    chosen = np.random.choice(left, n, replace=False)
                    partners = np.random.choice(right, n, replace=False)
                    found.extend(zip(chosen.tolist(), partners.tolist(), strict=True))
        return pairs
    finally:
        np.random.set_state(state)


def test_balanced_draws_what_the_original_script_drew() -> None:
    # 600 of each digit to train on, but 30 sevens and no nine; 120 of each to test on.
    labels = np.repeat(np.arange(10, dtype=np.uint8), [600] * 7 + [30, 600, 0])
    train = numbered(len(labels), labels)
    test = numbered(1200)
    want_train, want_test = original_balanced(train.labels, test.labels)
    train_pairs, test_pairs = balanced(train, test)
    assert list(map(tuple, train_pairs.pairs.tolist())) == want_train
    assert list(map(tuple, test_pairs.pairs.tolist())) == want_test

    counts = np.bincount(train_pairs.labels, minlength=100)
    assert counts[23] == 500
    assert counts[27] == counts[70] == 30
    assert counts[29] == counts[90] == 0
    assert (np.bincount(test_pairs.labels, minlength=100) == 100).all()
    assert (np.diff(train_pairs.labels) >= 0).all()


# --- finished pairs


def finished(count: int) -> PairSet:
    """Pairs of pictures that carry their number in every pixel, and in their labels."""
    images = np.arange(count, dtype=np.uint8)[:, None, None] * np.ones((28, 56), np.uint8)
    images[:, :, 28:] += 100
    return halves(images, np.arange(count, dtype=np.uint8))


def test_halves_are_the_digits_of_finished_pairs() -> None:
    images = np.random.default_rng(3).integers(0, 256, (4, 28, 56), dtype=np.uint8)
    pairs = halves(images, np.array([0, 9, 40, 99], dtype=np.uint8))
    np.testing.assert_array_equal(pairs.images(np.arange(4)), images)
    np.testing.assert_array_equal(pairs.digits.images[2], images[1, :, :28])
    np.testing.assert_array_equal(pairs.digits.images[3], images[1, :, 28:])
    assert pairs.labels.tolist() == [0, 9, 40, 99]
    with pytest.raises(ValueError, match="labels: got 100, wants 0 to 99"):
        halves(images, np.array([0, 9, 40, 100], dtype=np.uint8))


def test_published_pairs_leave_finished_ones_alone() -> None:
    pairs = finished(5)
    assert published_pairs(pairs, repeats=1) is pairs
    digits = numbered(12)
    found = published_pairs(digits, repeats=2).pairs
    np.testing.assert_array_equal(found, pair(digits, seed=PAIRING_SEED, repeats=2).pairs)


def test_finished_pairs_are_split_by_pair() -> None:
    whole = Source("test", finished(40), finished(4), repeats=1, default_dev_size=8)
    assert whole.is_paired
    assert not source(4).is_paired
    parts = split(whole)
    assert isinstance(parts.train, PairSet)
    assert isinstance(parts.dev, PairSet)
    assert parts.dev.labels.tolist() == PUBLISHED_DEV
    assert sorted([*parts.train.labels, *PUBLISHED_DEV]) == list(range(40))
    assert (parts.dev.images(np.arange(8))[:, 5, 40] == np.array(PUBLISHED_DEV) + 100).all()
    with pytest.raises(ValueError, match=r"dev_size: got 40, .* has 40 training pairs"):
        split(whole, 40)


# --- splits


def test_a_digit_is_in_one_split_only() -> None:
    whole = source(200)
    parts = split(whole, 50)
    assert parts.dev is not None
    assert len(parts.dev) == 50
    assert len(parts.train) == 150
    assert not numbers(parts.train) & numbers(parts.dev)
    assert numbers(parts.train) | numbers(parts.dev) == set(range(200))
    assert parts.test is whole.test


def test_labels_stay_with_their_digits() -> None:
    parts = split(source(200), 50)
    assert parts.dev is not None
    for digits in (parts.train, parts.dev):
        assert isinstance(digits, DigitSet)
        number = digits.images[:, 0, 1]
        np.testing.assert_array_equal(digits.labels, number % 10)


def test_dev_size_zero_keeps_every_training_digit() -> None:
    whole = source(20, dev_size=5)
    parts = split(whole, 0)
    assert parts.dev is None
    assert parts.train is whole.train


def test_dev_size_none_is_the_default_of_the_source() -> None:
    parts = split(source(20, dev_size=5), None)
    assert parts.dev is not None
    assert len(parts.dev) == 5


def test_one_training_digit_may_be_left_but_not_none() -> None:
    assert len(split(source(20), 19).train) == 1
    with pytest.raises(ValueError, match="dev_size: got 20, wants 0 to 19"):
        split(source(20), 20)
    with pytest.raises(ValueError, match="dev_size: got -1"):
        split(source(20), -1)


def test_the_published_split_does_not_change() -> None:
    assert SPLIT_SEED == 20100
    dev = split(source(40), 8).dev
    assert dev is not None
    assert sorted(numbers(dev)) == PUBLISHED_DEV


# --- batches


@pytest.mark.parametrize(
    ("n", "size", "sizes"), [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 9, [3]), (0, 5, [])]
)
def test_batches_hold_every_sample_once(n: int, size: int, sizes: list[int]) -> None:
    found = list(batches(n, size, seed=3, step=0))
    assert [len(rows) for rows in found] == sizes
    assert all(rows.dtype == np.int64 for rows in found)
    assert sorted(row for rows in found for row in rows.tolist()) == list(range(n))


def test_the_order_depends_on_seed_and_step_alone() -> None:
    def order(seed: int, step: int) -> tuple[int, ...]:
        return tuple(np.concatenate(list(batches(100, 7, seed=seed, step=step))).tolist())

    assert order(1, 1) == order(1, 1)
    assert len({order(1, 1), order(1, 2), order(2, 1)}) == 3


def test_the_shuffle_is_not_the_permutation_that_paired_the_digits() -> None:
    partners = pair(numbered(100), seed=4, step=2).pairs[:, 1]
    (order,) = batches(100, 100, seed=4, step=2)
    assert order.tolist() != partners.tolist()


def test_batches_refuses_at_once() -> None:
    with pytest.raises(ValueError, match="batch_size: got 0"):
        batches(5, 0, seed=0, step=0)
    with pytest.raises(ValueError, match="n: got -1"):
        batches(-1, 5, seed=0, step=0)

"""The networks and the model around them."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest

import mnist100
from mnist100 import functional as F  # noqa: N812
from mnist100 import models
from mnist100.data import Normalisation
from mnist100.layers import to_nchw
from mnist100.models import Model
from mnist100.optim import SGD, Adam
from mnist100.training.step import train_step
from support import Array, assert_same, draws, isa

SHAPES = {
    "cnn": {
        "conv1_W": (16, 1, 3, 3),
        "conv1_b": (16,),
        "conv2_W": (32, 16, 3, 3),
        "conv2_b": (32,),
        "fc1_W": (256, 3136),
        "fc1_b": (256,),
        "fc2_W": (100, 256),
        "fc2_b": (100,),
    },
    "mlp": {
        "fc1_W": (512, 1568),
        "fc1_b": (512,),
        "fc2_W": (256, 512),
        "fc2_b": (256,),
        "fc3_W": (100, 256),
        "fc3_b": (100,),
    },
    "siamese": {
        "conv1_1_W": (16, 1, 3, 3),
        "bn1_1_gamma": (16,),
        "bn1_1_beta": (16,),
        "conv2_1_W": (32, 16, 3, 3),
        "bn2_1_gamma": (32,),
        "bn2_1_beta": (32,),
        "conv2_2_W": (32, 32, 3, 3),
        "bn2_2_gamma": (32,),
        "bn2_2_beta": (32,),
        "conv3_1_W": (64, 32, 3, 3),
        "bn3_1_gamma": (64,),
        "bn3_1_beta": (64,),
        "conv3_2_W": (64, 64, 3, 3),
        "bn3_2_gamma": (64,),
        "bn3_2_beta": (64,),
        "fc1_W": (10, 576),
        "fc1_b": (10,),
    },
}


def normalisation(clip: float = 3.0) -> Normalisation:
    rng = np.random.default_rng(1)
    mean = rng.random((28, 56)).astype(np.float32)
    return Normalisation(mean, (mean + 0.1).astype(np.float32), clip)


def images(n: int) -> Array:
    return np.random.default_rng(n).integers(0, 256, (n, 28, 56)).astype(np.uint8)


def ready(architecture: str = "cnn") -> Model:
    model = models.ARCHITECTURES[architecture](seed=1)
    model.normalisation = normalisation()
    return model


@pytest.mark.parametrize("architecture", SHAPES)
def test_parameters(architecture: str) -> None:
    model = models.ARCHITECTURES[architecture]()
    assert model.architecture == architecture
    assert {p.name: p.value.shape for p in model.parameters()} == SHAPES[architecture]
    for p in model.parameters():
        assert p.value.dtype == np.float32
        assert p.decay == p.name.endswith("_W")
        if p.decay:  # within five deviations of the estimate
            fan_in = p.value[0].size
            if architecture == "siamese":  # uniform in ±1/√fan_in
                assert 0.9 < np.abs(p.value).max() * fan_in**0.5 <= 1
                expected = (1 / (3 * fan_in)) ** 0.5
            else:  # He
                expected = (2 / fan_in) ** 0.5
            assert abs(p.value.std() / expected - 1) < 5 / (2 * p.value.size) ** 0.5
        else:
            assert (p.value == (1 if p.name.endswith("_gamma") else 0)).all()
    count = sum(p.value.size for p in model.parameters())
    assert count == {"cnn": 833_572, "mlp": 960_356, "siamese": 75_450}[architecture]


def test_tensors_are_parameters_and_buffers() -> None:
    model = models.siamese()
    buffers = {b.name: b.value for b in model.net.buffers}
    assert list(buffers) == [
        f"bn{place}_{kind}"
        for place in ("1_1", "2_1", "2_2", "3_1", "3_2")
        for kind in ("mean", "var")
    ]
    for name, value in buffers.items():
        assert value.dtype == np.float32
        assert (value == name.endswith("_var")).all()
    assert [t.name for t in model.tensors()] == [*SHAPES["siamese"], *buffers]
    assert [t.name for t in models.cnn().tensors()] == list(SHAPES["cnn"])


@pytest.mark.parametrize("channels", [((16,),), ((3, 5), (18,)), ((32,), (16, 16), (7, 9, 48))])
def test_widths(variant: str, channels: tuple[tuple[int, ...], ...]) -> None:
    model = models.siamese(channels=channels, seed=3)
    x, labels = draws(6, 1, 28, 56), np.arange(6) * 11
    logits = model(x)
    assert logits.shape == (6, 100)
    with isa("reference"):
        expected = model(x)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    optimizer = Adam(model.parameters())
    first = train_step(model, optimizer, x, labels)
    for _ in range(5):
        last = train_step(model, optimizer, x, labels)
    assert last < first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": ()}, "channels: got (), wants stages of one to 4 widths"),
        ({"channels": ((4,), ())}, "channels: got ((4,), ()), wants stages of one to 4 widths"),
        (
            {"channels": ((4,) * 5,)},
            "channels: got ((4, 4, 4, 4, 4),), wants stages of one to 4 widths",
        ),
        ({"channels": ((16, 0),)}, "out_channels: got 0, wants at least 1"),
        (
            {"channels": ((4,),) * 5},
            "channels: got 5 stages, wants at most 4: 28 pixels halve no further",
        ),
    ],
)
def test_widths_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        models.siamese(**options)


def test_widths_without_stages_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^channels: got \(16, 32\), wants a sequence of widths"):
        models.siamese(channels=(16, 32))  # type: ignore[arg-type]


def test_both_halves_are_read_alike(variant: str) -> None:
    model = models.siamese(seed=2)
    x = draws(5, 1, 28, 56)
    swapped = np.concatenate([x[..., 28:], x[..., :28]], axis=3)
    table = model(x).reshape(5, 10, 10)
    assert_same(np.ascontiguousarray(model(swapped).reshape(5, 10, 10).swapaxes(1, 2)), table)


def test_seeds() -> None:
    for make in models.ARCHITECTURES.values():
        first, second, other = make(seed=5), make(seed=5), make(seed=6)
        for p, q, r in zip(
            first.parameters(), second.parameters(), other.parameters(), strict=True
        ):
            assert_same(p.value, q.value)
            assert not p.decay or (p.value != r.value).any()
    with pytest.raises(ValueError, match=r"^seed: got -1"):
        models.cnn(seed=-1)
    with pytest.raises(ValueError, match=r"^p: got 1.0"):
        models.mlp(dropout=1.0)


def test_dropout_layers_draw_apart() -> None:
    seeds = [models.dropout_seed(s, layer) for s, layer in itertools.product((0, 1, 7), (0, 1))]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("architecture", SHAPES)
@pytest.mark.parametrize("n", [0, 1, 5])
def test_logits(variant: str, architecture: str, n: int) -> None:
    model = models.ARCHITECTURES[architecture]()
    x = draws(n, 1, 28, 56)
    before = x.copy()
    y = model(x)
    assert y.shape == (n, 100)
    assert y.dtype == np.float32
    assert_same(model(x), y)  # no dropout in evaluation
    assert_same(x, before)


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (draws(1, 28, 56), ValueError),
        (draws(1, 1, 28, 28), ValueError),
        (draws(1, 1, 28, 56, dtype=np.float64), TypeError),
        (images(1)[np.newaxis], TypeError),
        ([[0.0]], TypeError),
    ],
)
def test_wrong_inputs(x: Array, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^x: got .*, wants"):
        models.cnn()(x)


@pytest.mark.parametrize("architecture", SHAPES)
def test_predictions(variant: str, architecture: str) -> None:
    model, raw = ready(architecture), images(7)
    norm = model.normalisation
    assert norm is not None
    x = ((raw / 255 - norm.mean) / norm.std).clip(-norm.clip, norm.clip)
    logits = model(x.astype(np.float32)[:, np.newaxis])
    p = model.predict_proba(raw)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p, F.softmax(logits), rtol=0, atol=1e-5)
    labels = model.predict(raw)
    assert labels.dtype == np.int64
    assert_same(labels, p.argmax(axis=1))
    for other in (raw.reshape(7, 1568), raw[:, ::-1, :][:, ::-1, :]):
        assert_same(model.predict_proba(other), p)
    assert_same(model.predict(raw[3]), labels[3:4])
    # The head's product of (2, 576) by (576, 10) is cut along its sum, by shape; a batch of 14 rows is not.
    atol = 1e-6 if architecture == "siamese" else 0
    np.testing.assert_allclose(model.predict_proba(raw[3]), p[3:4], rtol=0, atol=atol)


@pytest.mark.parametrize("reach", [1, 2])
def test_answers_are_averaged_over_shifts(variant: str, reach: int) -> None:
    model, raw = ready("siamese"), images(5)
    model.parameters()[-2].value *= 30  # an untrained head's probabilities hardly differ
    halves = raw.reshape(5, 28, 2, 28).swapaxes(1, 2)
    expected = np.zeros((5, 100))
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            moved = np.zeros_like(halves)
            moved[:, :, max(down, 0) : 28 + min(down, 0), max(right, 0) : 28 + min(right, 0)] = (
                halves[:, :, max(-down, 0) : 28 - max(down, 0), max(-right, 0) : 28 - max(right, 0)]
            )
            expected += model.predict_proba(moved.swapaxes(1, 2).reshape(5, 28, 56))
    expected /= (2 * reach + 1) ** 2
    alone = model.predict_proba(raw)
    model.test_shifts = reach
    p = model.predict_proba(raw)
    np.testing.assert_allclose(p, expected, rtol=0, atol=2e-6)
    assert np.abs(p - alone).max() > 1e-3
    assert_same(model.predict(raw), p.argmax(axis=1))
    assert_same(model.predict(images(0)), np.empty(0, np.int64))
    with model.one_view():
        assert_same(model.predict_proba(raw), alone)
    assert model.test_shifts == reach


def test_a_probability_of_nothing_has_a_logarithm() -> None:
    model = ready("mlp")
    model.parameters()[-1].value[3] = -1e6
    model.test_shifts = 1
    assert model.predict_proba(images(2))[:, 3].max() < 1e-30


def test_no_images() -> None:
    model = ready()
    assert_same(model.predict(images(0)), np.empty(0, np.int64))
    assert_same(model.predict_proba(images(0).reshape(0, 1568)), np.empty((0, 100), np.float32))


def test_prediction_goes_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model, raw = ready("mlp"), images(10)
    whole = model.predict_proba(raw)
    monkeypatch.setattr(models, "PREDICT_BATCH", 4)
    np.testing.assert_allclose(model.predict_proba(raw), whole, rtol=0, atol=1e-6)
    assert_same(model.predict(raw), whole.argmax(axis=1))


def test_the_clip_counts() -> None:
    model = ready()
    raw = images(3)
    clipped = model.predict_proba(raw)
    model.normalisation = normalisation(clip=0.0)
    assert np.abs(model.predict_proba(raw) - clipped).max() > 1e-3


def test_prediction_needs_a_normalisation() -> None:
    with pytest.raises(ValueError, match=r"^model.normalisation: got None"):
        models.cnn().predict(images(1))


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (images(1).astype(np.float32), TypeError),
        (images(1).astype(np.int64), TypeError),
        (images(1).tolist(), TypeError),
        (images(1)[..., :28], ValueError),
        (images(1).reshape(1, 1, 28, 56), ValueError),
        (images(1).ravel(), ValueError),
    ],
)
def test_wrong_images(raw: Array, error: type[Exception]) -> None:
    for call in (ready().predict, ready().predict_proba):
        with pytest.raises(error, match=r"^images: got .*, wants uint8 pixels of shape"):
            call(raw)


@pytest.mark.parametrize("architecture", SHAPES)
def test_a_step_changes_every_parameter_and_reports_the_loss(
    variant: str, architecture: str
) -> None:
    model = models.ARCHITECTURES[architecture](dropout=0.0)
    optimizer = Adam(model.parameters(), reg_lambda=0.5)
    x, labels = draws(8, 1, 28, 56), np.arange(8)
    logits = to_nchw(model.net.forward(x, 1)[0])
    expected = F.softmax_cross_entropy(logits, labels)[0] + optimizer.reg_loss(8)
    if architecture != "siamese":  # whose training takes statistics from the batch
        assert_same(model(x), logits)
    before = [t.value.copy() for t in model.tensors()]
    assert mnist100.training.train_step(model, optimizer, x, labels) == expected
    for t, value in zip(model.tensors(), before, strict=True):
        assert (t.value != value).any(), t.name
    first = train_step(model, optimizer, x, labels)
    for _ in range(5):
        last = train_step(model, optimizer, x, labels)
    assert last < first


@pytest.mark.parametrize("architecture", ["mlp", "siamese"])
def test_a_refused_step_changes_nothing(architecture: str) -> None:
    model = models.ARCHITECTURES[architecture]()
    optimizer = SGD(model.parameters(), lr=0.1)
    before = [t.value.copy() for t in model.tensors()]
    x = draws(4, 1, 28, 56)
    bad: list[tuple[Array, Array, str]] = [
        (x, np.array([0, 1, 2, 100]), "labels"),
        (x, np.arange(3), "labels"),
        (x[:0], np.arange(0), "x" if architecture == "siamese" else "logits"),
        (x[:, :, :27], np.arange(4), "x"),
    ]
    for arrays in bad:
        with pytest.raises(ValueError, match=f"^{arrays[2]}: got"):
            train_step(model, optimizer, *arrays[:2])
    assert optimizer.steps == 0
    for t, value in zip(model.tensors(), before, strict=True):
        assert_same(t.value, value)


def test_networks_for_other_images() -> None:
    model = models.cnn(image_shape=(9, 14), classes=3, seed=1)
    shapes = {parameter.name: parameter.value.shape for parameter in model.parameters()}
    assert (shapes["fc1_W"], shapes["fc2_W"]) == ((256, 32 * 2 * 3), (3, 256))
    assert model(draws(5, 1, 9, 14)).shape == (5, 3)
    dense = models.mlp(image_shape=(1, 6), classes=2)
    assert dense.parameters()[0].value.shape == (512, 6)
    labels = np.array([0, 1, 1])
    before = dense.parameters()[0].value.copy()
    assert train_step(dense, Adam(dense.parameters()), draws(3, 1, 1, 6), labels) > 0
    assert (dense.parameters()[0].value != before).any()
    with pytest.raises(ValueError, match=r"x: got float32 .* wants shape \(n, 1, 1, 6\)"):
        dense(draws(3, 1, 2, 3))
    with pytest.raises(ValueError, match=r"image_shape: got 3, wants .*4"):
        models.cnn(image_shape=(3, 20))
    with pytest.raises(ValueError, match="out_features: got 0"):
        models.mlp(classes=0)

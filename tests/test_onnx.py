"""Models as ONNX graphs: what ONNX Runtime makes of them is what the model says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import mnist100
from commands import assert_one_line, mnist, mnist_here
from mnist100 import export, layers, models
from mnist100.cli.main import main
from mnist100.data import Normalisation
from mnist100.layers import Layer
from mnist100.models import Model
from test_export import a_model

Array = Any


def images(count: int) -> Array:
    return np.random.default_rng(count).integers(0, 256, (count, 28, 56)).astype(np.uint8)


def run(graph: bytes, pixels: Array) -> tuple[Array, Array]:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(["labels", "probabilities"], {"images": pixels})
    return labels, probabilities


@pytest.mark.parametrize("shifts", [0, 1, 4])
@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_a_graph_says_what_the_model_says(architecture: str, shifts: int) -> None:
    model = a_model(architecture)
    model.test_shifts = shifts
    if architecture == "siamese":  # its small head starts unsure
        model.net.parameters[-2].value[...] *= 30
    graph = export.to_onnx(model)
    onnx.checker.check_model(graph, full_check=True)
    for count in (1, 2, 7):
        pixels = images(count)
        labels, probabilities = run(graph.SerializeToString(), pixels)
        expected = model.predict_proba(pixels)
        # Logits of this size round by some 1e-5, and a probability by its part of that.
        np.testing.assert_allclose(probabilities, expected, rtol=1e-3, atol=1e-6)
        assert np.ptp(expected) > 0.01  # a graph that knows nothing would not pass
        assert labels.dtype == np.int64
        np.testing.assert_array_equal(labels, probabilities.argmax(axis=1))
        np.testing.assert_array_equal(labels, model.predict(pixels))


@pytest.mark.parametrize("clip", [0.0, 0.7])
def test_pixels_are_clipped_as_in_training(clip: float) -> None:
    model = a_model("mlp")
    assert model.normalisation is not None
    model.normalisation = Normalisation(model.normalisation.mean, model.normalisation.std, clip)
    model.test_shifts = 0
    pixels = images(3)
    _, probabilities = run(export.to_onnx(model).SerializeToString(), pixels)
    np.testing.assert_allclose(probabilities, model.predict_proba(pixels), rtol=1e-3, atol=1e-6)


def test_convolutions_with_all_that_they_can_have() -> None:
    own: list[Layer] = [
        layers.Conv2d("conv1", 1, 4, (3, 5), stride=(2, 3), padding=(1, 2), relu=True, seed=1),
        layers.Conv2d("conv2", 4, 3, 3, padding=1, seed=2),
        layers.Flatten(),
        layers.Linear("fc1", 3 * 14 * 19, 100, seed=3),
    ]
    model = Model("cnn", own)
    model.normalisation = a_model().normalisation
    pixels = images(3)
    _, probabilities = run(export.to_onnx(model).SerializeToString(), pixels)
    np.testing.assert_allclose(probabilities, model.predict_proba(pixels), rtol=1e-3, atol=1e-6)


def test_weights_keep_their_names_and_every_bit() -> None:
    model = a_model("siamese")
    graph = export.to_onnx(model)
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in graph.graph.initializer}
    for tensor in model.tensors():
        np.testing.assert_array_equal(constants[tensor.name], tensor.value, strict=True)


def test_a_graph_says_what_it_is() -> None:
    model = a_model()
    graph = export.to_onnx(model)
    facts = {one.key: one.value for one in graph.metadata_props}
    assert json.loads(facts["metadata"]) == {**model.metadata, "architecture": "cnn"}
    assert (graph.producer_name, graph.producer_version) == ("mnist100", mnist100.__version__)
    assert (graph.ir_version, graph.opset_import[0].version) == (8, 17)
    (given,) = graph.graph.input
    assert given.name == "images"
    sizes = given.type.tensor_type.shape.dim
    assert [size.dim_param or size.dim_value for size in sizes] == ["n", 28, 56]


def test_what_cannot_be_a_graph_is_refused() -> None:
    class Own(Layer):
        pass

    model = a_model()
    model.normalisation = None
    with pytest.raises(ValueError, match="normalisation: got None"):
        export.to_onnx(model)
    model = a_model()
    model.net = layers.Sequential([Own()])
    with pytest.raises(TypeError, match="model: got a layer Own, wants ConvBlock, Conv2d"):
        export.to_onnx(model)


def test_without_onnx_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "mnist100.onnx_graph", raising=False)
    assert main(["export", str(saved), "--out", str(tmp_path / "a.onnx")]) == 1
    assert 'ONNX is not installed; run pip install "mnist100[onnx]"' in capsys.readouterr().err


@pytest.mark.parametrize("ending", [".onnx", ".pt", ".npz"])
def test_the_command_writes_every_format(ending: str, saved: Path, tmp_path: Path) -> None:
    out = tmp_path / f"given{ending}"
    result = mnist("export", saved, "--out", out, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    size = out.stat().st_size
    assert json.loads(result.stdout) == {"model": str(saved), "out": str(out), "bytes": size}
    model, pixels = mnist100.load_model(saved), images(4)
    if ending == ".onnx":
        np.testing.assert_array_equal(run(out.read_bytes(), pixels)[0], model.predict(pixels))
    else:
        other = mnist100.load_model(out)
        np.testing.assert_array_equal(other.predict_proba(pixels), model.predict_proba(pixels))
    again = mnist_here("export", saved, "--out", out)
    assert_one_line(again, 1, f"{out}: exists already; give another --out")
    assert out.stat().st_size == size


def test_the_command_tells_what_is_wrong(saved: Path, tmp_path: Path) -> None:
    for name in ("model.h5", "model", ".onnx"):
        found = mnist_here("export", saved, "--out", tmp_path / name)
        assert_one_line(found, 2, "--out", "wants a file named .onnx, .pt or .npz")
    found = mnist_here("export", saved, "--out", tmp_path / "none" / "a.onnx")
    assert_one_line(found, 1, f"{tmp_path / 'none'}: is not a folder")
    found = mnist_here("export", tmp_path / "none", "--out", tmp_path / "a.onnx")
    assert_one_line(found, 1, "none: no such run folder")
    assert_one_line(mnist_here("export", saved), 2, "--out")
    assert not (tmp_path / "a.onnx").exists()

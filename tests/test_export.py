"""Models to PyTorch and back: every bit of the weights, and files that are not what they say."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mnist100
from mnist100 import export, layers, models
from mnist100.batch_norm import BatchNormReLU
from mnist100.cli.main import main
from mnist100.data import Normalisation
from mnist100.modelfile import ModelFileError
from mnist100.models import Model
from mnist100.reference.torch_cnn import Network
from support import assert_same, assert_sum_close, draws


def a_model(architecture: str = "cnn") -> Model:
    """A model as training leaves it, with its own value in every place."""
    model = models.ARCHITECTURES[architecture](seed=11)
    for i, tensor in enumerate(model.tensors()):
        tensor.value[...] += draws(*tensor.value.shape, seed=i) * np.float32(0.01)
    mean = np.abs(draws(28, 56, seed=1))
    model.normalisation = Normalisation(mean, np.abs(draws(28, 56, seed=2)) + np.float32(0.1), 2.5)
    model.test_shifts = 2
    model.metadata = {"dataset": "digits", "recipe": {"epochs": 3}, "dev_accuracy": None}
    return model


def assert_same_model(one: Model, other: Model) -> None:
    assert one.architecture == other.architecture
    for mine, theirs in zip(one.tensors(), other.tensors(), strict=True):
        assert_same(mine.value, theirs.value)
    assert one.normalisation is not None
    assert other.normalisation is not None
    assert_same(one.normalisation.mean, other.normalisation.mean)
    assert_same(one.normalisation.std, other.normalisation.std)
    assert one.normalisation.clip == other.normalisation.clip
    assert one.test_shifts == other.test_shifts


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_there_and_back(architecture: str, tmp_path: Path) -> None:
    model = a_model(architecture)
    network = export.to_torch(model)
    assert not network.training
    x = draws(5, 1, 28, 56)
    with torch.inference_mode():
        assert_sum_close(network(torch.from_numpy(x)).numpy(), model(x), 3136)
    state = network.state_dict()
    assert sum(not name.endswith("num_batches_tracked") for name in state) == len(model.tensors())
    kinds = {"W": "weight", "b": "bias", "gamma": "weight", "beta": "bias"}
    kinds |= {"mean": "running_mean", "var": "running_var"}
    for tensor in model.tensors():
        layer, kind = tensor.name.rsplit("_", 1)
        assert_same(state[f"{layer}.{kinds[kind]}"].numpy(), tensor.value)
    assert_same_model(export.from_torch(network), model)
    export.save_torch(model, tmp_path / "a.pt")
    assert_same_model(mnist100.load_model(tmp_path / "a.pt"), model)
    contents = torch.load(tmp_path / "a.pt", weights_only=True)
    assert_same_model(export.from_torch(contents), model)
    assert export.from_torch(contents).metadata["recipe"] == {"epochs": 3}


def test_copies_share_no_memory() -> None:
    model = a_model()
    network = export.to_torch(model)
    back = export.from_torch(network)
    before = [parameter.value.copy() for parameter in model.parameters()]
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.add_(1)
    for parameter, again, value in zip(model.parameters(), back.parameters(), before, strict=True):
        assert_same(parameter.value, value)
        assert_same(again.value, value)


def test_a_bare_state_dict_has_no_normalisation() -> None:
    model = a_model()
    state = export.to_torch(model).state_dict()
    back = export.from_torch(state)
    assert back.normalisation is None
    x = draws(2, 1, 28, 56)
    assert_same(back(x), model(x))
    state["fc2.bias"] = state["fc2.bias"].double()  # any floating point will do
    assert_same(export.from_torch(state)(x), model(x))


def test_a_model_without_normalisation_travels_without() -> None:
    network = export.to_torch(models.cnn(seed=2))
    assert network.mean is None
    assert export.from_torch(network).normalisation is None
    with pytest.raises(ValueError, match=r"model\.normalisation: got None"):
        export.save_torch(models.cnn(), "never-written.pt")


def test_single_layers_translate_too() -> None:
    net = [
        layers.Conv2d("a", 1, 3, (3, 2), stride=(2, 1), padding=(1, 0), seed=1),
        layers.Conv2d("same", 3, 3, 3, padding=1, relu=True, seed=4),
        layers.MaxPool2d(3, 2, 1),
        layers.ReLU(),
        layers.ConvBlock("b", 3, 4, 5, seed=2),
        layers.Conv2d("bare", 4, 5, 3, padding=1, bias=False, seed=3),
        BatchNormReLU("n", 5),
    ]
    x = draws(2, 1, 20, 30)
    expected = layers.to_nchw(layers.Sequential(net)(x))
    assert_sum_close(expected, Network(net).eval()(torch.from_numpy(x)), 75)
    with pytest.raises(TypeError, match="Odd, wants one that PyTorch has too"):
        Network([type("Odd", (layers.Layer,), {})()])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda c: c["state_dict"].pop("fc1.bias"), "no entry fc1_b"),
        (lambda c: c["state_dict"].update(x=torch.zeros(3)), r"unknown entries \['x'\]"),
        (lambda c: c["state_dict"].update({"fc2.bias": torch.zeros(99)}), r"fc2_b has shape"),
        (
            lambda c: c["state_dict"].update({"fc2.bias": torch.zeros(100, dtype=torch.int64)}),
            "fc2_b is torch.int64",
        ),
        (
            lambda c: c["state_dict"].update({"fc2.bias": torch.zeros(1).expand(10**12)}),
            "fc2_b is torch.float32 of shape",
        ),
        (
            lambda c: c["state_dict"].update({"fc2.bias": torch.zeros(100).to_sparse()}),
            "fc2_b is Tensor, not a dense tensor",
        ),
        (lambda c: c["state_dict"].update({"fc2.bias": [0.0]}), "fc2_b is list"),
        (lambda c: c["state_dict"]["fc2.bias"].fill_(torch.nan), "fc2_b holds values that are not"),
        (lambda c: c.pop("mean"), "no entry mean"),
        (lambda c: c.pop("std"), "no entry std"),
        (lambda c: c["std"].zero_(), "std has a value below 1e-30"),
        (lambda c: c["config"].update(clip=-1), "clip is -1"),
        (lambda c: c["config"].update(architecture="rnn"), "architecture 'rnn'"),
        (lambda c: c["config"].update(architecture="mlp"), "fc1_W has shape"),
        (lambda c: c["config"].update(deep={"a": {"b": {"c": 1}}}), "config holds dict"),
        (lambda c: c["config"].update(many=dict.fromkeys(range(101))), "config holds dict"),
        (lambda c: c.update(config=[]), "config holds list"),
        (lambda c: c.update(config="cnn"), "config is str"),
        (lambda c: c.update(state_dict=3), "no state_dict"),
    ],
)
def test_contents_that_do_not_fit(change: Any, fault: str, tmp_path: Path) -> None:
    export.save_torch(a_model(), tmp_path / "good.pt")
    contents = torch.load(tmp_path / "good.pt", weights_only=True)
    change(contents)
    bad = tmp_path / "bad.pt"
    torch.save(contents, bad)
    with pytest.raises(ModelFileError, match=fault) as caught:
        mnist100.load_model(bad)
    assert str(caught.value).startswith(str(bad))


class Hostile:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return print, ("code from the file ran",)


def test_files_that_are_not_what_they_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export.save_torch(a_model(), tmp_path / "good.pt")
    good = (tmp_path / "good.pt").read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0x40
    torch.save({"state_dict": Hostile()}, tmp_path / "hostile.pt")
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(65 << 20))
    bad = {
        "empty": b"",
        "text": b"state_dict" * 100,
        "pickle": pickle.dumps(Hostile()),
        "cut": good[: len(good) // 2],
        "flipped": bytes(flipped),
        "hostile": (tmp_path / "hostile.pt").read_bytes(),
        "bomb": (tmp_path / "bomb.pt").read_bytes(),
        "npz": b"PK\x05\x06" + bytes(18),
    }
    for name, data in bad.items():
        file = tmp_path / f"{name}.pt"
        file.write_bytes(data)
        assert main(["evaluate", str(file), "--dataset", "digits"]) == 1, name
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.count("\n") == 1
        assert output.err.startswith(f"mnist100: error: {file}: "), output.err
        assert "weights_only=False" not in output.err

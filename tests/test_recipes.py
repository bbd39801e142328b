"""Recipes: what the built-in ones say, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli_w

from mnist100.training import Recipe, RecipeError, load_recipe
from mnist100.training.recipes import BUILT_IN, KEYS, parse

ORIGIN = {
    "model": "cnn",
    "channels": "16-32,32-64,64",
    "epochs": 20,
    "batch_size": 256,
    "precision": "fp32",
    "learning_rate": 1e-3,
    "schedule": "constant",
    "final_div_factor": 1e4,
    "reg_lambda": 1e-4,
    "weight_decay": 0.0,
    "dropout": 0.4,
    "patience": 5,
    "min_delta": 1e-3,
    "ema_decay": 0.0,
    "std_floor": 1e-8,
    "clip": 3.0,
    "pairing": "fixed",
    "plain_epochs": 0,
    "rotate_degrees": 0.0,
    "scale": 0.0,
    "shear": 0.0,
    "translate": 0.0,
    "elastic": 0.0,
    "shift": 2,
    "contrast": 0.1,
    "brightness": 0.1,
    "test_shifts": 0,
}


def write(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(tomli_w.dumps(values))
    return path


def test_reference_is_the_origins_training() -> None:
    assert load_recipe("reference").as_dict() == ORIGIN


def test_default_keeps_the_origins_network_loss_and_batch_size() -> None:
    recipe = load_recipe("default")
    for key in ("model", "batch_size", "reg_lambda", "dropout"):
        assert getattr(recipe, key) == ORIGIN[key]
    assert recipe.schedule == "one-cycle"
    assert recipe.pairing == "fresh"


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_recipe_survives_a_file(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert load_recipe(write(tmp_path / "recipe.toml", recipe.as_dict())) == recipe


def test_a_file_changes_the_default(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.toml", {"clip": 2, "epochs": 3})
    assert load_recipe(path) == load_recipe("default").replace(clip=2.0, epochs=3)
    assert type(load_recipe(str(path)).clip) is float


def test_replace_leaves_the_original_alone() -> None:
    recipe = load_recipe("default")
    assert recipe.replace(epochs=1).epochs == 1
    assert recipe.epochs == 20


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", "resnet"),
        ("model", 3),
        ("epochs", 0),
        ("epochs", 2.0),
        ("epochs", True),
        ("epochs", "20"),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("inf")),
        ("learning_rate", float("nan")),
        ("learning_rate", "fast"),
        pytest.param("learning_rate", 10**400, id="learning_rate-huge"),
        ("precision", "fp16"),
        ("schedule", "linear"),
        ("final_div_factor", 0.03),
        ("reg_lambda", -1e-9),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("patience", 0),
        ("min_delta", -0.1),
        ("ema_decay", 1.0),
        ("std_floor", 0.0),
        ("clip", -1.0),
        ("clip", True),
        ("pairing", "balanced"),
        ("plain_epochs", -1),
        ("rotate_degrees", 181.0),
        ("scale", 0.95),
        ("shear", -0.1),
        ("translate", 29.0),
        ("elastic", -1.0),
        ("shift", 57),
        ("shift", 1.5),
        ("contrast", -0.1),
        ("brightness", float("-inf")),
        ("test_shifts", 5),
    ],
)
def test_a_wrong_value_is_refused(key: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=rf"^{key}: got .+, wants ") as caught:
        load_recipe("default").replace(**{key: value})
    assert repr(value) in str(caught.value)


def test_an_unknown_key_is_refused_with_the_file_and_the_known_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "typo.toml", {"epoch": 3})
    with pytest.raises(
        RecipeError, match=r"typo\.toml: epoch: unknown key \(got 3\); wants one of"
    ):
        load_recipe(path)
    with pytest.raises(RecipeError, match="batchsize: unknown key"):
        load_recipe("default").replace(batchsize=3)


def test_a_wrong_value_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.toml", {"dropout": 1.5})
    with pytest.raises(RecipeError, match=r"bad\.toml: dropout: got 1\.5, wants a number of at"):
        load_recipe(path)


@pytest.mark.parametrize("content", [b"epochs = ", b"\xff\xfe\x00"])
def test_a_file_that_is_not_toml_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"bad\.toml: not a TOML file"):
        load_recipe(path)


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match="got 'refrence', wants default, reference, fast, cnn-best, best or an"
    ):
        load_recipe("refrence")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path)


def test_every_choice_has_to_be_made() -> None:
    values = load_recipe("default").as_dict()
    assert set(values) == set(KEYS)
    del values["clip"]
    with pytest.raises(TypeError, match="clip"):
        Recipe(**values)  # type: ignore[arg-type]


def test_parse_reads_the_keys_type() -> None:
    assert parse("epochs", "3") == 3
    assert parse("learning_rate", "3e-3") == 3e-3
    assert parse("model", "mlp") == "mlp"
    for key, text in (("epochs", "3.5"), ("learning_rate", "nan"), ("model", "MLP")):
        with pytest.raises(RecipeError, match=f"{key}: got '?{text}'?, wants "):
            parse(key, text)


def test_whose_network_the_others_train() -> None:
    assert load_recipe("cnn-best").model == ORIGIN["model"]
    for name in ("fast", "best"):
        recipe = load_recipe(name)
        assert recipe.model == "siamese"
        widths = [int(width) for width in recipe.channels.replace("-", ",").split(",")]
        convolutions = [p for p in recipe.network(1).parameters() if p.name.startswith("conv")]
        assert [len(p.value) for p in convolutions] == widths


def test_the_network_is_of_the_recipe_and_the_seed() -> None:
    recipe = load_recipe("fast").replace(channels="3-20,20")
    first, again, other = (recipe.network(seed).parameters() for seed in (5, 5, 6))
    convolutions = {p.name: p.value.shape for p in first[::3][:3]}
    assert convolutions == {
        "conv1_1_W": (3, 1, 3, 3),
        "conv2_1_W": (20, 3, 3, 3),
        "conv2_2_W": (20, 20, 3, 3),
    }
    assert all((a.value == b.value).all() for a, b in zip(first, again, strict=True))
    assert (first[0].value != other[0].value).any()
    assert load_recipe("default").replace(channels="7").network(1).architecture == "cnn"


@pytest.mark.parametrize(
    "channels", ["", "0", "16-", "16,-32", "257", "1-2-3-4-5", "1,2,3,4,5", "016", "16 32", "x"]
)
def test_channels_are_refused(channels: str) -> None:
    with pytest.raises(
        RecipeError, match=r"channels: got '.*', wants one to 4 stages of one to 4 whole"
    ):
        load_recipe("best").replace(channels=channels)

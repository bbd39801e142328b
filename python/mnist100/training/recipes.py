"""Recipes: every choice that training makes, in one validated value read from TOML."""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist100.modelfile import MAX_CHANNELS, MAX_STAGE_DEPTH, MAX_STAGES, MAX_TEST_SHIFTS
from mnist100.models import ARCHITECTURES, Model
from mnist100.training.schedule import START_DIVISOR

BUILT_IN = ("default", "reference", "fast", "cnn-best", "best")

_FOLDER = Path(__file__).with_name("recipes")


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names the key, its value and what it wants."""


@dataclass(frozen=True)
class _Rule:
    """What one key accepts."""

    kind: type[str | int | float]
    wants: str
    accepts: Callable[[Any], bool]


def _choice(*names: str) -> _Rule:
    return _Rule(str, " or ".join(names), lambda value: value in names)


def _whole(low: int, high: int = 1_000_000) -> _Rule:
    return _Rule(int, f"a whole number from {low} to {high}", lambda value: low <= value <= high)


def _number(wants: str, accepts: Callable[[float], bool]) -> _Rule:
    return _Rule(float, wants, lambda value: math.isfinite(value) and accepts(value))


def _are_stages(value: str) -> bool:
    stages = [stage.split(",") for stage in value.split("-")]
    widths = [width for stage in stages for width in stage]
    return (
        len(stages) <= MAX_STAGES
        and max(map(len, stages)) <= MAX_STAGE_DEPTH
        and all(re.fullmatch("[1-9][0-9]{0,2}", w) and int(w) <= MAX_CHANNELS for w in widths)
    )


_POSITIVE = _number("a finite number above 0", lambda value: value > 0)
_NOT_NEGATIVE = _number("a number of at least 0", lambda value: value >= 0)
_FRACTION = _number("a number of at least 0 and below 1", lambda value: 0 <= value < 1)

_RULES: dict[str, _Rule] = {
    "model": _choice(*ARCHITECTURES),
    "channels": _Rule(
        str,
        f"one to {MAX_STAGES} stages of one to {MAX_STAGE_DEPTH} whole numbers from 1 to {MAX_CHANNELS}, "
        "like 16-32,32-64,64",
        _are_stages,
    ),
    "epochs": _whole(1),
    "batch_size": _whole(1),
    "precision": _choice("fp32", "tf32", "bf16"),
    "learning_rate": _POSITIVE,
    "schedule": _choice("constant", "one-cycle"),
    "final_div_factor": _number(
        "a number of at least 0.04", lambda value: value >= 1 / START_DIVISOR
    ),
    "reg_lambda": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
    "dropout": _FRACTION,
    "patience": _whole(1),
    "min_delta": _FRACTION,
    "ema_decay": _FRACTION,
    "std_floor": _number("a number of at least 1e-30", lambda value: value >= 1e-30),
    "clip": _number("a number from 0 to 1e6", lambda value: 0 <= value <= 1e6),
    "pairing": _choice("fresh", "fixed"),
    "plain_epochs": _whole(0),
    "rotate_degrees": _number("a number from 0 to 180", lambda value: 0 <= value <= 180),
    "scale": _number("a number from 0 to 0.9", lambda value: 0 <= value <= 0.9),
    "shear": _NOT_NEGATIVE,
    "translate": _number("a number from 0 to 28", lambda value: 0 <= value <= 28),
    "elastic": _number("a number from 0 to 28", lambda value: 0 <= value <= 28),
    "shift": _whole(0, 56),
    "contrast": _NOT_NEGATIVE,
    "brightness": _NOT_NEGATIVE,
    "test_shifts": _whole(0, MAX_TEST_SHIFTS),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained. Immutable; checked when made.

    Parameters
    ----------
    model
        ``"cnn"``, ``"mlp"`` or ``"siamese"``.
    channels
        Widths of the convolutions of ``"siamese"``, like ``"16-32,32-64,64"``: a max-pool stands at the end
        and in place of each dash. The other networks have their own.
    epochs, batch_size
        Passes over the training pairs at most, and pairs in one step (the last may be smaller).
    precision
        What a GPU's products are made with: ``"fp32"``, or tensor cores on operands rounded to ``"tf32"`` or
        ``"bf16"``. CPUs and PyTorch have ``"fp32"`` alone.
    learning_rate
        Adam's rate: the constant one, or the peak of the one-cycle schedule.
    schedule
        ``"constant"`` or ``"one-cycle"`` (see `mnist100.training.schedule`).
    final_div_factor
        First rate of the one-cycle schedule, learning_rate/25, over its last; 0.04 never falls again.
    reg_lambda
        λ of the term λ/(2·B)·ΣW² in the loss, over weights and no bias, B the batch's size.
    weight_decay
        Decoupled decay: a step also takes this part, times its rate, off every weight and no bias.
    dropout
        Probability that a unit is dropped in training.
    patience, min_delta
        Early stopping: the number of epochs in a row that may fail to count, and by how much (a
        fraction) dev accuracy must beat the best for an epoch to count.
    ema_decay
        Decay of the exponential average of the weights that is evaluated and kept; 0 is none.
    std_floor, clip
        Least standard deviation of a pixel, and bound on a standardised pixel (0 is none).
    pairing
        ``"fresh"`` pairs the training digits anew every epoch, ``"fixed"`` once.
    plain_epochs
        How many of the last of `epochs` are without the augmentation that the keys below ask for.
    rotate_degrees, scale, shear, translate
        Random affine map of each digit: bounds of uniform draws of the angle (degrees), of the
        relative change of size, of the shear (unitless) and of the offset (pixels).
    elastic
        Random bending of each digit: bound of uniform draws of displacements (pixels) at nodes seven
        pixels apart, with a smooth field between.
    shift
        Bound, in whole pixels, on a random horizontal shift of the standardised pair image.
    contrast, brightness
        Standard deviations of the normal draws in x·(1 + contrast) + brightness, one a sample, on
        the standardised image.
    test_shifts
        The trained model's answers are averaged over digits moved by up to so many pixels each way: 1 takes
        nine times as long as 0. Accuracies measured after every epoch are without it.

    Raises
    ------
    RecipeError
        If a value has the wrong type or is out of range.
    """

    model: str
    channels: str
    epochs: int
    batch_size: int
    precision: str
    learning_rate: float
    schedule: str
    final_div_factor: float
    reg_lambda: float
    weight_decay: float
    dropout: float
    patience: int
    min_delta: float
    ema_decay: float
    std_floor: float
    clip: float
    pairing: str
    plain_epochs: int
    rotate_degrees: float
    scale: float
    shear: float
    translate: float
    elastic: float
    shift: int
    contrast: float
    brightness: float
    test_shifts: int

    def __post_init__(self) -> None:
        for key in KEYS:
            object.__setattr__(self, key, check(key, getattr(self, key)))

    def replace(self, **changes: Any) -> Recipe:
        """Return a copy with some values changed, checked like any other recipe.

        Raises
        ------
        RecipeError
            If a key is unknown, or a value has the wrong type or is out of range.
        """
        _refuse_unknown(changes)
        return dataclasses.replace(self, **changes)

    def network(self, seed: int) -> Model:
        """Make the network, its weights drawn from `seed`."""
        options: dict[str, Any] = {}
        if self.model == "siamese":
            options["channels"] = [
                [int(width) for width in stage.split(",")] for stage in self.channels.split("-")
            ]
        return ARCHITECTURES[self.model](dropout=self.dropout, seed=seed, **options)

    def as_dict(self) -> dict[str, str | int | float]:
        """Return the values by key, ready for TOML or JSON."""
        return dataclasses.asdict(self)


KEYS: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(Recipe))


def wants(key: str) -> str:
    """Say in words what values `key` accepts."""
    return _RULES[key].wants


def check(key: str, value: Any) -> Any:
    """Return `value` as the type that `key` has; whole numbers become floats where needed.

    Raises
    ------
    RecipeError
        If the type is wrong or the value out of range.
    """
    rule = _RULES[key]
    if rule.kind is float and type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            raise _refusal(key, value) from None
    if type(value) is not rule.kind or not rule.accepts(value):
        raise _refusal(key, value)
    return value


def parse(key: str, text: str) -> Any:
    """Read the value of `key` from a command line's text.

    Raises
    ------
    RecipeError
        If `text` is not of the key's type or its value is out of range.
    """
    try:
        value = _RULES[key].kind(text)
    except ValueError:
        raise _refusal(key, text) from None
    return check(key, value)


def load_recipe(name: str | Path) -> Recipe:
    """Read a recipe: a built-in one by name, or a TOML file.

    Parameters
    ----------
    name
        ``"default"``, ``"reference"``, or the path of a TOML file; what the file leaves out is as
        in ``default``. Of a file with a table ``recipe``, a run's ``config.toml``, that table is
        read and nothing else.

    Raises
    ------
    RecipeError
        If there is no such recipe, the file cannot be read or is not TOML, a key is unknown, or a
        value has the wrong type or is out of range.
    """
    if name in BUILT_IN:
        return Recipe(**_read(_FOLDER / f"{name}.toml"))
    path = Path(name)
    values = _read(path)
    if isinstance(values.get("recipe"), dict):
        values = values["recipe"]
    try:
        return load_recipe("default").replace(**values)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(
            f"got {str(path)!r}, wants {', '.join(BUILT_IN)} or an existing TOML file"
        ) from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise RecipeError(f"{path}: not a TOML file: {error}") from None


def _refuse_unknown(values: dict[str, Any]) -> None:
    for key, value in values.items():
        if key not in _RULES:
            raise RecipeError(f"{key}: unknown key (got {value!r}); wants one of {', '.join(KEYS)}")


def _refusal(key: str, value: Any) -> RecipeError:
    return RecipeError(f"{key}: got {value!r}, wants {wants(key)}")

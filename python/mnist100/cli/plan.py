"""What a run is to be: as the options say, or as the folder says of the run that is to go on."""

from __future__ import annotations

import argparse
import dataclasses
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnist100.cli.errors import CommandError, UsageError
from mnist100.cli.recipe_options import chosen_recipe, contradictions
from mnist100.search.folder import CONFIG as SEARCH
from mnist100.training import Recipe, RecipeError, run_folder
from mnist100.training.backends import BACKENDS, DEVICES
from mnist100.training.checkpoint import Checkpoint, load_checkpoint


@dataclass(frozen=True)
class Plan:
    """All that decides a run but its data themselves.

    Parameters
    ----------
    out
        Its folder.
    recipe, dataset, seed, dev_size, backend, device, log
        As the options of these names; `dev_size` None is the data set's own.
    config
        What ``config.toml`` said of the run that goes on; empty for a new one.
    checkpoint
        Where it goes on; None is its beginning.
    """

    out: Path
    recipe: Recipe
    dataset: str
    seed: int
    dev_size: int | None
    backend: str
    device: str
    log: str | None
    config: dict[str, Any]
    checkpoint: Checkpoint | None


def make_plan(options: argparse.Namespace) -> Plan:
    """Return the plan of the run that the options ask for.

    Raises
    ------
    OSError
        If a new run's folder is not free, or a file of the run that goes on cannot be read.
    CommandError, UsageError, CheckpointError
        If there is no run to go on with, it cannot go on, or the options contradict it.
    """
    return _resumed(options) if options.resume else _new(options)


def read_plan(out: Path, *, dataset: str | None = None, log: str | None = None) -> Plan:
    """Return the plan of the run in a folder, at its beginning.

    Parameters
    ----------
    out
        The folder.
    dataset, log
        As the options of these names; None is as ``config.toml`` says.

    Raises
    ------
    OSError
        If its ``config.toml`` cannot be read.
    CommandError
        If there is no run, or the file is not what a run writes.
    """
    config = _read_config(out)
    return Plan(
        out=out,
        recipe=_recorded_recipe(out / run_folder.CONFIG, config),
        dataset=dataset or config["dataset"],
        seed=config["seed"],
        dev_size=config["dev_size"],
        backend=config["backend"],
        device=config["device"],
        log=log or config.get("log"),
        config=config,
        checkpoint=None,
    )


def at_checkpoint(plan: Plan) -> Plan:
    """Return the plan with the place where its run goes on.

    Raises
    ------
    OSError, CommandError, CheckpointError
        If ``last.npz`` is missing or cannot be used.
    """
    return dataclasses.replace(plan, checkpoint=_checkpoint(plan.out))


def check_data(plan: Plan, facts: Mapping[str, Any], given: str | None) -> None:
    """Make sure that a run that goes on does so with the data it was started with.

    Parameters
    ----------
    plan
        Of a run that goes on; of a new one, nothing is checked.
    facts
        Of the present data: ``data``, their checksums, as in ``config.toml``.
    given
        ``--dataset``, if that was an option.

    Raises
    ------
    UsageError, CommandError
        If a checksum differs; whether an option or the data are to blame.
    """
    if not plan.config or facts["data"] == plan.config["data"]:
        return
    before, now = plan.config["data"], facts["data"]
    names = (key.removesuffix("_sha256") for key in before | now if before.get(key) != now.get(key))
    fault = f"other {' and '.join(names)} data than the run in {plan.out} was started with"
    if given is not None:
        raise UsageError(f"argument --dataset: got {given!r}, which holds {fault}")
    raise CommandError(f"{plan.dataset}: holds {fault}; bring those back, or start a new run")


def _new(options: argparse.Namespace) -> Plan:
    recipe = chosen_recipe(options)
    out = Path(options.out) if options.out else run_folder.default_folder(recipe.model)
    run_folder.check_folder(out)
    if (out / SEARCH).exists():
        raise CommandError(f"{out}: holds a search ({SEARCH}); give another --out")
    return Plan(
        out=out,
        recipe=recipe,
        dataset=options.dataset or "auto",
        seed=options.seed or 0,
        dev_size=options.dev_size,
        backend=options.backend or "native",
        device=options.device or "cpu",
        log=options.log,
        config={},
        checkpoint=None,
    )


def _resumed(options: argparse.Namespace) -> Plan:
    if not options.out:
        raise UsageError("argument --resume: wants --out, the folder of the run to go on with")
    plan = read_plan(Path(options.out), dataset=options.dataset, log=options.log)
    out, recipe, config = plan.out, plan.recipe, plan.config
    given = {name: getattr(options, name) for name in ("seed", "dev_size", "backend", "device")}
    odd = {name: value for name, value in given.items() if value not in (None, config[name])}
    odd |= contradictions(options, recipe)
    for name, value in odd.items():
        has = config[name] if name in given else getattr(recipe, name)
        raise UsageError(
            f"argument --{name.replace('_', '-')}: got {value!r}, but the run in {out} was started "
            f"with {has!r} and goes on so; leave it out, or start a new run"
        )
    return at_checkpoint(plan)


def _read_config(out: Path) -> dict[str, Any]:
    file = out / run_folder.CONFIG
    if not file.is_file():
        raise CommandError(f"{out}: no run to go on with here; leave out --resume to start one")
    try:
        config = tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CommandError(f"{file}: not a TOML file: {error}") from None
    wants: dict[str, Callable[[Any], bool]] = {
        "dataset": lambda value: isinstance(value, str),
        "seed": _is_count,
        "dev_size": _is_count,
        "backend": lambda value: value in BACKENDS,
        "device": lambda value: value in DEVICES,
        "recipe": lambda value: isinstance(value, dict),
        "data": lambda value: isinstance(value, dict),
    }
    for key, accepts in wants.items():
        if not accepts(config.get(key)):
            raise CommandError(f"{file}: {key} is {config.get(key)!r:.80}, which no run writes")
    return config


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _recorded_recipe(file: Path, config: dict[str, Any]) -> Recipe:
    try:
        return Recipe(**config["recipe"])
    except (RecipeError, TypeError) as error:
        raise CommandError(f"{file}: recipe: {error}") from None


def _checkpoint(out: Path) -> Checkpoint | None:
    file = out / run_folder.LAST
    if file.exists():
        return load_checkpoint(file)
    if run_folder.best_model(out) is not None:
        raise CommandError(f"{file}: is missing, so the run cannot go on; its best model is intact")
    return None  # ended before its first step

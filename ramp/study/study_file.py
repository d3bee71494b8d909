"""A study as the Snakefile reads it: its configuration files, single keys, and its plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ramp.core.errors import Faults, RampError
from ramp.study.load import make_plan, registry_of
from ramp.study.planned_rows import Plan
from ramp.study.validation import ConfigError, read

PROJECT = Path(__file__).resolve().parents[2]
DEFAULT = PROJECT / "config" / "config.yaml"


def configuration(files: Sequence[Path], keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of configuration files laid over each other, then single keys; without a study's name, over the
    default study; ``ConfigError`` with every file that cannot be read."""
    from snakemake.utils import update_config

    faults = Faults()
    found = [faults.of(partial(read, file)) or {} for file in files]
    faults.tell(ConfigError)
    values: dict[str, Any] = {}
    for each in found:
        update_config(values, each)
    update_config(values, dict(keys))
    if "study" in values:
        return values
    whole = read(DEFAULT)
    update_config(whole, values)
    return whole


def single_keys(words: Sequence[str]) -> dict[str, Any]:
    """Return ``key=value`` words as Snakemake's ``--config`` reads them."""
    from snakemake.cli import parse_config

    try:
        return dict(parse_config(list(words)))
    except ValueError as error:
        raise RampError(f"--config: {error}") from None


def study_plan(values: Mapping[str, Any]) -> Plan:
    """Return the plan of a configuration's study; raises what the Snakefile would print."""
    registry = Path(registry_of(values))
    return make_plan(values, PROJECT, registry if registry.is_absolute() else PROJECT / registry)

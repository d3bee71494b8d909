"""Table of the amounts of text, evaluations and seeds of a study, from its configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from paper.naming import RAMP_METHODS, method_title, model_title
from paper.study import Study
from paper.tables.captions import caption
from paper.tables.model import Column, Row, Table
from ramp.evaluation.bootstrap import RESAMPLES
from ramp.methods.loader import load_method, parse_params

Config = Mapping[str, Any]

BASELINES = Path(__file__).resolve().parents[2] / "baselines"

ALL = "all"
"""Said of a limit that is not set."""


def settings_table(study: Study) -> Table:
    """Return a line per amount: of the source model and, where others are quantized too, of these."""
    targets = [model for model in study.models if model != study.source]
    columns = (
        Column("what", "what", align="left", width="1fr"),
        Column("source", model_title(study.source), align="left"),
        Column("target", ", ".join(map(model_title, targets)), align="left"),
    )
    rows = tuple(
        Row({"what": what, "source": source, "target": target if targets else None})
        for what, source, target in (*_lines(study.config), *_searches(study))
    )
    return Table("settings", columns=columns, rows=rows, **caption("settings", resamples=f"{RESAMPLES:,}")).filled()


def _lines(config: Config) -> Iterator[tuple[str, str, str | None]]:
    """Yield (what, amount of the source, amount of targets); nothing without a configuration."""
    limits = config.get("depths", {}).get(config.get("depth"), {})
    if not limits:
        return
    calibration, sensitivity = config["calibration"], config["sensitivity"]
    search, length = config["search"], config["evaluation"]["length"]

    def calibrated(tokens: int) -> str:
        return f"{tokens:,} tokens in windows of {calibration['length']:,}"

    def both(section: Config, of_source: str, other: str) -> list[int]:
        """Return an amount and another one, which is the first where it is not set."""
        return [section[of_source], section[other] or section[of_source]]

    yield "calibration text", *map(calibrated, both(calibration, "tokens", "target_tokens"))
    read = both(sensitivity, "windows", "target_windows")
    yield (
        "search text behind the Fisher sensitivities",
        *(windows_of(count, sensitivity["length"]) for count in read),
    )
    searched, selected = (windows_of(n, search["length"]) for n in both(search, "windows", "selection_windows"))
    yield "search text, read by every evaluation", searched, searched
    yield "selection text, read for the finalists and the start", selected, selected
    yield "evaluations of a search", amount(limits.get("evals")), amount(limits.get("target_evals"))
    held = [windows_of(limits.get(name), length) for name in ("windows", "target_windows")]
    yield "held-out text", held[0], held[1]
    if config.get("tasks", {}).get("names"):
        yield "items per task, at most", amount(limits.get("task_limit")), None


def _searches(study: Study) -> Iterator[tuple[str, str, str | None]]:
    """Yield the settings of RAMP's searches that were run: reward, target entropy, finalists, learner."""
    for method in RAMP_METHODS if study.config and study.ran_ramp else ():
        if study.find(study.source, method):
            own = study.config.get("params", {}).get(method, {})
            params: Any = parse_params(load_method(BASELINES / f"{method}.py"), own)
            reward, sac, title = params.reward, params.sac, method_title(method)
            found = f"{reward.k_q:g}, {reward.k_b:g}, {reward.k_o:g}, {reward.k_c:g}; "
            found += f"{sac.rho_start:g} to {sac.rho_end:g}; {params.finalists}"
            yield f"{title}: k_q, k_b, k_o, k_c of the reward; ρ; finalists", found, None
            found = f"2 × {sac.hidden}; {sac.learning_rate:g}; {sac.batch_size}; {sac.tau:g}; "
            found += f"{params.updates_per_episode}; {sac.replay_capacity:,}"
            yield f"{title}: hidden units; rate; batch; target update; updates per episode; replay", found, None


def amount(count: int | None) -> str:
    """Return a count in words; ``ALL`` where there is no limit."""
    return ALL if count is None else f"{count:,}"


def windows_of(count: int | None, length: int) -> str:
    """Return ``16 windows of 128 tokens``."""
    return f"{amount(count)} windows of {length:,} tokens"

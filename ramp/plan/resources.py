"""Requests of rules to a scheduler: memory of host and card, disk and time of a job, by the plan's arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ramp.plan.job_costs import JobCosts
from ramp.plan.work import Cost
from ramp.study.model_shape import SizeUnknown

MB = 10**6

MARGIN = 1.3
"""Memory that is asked for, beside what is planned."""

SLOWER = 2.0
"""Time that is asked for, beside what is planned: the plan is meant to hold within a factor of two."""

LEAST_MINUTES = 10

WITHOUT_GPU = (
    "fetch", "model", "halo_export", "halo_float", "halo_check", "static_mix", "gguf_mixes", "train", "transfer",
    "track", "package_row", "entropy_collect", "enumeration", "environment",
)  # fmt: skip
"""Rules that ask for what is planned and whose commands take no card, whatever the study's device."""

UNKNOWN = {"mem_mb": 8000, "disk_mb": 20000, "runtime": 240, "gpu_mem_mb": 0}
"""Asked for by jobs of a model whose sizes nothing tells before it is fetched."""


@dataclass(frozen=True)
class RuleResources:
    """Resources of every rule's jobs; ``memory_mb`` and ``gpus`` of the configuration go before what is planned."""

    costs: JobCosts
    gpus: int  # cards that a job on the device occupies
    known: dict[tuple[Any, ...], Cost | None] = field(default_factory=dict)

    def of_rule(self, rule: str) -> dict[str, Callable[..., int]]:
        """Return resource functions of a rule's wildcards, by the names that Snakemake's executors know."""
        found = {name: self._of(rule, name) for name in UNKNOWN}
        return found | {"gpu": self._of(rule, "gpu")}

    def _of(self, rule: str, name: str) -> Callable[..., int]:
        def ask(wildcards: Any) -> int:
            return self.ask(rule, name, dict(wildcards.items()))

        return ask

    def ask(self, rule: str, name: str, wildcards: Mapping[str, str]) -> int:
        """Return one resource of a job: MB, minutes, or cards."""
        cost = self.cost(rule, wildcards)
        if name == "gpu":
            on_device = cost.on_device if cost else rule not in WITHOUT_GPU
            return self.gpus if on_device else 0
        if name == "mem_mb" and (asked := self.costs.facts.plan.study.memory_mb) is not None:
            return asked
        if cost is None:
            return UNKNOWN[name]
        if name == "runtime":
            return LEAST_MINUTES + math.ceil(SLOWER * cost.seconds / 60)
        sizes = {
            "mem_mb": MARGIN * cost.host_bytes,
            "gpu_mem_mb": cost.device_bytes,
            "disk_mb": MARGIN * (cost.output_bytes + cost.scratch_bytes + cost.download_bytes),
        }
        return math.ceil(sizes[name] / MB)

    def cost(self, rule: str, wildcards: Mapping[str, str]) -> Cost | None:
        """Return what a job takes; None where the sizes of its model are not known."""
        key = (rule, *sorted(wildcards.items()))
        if key not in self.known:
            try:
                self.known[key] = self.costs.cost(rule, wildcards)
            except SizeUnknown:
                return None  # asked again: the model may be fetched meanwhile
        return self.known[key]

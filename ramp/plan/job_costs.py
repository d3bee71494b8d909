"""The cost of a job by its rule and wildcards."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ramp.plan import asset_costs, calibration_costs, evaluation_costs, export_costs, search_costs
from ramp.plan.devices import Device, processor
from ramp.plan.quantities import Facts
from ramp.plan.work import Cost, Work, cost

_NAMED = {
    asset_costs: "fetch model train environment",
    calibration_costs: "calibration fold bank sensitivity proxy quantize quantize_shared track",
    search_costs: "search learn transfer league_run enumeration optimum_run",
    evaluation_costs: (
        "reference fold_reference evaluate noise_run entropy_collect tune tasks_scored acceptance fold_run"
    ),
    export_costs: "halo_export halo_float halo_check halo_row static_mix gguf_mixes package package_row",
}
FORMULAS: dict[str, Callable[..., Work]] = {
    name: getattr(module, name) for module, names in _NAMED.items() for name in names.split()
}
"""The formula of every rule that works with a model or fetches: (facts, the rule's wildcards by name) -> Work."""


@dataclass(frozen=True)
class JobCosts:
    """Costs of a study's jobs on one device."""

    facts: Facts
    device: Device
    core: Device

    @classmethod
    def on(cls, facts: Facts, device: Device) -> JobCosts:
        """Return the costs on a device; the cores beside a card are those of this machine."""
        return cls(facts, device, device if not device.is_gpu else processor())

    def work(self, rule: str, wildcards: Mapping[str, str]) -> Work:
        """Return a job's work; a rule without a formula runs no model. Raises ``SizeUnknown``."""
        formula = FORMULAS.get(rule)
        if formula is None:
            return asset_costs.small(rule)
        names = list(inspect.signature(formula).parameters)[1:]
        return formula(self.facts, **{name: wildcards[name] for name in names})

    def cost(self, rule: str, wildcards: Mapping[str, str]) -> Cost:
        """Return what a job takes."""
        return cost(self.work(rule, wildcards), self.device, self.core, self.facts.plan.study.threads)

"""The kinds of additive sensitivities that an allocator may name, and the stage that measures each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sensitivity:
    """One kind: ``python -m {module} {options} ...`` writes its file."""

    name: str
    module: str
    suffix: str  # of the file's stem, behind the bank's name
    options: tuple[str, ...] = ()

    def file(self, bank: str) -> str:
        """Return the file's name in R/sensitivity/{model} for the bank ``{fold}-{quantizer}``."""
        return f"{bank}{self.suffix}.json"


def _of(name: str, module: str) -> Sensitivity:
    return Sensitivity(name, f"ramp.sensitivity.{module}", f"-{name}", ("--kind", name))


SENSITIVITIES = {
    kind.name: kind
    for kind in (
        Sensitivity("fisher", "ramp.sensitivity", ""),  # the default kind: its file is named by the bank alone
        _of("error", "weight_error"),
        _of("error_plain", "weight_error"),
        _of("kl", "measured_kl"),
        _of("kl_cheapest", "measured_kl"),
    )
}


def kinds_of(module: str) -> tuple[str, ...]:
    """Return the kinds that one stage measures."""
    return tuple(name for name, kind in SENSITIVITIES.items() if kind.module == module)

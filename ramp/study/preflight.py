"""Check before the first job that the GPU of the study is there, that models and texts of this machine can be read, and
that this account may read the models of the hub.

This runs once, when jobs are about to start, and never while planning (``snakemake -n``), so that the paper's study can
be planned on a laptop without a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ramp.assets.checksum_lock import Lock
from ramp.assets.fetch_hub import pinned_source
from ramp.assets.hub_access import refusal
from ramp.assets.registry import HubSource, PathSource, Registry
from ramp.core.errors import Faults, RampError
from ramp.study.asset_plan import AssetPlan
from ramp.study.config import Study
from ramp.study.local_files import local_faults


class PreflightError(RampError):
    """The run cannot succeed here."""


def gpu_present() -> bool:
    """Return whether torch sees a usable GPU."""
    import torch

    return torch.cuda.is_available()


def preflight(
    study: Study,
    registry: Registry,
    *,
    jobs_run_here: bool,
    gpu: Callable[[], bool] = gpu_present,
    refusal: Callable[[HubSource, bool], str | None] = refusal,
) -> None:
    """Raise ``PreflightError`` where the study cannot be run: no GPU, files that no stage can read, or assets that the
    hub does not give. Models and texts that were fetched before are not opened.

    Jobs that a scheduler sends elsewhere (``jobs_run_here`` false) find their GPU there.
    """
    if study.records is not None:
        return
    if study.device.startswith("cuda") and jobs_run_here and not gpu():
        raise PreflightError(
            f"study '{study.study}' asks for device '{study.device}' and this machine has no usable GPU: "
            "run it on one, through a scheduler (--workflow-profile profiles/slurm), or with --config device=cpu"
        )
    assets, faults = AssetPlan(study=study, registry=registry), Faults()
    if jobs_run_here:  # a scheduler's nodes may see files that this machine does not
        done = [
            file.parent.name for kind in ("models", "assets") for file in Path(study.results, kind).glob("*/asset.json")
        ]
        faults.add(local_faults(assets, done))
        faults.tell(PreflightError)
    refused = {
        name: why
        for name in (study.source, *study.targets, *assets.text_assets, *assets.task_assets)
        if not Path(study.results, "assets", name, "asset.json").is_file() and not registry.is_local(name)
        if (why := _refused(name, registry, refusal))
    }
    if refused:
        raise PreflightError(_sentence(study, refused))


def _refused(name: str, registry: Registry, refusal: Callable[[HubSource, bool], str | None]) -> str | None:
    """Return why an asset of the hub cannot be fetched, or None; other kinds need no account."""
    asset, lock = registry.get(name), Lock(registry)
    hubs = [source for source in asset.sources if isinstance(source, HubSource)]
    if len(hubs) + sum(isinstance(source, PathSource) for source in asset.sources) < len(asset.sources):
        return None
    reasons = [refusal(*pinned_source(name, hub, lock)) for hub in hubs]
    return "; ".join(filter(None, reasons)) if reasons and None not in reasons else None


def _sentence(study: Study, refused: Mapping[str, str]) -> str:
    """Return what cannot be fetched, a line each, and which targets the study can be run with."""
    lines = [f"study '{study.study}' needs what the hub does not give to this account:"]
    lines += [f"  {name}: {why}" for name, why in refused.items()]
    if set(refused) <= set(study.targets):
        kept = [name for name in study.targets if name not in refused]
        lines.append(f"or leave those models out of tables and claims: --config 'targets=[{','.join(kept)}]'")
    return "\n".join(lines)

"""Check before the first job that the GPU of the study is there and that this account may read the models it names.

This runs once, when jobs are about to start, and never while planning (``snakemake -n``), so that the paper's study can
be planned on a laptop without a network.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from ramp.assets.registry import Asset, HubSource, Registry
from ramp.core.errors import RampError
from ramp.study.config import Study


class PreflightError(RampError):
    """The run cannot succeed here: one sentence."""


def gpu_present() -> bool:
    """Whether torch sees a usable GPU."""
    import torch

    return torch.cuda.is_available()


def hub_refusal(repo: str, repo_type: str) -> str | None:
    """Return why this account cannot read a repository of the hub, or None."""
    from huggingface_hub import HfApi, errors

    try:
        HfApi().auth_check(repo, repo_type=repo_type)
    except errors.GatedRepoError:
        return "is gated: accept its licence on huggingface.co and set HF_TOKEN"
    except errors.RepositoryNotFoundError:
        return "is not visible with this token: set HF_TOKEN to one of an account that may read it"
    except Exception as error:  # without a network one of many classes is raised
        return f"could not be checked ({type(error).__name__}): connect to huggingface.co, or fetch it beforehand"
    return None


def preflight(
    study: Study,
    registry: Registry,
    *,
    jobs_run_here: bool,
    gpu: Callable[[], bool] = gpu_present,
    refusal: Callable[[str, str], str | None] = hub_refusal,
) -> None:
    """Raise ``PreflightError`` where the study cannot be run; only warn where a target model cannot be fetched.

    Jobs that a scheduler sends elsewhere (``jobs_run_here`` false) find their GPU there.
    """
    if study.records is not None:
        return
    if study.device.startswith("cuda") and jobs_run_here and not gpu():
        raise PreflightError(
            f"study '{study.study}' asks for device '{study.device}' and this machine has no usable GPU: "
            "run it on one, through a scheduler (--workflow-profile profiles/slurm), or with --config device=cpu"
        )
    for name in (study.source, *study.targets):
        asset = registry.get(name)
        fetched = Path(study.results, "assets", name, "asset.json").is_file()
        reason = None if fetched or registry.is_local(name) else _refused(asset, refusal)
        if reason and name == study.source:
            raise PreflightError(f"the source model '{name}' cannot be fetched: {reason}")
        if reason:
            print(f"warning: rows of '{name}' will be missing: {reason}", file=sys.stderr)


def _refused(asset: Asset, refusal: Callable[[str, str], str | None]) -> str | None:
    """Return why an asset of the hub cannot be fetched, or None; other kinds need no account."""
    hubs = [source for source in asset.sources if isinstance(source, HubSource)]
    if len(hubs) < len(asset.sources):
        return None
    reasons = [(hub.repo, refusal(hub.repo, hub.repo_type)) for hub in hubs]
    if any(reason is None for _, reason in reasons):
        return None
    return "; ".join(f"{repo} {reason}" for repo, reason in reasons)

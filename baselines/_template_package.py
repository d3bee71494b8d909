"""Copy to baselines/mine.py, add ``mine`` to ``external:`` in the configuration.

This docstring describes the package in one line. It runs in an environment of its own, which pip makes from
``requirements``: import the package inside ``quantize``, and of ours only ``ramp.methods.kinds``,
``ramp.methods.package_job`` (``PackageJob`` describes a job), ``ramp.models.folder.CheckpointReader`` and
``ramp.packages.packed_files``.
"""

from pydantic import Field

from ramp.methods.kinds import Package, Params
from ramp.methods.package_job import PackageJob
from ramp.models.folder import CheckpointReader


class TemplateParams(Params):
    """One line and a unit under each field; unknown keys are refused."""

    shrink: float = Field(default=1.0, gt=0, le=1, description="share of each group's range that the grid spans")


def skip() -> str | None:
    """Return why it cannot run on this machine, or None; called before anything is installed, shown in its rows (‡)."""
    return None  # "it has wheels for Linux alone" if sys.platform != "linux" else None


def quantize(job: PackageJob, params: TemplateParams) -> None:
    """Round to nearest by numpy, where your package would do its work, on ``job.tokens`` if it calibrates."""
    import numpy as np

    checkpoint, top = CheckpointReader(job.model_dir), 2**job.bits - 1
    for name, (d_out, d_in) in job.linears.items():
        size = job.group_sizes[name]
        groups = checkpoint.get(f"{name}.weight").float().numpy().reshape(d_out, -1, size)
        low, high = (params.shrink * each for each in (groups.min(-1).clip(max=0), groups.max(-1).clip(min=0)))
        scales = np.maximum((high - low) / top, 2.0**-14).astype(np.float16)
        wide = scales.astype(np.float32)
        zeros = np.rint(-low / wide).clip(0, top)
        codes = (np.rint(groups / wide[..., None]) + zeros[..., None]).clip(0, top)
        job.keep(name, codes.reshape(d_out, d_in), scales, zeros, size)


METHOD = Package(
    title="Template of a package",  # for logs; tables take it from paper/naming.py, or the file's name
    source="where the method comes from",
    quantize=quantize,
    params=TemplateParams,
    requirements=("torch==2.13.0", "numpy==2.4.6"),  # a literal tuple, pinned, the package itself first
    bits=(2, 3, 4, 8),  # widths that it can give
    environment="",  # the same name in several files: they share one environment
    skip=skip,
)

"""Kinds of methods that a file in ``baselines/`` registers, and the parameters and names that they share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from ramp.core.errors import RampError
from ramp.problem.problem import Allocation, Problem, Run
from ramp.sensitivity.kinds import SENSITIVITIES, file_name

if TYPE_CHECKING:
    from ramp.methods.package_job import PackageJob
    from ramp.quantizers.affine import QuantizedLinear


NAME = re.compile(r"[a-z][a-z0-9_]*")
"""Names become file names and column values: lower case, digits and underscores."""


@dataclass(frozen=True)
class FoldRef:
    """A fold file: its name in the configuration and, where it was searched for uniform rows of one width, that width.

    As a file's stem: ``awq``, or ``awq_w4``.
    """

    name: str
    width: int | None = None

    @classmethod
    def parse(cls, stem: str) -> FoldRef:
        """Read a file's stem."""
        match = re.fullmatch(r"([a-z][a-z0-9_]*)_w([2-8])", stem)
        return cls(match[1], int(match[2])) if match else cls(stem)

    def __str__(self) -> str:
        return self.name if self.width is None else f"{self.name}_w{self.width}"


class MethodError(RampError):
    """A method is unknown, or its file is missing, broken, or registers something that is no method."""


class Params(BaseModel):
    """Base of every method's parameters: unknown keys are refused, values cannot be changed later.

    The text under a field, or its ``description``, says what it means and its unit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class SearchParams(Params):
    """Base of the parameters of a search that ends with a choice on selection text."""

    finalists: PositiveInt = 5
    """Best allocations on search text that are scored on selection text."""

    def search_parts(self) -> tuple[int, int]:
        """Return the windows of search text that are scored in parts, and those of one part; 0: whole alone."""
        return 0, 1


class RtnParams(Params):
    """Round-to-nearest on the affine grid."""

    clip: Literal["none", "mse"] = "none"
    """Shrink each group's range to least output error on calibration text, or not."""
    sym: bool = False
    """Symmetric grids: zero-point 2^(bits-1) everywhere; stored alike."""


class GptqParams(RtnParams):
    """GPTQ (Frantar et al. 2022, arXiv:2210.17323); its clip search takes channels apart (squared errors weighted by
    the Hessian's diagonal)."""

    act_order: bool = True
    """Quantize columns by falling Hessian diagonal (its static-groups form)."""
    damping: PositiveFloat = 0.01
    """Added to the Hessian's diagonal, as a fraction of its mean."""
    block_size: PositiveInt = 16
    """Columns taken one by one between updates; speed only."""


def never_skip() -> str | None:
    """Return no reason: the default ``skip`` of a method that runs everywhere."""
    return None


PROXIES = tuple(SENSITIVITIES)
"""Additive sensitivities that an allocator may ask for."""


CustomQuantizer = Callable[..., "QuantizedLinear"]
"""(weight [d_out, d_in], hessian [d_in, d_in] or None, bits, group_size, params) -> QuantizedLinear."""


@dataclass(frozen=True, kw_only=True)
class MethodFields:
    """The fields of every method of the four kinds below."""

    title: str  # for tables
    source: str  # paper or project, with its identifier
    params: type[BaseModel]
    name: str = ""  # the file's stem, or a key of its VARIANTS; the loader fills it in
    fold: str = "none"  # file stem in R/folds/{model}: none (the float model), awq, smoothquant
    learned: bool = False  # leaves a policy that can be transferred
    requirements: tuple[str, ...] = ()  # name==version beyond the study's own environment; imported inside the function
    skip: Callable[[], str | None] = never_skip  # a reason not to run on this machine, or None


@dataclass(frozen=True, kw_only=True)
class Quantizer(MethodFields):
    """A uniform method: rows at the integer widths of the study's ``uniform_bits``."""

    fold: str
    quantizer: str | CustomQuantizer  # "rtn", "gptq", or a function of one linear
    group_size: int | None = None  # a control's own group size; None: the study's


@dataclass(frozen=True, kw_only=True)
class Allocator(MethodFields):
    """A mixed method: rows at the study's ``budgets``, one search per budget and seed."""

    fold: str = "awq"  # with the quantizer it names the bank
    quantizer: str | CustomQuantizer = "gptq"
    allocate: Callable[[Problem, Any, Run], Allocation]
    proxy: str = "fisher"  # what problem.use_proxy() gives: one of PROXIES

    def sensitivities(self, bank: str) -> str:
        """Return the name of its sensitivities' file on the bank ``{fold}-{quantizer}``, in R/sensitivity/{model}."""
        return file_name(self.proxy, bank)


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Memory that a package's process holds, for plans: not measured, read from its method file and its sources."""

    host: float = 4.0  # bytes on the host per weight of the model: it loads float32 there
    card: float = 0.0  # bytes on the card per weight: 0 where it brings a decoder block at a time
    inputs: bool = False  # whether it holds the inputs of a block's linears on all of the text, as AWQ's search does
    dense: bool = False  # whether linears are handed over as float32 weights (``PackageJob.keep_dense``)


@dataclass(frozen=True, kw_only=True)
class Package(MethodFields):
    """A uniform method of another project's package, in an environment of its own: rows at ``uniform_bits``.

    Its file imports nothing but ``ramp.methods.kinds`` and ``ramp.methods.package_job`` at the top, and the package
    inside ``quantize``. ``requirements`` are those of its environment; ``skip`` is called in the study's, before the
    job.
    """

    quantize: Callable[[PackageJob, Any], None]  # runs in the package's own environment
    bits: tuple[int, ...] = (2, 3, 4, 8)  # widths that the package can give
    environment: str = ""  # folder below .envs, for packages that share one; empty: the name
    footprint: Footprint = Footprint()

    @property
    def env_name(self) -> str:
        """Folder of its environment below ``.envs``."""
        return self.environment or self.name


@dataclass(frozen=True, kw_only=True)
class Mix(MethodFields):
    """A static mix of llama.cpp: one row on the ggml grid, types by llama.cpp's own rules, no width or budget of ours.

    ``ramp.export.static_mix`` quantizes the float model with it; embedding and head follow the study's track.
    """

    params: type[BaseModel] = Params
    file_type: str  # llama.cpp's name of the mix: Q4_K_M
    bits: int  # in that name; the row is called {name}-b{bits}
    importance: bool = False  # with an importance matrix from the calibration text


Method = Quantizer | Allocator | Package | Mix


def lacking(requirements: Iterable[str]) -> list[str]:
    """Return those of ``name==version`` that this environment lacks; local version tags (``+cpu``) do not count."""
    found = []
    for requirement in requirements:
        name, _, wanted = requirement.partition("==")
        try:
            installed = version(name.partition("[")[0])
        except PackageNotFoundError:
            installed = ""
        if installed.partition("+")[0] != wanted.partition("+")[0]:
            found.append(requirement)
    return found


def reason_not_to_run(method: Quantizer | Allocator | Mix) -> str:
    """Return why a method of the study's own environment cannot run on this machine, or an empty string."""
    if reason := method.skip():
        return reason
    needed = lacking(method.requirements)
    return f"it needs {', '.join(needed)}: pip install {' '.join(needed)}" if needed else ""

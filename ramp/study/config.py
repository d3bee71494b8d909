"""The study's configuration: every key with its type, unit, default and reason.

Only the Snakefile reads this module (through ``ramp.study.planned_rows``); stages take their values from the command
line, so that a new key does not make a stage look changed.
``python -m ramp schema`` prints the JSON schema that ``workflow/schemas/config.schema.json`` keeps.
"""

# ruff: noqa: RUF012  # pydantic copies mutable defaults
from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PositiveFloat, StringConstraints

from ramp.assets.registry import Asset
from ramp.core.field_texts import field_texts
from ramp.methods.kinds import FoldRef
from ramp.study.config_sections import (
    Banks,
    FoldAblation,
    Gguf,
    League,
    Leakage,
    Noise,
    Optimum,
    Search,
    Section,
    Tuning,
    Variant,
)
from ramp.study.config_types import (
    DEVICE_PATTERN,
    Count,
    CountOrAll,
    DepthName,
    MenuWidth,
    MethodName,
    Name,
    Once,
    RelativePath,
    RowName,
    Seed,
    TextRoleName,
    Track,
    Width,
)


class Calibration(Section):
    """Text that calibrates: activation statistics, Hessians, folds."""

    tokens: Count = 8192
    """Tokens of calibration text on the source model (GPTQ's own 128 x 2048 takes hours on a processor)."""
    target_tokens: Count | None = None
    """Tokens on the target models; null: as on the source."""
    length: Count = 512
    """Tokens per window; the first positions are kept, they are attention sinks."""


class Sensitivity(Section):
    """Text of every kind of sensitivity: search text for Fisher's, calibration text for the others."""

    windows: Count = 8
    """Windows of that text; 32 instead of 8 took 0.5 to 2.7 % off the KL on SmolLM2 (docs/decisions.md)."""
    target_windows: Count | None = None
    """Windows on the target models; null: as on the source."""
    length: Count = 256
    """Tokens per window."""


class Fold(Section):
    """One Scale Folding: a scale per channel of every site, shared by all widths of a mixed row."""

    kind: Literal["awq", "smoothquant"] = "awq"
    """How s is chosen: AWQ's grid search by output error, or SmoothQuant's formula."""
    bits: Once[Width] = Field(default=[3, 4], min_length=1)
    """Widths whose summed output error chooses s (the best s depends on the bits)."""
    own_width: bool = True
    """AWQ: uniform rows take a fold searched at their own width alone (``awq_w4``), as AWQ does; false: the shared one,
    so that uniform and mixed rows differ in widths alone."""
    max_rows: CountOrAll = 128
    """AWQ: output rows of each linear that score every candidate s, before the best three are scored on all; null: all
    rows for every candidate (slower)."""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    """SmoothQuant: how much of the activations' range moves into the weights (0.5 in its paper, 0.85 for Llama-2 in
    its repository)."""
    sites: list[Literal["attn_in", "o_in", "mlp_in", "down_in"]] | None = None
    """Which inputs are folded; null: all four for AWQ, the two behind norms for SmoothQuant, as its authors do."""
    powers_of_two: bool = False
    """Round every s to a power of two, so that folding into norms changes no bit of the float function."""
    sym: bool = False
    """AWQ: search on symmetric grids; goes with ``params: {awq: {sym: true}}``."""
    duo: bool = False
    """AWQ: twice as many candidates, half of them with the weights' size in them (AutoAWQ's duo scaling): about 2.5 %
    less calibration error on SmolLM2 (24 of its sites)."""

    def at_width(self, bits: int) -> Fold:
        """Return the same fold, searched for one width."""
        return self.model_copy(update={"bits": [bits]})

    def has_own(self, bits: int) -> bool:
        """Return whether uniform rows of a width have a fold of their own, not the shared one."""
        return self.kind == "awq" and self.own_width and self.bits != [bits]

    def options(self) -> list[str]:
        """Return the fold as arguments of ``python -m ramp.calibration.fold_search``."""
        made = ["--kind", self.kind, "--bits", *map(str, self.bits), "--max-rows", str(self.max_rows or 0)]
        made += ["--alpha", str(self.alpha)]
        if self.sites is not None:
            made += ["--sites", *self.sites]
        return made + ["--powers-of-two"] * self.powers_of_two + ["--sym"] * self.sym + ["--duo"] * self.duo


class Evaluation(Section):
    """Texts that rows are scored on; they calibrate, search and select nothing."""

    texts: Once[Name] = Field(default=["heldout"], min_length=1)
    """Texts for the source model: ``heldout`` is the study's own, others are text assets (``wikitext2``)."""
    texts_if_local: Once[Name] = []
    """More texts for the source model, taken where a file named in the registry lies on this machine."""
    target_texts: Once[Name] = Field(default=["heldout"], min_length=1)
    """Texts for the target models; a subset of ``texts``."""
    length: Count = 2048
    """Tokens per window, or the model's context where that is shorter."""


class Tasks(Section):
    """Commonsense tasks, scored by lm-evaluation-harness."""

    names: Once[Name] = ["piqa", "hellaswag", "winogrande", "arc_easy", "arc_challenge"]
    """Task names as lm-eval knows them; an empty list turns tasks off."""
    batch: Count | None = 8
    """Answers per forward pass; larger ones fill a card. null: as many as its free memory holds: last digits may then
    differ between cards."""


class Transfer(Section):
    """The source's policies on other models, without change, and the rows that they are compared with."""

    methods: Once[MethodName] = ["ramp", "role_depth"]
    """Learned methods whose policies are transferred: a network, and a table that knows roles and depth alone."""
    uniform: Once[RowName] = ["awq_gptq-b4"]
    """Uniform rows on the targets."""
    rivals: Once[MethodName] = ["knapsack", "random_search"]
    """Allocators on the targets at the same budgets: what closes all of the gap, and none of it."""


class Halo(Section):
    """Export of allocations to GGUF, and its check by stock llama.cpp."""

    methods: Once[MethodName] = ["ramp"]
    """Allocators whose allocation on the source model is exported; an empty list turns the export off."""
    length: Count = 512
    """Tokens per window of the perplexity check."""
    windows: Count = 2
    """Windows of held-out text in the perplexity check."""
    limit: PositiveFloat = 0.03
    """Largest relative difference of perplexity to transformers (llama.cpp rounds activations to 8 bits on a CPU)."""
    float_limit: PositiveFloat = 0.001
    """The same for the float32 file."""


class Depth(Section):
    """Part of the study that is run: seeds and limits."""

    seeds: Once[Seed] = Field(default=[0], min_length=1)
    """Seeds of every search; methods in ``deterministic`` take the first."""
    budgets: list[PositiveFloat] | None = None
    """Budgets on the source model; null: all of ``budgets``."""
    extra_methods: Once[MethodName] = []
    """More methods on the source model: static mixes of llama.cpp, uniform rows with smaller groups."""
    control_budgets: list[PositiveFloat] = []
    """More budgets on the source model for the methods in ``deterministic``: what uniform rows with smaller groups
    weigh, so that both are compared at equal bytes."""
    more_budgets: dict[MethodName, list[PositiveFloat]] = {}
    """More budgets on the source model by method: 6 % fewer bytes than uniform 4 bits, for the two that are compared
    there."""
    tracks: dict[Track, Once[RowName]] = {}
    """Rows of the source model that are stored and scored once more with embedding and head in another track; their
    linears are not quantized again."""
    transfer_budgets: list[PositiveFloat] | None = None
    """Budgets on the target models; null: as on the source."""
    evals: Count = 100
    """Evaluations per search (the paper: 120 to 200 episodes, by its digests)."""
    target_evals: Count = 10
    """Evaluations per search of a rival on a target model; rivals there rest on proxies and chance."""
    windows: CountOrAll = 12
    """Evaluation windows per text on the source model; null: the whole text."""
    target_windows: CountOrAll = 6
    """Evaluation windows per text on the target models; null: the whole text."""
    task_rows: Once[RowName] | None = None
    """Rows of the source model that the tasks score, without seed; null: every row."""
    task_limit: CountOrAll = 100
    """Documents per task; null: all."""


class Study(Section):
    """One study: models, methods, budgets, limits."""

    study: Name
    """Short name; part of every record's key."""
    results: RelativePath = "results"
    """Folder of all outputs."""
    depth: DepthName = "quick"
    """Which entry of ``depths`` holds the limits."""
    records: Literal["published"] | None = None
    """``published``: draw tables, figures and paper from ``results/published`` and run nothing else."""
    registry: RelativePath = "config/assets.yaml"
    """Every model, text and task set, with its source, revision and checksum."""
    baseline: MethodName | None = None
    """The file in ``baselines/`` that ``snakemake baseline_check`` tests; null: all of them."""
    device: Annotated[str, StringConstraints(pattern=DEVICE_PATTERN)] = "auto"
    """auto, cpu, cuda or cuda:N; with ``cuda`` the run refuses to start where there is no GPU."""
    dtype: Literal["float32", "bfloat16", "checkpoint"] = "float32"
    """Numbers that evaluation and search compute with, on every machine alike; ``checkpoint``: those of each model's
    own weights (Llama-2 is float16, Mistral and Llama-3 are bfloat16)."""
    reproducible: bool = True
    """The same bytes on every x86-64 processor with AVX2 (ramp/core/arithmetic.py); false: torch's own kernels."""
    threads: Count = 1
    """Processor threads per model job. One: two OpenMP threads spin on a busy machine, two processes do not."""
    memory_mb: Count | None = None
    """Host memory that a model job may take, in MB; null: as planned for each job (``python -m ramp plan``)."""
    keep: Literal["all", "results"] = "results"
    """``results``: banks, packed rows, float GGUF files and what packages leave go when their last reader is done;
    ``all``: they stay. A deleted file is made again where a new row needs it."""
    gpus: Annotated[int, Field(ge=0)] | None = None
    """GPUs that a model job occupies; null: one where ``device`` is or finds a GPU. ``--resources gpu=N`` says how
    many there are; each job then gets one of its own."""

    assets: dict[Name, Asset] = {}
    """Models and texts of the study's own, written as in the registry. A path at ``source``, ``targets`` or ``texts``
    becomes an entry here (ramp/study/own_assets.py)."""
    source: Name
    """The model that is searched on: a name of the registry, or a path that begins with /, ./, ../ or ~."""
    targets: Once[Name] = []
    """Models that policies are transferred to, named likewise."""
    train_steps: Count | None = None
    """Optimizer steps of models of kind ``trained``; null: what the registry says."""

    methods: Once[MethodName] = Field(default=["rtn", "gptq", "awq", "knapsack", "ramp"], min_length=1)
    """Files in ``baselines/``: quantizers give uniform rows, allocators mixed ones."""
    external: Once[MethodName] = []
    """Methods in ``baselines/`` that go through a package of another project: uniform rows on the source model, in
    every depth but ``quick``, or by ``snakemake baselines_external`` (all packages of ``baselines/`` if none is
    named)."""
    deterministic: Once[MethodName] = ["knapsack"]
    """Methods that draw no random number: they run with one seed."""
    params: dict[MethodName, dict[str, Any]] = {}
    """Parameters by method, over the defaults in its file."""
    uniform_bits: Once[Width] = Field(default=[3, 4], min_length=1)
    """Widths of the uniform rows."""
    widths: list[MenuWidth] = Field(default=[3, 4, 5, 6], min_length=2)
    """The menu of the mixed rows (the paper's, by its digests): bits, or bits and a group size of its own (``3g32``:
    three bits in groups of 32; ``4g-1``: one group per row). It rises by bits, then by falling group size."""
    budgets: list[PositiveFloat] = Field(default=[3.65, 4.0], min_length=1)
    """Bits: bytes of the packed linears of the uniform row, interpolated. 3.65 is the paper's number."""
    group_size: Literal[-1, 32, 64, 128, 256] = 128
    """Weights per scale along the input; where it does not divide a row, the largest smaller one that does; -1: one
    scale per row (per-channel)."""
    track: Track = "q8_0"
    """How embedding and head are stored, alike for all methods."""

    texts: dict[TextRoleName, Name] = {}
    """Text assets, or files (.txt, .md, .jsonl), that give a role all they have: ``{calibration: ./my.txt}``. One that
    is named for several roles is divided among them. Roles that are not named have the documents that the registry
    gives them."""
    calibration: Calibration = Calibration()
    sensitivity: Sensitivity = Sensitivity()
    search: Search = Search()
    folds: dict[MethodName, Fold] = {"awq": Fold()}
    """Folds by name; ``none`` always exists."""
    evaluation: Evaluation = Evaluation()
    tasks: Tasks = Tasks()
    transfer: Transfer = Transfer()
    halo: Halo = Halo()
    variants: dict[MethodName, Variant] = {}
    """Methods with other parameters, under names of their own: ablation rows of the league and of the folds."""
    league: League | None = None
    """Allocators against each other on one bank (``snakemake league``); null: none."""
    optimum: Optimum | None = None
    """Allocators against the exact optimum of a small problem (``snakemake optimum``); null: none."""
    fold_ablation: FoldAblation | None = None
    """Uniform rows on every fold (``snakemake fold_ablation``); null: none."""
    banks: Banks | None = None
    """Final rows over several banks (``snakemake banks``); null: none."""
    tuning: Tuning = Tuning()
    """Rows with tuned scales beside the rows that they come from (``snakemake tuning``)."""
    noise: Noise = Noise()
    """The float model against itself (``snakemake noise``)."""
    leakage: Leakage = Leakage()
    """Rows that saw the held-out text, or text of its source, beside the study's own (``snakemake leakage``)."""
    gguf: Gguf = Gguf()
    """GGUF files at the bytes of llama.cpp's mixes (``snakemake gguf``)."""
    depths: dict[DepthName, Depth] = {"quick": Depth(), "full": Depth()}
    """Limits of every depth; packages run in all but ``quick``."""

    def base_of(self, method: str) -> str:
        """Return the registered method behind a name: its own, or that of which it is a variant."""
        return self.variants[method].method if method in self.variants else method

    def fold_ref(self, fold: str, width: int) -> FoldRef:
        """Return the fold file of uniform rows of a width: their own where the fold is searched so."""
        settings = self.folds.get(fold)
        return FoldRef(fold, width if settings is not None and settings.has_own(width) else None)

    @property
    def runs_packages(self) -> bool:
        """Return whether the packages in ``external`` have rows at this depth."""
        return self.depth != "quick"

    @property
    def limits(self) -> Depth:
        """The limits of the chosen depth."""
        return self.depths.get(self.depth, Depth())

    @property
    def source_methods(self) -> list[str]:
        """Methods on the source model at this depth."""
        return list(dict.fromkeys([*self.methods, *self.limits.extra_methods]))

    @property
    def source_budgets(self) -> list[float]:
        """Budgets of the mixed rows on the source model."""
        return self.budgets if self.limits.budgets is None else self.limits.budgets

    @property
    def target_budgets(self) -> list[float]:
        """Budgets of the mixed rows on the target models."""
        return self.source_budgets if self.limits.transfer_budgets is None else self.limits.transfer_budgets


def _models(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield the models that are built on ``base``."""
    for model in base.__subclasses__():
        yield from (model, *_models(model))


def schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration."""
    made = Study.model_json_schema()
    for model in _models(Section):
        described = made if model is Study else made["$defs"].get(model.__name__, {})
        for name, text in field_texts(model).items():
            described.get("properties", {}).get(name, {}).setdefault("description", text)
    made["title"] = "Configuration of a study"
    return made

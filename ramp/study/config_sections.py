"""The configuration's sections: the league, variants of methods, exact optimum, folds' ablation, rows over banks,
leakage, tuned scales, GGUF files beside llama.cpp's mixes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat

from ramp.assets.leakage_texts import Level
from ramp.gguf_format.type_names import MENU
from ramp.study.config_types import Count, MethodName, Name, Once, Rising, RowName, Seed, Width

Seeds = Annotated[Once[Seed], Field(min_length=1)]


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, field docstrings become the schema's descriptions."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Variant(Section):
    """A method with other parameters, under a name and a title of its own: a row of an ablation."""

    method: MethodName
    """File in ``baselines/`` whose parameters are changed."""
    title: str | None = None
    """Its title in tables; null: its name."""
    params: dict[str, Any] = {}
    """Parameters over those of the method; inside nested ones too, what is not named stays the method's own."""


class Search(Section):
    """Text of a search: where candidates are scored, and where finalists are compared."""

    windows: Count = 16
    """Places in the search text; fewer than 16 overfit."""
    length: Count = 128
    """Tokens per window; windows x length should be 2,048 or more."""
    selection_windows: Count | None = None
    """Windows of selection text that compare the best few and the start; null: as many as ``windows``. Charged."""


class Places(Section):
    """Place in a text, and amount of it."""

    windows: Count
    """Windows, spread over the text."""
    length: Count
    """Tokens per window."""


class Grid(Section):
    """One block of the league: every allocator on every model at every budget with every seed."""

    models: Once[Name] = Field(min_length=1)
    """Models, by name in the registry, or draws of one: ``smollm2-135m.draw2`` has a bank of calibration text that seed
    2 draws."""
    methods: Once[MethodName] = Field(min_length=1)
    """Allocators and variants; all of one fold and one quantizer, so that they share the model's bank."""
    budgets: list[PositiveFloat] = Field(min_length=1)
    """Bits, as in ``budgets``."""
    seeds: Seeds = [0]
    """Seeds of every search; methods in ``deterministic`` take the first."""
    checkpoints: Rising[Count] = Field(default=[100], min_length=1)
    """Evaluations at which a run is read, rising; the last is what the run may spend."""
    search: Search | None = None
    """Search and selection text; null: the league's. One model has one."""
    heldout: Places | None = None
    """Held-out windows; null: the league's."""
    curve_points: Count | None = None
    """Points of an anytime curve; null: the league's."""


class Acceptance(Section):
    """Least loss by rounding at which a model that the workflow trained is worth quantizing."""

    bits: Width = 3
    """Width of uniform RTN."""
    increase: NonNegativeFloat = 0.10
    """Least relative increase of perplexity on the float model's own text, exp(KL) - 1, measured on selection text; a
    model that loses less is refused. 0 takes any."""


class League(Section):
    """Allocators at equal cost on one bank, each run read at several checkpoints."""

    grids: dict[Name, Grid] = Field(min_length=1)
    """Blocks by name; a run (model, method, budget, evaluations, seed) is in one of them."""
    search: Search | None = None
    """Search and selection text of every run; null: the study's ``search``."""
    heldout: Places = Places(windows=32, length=256)
    """Held-out windows on which incumbents are compared; they choose nothing."""
    curve_points: Count = 20
    """Points of an anytime curve, evenly spaced in the logarithm of evaluations."""
    accept: Acceptance = Acceptance()
    """Limit for models of kind ``trained``."""
    partial: bool = False
    """Collect the runs that are there and start none: after ``--keep-going``, or in the middle of a long league."""


class Optimum(Section):
    """Problems small enough to enumerate, and how close every allocator comes to their optimum."""

    models: Once[Name] = Field(min_length=1)
    """Models of the tiny family, by name in the registry."""
    methods: Once[MethodName] = Field(min_length=1)
    """Allocators and variants, as in the league."""
    units: Literal["halves", "linears"] = "halves"
    """The unit that gets one width: the attention or the MLP of a block, or one linear."""
    count: Annotated[int, Field(ge=2, le=8)] = 8
    """The last so many units in forward order; everything before them stays float. 4 widths ^ 8 = 65,536."""
    widths: Rising[Width] = Field(default=[3, 4, 5, 6], min_length=2, max_length=4)
    """Widths of a unit, from the study's menu."""
    budgets: list[PositiveFloat] = Field(min_length=1)
    """Bits over the units."""
    seeds: Seeds = [0]
    """Seeds of every search."""
    checkpoints: Rising[Count] = Field(default=[100, 300], min_length=1)
    """Evaluations at which a run is read; every evaluation is looked up in the enumeration."""
    text: Places = Places(windows=8, length=64)
    """Search text that every allocation is scored on."""


class FoldAblation(Section):
    """Scale Folding varied and nothing else: every quantizer on the weights of every fold, uniform widths."""

    models: Once[Name] = Field(min_length=1)
    """Models, by name in the registry."""
    folds: Once[MethodName] = Field(min_length=2)
    """Names in ``folds``, and ``none``, with which the others are compared. AWQ folds are searched at each row's own
    width where the fold says so (``own_width``)."""
    methods: Once[MethodName] = Field(default=["rtn", "gptq"], min_length=1)
    """Quantizers, or variants of them; the fold that their files name plays no part."""
    bits: Once[Width] = Field(default=[3, 4], min_length=1)
    """Widths of the rows."""
    heldout: Places = Places(windows=32, length=256)
    """Held-out windows that rows are compared on; they choose nothing."""
    partial: bool = False
    """Collect the rows that are there and start none."""


class Banks(Section):
    """Final rows over banks: draws of the calibration documents, their order and the windows of sensitivities."""

    models: Once[Name] = Field(min_length=1)
    """Models, by name in the registry."""
    draws: Once[Seed] = Field(default=[0, 1, 2, 3, 4], min_length=1)
    """Seeds of the draws; 0 is the model with the study's own windows, whose rows are the study's. Intervals over banks
    need two, and mean little with fewer than five."""
    methods: Once[MethodName] = Field(min_length=1)
    """Allocators and variants; with ``knapsack`` among them rows are compared with it."""
    budgets: list[PositiveFloat] = Field(min_length=1)
    """Bits, as in ``budgets``."""
    seeds: Seeds = [0]
    """Seeds of every search; methods in ``deterministic`` take the first."""
    uniform: Once[RowName] = []
    """Uniform rows on every bank, for instance ``awq_gptq-b4``."""
    same_allocation: Once[RowName] = []
    """Rows whose allocation on draw 0 (first seed) is quantized on every bank: the noise floor of a final row."""
    partial: bool = False
    """Collect the rows that are there and start none."""


class Tuning(Section):
    """Finished rows once more with their scales and norm gains tuned by KL to the float model, codes frozen."""

    models: Once[Name] = []
    """Models, by name in the registry. An empty list tunes nothing."""
    draws: Once[Seed] = Field(default=[0], min_length=1)
    """Draws of calibration text whose rows are tuned, as in ``banks``; 0 is the study's own. Intervals over banks need
    two."""
    rows: Once[RowName] = ["awq_gptq-b4", "knapsack-b3.65", "ramp-b3.65"]
    """Uniform and mixed rows of our quantizers, tuned alike; of the first seed. Mixed ones are compared with the
    smallest uniform one that is at least as large."""
    steps: Count = 60
    """Training steps of a row."""
    batch: Count = 4
    """Windows per step, of calibration and training text, none twice while there are new ones."""
    length: Count = 256
    """Tokens per window."""
    rate: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    """Largest step of a scale's relative change; it rises for a tenth of the steps and then falls to 0 as a cosine."""
    seed: Seed = 0
    """Seed of the order of windows."""
    on_request: bool = False
    """Tuned by ``snakemake tuning`` alone, and no part of ``snakemake all``."""
    partial: bool = False
    """Collect the rows that are there and start none."""


class Noise(Section):
    """The float model against its own reference under other conditions: what rounding alone moves."""

    models: Once[Name] = []
    """Models, by name in the registry. An empty list measures nothing."""
    on_request: bool = False
    """Measured by ``snakemake noise`` alone, and no part of ``snakemake all``."""


class Cell(Section):
    """Text of one cell of the leakage meter, by its distance from the held-out text."""

    calibration: Level
    """Text of statistics, folds, Hessians: of another source than the held-out text (``disjoint``), other documents of
    its source (``in_domain``), or the scored windows (``test``)."""
    search: Level
    """The same of the text of sensitivities, search and selection."""


class Leakage(Section):
    """Rows calibrated and searched nearer to the held-out text than the study's: what that gains."""

    models: Once[Name] = []
    """Models, by name in the registry. An empty list measures nothing."""
    draws: Once[Seed] = Field(default=[0], min_length=1)
    """Draws of calibration text, as in ``banks``; 0 is the study's own. Intervals over banks need two."""
    rows: Once[RowName] = ["awq_gptq-b4", "knapsack-b3.65"]
    """Uniform rows, in which the calibration alone leaks, and mixed ones; of the first seed."""
    cells: list[Cell] = Field(
        default=[
            Cell(calibration="disjoint", search="disjoint"),
            Cell(calibration="in_domain", search="in_domain"),
            Cell(calibration="disjoint", search="test"),
            Cell(calibration="test", search="test"),
        ],
        min_length=1,
    )
    """Cells of mixed rows beside the study's own; uniform rows have one for every calibration among them."""
    on_request: bool = False
    """Made by ``snakemake leakage`` alone, and no part of ``snakemake all``."""
    partial: bool = False
    """Collect the rows that are there and start none."""


class Gguf(Section):
    """GGUF files of ours at the bytes of llama.cpp's mixes, made of the same float file and scored beside them."""

    models: Once[Name] = []
    """Models, by name in the registry; rows that are multiples of 256 take every type. An empty list makes none."""
    mixes: Once[str] = Field(default=["Q3_K_M", "Q3_K_L", "IQ4_XS", "Q4_K_S", "Q4_K_M", "Q5_K_M"], min_length=1)
    """llama.cpp's mixes by its own names, each made with and without an importance matrix."""
    methods: Once[MethodName] = Field(default=["knapsack"], min_length=1)
    """Allocators that choose the types of our files, each beside every mix; one that searches scores ``evals``."""
    evals: Count = 100
    """Evaluations of a method that searches, for each file."""
    types: Once[str] = Field(default=list(MENU), min_length=1)
    """ggml types that our files choose from; IQ3_S, IQ3_XXS and IQ4_XS take most of the time of quantizing."""
    tokens: Count = 16384
    """Tokens of calibration text behind the importance matrix."""
    length: Count = 512
    """Tokens per window of it, and of held-out text; no more than the model's context."""
    windows: Count = 8
    """Windows of calibration text in the backward pass that prices the types."""
    window_length: Count = 256
    """Tokens per window of it."""
    heldout_windows: Count = 16
    """Windows of held-out text that files are compared on; they choose nothing."""
    tune_steps: Annotated[int, Field(ge=0)] = 0
    """Steps for which every file, mixes and ours alike, is tuned and stands beside the untuned one; 0: none."""
    partial: bool = False
    """Collect the models that are there and start none."""

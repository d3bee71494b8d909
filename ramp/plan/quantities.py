"""Quantities that the costs of jobs are computed from: sizes of models, tokens of texts, the configuration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ramp.methods.kinds import Allocator, Package, Quantizer, RtnParams
from ramp.methods.loader import parse_params
from ramp.study.draws import base_model
from ramp.study.model_shape import ModelShape, shape_of
from ramp.study.planned_rows import Plan

BYTES_PER_TOKEN = 4.1
"""Of the study's English texts, measured with SmolLM2's tokenizer: 4.0 to 4.2. Llama-2's makes some 12 % more."""

TEXT_TOKENS = {"calibration": 76_562, "train": 219_108, "search": 68_747, "selection": 38_011, "heldout": 120_700,
               "wikitext2": 303_415}  # fmt: skip
"""Tokens of the registry's texts by role, counted with SmolLM2's tokenizer; used until a text is there."""

TASKS = {
    "piqa": (1838, 2, 34),
    "hellaswag": (10042, 4, 86),
    "winogrande": (1267, 2, 22),
    "arc_easy": (2376, 4, 30),
    "arc_challenge": (1172, 4, 37),
}
"""Rows, requests per row and tokens per request of a task, counted on 200 rows with SmolLM2's tokenizer."""

OTHER_TASK = (2000, 4, 40)
"""The same of a task that is not in the table."""


@dataclass(frozen=True)
class Facts:
    """A study in numbers."""

    plan: Plan
    shapes: dict[str, ModelShape] = field(default_factory=dict)

    def shape(self, model: str) -> ModelShape:
        """Return the sizes of a model or of a draw of one; ``SizeUnknown`` where nothing tells them."""
        name = base_model(model)
        if name not in self.shapes:
            self.shapes[name] = shape_of(name, self.plan.registry, self.plan.study.results)
        return self.shapes[name]

    def half_bytes(self, shape: ModelShape) -> int:
        """Return the bytes of a model's weight in the dtype of evaluation and search."""
        return {"float32": 4, "bfloat16": 2, "checkpoint": shape.float_bytes}[self.plan.study.dtype]

    def is_source(self, model: str) -> bool:
        """Return whether the limits of the source model hold."""
        return base_model(model) == self.plan.study.source

    def calibration(self, model: str) -> tuple[int, int]:
        """Return (tokens, length of a window) of a model's calibration text."""
        section = self.plan.study.calibration
        tokens = section.tokens if self.is_source(model) else section.target_tokens or section.tokens
        return tokens, section.length

    def sensitivity(self, model: str) -> tuple[int, int]:
        """Return (tokens, length) of the text of additive sensitivities."""
        section = self.plan.study.sensitivity
        windows = section.windows if self.is_source(model) else section.target_windows or section.windows
        return windows * section.length, section.length

    def search(self) -> tuple[int, int, int]:
        """Return (search tokens, selection tokens, length) of one evaluation of the study's searches."""
        section = self.plan.study.search
        return (
            section.windows * section.length,
            (section.selection_windows or section.windows) * section.length,
            section.length,
        )

    def evals(self, model: str, method: str) -> int:
        """Return the evaluations of a search: one of a method that draws nothing, else what the depth allows."""
        if self.plan.base_of(method) in self.plan.study.deterministic:
            return 1
        limits = self.plan.study.limits
        return limits.evals if self.is_source(model) else limits.target_evals

    def text_tokens(self, text: str) -> int:
        """Return the tokens of a text: of its file where it is there, else as the registry's text was counted."""
        file = Path(self.plan.study.results, "texts", f"{text}.jsonl")
        if file.is_file():
            return int(file.stat().st_size / BYTES_PER_TOKEN)
        return TEXT_TOKENS.get(text, TEXT_TOKENS["wikitext2"])

    def evaluated(self, model: str, texts: Iterable[str] | None = None) -> tuple[int, int]:
        """Return (tokens, length) of the windows that a model's rows are scored on."""
        study = self.plan.study
        length = min(study.evaluation.length, self.shape(model).max_position_embeddings)
        limit = study.limits.windows if self.is_source(model) else study.limits.target_windows
        tokens = 0
        for text in self.plan.texts(model) if texts is None else texts:
            there = self.text_tokens(text) // length
            tokens += length * (there if limit is None else min(limit, there))
        return tokens, length

    def tasks(self) -> tuple[int, int]:
        """Return (requests, tokens) of all tasks of one row."""
        limit = self.plan.study.limits.task_limit
        counted = [TASKS.get(name, OTHER_TASK) for name in self.plan.study.tasks.names]
        requests = [(min(rows, limit or rows) * per_row, tokens) for rows, per_row, tokens in counted]
        return sum(count for count, _ in requests), sum(count * tokens for count, tokens in requests)

    def group_size(self, method: str) -> int:
        """Return the group size of a method's rows."""
        own = self.plan.method(method)
        return (own.group_size if isinstance(own, Quantizer) else None) or self.plan.study.group_size

    def calibrates(self, method: str) -> bool:
        """Return whether a method's rows need activations: all but plain rounding without a clip search."""
        own = self.plan.method(method)
        if isinstance(own, Quantizer):
            params = parse_params(own, self.plan.params(method))
            return own.quantizer != "rtn" or (isinstance(params, RtnParams) and params.clip != "none")
        return not isinstance(own, Allocator) or own.quantizer != "rtn"

    @property
    def bank_widths(self) -> int:
        """Number of widths of the menu."""
        return len(self.plan.study.widths)

    def stored_bytes(self, model: str, method: str, budget: str) -> int:
        """Return the bytes of a row's file: packed, or of a package with a grid of its own, float32 linears."""
        own = self.plan.method(method)
        if not isinstance(own, Package) or not own.footprint.dense:
            return self.row_bytes(model, method, budget)
        return 4 * self.shape(model).linear_params + self.shape(model).stored_tables(self.plan.study.track)

    def row_bytes(self, model: str, method: str, budget: str, track: str | None = None) -> int:
        """Return the bytes of a packed row: linears at the budget, embedding and head by the track."""
        shape = self.shape(model)
        packed = shape.packed_bytes(float(budget), self.group_size(method))
        return packed + shape.stored_tables(track or self.plan.study.track)

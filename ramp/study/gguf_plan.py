"""GGUF files at the bytes of llama.cpp's mixes: the study's ``gguf`` as jobs, one for each model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ramp.study.config import Study
from ramp.study.config_sections import Gguf
from ramp.study.record_files import Taken


@dataclass(frozen=True)
class GgufPlan:
    """All names and values that the rules of these files need."""

    study: Study

    @property
    def section(self) -> Gguf:
        """The section of the configuration."""
        return self.study.gguf

    @property
    def models(self) -> list[str]:
        """Models of the section."""
        return list(self.section.models)

    def folder(self, model: str) -> str:
        """Return the folder of a model's rows, checks and windows."""
        return f"{self.study.results}/gguf/{model}"

    def files(self) -> list[Taken]:
        """Return the models' rows; with ``partial`` those that are there, as they are."""
        partial = self.section.partial
        found = [f"{self.folder(model)}/rows.json" for model in self.models]
        return [(file, partial) for file in found if not partial or Path(file).is_file()]

    def options(self) -> list[str]:
        """Return mixes, methods, types and how much text there is, as options of ``ramp.sized_gguf.against_mixes``."""
        section = self.section
        words = ["--mix", *section.mixes, "--method", *section.methods, "--types", *section.types]
        for key in ("evals", "tokens", "length", "windows", "window_length", "heldout_windows", "tune_steps"):
            words += [f"--{key.replace('_', '-')}", str(getattr(section, key))]
        params = {name: self.study.params[name] for name in section.methods if name in self.study.params}
        return [*words, "--params", json.dumps(params, sort_keys=True)] if params else words

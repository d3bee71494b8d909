"""The metadata of a model card as a hub reads them, with scores as evaluation results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

TAGS = ("gguf", "mixed-precision")


@dataclass(frozen=True)
class Score:
    """One evaluation result as the hub's metadata have it."""

    dataset: str  # name of the text
    type: str  # of the measure, e.g. kl-divergence
    name: str  # of the measure in words
    value: float
    config: str  # windows and length


def hub_metadata(name: str, scores: Sequence[Score], base: str = "") -> str:
    """Return a card's metadata between their marks; ``base`` is a repository of the hub, or empty."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type="text",
            dataset_name=each.dataset,
            metric_type=each.type,
            metric_value=each.value,
            metric_name=each.name,
            metric_config=each.config,
        )
        for each in scores
    ]
    about: dict[str, Any] = {"base_model": base} if base else {}
    if results:  # without any the hub is to find no list of results, not an empty one
        about |= {"model_name": name, "eval_results": results}
    data = ModelCardData(pipeline_tag="text-generation", tags=list(TAGS), **about)
    return f"---\n{data.to_yaml()}\n---"


MEASURES = {
    "kl": ("kl-divergence", "KL divergence to the float model, nats per token"),
    "ppl": ("perplexity", "perplexity"),
}
"""Column of a metrics file -> type and name of the measure on a hub."""

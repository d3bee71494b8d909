"""Titles of methods, models, texts and roles in tables and figures, and their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ramp.methods.names import trained_by, transferred
from ramp.quantizers.widths import Width, parse_width

if TYPE_CHECKING:
    import pandas as pd

METHODS: dict[str, str] = {
    "released": "released file",
    "float": "float",
    "rtn": "RTN",
    "gptq": "GPTQ",
    "awq": "AWQ",
    "awq_gptq": "AWQ + GPTQ",
    "gptq_g64": "GPTQ, groups of 64",
    "gptq_g32": "GPTQ, groups of 32",
    "awq_gptq_g64": "AWQ + GPTQ, groups of 64",
    "awq_gptq_g32": "AWQ + GPTQ, groups of 32",
    "uniform": "uniform",
    "gptqmodel_gptq": "GPTQ (gptqmodel)",
    "autogptq_gptq": "GPTQ (auto-gptq)",
    "llmcompressor_gptq": "GPTQ (llmcompressor)",
    "gptqmodel_awq": "AWQ (gptqmodel)",
    "autoawq_awq": "AWQ (autoawq)",
    "hqq_proximal": "HQQ",
    "autoround": "AutoRound",
    "random_search": "random search",
    "role_depth": "role and depth",
    "evolution": "evolution",
    "annealing": "annealing",
    "greedy_kl": "greedy by measured KL",
    "knapsack_error_plain": "error knapsack",
    "knapsack_error": "HIGGS knapsack",
    "knapsack_kl": "measured-KL knapsack",
    "knapsack": "Fisher knapsack",
    "ppo": "PPO",
    "sac_discrete": "SAC, discrete",
    "sac_continuous": "SAC, continuous",
    "ramp_paper": "RAMP (paper)",
    "ramp": "RAMP (ours)",
    "role_depth_transfer": "role and depth, transferred",
    "ramp_paper_transfer": "RAMP (paper), transferred",
    "ramp_transfer": "RAMP (ours), transferred",
    "q3_k_m": "llama.cpp Q3_K_M",
    "q3_k_m_imatrix": "llama.cpp Q3_K_M, imatrix",
    "q4_k_s": "llama.cpp Q4_K_S",
    "q4_k_s_imatrix": "llama.cpp Q4_K_S, imatrix",
    "q4_k_m": "llama.cpp Q4_K_M",
    "q4_k_m_imatrix": "llama.cpp Q4_K_M, imatrix",
}
"""Titles of the methods known here, in table order; others are shown by their own name after these."""

RAMP_METHODS = ("ramp_paper", "ramp")
"""The learned search: as far as the paper is known, and our default."""

TRANSFERRED = tuple(transferred(method) for method in RAMP_METHODS)
"""Its policies on models that they were not trained on."""

MOVED_TABLE = transferred("role_depth")
"""Their rival on these models: ten numbers for role and depth, transferred as well."""

LEARNED_RIVALS = ("ppo", "sac_discrete", "sac_continuous")
"""Learners from scratch."""

SEARCH_METHODS = ("random_search", "role_depth", "evolution", "annealing", *LEARNED_RIVALS, *RAMP_METHODS)
"""Methods that spend evaluations on search text."""

UNIFORM_METHODS = ("rtn", "gptq", "awq", "awq_gptq", "uniform")
"""Methods that give every linear the same width."""

REFERENCE_BITS = 4.0
"""Budget of the uniform rows that others are measured by."""

CONTROL_METHODS = ("gptq_g64", "gptq_g32", "awq_gptq_g64", "awq_gptq_g32")
"""Uniform methods with groups smaller than the study's: controls at equal bytes, without a claim."""

STATIC_MIXES = tuple(method for method in METHODS if method.startswith(("q3_k", "q4_k")))
"""Mixes of types that llama.cpp chooses by its own rules: no budget of ours."""

MODELS: dict[str, str] = {
    "smollm2-135m": "SmolLM2-135M-Instruct",
    "qwen2.5-coder-0.5b": "Qwen2.5-Coder-0.5B-Instruct",
    "gemma3-270m": "Gemma-3-270M",
    "llama-2-7b": "Llama-2-7B",
    "llama-2-13b": "Llama-2-13B",
    "llama-3-8b": "Llama-3-8B",
    "mistral-7b-v0.1": "Mistral-7B-v0.1",
}

TEXTS: dict[str, str] = {"heldout": "held-out text", "wikitext2": "WikiText-2 test"}

TASKS: dict[str, str] = {
    "piqa": "PIQA",
    "hellaswag": "HellaSwag",
    "winogrande": "WinoGrande",
    "arc_easy": "ARC-easy",
    "arc_challenge": "ARC-challenge",
    "boolq": "BoolQ",
    "openbookqa": "OpenBookQA",
}

ROLES = ("q", "k", "v", "o", "gate", "up", "down")
"""Roles of the linears of a decoder block in forward order (as ``ramp.models.architecture.ROLES``, without its
imports)."""


def method_title(method: str) -> str:
    """Return the title of a method; a user's own method has its file's name."""
    if method in METHODS:
        return METHODS[method]
    source = trained_by(method)
    return f"{method_title(source)}, transferred" if source else method


def method_rank(method: str) -> tuple[int, str]:
    """Sort key: known methods in the order of ``METHODS``, then the others by name."""
    known = list(METHODS)
    return (known.index(method) if method in known else len(known), method)


def variant_title(title: str) -> str:
    """Return a variant's title as tables write it: its first word in lower case, unless it is an acronym."""
    first, _, rest = title.partition(" ")
    return f"{first.lower() if first.istitle() else first} {rest}".rstrip()


def model_title(model: str) -> str:
    """Return the full name of a model, or its short name where no other is known."""
    return MODELS.get(model, model)


def text_title(text: str) -> str:
    """Return the name of a text in a sentence."""
    return TEXTS.get(text, text)


def task_title(task: str) -> str:
    """Return the name of a task in its own paper."""
    return TASKS.get(task, task)


def bits_title(bits: float) -> str:
    """Return a budget without needless zeros: 4 or 3.65."""
    return f"{bits:g}"


def width_names(allocations: pd.DataFrame) -> list[Width]:
    """Return the width of every row as menus write it: bits, and the group size that ``type`` may name."""
    groups = allocations["type"].str.partition("affine-")[2]
    return [parse_width(f"{bits:g}{group}") for bits, group in zip(allocations["bits"], groups, strict=True)]

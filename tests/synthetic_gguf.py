"""Made-up files beside mixes of llama.cpp, with the shape of those that ``ramp.sized_gguf.against_mixes`` leaves."""

from __future__ import annotations

from typing import Any

from tests.synthetic_records import SOURCE

MIXES = {"Q3_K_M": (80_000_000, 0.20), "Q4_K_M": (100_000_000, 0.05)}
"""Bytes of the file, and its KL with a matrix; without one it is 1.5 times as high."""

OURS = 0.8
"""KL of our file over that of the mix with a matrix."""

SPEED = {"prompt_tokens_per_s": 900.0, "generation_tokens_per_s": 60.5, "peak_rss_bytes": 400_000_000}
WITHOUT_RIVAL = dict.fromkeys(("rival", "rival_bytes_file", "rival_kl", "kl_ratio", "ratio_low", "ratio_high"))


def file_row(file: str, method: str, matrix: bool, size: int, kl: float, model: str = SOURCE) -> dict[str, Any]:
    """One file without a rival."""
    return {
        "model": model, "file": file, "method": method, "matrix": matrix, "tuned": False, "bytes_file": size, "kl": kl,
        "kl_low": 0.9 * kl, "kl_high": 1.1 * kl, "ppl_ratio": 1 + kl, "top1": 0.9, **SPEED, **WITHOUT_RIVAL,
    }  # fmt: skip


def gguf_rows(model: str = SOURCE) -> list[dict[str, Any]]:
    """The rows of one model: two mixes with and without a matrix, and ours beside each."""
    rows = []
    for mix, (size, kl) in MIXES.items():
        for suffix, matrix in (("", True), ("-plain", False)):
            theirs = file_row(f"{mix}{suffix}.gguf", mix, matrix, size, kl if matrix else 1.5 * kl, model)
            ours = file_row(f"knapsack-{size}.gguf", "knapsack", True, size - 32, OURS * kl, model)
            ratio = ours["kl"] / theirs["kl"]
            beside = {"rival": theirs["file"], "rival_bytes_file": size, "rival_kl": theirs["kl"], "kl_ratio": ratio}
            rows += [theirs, ours | beside | {"ratio_low": ratio - 0.1, "ratio_high": ratio + 0.25 * matrix}]
    return rows


def gguf_checks(failed: str | None = None) -> list[dict[str, Any]]:
    """The checks of our files; of the check named ``failed`` none holds."""
    values = {"types_differ": (0.0, 0.0), "perplexity_difference": (0.012, 0.03)}
    return [
        {"file": f"knapsack-{size}.gguf", "check": check, "value": value, "limit": limit, "ok": check != failed}
        for size, _ in MIXES.values()
        for check, (value, limit) in values.items()
    ]


def gguf_records(*models: str, failed: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """Both tables of the records."""
    names = models or (SOURCE,)
    return {
        "gguf": [row | {"rival": row["rival"] or "none"} for model in names for row in gguf_rows(model)],
        "gguf_checks": [{"model": model} | check for model in names for check in gguf_checks(failed)],
    }

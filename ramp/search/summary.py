"""A finished search in a few lines of plain text: ``summary.txt`` beside its episodes, and the end of its log."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from ramp.quantizers.widths import bits_of, make_menu


def summary(record: dict[str, Any]) -> str:
    """An allocation's record (``ramp.problem.allocation``) as a block of lines, each ending in a newline."""

    def number(key: str) -> str:
        return "not measured" if record[key] is None else f"{record[key]:.5f}"

    bits = record["bits"]
    counts = Counter(bits.values())
    menu = make_menu(counts, record["group_size"])
    spread = ", ".join(f"{counts[width]} at {width} bits" for width in menu)
    mean = np.mean([bits_of(width) for width in bits.values()])
    left = record["budget_bytes"] - record["bytes_linear"]
    lines = [
        f"{record['method']} on {record['model']} at {record['budget_bits']:g} bits, seed {record['seed']}",
        f"bytes of linears    {record['bytes_linear']} of {record['budget_bytes']} ({left} left)",
        f"widths              {spread}; mean over linears {mean:.3f}",
        f"KL on search text   {number('kl_search')} nats per token (start {number('kl_start')}, "
        f"policy {number('kl_policy')})",
        f"KL on selection     {number('kl_selection')} nats per token (start {number('kl_start_selection')})",
        f"reported            {described(record)}",
        f"cost                {record['search_evals']} evaluations, {record['search_tokens']} forward tokens "
        f"({record['proxy_tokens']} of them sensitivities), {record['search_wall_s']:.0f} s",
    ]
    if record["notes"]:
        lines.append(f"note                {record['notes']}")
    return "".join(f"{line}\n" for line in lines)


def described(record: dict[str, Any]) -> str:
    """Which of its allocations a search reports."""
    same = record["start_bits"] is not None and record["bits"] == record["start_bits"]
    if record["kind"] == "proxy":
        return "the proxy's own allocation, no search"
    if record["kind"] == "policy":
        return "the policy's greedy allocation"
    return "the warm start" if same else "the best allocation found, chosen on selection text"

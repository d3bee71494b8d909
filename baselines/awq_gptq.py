"""Uniform GPTQ after AWQ's scale search: the strongest uniform row, and what the mixed rows are quantized with.

Its variants spend bytes on smaller groups, as controls at equal bytes.
"""

from ramp.methods.kinds import GptqParams, Quantizer

METHOD = Quantizer(
    title="AWQ + GPTQ",
    source="scales of arXiv:2306.00978, rounding of arXiv:2210.17323",
    fold="awq",
    quantizer="gptq",
    params=GptqParams,
)

VARIANTS = {
    "awq_gptq_g64": {"title": "AWQ + GPTQ, groups of 64", "group_size": 64},
    "awq_gptq_g32": {"title": "AWQ + GPTQ, groups of 32", "group_size": 32},
}

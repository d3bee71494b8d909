"""Uniform GPTQ after AWQ's scale search: the strongest uniform row, and what the mixed rows are quantized with."""

from ramp.methods.kinds import GptqParams, Quantizer

METHOD = Quantizer(
    name="awq_gptq",
    title="AWQ + GPTQ",
    source="scales of arXiv:2306.00978, rounding of arXiv:2210.17323",
    fold="awq",
    quantizer="gptq",
    params=GptqParams,
)

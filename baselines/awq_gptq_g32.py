"""Control at equal bytes: AWQ + GPTQ with groups of 32, which spend on scales what mixed rows spend on widths."""

from ramp.methods.kinds import GptqParams, Quantizer

METHOD = Quantizer(
    name="awq_gptq_g32",
    title="AWQ + GPTQ, groups of 32",
    source="scales of arXiv:2306.00978, rounding of arXiv:2210.17323",
    fold="awq",
    quantizer="gptq",
    params=GptqParams,
    group_size=32,
)

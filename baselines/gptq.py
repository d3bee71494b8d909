"""Uniform GPTQ on the unfolded model."""

from ramp.methods.kinds import GptqParams, Quantizer

METHOD = Quantizer(
    name="gptq",
    title="GPTQ",
    source="Frantar et al. 2022, arXiv:2210.17323",
    fold="none",
    quantizer="gptq",
    params=GptqParams,
)

"""Uniform GPTQ on the unfolded model; its variants spend bytes on smaller groups, as controls at equal bytes."""

from ramp.methods.kinds import GptqParams, Quantizer

METHOD = Quantizer(
    title="GPTQ",
    source="Frantar et al. 2022, arXiv:2210.17323",
    fold="none",
    quantizer="gptq",
    params=GptqParams,
)

VARIANTS = {
    "gptq_g64": {"title": "GPTQ, groups of 64", "group_size": 64},
    "gptq_g32": {"title": "GPTQ, groups of 32", "group_size": 32},
}

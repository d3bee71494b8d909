"""Control at equal bytes: GPTQ with groups of 64, which spend on scales what mixed rows spend on widths."""

from ramp.methods.kinds import GptqParams, Quantizer

METHOD = Quantizer(
    name="gptq_g64",
    title="GPTQ, groups of 64",
    source="Frantar et al. 2022, arXiv:2210.17323",
    fold="none",
    quantizer="gptq",
    params=GptqParams,
    group_size=64,
)

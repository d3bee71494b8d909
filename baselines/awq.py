"""Uniform AWQ: scale search folded into the float model, then round-to-nearest with a clip search."""

from typing import Literal

from pydantic import Field

from ramp.methods.kinds import Quantizer, RtnParams


class Params(RtnParams):
    """AWQ clips; everything else of it is in the fold."""

    clip: Literal["none", "mse"] = Field(
        default="mse", description="shrink each group's range to least output error on calibration text, or not"
    )


METHOD = Quantizer(
    title="AWQ",
    source="Lin et al. 2023, arXiv:2306.00978",
    fold="awq",
    quantizer="rtn",
    params=Params,
)

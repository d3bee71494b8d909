"""Uniform round-to-nearest on the affine grid: the floor of every comparison."""

from ramp.methods.kinds import Quantizer, RtnParams

METHOD = Quantizer(
    title="RTN",
    source="round to nearest, min-max range",
    fold="none",
    quantizer="rtn",
    params=RtnParams,
)

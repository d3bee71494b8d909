"""RAMP and what it stands on: one module per stage, in the order in which data passes."""

__version__ = "0.1.0"

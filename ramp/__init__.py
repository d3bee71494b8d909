"""RAMP and what it stands on: one package per step, in the order in which data passes (docs/architecture.md)."""

__version__ = "0.1.0"

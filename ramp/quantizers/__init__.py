"""Quantizers of one linear, their packed formats, and sizes in bytes."""

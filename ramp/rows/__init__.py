"""Quantized rows: made sequentially, packed, stored, read."""

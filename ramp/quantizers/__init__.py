"""Grids and rounding: affine codes, their packing, RTN, GPTQ, AWQ and the ggml block types."""

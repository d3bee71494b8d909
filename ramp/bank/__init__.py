"""The bank: every linear at every width, quantized once."""

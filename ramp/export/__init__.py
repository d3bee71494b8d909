"""HALO: export an allocation to GGUF and check the file."""

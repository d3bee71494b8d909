"""Names, vocabulary and reader of GGUF files."""

"""A model as a GGUF file of the size that is asked for: types of its tensors chosen under a budget of bytes."""

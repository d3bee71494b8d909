"""llama.cpp's static mix Q4_K_M, without importance matrix."""

from ramp.methods.kinds import Mix

METHOD = Mix(
    name="q4_k_m",
    title="llama.cpp Q4_K_M",
    source="llama.cpp (ggml-org/llama.cpp), llama_model_quantize",
    file_type="Q4_K_M",
    bits=4,
    importance=False,
)

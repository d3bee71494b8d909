"""llama.cpp's static mix Q3_K_M, without importance matrix."""

from ramp.methods.kinds import Mix

METHOD = Mix(
    name="q3_k_m",
    title="llama.cpp Q3_K_M",
    source="llama.cpp (ggml-org/llama.cpp), llama_model_quantize",
    file_type="Q3_K_M",
    bits=3,
    importance=False,
)

"""llama.cpp's static mix Q3_K_M, with an importance matrix from the calibration text."""

from ramp.methods.kinds import Mix

METHOD = Mix(
    name="q3_k_m_imatrix",
    title="llama.cpp Q3_K_M + imatrix",
    source="llama.cpp (ggml-org/llama.cpp), llama_model_quantize",
    file_type="Q3_K_M",
    bits=3,
    importance=True,
)

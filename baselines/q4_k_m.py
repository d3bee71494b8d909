"""llama.cpp's static mixes: three of them, each without and with an importance matrix from the calibration text."""

from ramp.methods.kinds import Mix

METHOD = Mix(
    title="llama.cpp Q4_K_M",
    source="llama.cpp (ggml-org/llama.cpp), llama_model_quantize",
    file_type="Q4_K_M",
    bits=4,
)

VARIANTS = {
    "q4_k_m_imatrix": {"title": "llama.cpp Q4_K_M + imatrix", "importance": True},
    "q4_k_s": {"title": "llama.cpp Q4_K_S", "file_type": "Q4_K_S"},
    "q4_k_s_imatrix": {"title": "llama.cpp Q4_K_S + imatrix", "file_type": "Q4_K_S", "importance": True},
    "q3_k_m": {"title": "llama.cpp Q3_K_M", "file_type": "Q3_K_M", "bits": 3},
    "q3_k_m_imatrix": {"title": "llama.cpp Q3_K_M + imatrix", "file_type": "Q3_K_M", "bits": 3, "importance": True},
}

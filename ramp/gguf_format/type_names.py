"""Names of the ggml types that a file of ours may have, and of llama.cpp's mixes of types. Data alone, no imports."""

MENU = (
    "Q2_K", "IQ3_XXS", "Q3_K", "IQ3_S", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_K", "Q5_0", "Q5_K", "Q6_K", "Q8_0",
)  # fmt: skip
"""Types of the default menu, by bits per weight. Q4_1 and Q5_1 are left out: a float minimum per 32
weights reproduces the grid of a checkpoint that was released as Q4_1, as SmolLM2 was."""

MIXES = (
    "IQ2_XXS", "IQ2_XS", "Q2_K", "IQ3_XXS", "Q3_K_S", "Q3_K_M", "Q3_K_L", "IQ4_XS", "Q4_K_S", "Q4_K_M", "Q5_K_S",
    "Q5_K_M", "Q6_K", "Q8_0",
)  # fmt: skip
"""llama.cpp's mixes in the order of their sizes where every row takes K-quants."""

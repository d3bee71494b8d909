"""From a released GGUF file to a Hugging Face checkpoint folder in float32.

The weights are what the file's blocks de-quantize to: a "released checkpoint, de-quantized", never the float
model that it was made from.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from ramp.core.cli import log
from ramp.core.errors import RampError
from ramp.models.folder import ModelFolder
from ramp.models.save_folder import save_model, save_tokenizer

GGUF_LINEARS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
"""llama.cpp's names of the seven linears of a block (gguf.constants, MODEL_TENSOR)."""


class GgufError(RampError):
    """A GGUF file cannot be read, or is not what its name says."""


def file_facts(path: Path) -> dict[str, Any]:
    """Sizes and types from the file's own header.

    ``linears_bytes``: bytes of all decoder linears; ``params``: all weights; ``format``: types of the
    linears, most bytes first, joined by "/"; ``embedding`` and ``head``: type names (``head`` None: tied).
    """
    from gguf import GGUFReader

    try:
        tensors = GGUFReader(str(path)).tensors
    except Exception as error:  # the reader raises ValueError, IndexError, OSError and more on damaged files
        raise GgufError(f"{path} is not a readable GGUF file ({error}): delete it and fetch it again") from None
    types = {tensor.name: tensor.tensor_type.name for tensor in tensors}
    weights = [t for t in tensors if t.name.startswith("blk.") and t.name.split(".")[2] in GGUF_LINEARS]
    linears = [t for t in weights if t.name.endswith(".weight")]
    if not linears:
        raise GgufError(f"{path} holds none of the linears {', '.join(GGUF_LINEARS)}: not a decoder that ramp knows")
    by_type: dict[str, int] = {}
    for tensor in linears:
        by_type[types[tensor.name]] = by_type.get(types[tensor.name], 0) + int(tensor.n_bytes)
    return {
        "linears_bytes": sum(by_type.values()),
        "params": sum(int(tensor.n_elements) for tensor in tensors),
        "format": "/".join(sorted(by_type, key=lambda name: -by_type[name])),
        "embedding": types.get("token_embd.weight"),
        "head": types.get("output.weight"),
    }


def convert(gguf_path: Path, out_dir: Path) -> None:
    """Write config.json, model.safetensors (float32) and the tokenizer's files into the existing ``out_dir``.

    transformers reads the file (undoing llama.cpp's row permutation of q and k for the Llama class). The model
    that it gives refuses ``save_pretrained``, so ``ramp.models.save_folder`` writes it. Raises
    ``GgufError`` where the folder does not read back with the shapes of its configuration.
    """
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # transformers draws a bar of its own while it de-quantizes
    import torch
    from transformers import AutoModelForCausalLM

    log.info("de-quantizing %s to float32", gguf_path.name)
    where = {"pretrained_model_name_or_path": str(gguf_path.parent), "gguf_file": gguf_path.name}
    try:
        model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, local_files_only=True)
    except (ValueError, KeyError, OSError, NotImplementedError) as error:
        raise GgufError(f"transformers cannot load {gguf_path} ({' '.join(str(error).split())[:200]})") from None
    save_model(model, out_dir)
    save_tokenizer(read_tokenizer(gguf_path), out_dir)
    written = ModelFolder(out_dir)
    written.check_linears()
    if not all(bool(torch.isfinite(written.reader.get(name)).all()) for name in written.reader.names()):
        raise GgufError(f"{gguf_path} de-quantizes to values that are not finite: delete it and fetch it again")


def read_tokenizer(gguf_path: Path) -> Any:
    """The file's tokenizer, with the pre-tokenizer that the file names.

    For ``tokenizer.ggml.pre = smollm`` transformers builds GPT-2's pre-tokenizer; llama.cpp (and the released
    model) split digits first. On 400,000 characters of Wikipedia that gave 107,109 tokens against llama.cpp's
    107,107; with ``Digits`` in front the two agree exactly. Qwen2's agrees as it is.
    """
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(gguf_path.parent), gguf_file=gguf_path.name, local_files_only=True)
    field = GGUFReader(str(gguf_path)).get_field("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    return tokenizer

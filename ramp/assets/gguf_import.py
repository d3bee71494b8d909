"""From a released GGUF file to a Hugging Face checkpoint folder in float32.

The weights are the file's de-quantized blocks, not those of the float model that the file was made from.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Any

from ramp.assets.fetched import require_room
from ramp.core.cli import log
from ramp.gguf.names import GgufError, gguf_tensors
from ramp.gguf.reader import GgufFile
from ramp.models.folder import ModelFolder
from ramp.models.save_folder import save_model, save_tokenizer


def import_gguf(path: Path, out_dir: Path, name: str) -> dict[str, Any]:
    """Write config.json, model.safetensors (float32) and the tokenizer's files into the existing ``out_dir``.

    Returns ``released_bytes`` (the file), ``linears_released_bytes`` and ``released_format``: types of the linears,
    most bytes first, joined by "/". transformers reads the file and undoes llama.cpp's row order of q and k. Its model
    refuses ``save_pretrained``, so ``ramp.models.save_folder`` writes it. Raises ``GgufError`` for a file that is not
    readable or holds values that are not finite, ``FetchError`` where the disk is too small.
    """
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # transformers draws a bar of its own while it de-quantizes
    import torch
    from transformers import AutoModelForCausalLM

    file = GgufFile(path)
    require_room(out_dir, 4 * sum(math.prod(file.shape(tensor)) for tensor in file.names()), name)
    log.info("de-quantizing %s to float32", path.name)
    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, local_files_only=True)
    except (ValueError, KeyError, OSError, NotImplementedError) as error:
        raise GgufError(f"transformers cannot load {path} ({' '.join(str(error).split())[:200]})") from None
    save_model(model, out_dir)
    save_tokenizer(read_tokenizer(path, file), out_dir)
    written = ModelFolder(out_dir)
    written.check_linears()
    config, reader = written.config, written.reader
    if not all(bool(torch.isfinite(reader.get(tensor)).all()) for tensor in reader.names()):
        raise GgufError(f"{path} de-quantizes to values that are not finite: delete it and fetch it again")
    linears = {tensor.name for tensor in gguf_tensors(config) if tensor.linear}
    by_type: dict[str, int] = {}
    for tensor in file.names():
        if tensor in linears:
            by_type[file.type(tensor)] = by_type.get(file.type(tensor), 0) + file.raw(tensor).nbytes
    return {
        "released_bytes": path.stat().st_size,
        "released_format": "/".join(sorted(by_type, key=lambda kind: -by_type[kind])),
        "linears_released_bytes": sum(by_type.values()),
    }


def read_tokenizer(path: Path, file: GgufFile) -> Any:
    """Return the file's tokenizer, with the pre-tokenizer that the file names.

    For ``tokenizer.ggml.pre = smollm`` transformers builds GPT-2's pre-tokenizer; llama.cpp and the released model
    split digits first. On 400,000 characters of Wikipedia that gave 107,109 tokens against llama.cpp's 107,107; with
    ``Digits`` in front the two agree exactly. Qwen2's needs no correction.
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name, local_files_only=True)
    if file.metadata("tokenizer.ggml.pre") == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    return tokenizer

"""Writing a Hugging Face checkpoint folder that transformers 5 and 4 read alike.

Baselines with environments of their own may have transformers 4 (auto-gptq needs 4.53): it ignores version 5's
nested ``rope_parameters`` and would use rope_theta = 10000, and it does not know version 5's name of the plain fast
tokenizer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.core.atomic_files import read_json
from ramp.core.errors import RampError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

PROBE = "In 1999 it cost $12,345.67.\n\n\tNaïve 日本 — isn't   it?\n"
"""Digits, blanks, newlines and other scripts: where pre-tokenizers differ."""


def save_model(model: PreTrainedModel, out_dir: Path) -> None:
    """Write config.json, generation_config.json and one model.safetensors; a tied head is left out.

    Unlike ``save_pretrained`` it also takes models loaded from GGUF, which refuse as "quantized with gguf".
    """
    from safetensors.torch import save_file

    state: dict[str, torch.Tensor] = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)  # the same memory as the embedding
    weights = out_dir / "model.safetensors"
    save_file(state, weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # safetensors makes it readable for its owner alone
    save_config(model.config, out_dir)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(out_dir)


def save_config(config: PretrainedConfig, out_dir: Path) -> None:
    """Write config.json without the released quantization, and with ``rope_theta`` at the top level too."""
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.save_pretrained(out_dir)
    file = out_dir / "config.json"
    written = read_json(file, dict[str, Any])
    theta = (written.get("rope_parameters") or {}).get("rope_theta")
    if theta is not None:
        written["rope_theta"] = theta
    file.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def save_tokenizer(tokenizer: Any, out_dir: Path) -> None:
    """Write the tokenizer's files; raises ``RampError`` if they read back as another tokenizer."""
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(out_dir)
    file = out_dir / "tokenizer_config.json"
    written = json.loads(file.read_text(encoding="utf-8"))  # just now, with lengths of more than 64 bits
    settings = {key: value for key, value in written.items() if "local" not in key}
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    file.write_text(json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    again = AutoTokenizer.from_pretrained(out_dir, local_files_only=True)
    if again(PROBE)["input_ids"] != tokenizer(PROBE)["input_ids"]:
        raise RampError(f"the tokenizer in {out_dir} does not survive saving: its class is not supported")

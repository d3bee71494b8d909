"""Shrunken replicas of the four models of the paper and of its texts, in the files that the hub has of them.

Keys of config.json, names and dtype of tensors, number of shards, kind of tokenizer and the files beside them are the
originals'; sizes are not, and weights are random. ``serve`` puts them on a stand-in hub (tests/hub.py).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from ramp.assets.registry import RESOLVE, HubSource, Registry
from tests.hub import Hub
from tests.replica_tokenizers import llama_3_files, llama_3_special_tokens, sentencepiece_files, write

REPO = Path(__file__).resolve().parents[1]
TOKEN = "hf_replica"
"""The token that may read the gated ones."""

GATED = "meta-llama/"


@dataclass(frozen=True)
class Replica:
    """Copy of a model (``config``, ``dtype``, ``shards``, ``files``), with some values shrunken (``sizes``)."""

    tokenizer: str  # "llama-2", "mistral" or "llama-3"
    vocabulary: int  # pieces that the tokenizer is trained to
    sizes: dict[str, int]
    config: dict[str, Any]
    dtype: str
    shards: int
    files: Sequence[str]  # beside the safetensors, with content that nobody reads
    generation: dict[str, Any]
    inverse_frequencies: bool = False  # a buffer that early checkpoints of Llama-2 hold in every block


LLAMA_2 = {
    "_name_or_path": "meta-llama/Llama-2-7b-hf",
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "transformers_version": "4.31.0.dev0",
    "use_cache": True,
}
MISTRAL = {
    "architectures": ["MistralForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 32768,
    "model_type": "mistral",
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.34.0.dev0",
    "use_cache": True,
}
LLAMA_3 = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 8192,
    "model_type": "llama",
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.40.0.dev0",
    "use_cache": True,
}
SAMPLED = {"_from_model_config": True, "do_sample": True, "max_length": 4096, "temperature": 0.6, "top_p": 0.9}
BESIDE_LLAMA_2 = ("LICENSE.txt", "README.md", "USE_POLICY.md", "pytorch_model.bin.index.json")


def sizes(hidden: int, intermediate: int, layers: int, heads: int, shared_heads: int) -> dict[str, int]:
    """Sizes in the configuration's words; ``shared_heads`` are those of keys and values."""
    found = {"hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers}
    return {**found, "num_attention_heads": heads, "num_key_value_heads": shared_heads}


REPLICAS = {
    "llama-2-7b": Replica(
        "llama-2",
        512,
        sizes(256, 512, 2, 4, 4),
        LLAMA_2,
        "float16",
        2,
        [*BESIDE_LLAMA_2, *(f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2))],
        {**SAMPLED, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        inverse_frequencies=True,
    ),
    "llama-2-13b": Replica(
        "llama-2",
        512,
        sizes(512, 1024, 2, 8, 8),
        LLAMA_2,
        "float16",
        3,
        [*BESIDE_LLAMA_2, *(f"pytorch_model-0000{i}-of-00003.bin" for i in (1, 2, 3))],
        {**SAMPLED, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        inverse_frequencies=True,
    ),
    "mistral-7b-v0.1": Replica(
        "mistral",
        640,
        sizes(256, 768, 2, 8, 2),
        MISTRAL,
        "bfloat16",
        2,
        ["README.md", "pytorch_model.bin.index.json", *(f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2))],
        {"_from_model_config": True, "bos_token_id": 1, "eos_token_id": 2},
    ),
    "llama-3-8b": Replica(
        "llama-3",
        768,
        sizes(256, 768, 2, 8, 2),
        LLAMA_3,
        "bfloat16",
        4,
        ["LICENSE", "README.md", "USE_POLICY.md", "original/consolidated.00.pth", "original/tokenizer.model"],
        SAMPLED,
    ),
}


@cache
def corpus() -> str:
    """Text that is here without a network: this project's own pages."""
    return "\n".join(page.read_text(encoding="utf-8") for page in sorted([*REPO.glob("*.md"), *REPO.glob("docs/*.md")]))


def make_replica(name: str, folder: Path) -> Path:
    """Write a replica's repository into a new folder."""
    replica = REPLICAS[name]
    folder.mkdir(parents=True)
    if replica.tokenizer == "llama-3":
        vocabulary = llama_3_files(folder, corpus(), replica.vocabulary)
        first = vocabulary - len(llama_3_special_tokens())
        ends = {"bos_token_id": first, "eos_token_id": first + 1}
        generation = {**replica.generation, "bos_token_id": first, "eos_token_id": [first + 1, first + 9]}
    else:
        legacy = replica.tokenizer == "mistral"
        vocabulary = sentencepiece_files(folder, corpus(), replica.vocabulary, legacy=legacy)
        ends, generation = {}, replica.generation
    config = {**replica.config, **replica.sizes, **ends, "vocab_size": vocabulary}
    write(folder / "config.json", config)
    write(folder / "generation_config.json", {**generation, "transformers_version": config["transformers_version"]})
    write_weights(folder, replica, seed=list(REPLICAS).index(name))
    for file in replica.files:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(b"nobody reads this file of the replica")
    return folder


def write_weights(folder: Path, replica: Replica, seed: int) -> None:
    """Write shards and index; a random model whose every part matters, as in tests/conftest.py."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    dtype = getattr(torch, replica.dtype)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in sorted(model.state_dict().items()):
        drawn = torch.randn(tensor.shape, generator=generator)
        gain = torch.rand(tensor.shape, generator=generator) + 0.5
        scale = 0.25 if "embed" in name else tensor.shape[-1] ** -0.5
        state[name] = (gain if "norm" in name else scale * drawn).to(dtype)
    if replica.inverse_frequencies:
        half = torch.arange(0, replica.sizes["hidden_size"] // replica.sizes["num_attention_heads"], 2).float()
        inverse = 10000 ** -(half / (2 * len(half)))
        for layer in range(replica.sizes["num_hidden_layers"]):
            state[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = inverse.to(dtype).clone()
    files = [f"model-{i + 1:05d}-of-{replica.shards:05d}.safetensors" for i in range(replica.shards)]
    where = {name: files[i * replica.shards // len(state)] for i, name in enumerate(state)}
    for file in files:
        part = {name: tensor for name, tensor in state.items() if where[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    total = sum(tensor.nbytes for tensor in state.values())
    write(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where})


def make_wikitext(folder: Path, rows: int = 200) -> Path:
    """A data set repository with rows as WikiText-2's test set has them: headings between " = ", blank rows, text."""
    import pyarrow
    import pyarrow.parquet

    lines = [line.strip("#|- ") for line in corpus().split("\n")][:rows]
    titled = [f" = {line} = \n" if 0 < len(line) < 40 else (f" {line} \n" if line else "") for line in lines]
    target = folder / "wikitext-2-raw-v1" / "test-00000-of-00001.parquet"
    target.parent.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.table({"text": titled}), target)
    return folder


def make_c4(folder: Path) -> Path:
    """A data set repository with documents as C4 has them: a line of JSON each, compressed."""
    paragraphs = [line for line in corpus().split("\n") if len(line) > 100]
    target = folder / "en" / "c4-train.00000-of-01024.json.gz"
    target.parent.mkdir(parents=True)
    with gzip.open(target, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"text": text}) + "\n" for text in paragraphs)
    return folder


TEXTS: dict[str, Callable[[Path], Path]] = {"wikitext2": make_wikitext, "c4-train": make_c4}


def serve(hub: Hub, registry: Registry, folder: Path, models: Sequence[str]) -> None:
    """Put replicas of some models and of the texts on a hub, at the commits that the registry pins, Meta's gated."""
    made = {name: partial(make_replica, name) for name in models} | TEXTS
    for name in [name for name in made if name in registry.assets]:
        [source] = [each for each in registry.get(name).sources if isinstance(each, HubSource)]
        commit = "" if source.revision == RESOLVE else source.revision
        tokens = [TOKEN] if source.repo.startswith(GATED) else None
        hub.add(source.repo, made[name](folder / name), kind=source.repo_type, commit=commit, tokens=tokens)

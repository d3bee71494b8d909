"""Inputs for tests on two-layer models: random windows, text files, more models, scores of a model in float64."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ramp.models.folder import ModelFolder
from ramp.models.token_windows import Document, write_documents
from tests.conftest import SHAPE, save_random_model, save_tokenizer
from tests.sealed import read_json


def windows_of(model_dir: Path, count: int, length: int, seed: int) -> torch.Tensor:
    """Random token ids of the model's vocabulary, int64 [count, length]."""
    size = ModelFolder(model_dir).config.vocab_size
    return torch.randint(0, size, (count, length), generator=torch.Generator().manual_seed(seed))


def write_text(path: Path, words: str, times: int = 40) -> Path:
    """A text of one document; without words, of none."""
    write_documents(path, [Document(doc="c4-0", text=words * times)] if words else [])
    return path


def write_letters(path: Path, count: int) -> Path:
    """A text of ``count`` random letters."""
    return write_text(path, "".join(np.random.default_rng(0).choice(list("abcdefghij "), count)), 1)


def random_llama(folder: Path, *, tied: bool = True, **changes: Any) -> Path:
    """A random two-layer Llama with a byte tokenizer; ``changes`` to ``conftest.SHAPE``."""
    from transformers import LlamaConfig

    folder.mkdir(exist_ok=True)
    size = save_tokenizer(folder)
    shape = {**SHAPE, **changes}
    config = LlamaConfig(vocab_size=size, bos_token_id=1, eos_token_id=0, tie_word_embeddings=tied, **shape)
    return save_random_model(folder, config, seed=3)


def altered(source: Path, target: Path, **config: Any) -> Path:
    """A copy of a model folder with some keys of its configuration changed."""
    target.mkdir(exist_ok=True)
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    known = read_json(target / "config.json")
    (target / "config.json").write_text(json.dumps({**known, **config}))
    return target


def edited(source: Path, target: Path, change: Callable[[dict[str, torch.Tensor]], Any], **config: Any) -> Path:
    """A copy of a model folder with other tensors, and some keys of its configuration changed."""
    altered(source, target, **config)
    state = load_file(target / "model.safetensors")
    change(state)
    apart = {name: tensor.contiguous().clone() for name, tensor in state.items()}
    save_file(apart, target / "model.safetensors", metadata={"format": "pt"})
    return target


def sharded(folder: Path, parts: int = 2) -> Path:
    """The same folder, its tensors in ``parts`` files with an index."""
    whole = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    index = {}
    for part in range(parts):
        file = f"model-{part + 1:05d}-of-{parts:05d}.safetensors"
        names = sorted(whole)[part::parts]
        save_file({name: whole[name] for name in names}, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


@torch.no_grad()
def exact_scores(
    model: Any, windows: torch.Tensor, weights: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """KL and NLL of the model with other ``weights``, which it keeps; float64, nats, each [windows, length - 1]."""
    model = model.double()
    log_p = model(windows).logits[:, :-1].log_softmax(-1)
    for name, weight in weights.items():
        model.get_submodule(name).weight.copy_(weight)
    log_q = model(windows).logits[:, :-1].log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1), -log_q.gather(-1, windows[:, 1:, None])[..., 0]

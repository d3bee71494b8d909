"""Fixtures that many tests share: two-layer random models in Hugging Face folders, built in a second, no network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# Two OpenMP threads spin against each other on a busy two-core machine; the models here are tiny.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# No property may fail because the machine is busy.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

REPO = Path(__file__).resolve().parent.parent


SHARES_A_SMOKE_RUN = ("test_new_baseline.py", "test_resume.py", "test_smoke_run.py")
"""Files whose tests stand on the smoke study of this checkout, and on Snakemake's lock of it."""


class FileScheduling(LoadFileScheduling):
    """The tests of a file run in one process, and so do the files that share one smoke run."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "smoke" if file.endswith(SHARES_A_SMOKE_RUN) else file


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist nobody asks
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileScheduling:
    """Return what gives tests to processes."""
    return FileScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the workflow tests first: they are long, and no process should be left with them at the end."""
    items.sort(key=lambda item: not item.path.is_relative_to(REPO / "tests" / "workflow"))


SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def save_tokenizer(folder: Path) -> int:
    """Write a byte-level tokenizer without merges (one token per byte, GPT-2's pre-tokenizer); return its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<s>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=special[0], bos_token=special[1])
    fast.save_pretrained(folder)
    return len(vocabulary)


def save_random_model(folder: Path, config: PretrainedConfig, seed: int = 0) -> Path:
    """Write a float32 checkpoint with random weights whose every part matters.

    Linears keep the variance of their input, norm gains lie in 0.5 to 1.5 and biases are not zero, so that a wrong
    fold, a lost bias or a swapped head changes the output visibly.
    """
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if "norm" in name:
                parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
            elif name.endswith("bias"):
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
            else:  # (d_out, d_in)
                scale = 0.25 if "embed" in name else parameter.shape[-1] ** -0.5
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_llama_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Llama: hidden 64, intermediate 128, heads 4/2, context 256, byte tokenizer, untied head."""
    from transformers import LlamaConfig

    folder = tmp_path_factory.mktemp("tiny-llama")
    size = save_tokenizer(folder)
    config = LlamaConfig(vocab_size=size, bos_token_id=1, eos_token_id=0, tie_word_embeddings=False, **SHAPE)
    return save_random_model(folder, config, seed=0)


@pytest.fixture(scope="session")
def tiny_qwen2_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Qwen2: as ``tiny_llama_dir``, with biases on q, k and v, and a tied head."""
    from transformers import Qwen2Config

    folder = tmp_path_factory.mktemp("tiny-qwen2")
    size = save_tokenizer(folder)
    config = Qwen2Config(vocab_size=size, bos_token_id=1, eos_token_id=0, tie_word_embeddings=True, **SHAPE)
    return save_random_model(folder, config, seed=1)


@pytest.fixture
def offline_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip sees one local folder and no index; downloads are cached in the test's own folder."""
    wheels = tmp_path / "index"
    wheels.mkdir()
    monkeypatch.setenv("RAMP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return wheels


@pytest.fixture(scope="session")
def peaked_llama_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with a few loud channels, as real ones have: without them AWQ has nothing to find."""
    from safetensors.torch import load_file, save_file
    from transformers import LlamaConfig

    folder = tmp_path_factory.mktemp("peaked")
    size = save_tokenizer(folder)
    shape = {**SHAPE, "max_position_embeddings": 64}
    save_random_model(folder, LlamaConfig(vocab_size=size, tie_word_embeddings=False, **shape))
    state = load_file(folder / "model.safetensors")
    for name in state:
        if "layernorm" in name:
            state[name][::13] *= 20
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder

"""Train the tiny family: three small models with real weights for smoke runs, leagues and exact optima.

Each preset is a byte-level BPE tokenizer and a decoder, trained on the role ``train`` for a number of optimizer steps:
the same seed and steps give the same bytes, in reproducible arithmetic on any machine. Writes a Hugging Face folder
with ``asset.json``.

Hidden, intermediate and heads * head_dim are multiples of 256, so that llama.cpp's K-quants take every row; the
tokenizer is GPT-2's kind, so that llama.cpp reads it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.assets.tiny_family import PRESETS, Preset
from ramp.core import cli
from ramp.core.atomic_files import atomic_path, sha256_file, write_json
from ramp.core.cli import log
from ramp.core.errors import RampError

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    import torch
    from torch.nn import functional

    from ramp.models.architecture import list_linears
    from ramp.models.asset_file import file_checksums
    from ramp.models.save_folder import save_model, save_tokenizer
    from ramp.models.token_windows import Document, read_documents

if TYPE_CHECKING:
    from transformers import PreTrainedModel

END = "<|endoftext|>"
"""Stands between documents; serves as beginning and end of text."""


def train_tokenizer(documents: Sequence[Document], vocab: int, text: object = "the training text") -> Any:
    """Return a byte-level BPE ``PreTrainedTokenizerFast`` with GPT-2's pre-tokenizer and ``vocab`` tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((document.text for document in documents), trainer)
    if tokenizer.get_vocab_size() != vocab:
        raise RampError(
            f"{text} is too short: it gives {tokenizer.get_vocab_size()} kinds of token where {vocab} are wanted, give "
            "a longer text"
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END)


def build_model(preset: Preset, end_id: int, seed: int) -> PreTrainedModel:
    """Return the untrained model, float32, weights drawn from ``seed``."""
    from transformers import AutoConfig, AutoModelForCausalLM

    window = {"sliding_window": 2 * preset.context} if preset.family == "mistral" else {}
    config = AutoConfig.for_model(
        preset.family,
        vocab_size=preset.vocab,
        hidden_size=preset.hidden,
        intermediate_size=preset.intermediate,
        num_hidden_layers=preset.layers,
        num_attention_heads=preset.heads,
        num_key_value_heads=preset.kv_heads,
        head_dim=preset.head_dim,
        max_position_embeddings=preset.context,
        rms_norm_eps=1e-5,
        tie_word_embeddings=preset.tied,
        bos_token_id=end_id,
        eos_token_id=end_id,
        **window,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # transformers draws from the global generator
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
        torch.nn.init.normal_(model.get_input_embeddings().weight, std=preset.embedding_std)
    return model


def token_stream(tokenizer: Any, documents: Sequence[Document]) -> torch.Tensor:
    """Return all documents as one row of token ids, int64 [tokens], ``END`` behind each."""
    encoded = tokenizer([document.text for document in documents], add_special_tokens=False, verbose=False)["input_ids"]
    return torch.tensor([token for ids in encoded for token in [*ids, tokenizer.eos_token_id]], dtype=torch.long)


def learning_rate(step: int, steps: int, preset: Preset) -> float:
    """Return the rate of a step: linear warm-up, then a cosine to a tenth of the peak (as Llama, arXiv:2302.13971)."""
    warmup = min(preset.warmup_steps, steps // 10 + 1)
    if step < warmup:
        return preset.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return preset.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def train(
    model: PreTrainedModel,
    stream: torch.Tensor,
    preset: Preset,
    steps: int,
    seed: int,
    text: object = "the training text",
) -> list[float]:
    """Train in place on random windows of ``stream`` (int64 [tokens]); return every step's loss, in nats per token.

    ``text`` is what an error calls the text.
    """
    if len(stream) <= preset.context + 1:
        raise RampError(
            f"{text} is too short: it has {len(stream)} tokens and one window needs {preset.context + 1}, give a "
            "longer text"
        )
    generator = torch.Generator().manual_seed(seed)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    gains = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": preset.weight_decay}, {"params": gains, "weight_decay": 0.0}],
        lr=preset.learning_rate,
        betas=(0.9, 0.95),
    )
    losses: list[float] = []
    began = time.monotonic()
    model.train()
    for step in range(steps):
        length = preset.context if step >= steps * (1 - preset.long_share) else preset.short_window
        batch = max(1, preset.step_tokens // length)
        starts = torch.randint(len(stream) - length, (batch, 1), generator=generator)
        window = stream[starts + torch.arange(length + 1)]  # (batch, length + 1)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, preset)
        logits = model(input_ids=window[:, :-1]).logits  # (batch, length, vocab)
        loss = functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), preset.grad_clip)
        optimizer.step()
        losses.append(float(loss.detach()))
        if (step + 1) % max(1, steps // 10) == 0:
            recent = losses[-max(1, steps // 10) :]
            mean, uniform = sum(recent) / len(recent), math.log(preset.vocab)
            spent = time.monotonic() - began
            log.info("step %d/%d: loss %.3f nats (uniform %.3f), %.0f s", step + 1, steps, mean, uniform, spent)
    if not math.isfinite(losses[-1]):
        raise RampError(f"training diverged at step {steps} (loss {losses[-1]}): try another seed")
    return losses


def make_model(name: str, text: Path, steps: int, seed: int, out_dir: Path) -> dict[str, Any]:
    """Train preset ``name`` and write its folder; return the content of asset.json."""
    preset = PRESETS[name]
    if steps < 1:
        raise RampError(f"{steps} steps train nothing: ask for one at least")
    documents = read_documents(text)
    tokenizer = train_tokenizer(documents, preset.vocab, text)
    stream = token_stream(tokenizer, documents)
    model = build_model(preset, tokenizer.eos_token_id, seed)
    log.info("training %s: %d steps of %d tokens", name, steps, preset.step_tokens)
    losses = train(model, stream, preset, steps, seed, text)
    last = losses[-max(1, steps // 10) :]
    with atomic_path(out_dir) as partial:
        partial.mkdir()
        save_model(model.eval(), partial)
        save_tokenizer(tokenizer, partial)
        weights = partial / "model.safetensors"
        record: dict[str, Any] = {
            "name": name,
            "kind": "trained",
            "source": f"ramp.assets.train_tiny preset {name}",
            "revision": f"{steps} steps, seed {seed}",
            "sha256": sha256_file(weights),
            "bytes": weights.stat().st_size,
            "licence": "our own",
            "path": ".",
            "released_bytes": weights.stat().st_size,
            "released_format": "float32",
            "linears_released_bytes": 4 * sum(linear.params for linear in list_linears(model.config)),
            "note": "trained in float32 by ramp.train",  # the name in the published records; a note is a result
            "preset": name,
            "steps": steps,
            "seed": seed,
            "threads": torch.get_num_threads(),
            "final_loss": sum(last) / len(last),
            "train_tokens": steps * preset.step_tokens,
            "text_tokens": len(stream),
        }
        record["files_sha256"] = file_checksums(partial, [weights])
        write_json(partial / "asset.json", record, sealed=True)
    return record


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("train a tiny model of the suite's own family", "--seed --out/")
    parser.add_argument("--preset", required=True, choices=PRESETS, help="model of the family")
    parser.add_argument("--text", type=Path, required=True, help="documents of the role train")
    parser.add_argument("--steps", type=int, required=True, help="optimizer steps")
    args = parser.parse_args(argv)
    record = make_model(args.preset, args.text, args.steps, args.seed, args.out)
    log.info("%s: final loss %.3f nats over %d tokens", args.preset, record["final_loss"], record["train_tokens"])


if __name__ == "__main__":
    raise SystemExit(cli.run(main))

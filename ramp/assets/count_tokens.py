"""Tokens of every text that a study cuts windows from, counted with a model's tokenizer before any long job.

Needs the tokenizer and config.json of a model folder, no weights. Writes what each text has and what is asked of it, as
JSON; exit 2 with one sentence that names all texts that are too short, or why a study cannot export the model to GGUF.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ramp.core import cli
from ramp.core.atomic_files import write_json
from ramp.core.cli import log
from ramp.models.folder import ModelFolder
from ramp.models.token_windows import JOIN, TextError, outside, read_documents

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from gguf import GGUFWriter

    from ramp.gguf_format.names import add_hyperparameters, check_exportable
    from ramp.gguf_format.vocabulary import add_tokenizer


@dataclass(frozen=True)
class Need:
    """Windows that some stage cuts from one text."""

    text: str  # role, or name of a test text: TEXT.jsonl in the folder of texts
    windows: int
    length: int  # tokens per window, or the model's context where that is shorter

    @classmethod
    def parse(cls, argument: str) -> Need:
        """Read ``calibration:128x2048``; argparse names the fault of another form."""
        text, colon, size = argument.rpartition(":")
        windows, times, length = size.partition("x")
        if not (text and colon and times and windows.isdigit() and length.isdigit() and int(windows) and int(length)):
            raise argparse.ArgumentTypeError(f"'{argument}' is no TEXT:WINDOWSxLENGTH, for instance search:16x128")
        return cls(text, int(windows), int(length))

    def __str__(self) -> str:
        return f"{self.text}:{self.windows}x{self.length}"


def count_tokens(model: ModelFolder, text: Path) -> int:
    """Return the tokens of a text as windows are cut from it: documents joined, without special tokens."""
    joined = JOIN.join(document.text for document in read_documents(text))
    tokens = model.tokenizer()(joined, add_special_tokens=False, verbose=False)["input_ids"]
    if max(tokens, default=0) >= model.config.vocab_size:
        raise outside(max(tokens), model.config)
    return len(tokens)


def require_tokens(model: ModelFolder, texts: Path, needs: Sequence[Need]) -> dict[str, dict[str, int]]:
    """Return each text's tokens and the most that one stage wants; ``TextError`` where it has fewer."""
    context = int(model.config.max_position_embeddings)
    wanted: dict[str, Need] = {}
    for need in needs:
        fits = Need(need.text, need.windows, min(need.length, context))
        wanted[need.text] = max(fits, wanted.get(need.text, fits), key=lambda each: each.windows * each.length)
    found, short = {}, []
    for text, need in wanted.items():
        tokens = count_tokens(model, texts / f"{text}.jsonl")
        found[text] = {"tokens": tokens, "wanted": need.windows * need.length}
        if tokens // need.length < need.windows:
            short.append(f"'{text}' has {tokens:,} tokens, {need.windows} windows of {need.length} are wanted")
    if short:
        raise TextError(
            f"{model.path.name}: {'; '.join(short)}: give the role a larger text (`texts:` in the configuration), or "
            "ask for fewer or shorter windows"
        )
    return found


def require_exportable(model: ModelFolder) -> None:
    """Raise ``GgufError`` where an export would refuse the model's activation, rotary embedding or tokenizer.

    No weight is read and nothing is written.
    """
    config = model.config
    check_exportable(config)
    writer = GGUFWriter(None, model.architecture.gguf_arch)
    add_hyperparameters(writer, config)
    add_tokenizer(writer, model.path, config.vocab_size)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    parser = cli.parser(
        "count the tokens of a study's texts, and refuses texts that are too short", "--model-dir --out"
    )
    parser.add_argument("--texts", type=Path, required=True, help="folder of the texts")
    parser.add_argument("--need", nargs="+", type=Need.parse, required=True, metavar="TEXT:WINDOWSxLENGTH")
    parser.add_argument("--export", action="store_true", help="refuse also a model that cannot become a GGUF file")
    args = parser.parse_args(argv)
    model = ModelFolder(args.model_dir)
    if args.export:
        require_exportable(model)
    found = require_tokens(model, args.texts, args.need)
    write_json(args.out, found)
    for text, count in found.items():
        log.info("%s: %d tokens, at most %d are read at once", text, count["tokens"], count["wanted"])


if __name__ == "__main__":
    raise SystemExit(cli.run(main))

"""Write the windows that rows are scored on as documents: the text of the leakage meter, which nothing else may read.

A document is one window of the float reference, decoded. Its tokens come back but for those at its ends, where two
windows are joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ramp.core import cli
from ramp.core.cli import log

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.evaluation.heldout import Reference
    from ramp.models.folder import ModelFolder
    from ramp.models.token_windows import Document, write_documents
    from ramp.scoring.kl_divergence import EvaluationError


def scored_documents(model: ModelFolder, reference: Reference) -> list[Document]:
    """Return a document for every window of a reference of this model, int64 (windows, length)."""
    if reference.about["model"] != model.name:
        raise EvaluationError(f"the reference is of {reference.about['model']}, not of {model.name}: name its own")
    tokenizer = model.tokenizer()
    texts = (tokenizer.decode(window, clean_up_tokenization_spaces=False) for window in reference.windows.tolist())
    return [Document(f"scored-{index:04d}", text) for index, text in enumerate(texts)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("Write the windows that rows are scored on as text.", "--model-dir --out")
    parser.add_argument("--reference", type=Path, required=True, help="reference of this model on held-out text")
    args = parser.parse_args(argv)
    documents = scored_documents(ModelFolder(args.model_dir), Reference.load(args.reference))
    write_documents(args.out, documents)
    log.info("%d windows, %d characters", len(documents), sum(len(document.text) for document in documents))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))

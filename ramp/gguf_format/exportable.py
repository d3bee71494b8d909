"""Check that a model can become a GGUF file, by its configuration and tokenizer, before hours of work."""

from __future__ import annotations

from gguf import GGUFWriter

from ramp.gguf_format.names import add_hyperparameters, check_exportable
from ramp.gguf_format.vocabulary import add_tokenizer
from ramp.models.folder import ModelFolder


def require_exportable(model: ModelFolder) -> None:
    """Raise ``GgufError`` where an export would refuse the model's activation, rotary embedding or tokenizer.

    No weight is read and nothing is written.
    """
    config = model.config
    check_exportable(config)
    writer = GGUFWriter(None, model.architecture.gguf_arch)
    add_hyperparameters(writer, config)
    add_tokenizer(writer, model.path, config.vocab_size)

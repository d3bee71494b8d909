"""Sizes of a model: those that its ``config.json`` holds, known before any weight is downloaded.

They come from the checkpoint folder where it is there, from a local folder or a preset that the registry names, and
else from the registry's ``sizes``, which has the keys of ``config.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from ramp.assets.registry import PathSource, Registry, TrainedSource
from ramp.assets.tiny_family import PRESETS
from ramp.core.atomic_files import read_json
from ramp.core.errors import RampError
from ramp.models.architecture import LinearSpec, list_linears
from ramp.models.config_limits import check_limits
from ramp.quantizers.sizes import linear_bytes
from ramp.quantizers.widths import Width


class SizeUnknown(RampError):
    """A model whose sizes nothing tells yet."""


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a decoder, under the names of ``config.json``."""

    model_type: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    max_position_embeddings: int
    tie_word_embeddings: bool = False
    head_dim: int | None = None
    float_bytes: int = 4  # of a weight in the checkpoint

    @classmethod
    def read(cls, values: Mapping[str, Any], what: str) -> ModelShape:
        """Return the sizes in a mapping that may hold more; ``SizeUnknown`` names ``what`` and the keys it lacks."""
        check_limits(values, what)
        known = {name: values[name] for name in cls.__dataclass_fields__ if values.get(name) is not None}
        known.setdefault("num_key_value_heads", values.get("num_attention_heads"))
        if values.get("dtype", values.get("torch_dtype")) in ("float16", "bfloat16"):
            known["float_bytes"] = 2
        lacking = [name for name, each in cls.__dataclass_fields__.items() if name not in known and _needed(each)]
        if lacking:
            raise SizeUnknown(f"{what} lacks {', '.join(lacking)}: nothing can be planned for the model")
        return cls(**known)

    @cached_property
    def linears(self) -> list[LinearSpec]:
        """Every quantizable linear, in forward order."""
        return list_linears(cast(Any, self))

    @cached_property
    def block(self) -> list[LinearSpec]:
        """The linears of one decoder block; all blocks are alike."""
        return [linear for linear in self.linears if linear.layer == 0]

    @cached_property
    def linear_params(self) -> int:
        """Weights of all linears."""
        return sum(linear.params for linear in self.linears)

    @property
    def table_params(self) -> int:
        """Weights of embedding and head; one table where they are tied."""
        return self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)

    @property
    def params(self) -> int:
        """Weights of the whole model, norms and biases aside (some 0.005 % of a 7B)."""
        return self.linear_params + self.table_params

    @property
    def query_width(self) -> int:
        """Channels of all query heads together."""
        return next(linear.d_in for linear in self.block if linear.role == "o")

    @cached_property
    def sites(self) -> dict[str, tuple[int, int]]:
        """(channels, output rows of all readers) of every input in a block, by kind."""
        found: dict[str, tuple[int, int]] = {}
        for linear in self.block:
            kind = linear.site.rpartition(".")[2]
            rows = found.get(kind, (0, 0))[1]
            found[kind] = linear.d_in, rows + linear.d_out
        return found

    def packed_bytes(self, width: float, group_size: int) -> int:
        """Return the bytes of all linears at ``width`` bits, between whole widths interpolated as a budget is."""
        low = int(width)
        at_low = self._uniform(low, group_size)
        return at_low if width == low else round(at_low + (width - low) * (self._uniform(low + 1, group_size) - at_low))

    def menu_bytes(self, widths: list[Width], group_size: int) -> int:
        """Return the bytes of a bank: all linears at every width."""
        return sum(self._uniform(width, group_size) for width in widths)

    def _uniform(self, width: Width, group_size: int) -> int:
        each = sum(linear_bytes(x.d_out, x.d_in, width, group_size) for x in self.block)
        return self.num_hidden_layers * each

    def stored_tables(self, track: str) -> int:
        """Return the bytes of embedding and head in a row: float16, or Q8_0 (34 bytes for 32 weights)."""
        return 2 * self.table_params if track == "fp16" else self.table_params * 34 // 32


def _needed(field: Any) -> bool:
    """Return whether a field of a dataclass has no default."""
    from dataclasses import MISSING

    return field.default is MISSING


def shape_of(model: str, registry: Registry, results: str | Path, *, gguf: bool = True) -> ModelShape:
    """Return the sizes of a model: of its folder below ``results``, its local source, its preset, or its entry.

    gguf: whether the header of a GGUF source may be read, which takes seconds where the vocabulary is large.

    Raises:
        SizeUnknown: it is not fetched, and the registry does not give its sizes.
    """
    config = Path(results, "models", model, "config.json")
    if config.is_file():
        return ModelShape.read(read_json(config, dict[str, Any], again="fetch the model again"), str(config))
    asset = registry.get(model)
    for source in asset.sources:
        if isinstance(source, TrainedSource) and source.preset in PRESETS:
            return _trained(source.preset)
        if isinstance(source, PathSource):
            path = source.below(registry.root)
            if (local := path / "config.json").is_file():
                return ModelShape.read(read_json(local, dict[str, Any], again="correct it"), str(local))
            if gguf and path.suffix == ".gguf" and path.is_file():
                from ramp.gguf_format.configuration import header_sizes
                from ramp.gguf_format.reader import GgufFile

                return ModelShape.read(header_sizes(GgufFile(path)), str(path))
    if not asset.sizes:
        raise SizeUnknown(
            f"the sizes of '{model}' are not known before it is fetched: give them as 'sizes' in its entry, or fetch "
            f"it first (snakemake --cores 1 {config}, with the study's --configfile)"
        )
    return ModelShape.read(asset.sizes, f"'sizes' of '{model}' in {registry.file}")


def _trained(preset: str) -> ModelShape:
    """Return the sizes of a model of the tiny family."""
    tiny = PRESETS[preset]
    return ModelShape(
        model_type=tiny.family,
        hidden_size=tiny.hidden,
        intermediate_size=tiny.intermediate,
        num_hidden_layers=tiny.layers,
        num_attention_heads=tiny.heads,
        num_key_value_heads=tiny.kv_heads,
        vocab_size=tiny.vocab,
        max_position_embeddings=tiny.context,
        tie_word_embeddings=tiny.tied,
        head_dim=tiny.head_dim,
    )

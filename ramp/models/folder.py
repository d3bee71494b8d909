"""A Hugging Face checkpoint folder, read: configuration, linears, tensors, tokenizer, float model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramp.core.atomic_files import DamagedFile, read_json
from ramp.core.cli import log
from ramp.core.safe_path import below
from ramp.core.tensors import Tensors, compare, open_tensors
from ramp.models.architecture import Architecture, LinearSpec, ModelError, architecture, known_family, list_linears
from ramp.models.asset_file import AGAIN, SINGLE, check_texts, read_model_asset, text_files
from ramp.models.config_agreement import MODELS_OWN, check_checkpoint
from ramp.models.token_windows import token_windows
from ramp.models.tokenizer_steps import with_first_blank, with_published_steps

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel


class ModelFolder:
    """A checkpoint folder whose parts are read when they are first used, and once. It never uses a network."""

    def __init__(self, path: str | Path, name: str = "") -> None:
        """name: of the model, where it is not that of the folder (a snapshot in the hub's cache)."""
        self.path = Path(path)
        self.name = name or self.path.name or self.path.resolve().name  # "." has no name of its own

    @cached_property
    def config(self) -> PretrainedConfig:
        """The configuration in ``config.json``; raises ``ModelError`` where it is missing or unreadable."""
        from transformers import AutoConfig

        from ramp.models.config_limits import check_limits  # pydantic, which commands do not load before their work

        file = self.path / "config.json"
        if not file.is_file():
            raise ModelError(f"no config.json in {self.path}: give a Hugging Face checkpoint folder")
        check_texts(self.path, [file])
        values = check_limits(read_json(file, object, again="fetch the model again"), file)
        known_family(values.get("model_type"), file)  # a class of another family may build anything of its values
        try:
            return AutoConfig.from_pretrained(self.path, local_files_only=True)
        except Exception as error:  # whatever transformers raises on broken values, in classes of its own
            raise ModelError(f"cannot read {file} ({' '.join(str(error).split())[:300]}): {MODELS_OWN}") from None

    @cached_property
    def architecture(self) -> Architecture:
        """The row of the family's table; raises ``ModelError`` for an unknown family."""
        return architecture(self.config)

    @cached_property
    def linears(self) -> list[LinearSpec]:
        """Every quantizable linear in forward order, with shapes from the configuration."""
        return list_linears(self.config)

    @cached_property
    def reader(self) -> CheckpointReader:
        """The checkpoint's tensors by name, memory-mapped: those that ``config.json`` describes, or ``ModelError``."""
        reader = CheckpointReader(self.path)
        check_checkpoint(reader, self.config)
        return reader

    @property
    def tied(self) -> bool:
        """Return whether the head is the embedding."""
        return bool(self.config.tie_word_embeddings)

    @property
    def outer(self) -> list[str]:
        """Names of the weights outside the blocks: embedding, final norm and, unless it is tied, head."""
        arch = self.architecture
        paths = (arch.embed, arch.final_norm) if self.tied else (arch.embed, arch.final_norm, arch.head)
        return [f"{path}.weight" for path in paths]

    @property
    def head_tensor(self) -> str:
        """Name of the head's weight: the embedding's, where they are tied."""
        return f"{self.architecture.embed if self.tied else self.architecture.head}.weight"

    def check(self) -> None:
        """Raise ``ModelError`` now, not at first use, where the checkpoint is not what ``config.json`` describes."""
        _ = self.reader

    def load_float(self, dtype: torch.dtype | None = None, device: str | torch.device = "cpu") -> PreTrainedModel:
        """Return the float model as ``dtype`` (None: float32): evaluation mode, no gradients, attention by SDPA."""
        import torch
        from transformers import AutoModelForCausalLM

        self.reader.compare()  # transformers reads the files itself
        model = AutoModelForCausalLM.from_pretrained(
            self.path, dtype=dtype or torch.float32, attn_implementation="sdpa", local_files_only=True
        )
        model.to(torch.device(device))  # type: ignore[arg-type]  # transformers wraps `to` without its types
        return model.eval().requires_grad_(False)

    @cached_property
    def stored_dtype(self) -> torch.dtype:
        """The dtype of the linears' weights, the least that holds all of them."""
        import torch

        kinds = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
        found = {self.reader.get_dtype(f"{linear.name}.weight") for linear in self.linears}
        return reduce(torch.promote_types, (kinds[name] for name in sorted(found)))

    def rounding(self, dtype: torch.dtype) -> str:
        """Return a note where ``dtype`` cannot hold the weights as they are stored, else an empty string."""
        import torch

        if dtype.itemsize > 2 or torch.promote_types(self.stored_dtype, dtype) == dtype:
            return ""
        names = (str(each).removeprefix("torch.") for each in (self.stored_dtype, dtype))
        return "float weights are stored as {} and rounded to {}".format(*names)

    def windows(self, text: str | Path, *, length: int, count: int | None) -> torch.LongTensor:
        """Return ``count`` windows spread over a text, or (None) all of them, int64 [count, length].

        They are no longer than the model's context, which a line of the log says.
        """
        context = int(self.config.max_position_embeddings)
        if length > context:
            log.info("windows of %d tokens: the model's context, not the %d asked for", context, length)
        return token_windows(self.tokenizer(), text, length=min(length, context), count=count, spread=count is not None)

    def tokenizer(self) -> Any:
        """Return the model's tokenizer; raises ``ModelError`` where its files are missing or unreadable."""
        from transformers import AutoTokenizer

        check_texts(self.path, text_files(self.path))
        if not any(path.name.startswith(("token", "vocab")) for path in self.path.iterdir()):
            raise ModelError(f"{self.path} has no tokenizer: put its files there (tokenizer.json and those beside it)")
        if (self.path / "config.json").is_file():
            _ = self.config  # transformers reads it for the tokenizer too, and would blame that
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.path, local_files_only=True)
            return with_first_blank(with_published_steps(tokenizer, self.path / "tokenizer.json"))
        except Exception as error:  # whatever transformers and tokenizers raise on broken files
            raise ModelError(
                f"{self.path} has no tokenizer that transformers can read ({' '.join(str(error).split())[:120]}): add "
                "its tokenizer files"
            ) from None


INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class ShardIndex:
    """The index of a checkpoint's shards."""

    weight_map: dict[str, str]  # tensor -> file


def checkpoint_files(model_dir: Path) -> list[Path]:
    """Return the files of a checkpoint: one, or the shards that its index names.

    Other safetensors beside them (``consolidated``, a variant's) are not read, nor are pickles. Raises ``ModelError``
    where there is neither, both, or an index that names a file outside the folder.
    """
    index, single = model_dir / INDEX, model_dir / SINGLE
    if index.is_file() and single.is_file() and _shards(index) != [SINGLE]:  # mlx-lm writes an index of one file
        raise ModelError(f"{model_dir} has both {SINGLE} and {INDEX}: delete the one that is not the checkpoint")
    if single.is_file():
        return [single]
    if not index.is_file():
        others = sorted(path.name for end in ("*.safetensors", "*.bin", "*.pt*") for path in model_dir.glob(end))
        raise ModelError(
            f"{model_dir} holds {others[0]} and no {SINGLE}: save it again as safetensors with transformers"
            if others
            else f"no {SINGLE} in {model_dir}: the checkpoint is incomplete, fetch the model again"
        )
    names = _shards(index)
    if not names:
        raise ModelError(f"{index} names no shard: fetch it again")
    return [below(model_dir, name, index) for name in names]


def _shards(index: Path) -> list[str]:
    """Return the files that an index names; raises ``ModelError`` where it is damaged."""
    try:
        return sorted(set(read_json(index, ShardIndex, again="fetch the model again").weight_map.values()))
    except DamagedFile as error:
        raise ModelError(str(error)) from None


class CheckpointReader:
    """Tensors of a checkpoint by name, memory-mapped, from one file or many shards.

    A file whose checksum ``asset.json`` names is compared with it before its first tensor is read.
    """

    def __init__(self, model_dir: str | Path, files: Sequence[Path] | None = None) -> None:
        """files: where they are not named as those of a checkpoint; packages name what they save as they like."""
        self.model_dir = Path(model_dir)
        self.files = list(files or checkpoint_files(self.model_dir))
        self._where: dict[str, tuple[Path, Tensors]] = {}
        asset = read_model_asset(self.model_dir) if files is None else None
        listed = asset.checksums if asset else {}
        names = {path: path.relative_to(self.model_dir).as_posix() for path in (self.files if listed else ())}
        self._unread = {path: listed[name] for path, name in names.items() if name in listed}
        for path in self.files:
            if not path.is_file():
                raise ModelError(f"no {path.name} in {model_dir}: the checkpoint is incomplete, fetch the model again")
            try:
                handle = open_tensors(path, "checkpoint", sealed=False, again="fetch the model again")
            except DamagedFile as error:
                raise ModelError(str(error)) from None
            for name in handle:
                if name in self._where:
                    raise ModelError(f"{path} and {self.file(name)} both hold {name}: fetch the model again")
                self._where[name] = path, handle

    def names(self) -> list[str]:
        """Return the names of all tensors, sorted."""
        return sorted(self._where)

    def file(self, name: str) -> Path:
        """Return the file that holds a tensor."""
        return self._where[name][0]

    def _handle(self, name: str) -> Tensors:
        try:
            return self._where[name][1]
        except KeyError:
            raise ModelError(
                f"{self.model_dir} has no tensor '{name}': the checkpoint lacks a tensor that its family should have"
            ) from None

    def compare(self) -> None:
        """Compare every file with its checksum, for code that reads the files itself; ``ModelError``."""
        for path in self.files:
            self._compare(path)

    def _compare(self, path: Path) -> None:
        if path in self._unread:
            try:
                compare(path, self._unread[path], AGAIN)
            except DamagedFile as error:
                raise ModelError(str(error)) from None
            del self._unread[path]

    def _read(self, name: str) -> Tensors:
        """Return the open file of a tensor, compared."""
        handle = self._handle(name)
        self._compare(self.file(name))
        return handle

    def get(self, name: str) -> torch.Tensor:
        """Return the tensor, as stored."""
        return self._read(name)[name]

    def rows(self, name: str, at: slice) -> torch.Tensor:
        """Return some rows of the tensor, as stored."""
        return self._read(name).part(name)[at]

    def get_dtype(self, name: str) -> str:
        """Return the tensor's type without reading it, as safetensors names it (``BF16``)."""
        return str(self._handle(name).part(name).get_dtype())

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the tensor's shape without reading it."""
        return tuple(self._handle(name).part(name).get_shape())

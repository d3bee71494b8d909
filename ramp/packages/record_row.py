"""Make a row of a package's result: its codes, scales and zero-points, bit for bit, in our own packing.

    python -m ramp.packages.record_row --model-dir R/models/M --job R/packages/M/NAME-b4-s0 --out
    R/quantized/M/NAME-b4-s0

Linears on our grid are packed unchanged; linears on another grid are kept de-quantized and counted at the package's
packed bytes (``ramp.rows.size_ledger``). Embedding and head are stored by the study's track, every other tensor as the
package changed it, else as in the float checkpoint. ``bytes_native`` is the size of the package's own files. A package
that did not run gives a ``meta.json`` with the reason as ``failed`` and ``note``, without sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ramp.core import cli
from ramp.core.atomic_files import read_json, remove, require_file, write_json
from ramp.core.cli import log
from ramp.core.errors import RampError
from ramp.core.safe_path import below

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    import torch

    from ramp.core.tensors import load_tensors, save_arrays
    from ramp.methods.package_job import AFFINE, DENSE, NATIVE, OTHERS, OUTCOME, JobOutcome, read_linear
    from ramp.models.architecture import LinearSpec
    from ramp.models.empty_model import empty_model
    from ramp.models.folder import ModelFolder
    from ramp.quantizers.affine import QuantizedLinear
    from ramp.quantizers.sizes import group_size_for
    from ramp.rows.checkpoint import WEIGHTS, save_packed
    from ramp.rows.size_ledger import DenseLinear, Stored, counted_bytes

GRID = "package"
"""``grid`` of rows with linears that the affine grid cannot hold."""


class KeptLinears(Mapping[str, "Stored"]):
    """A package's linears, read one by one."""

    def __init__(self, folder: Path, linears: Sequence[LinearSpec]) -> None:
        self._folder = folder
        self._linears = {x.name: x for x in linears}
        self.about = {name: read_linear(folder, name)[1] for name in self._linears}

    def __getitem__(self, name: str) -> Stored:
        arrays, about = read_linear(self._folder, name)
        parts = {part: torch.from_numpy(array) for part, array in arrays.items()}
        if about["kind"] == DENSE:
            return DenseLinear(parts["weight"], about["packed_bytes"])
        return QuantizedLinear(**parts, bits=about["bits"], group_size=about["group_size"])

    def __iter__(self) -> Iterator[str]:
        return iter(self._linears)

    def __len__(self) -> int:
        return len(self._linears)

    @property
    def is_affine(self) -> bool:
        """Return whether every linear is on our grid."""
        return all(about["kind"] == AFFINE for about in self.about.values())

    def group_size(self, requested: int) -> int:
        """Return the study's group size where every linear has the group size of our own methods, else the largest."""
        used = {name: about["group_size"] for name, about in self.about.items() if about["kind"] == AFFINE}
        ours = all(size == group_size_for(self._linears[name].d_in, requested) for name, size in used.items())
        return requested if ours else max(used.values())

    def described(self) -> dict[str, dict[str, Any]]:
        """Return every linear's width (None on another grid), grid and packed bytes, for ``meta.json``."""
        found = {}
        for name, spec in self._linears.items():
            about = {**self.about[name], "d_out": spec.d_out, "d_in": spec.d_in}
            kind = "affine" if about["kind"] == AFFINE else GRID
            found[name] = {"bits": about.get("bits"), "type": kind, "bytes": counted_bytes(about)}
        return found


def other_tensors(model_dir: Path, folder: Path, linears: Sequence[LinearSpec]) -> dict[str, torch.Tensor]:
    """Return every parameter that is no linear's weight: as the package changed it, else from the float checkpoint."""
    model = ModelFolder(model_dir)
    weights = {f"{linear.name}.weight" for linear in linears}
    names = [name for name, _ in empty_model(model.config, torch.float32).named_parameters() if name not in weights]
    changed = load_tensors(folder / OTHERS, "tensors of a package") if (folder / OTHERS).is_file() else {}
    return {name: changed[name] if name in changed else model.reader.get(name) for name in {*names, *changed}}


def native_bytes(job: Path, names: Sequence[str]) -> int:
    """Return the bytes of the package's own files; ``RampError`` where one lies outside its folder or is missing."""
    files = [below(job / NATIVE, name, job / OUTCOME) for name in names]
    return sum(require_file(file, "file of the package").stat().st_size for file in files)


def notes(outcome: Mapping[str, Any]) -> str:
    """Return the row's note: the package with its version, and the method's notes."""
    package = outcome["package"]
    version = outcome["versions"].get(package)
    return "; ".join(filter(None, [f"{package} {version}" if version else "", outcome["note"]]))


def package_row(
    model_dir: Path, job: Path, out: Path, *, track: str, study: str, placeholder: bool = False
) -> dict[str, Any]:
    """Make one row of a finished job; return the content of ``meta.json``.

    placeholder: a row without a result has a file of weights too, which holds no tensor.
    """
    found = read_json(job / OUTCOME, JobOutcome, sealed=True, again="run the package again")
    if not 1 <= found.bits <= 16:
        raise RampError(f"{job / OUTCOME} has rows of another width than 1 to 16 bits: run the package again")
    outcome, bits = asdict(found), found.bits
    meta: dict[str, Any] = {
        "study": study, "model": model_dir.name, "method": outcome["method"], "grid": "affine", "stage": "final",
        "budget_bits": float(bits), "group_size": outcome["group_size"], "fold": "none", "seed": outcome["seed"],
        "external": True, "simulated": True, "params": outcome["params"], "package_versions": outcome["versions"],
        "wall_s": outcome["wall_s"], "peak_rss_bytes": outcome["peak_rss_bytes"], "peak_gpu_bytes": None,
    }  # fmt: skip
    if not outcome["ok"]:
        return _failed(out, meta, outcome["reason"], track, placeholder)
    linears = ModelFolder(model_dir).linears
    try:
        kept = KeptLinears(job, linears)
        others = other_tensors(model_dir, job, linears)
        made = meta | {
            "grid": "affine" if kept.is_affine else GRID,
            "group_size": kept.group_size(outcome["group_size"]) if kept.is_affine else outcome["group_size"],
            "bytes_native": native_bytes(job, found.native_files) or None,
            "linears": kept.described(),
            "note": notes(outcome),
        }
        return save_packed(out, model_dir=model_dir, quantized=kept, others=others, track=track, meta=made)
    except RampError as error:  # the result is no model: its row gives the reason
        return _failed(out, meta, str(error), track, placeholder)


def _failed(out: Path, meta: Mapping[str, Any], reason: str, track: str, placeholder: bool) -> dict[str, Any]:
    remove(out)
    written = {**meta, "track": track, "simulated": False, "failed": reason, "note": reason}
    if placeholder:
        save_arrays(out / WEIGHTS, {}, {"failed": reason})
    write_json(out / "meta.json", written, sealed=True)
    return written


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("Make a row of a package's result.", "--model-dir --track --study --out/")
    parser.add_argument("--job", type=Path, required=True, help="folder of ramp.packages.prepare_job")
    parser.add_argument("--placeholder", action="store_true", help="a file of weights also for a row that has none")
    args = parser.parse_args(argv)
    if not (args.job / OUTCOME).is_file():
        raise RampError(f"no {OUTCOME} in {args.job}: run ramp.packages.prepare_job first")
    meta = package_row(
        args.model_dir, args.job, args.out, track=args.track, study=args.study, placeholder=args.placeholder
    )
    log.info("%s: %s", meta["method"], meta.get("failed") or f"{meta['bytes_file']} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))

"""A bank opened with the model and the fold that it was built from."""

from __future__ import annotations

from pathlib import Path

from ramp.bank.bank import Bank, BankError
from ramp.calibration.folding import Fold, fold_digest, load_fold
from ramp.models.folder import ModelFolder


def open_bank(bank_dir: Path, model: ModelFolder, fold: Path | None) -> tuple[Bank, Fold]:
    """Return the bank and its fold (site -> scales; empty without a file).

    Raises:
        BankError: the bank is of another model or of another fold: its weights would meet norms that do not fit them.
    """
    bank = Bank(bank_dir)
    if bank.linears != model.linears:
        raise BankError(f"the bank {bank_dir} belongs to another model than {model.path}: pass its own")
    given = fold.stem if fold else "none"
    if bank.fold != given:
        raise BankError(f"the bank {bank_dir} was built with the fold '{bank.fold}', not '{given}': pass that one")
    scales = load_fold(fold, model.config) if fold else {}
    if bank.fold_sha256 not in (None, fold_digest(scales)):
        raise BankError(f"the bank {bank_dir} was built with other scales than {fold} has: pass the fold that it names")
    return bank, scales

"""Comparison of two entries: bytes saved, and KL and perplexity paired on the same windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paper.intervals import (
    StandardError,
    detectable,
    exponential,
    p_value,
    paired_difference,
    paired_ratio,
    reading,
    standard_error,
    task_mean_ratio,
)
from paper.study import Entry, Study
from ramp.evaluation.bootstrap import Estimate


@dataclass(frozen=True)
class Pair:
    """``entry`` against ``rival`` on one text: below zero (KL) and below one (perplexity) favour ``entry``."""

    entry: Entry
    rival: Entry
    text: str
    n_windows: int
    kl_difference: Estimate | None  # nats per token
    kl_ratio: Estimate | None
    ppl_ratio: Estimate
    kl_p: float  # of the KL difference (the nll's where there is no KL); see ``paper.intervals.p_value``
    kl_error: StandardError | None  # standard error of the KL difference

    @property
    def detectable(self) -> float | None:
        """The smallest KL difference that these windows and seeds would have shown, nats; None for equal rows."""
        error = self.kl_error  # without any error the rows are the same one
        return detectable(error) if error and error.size > 0 else None

    @property
    def reading(self) -> str:
        """One word for the KL (perplexity where there is none): better, worse, within noise, or identical."""
        return reading(self.kl_difference) if self.kl_difference else reading(self.ppl_ratio, 1.0)


def saving(entry: Entry, rival: Entry, column: str) -> float | None:
    """Return the share of ``rival``'s bytes that ``entry`` saves; ``column`` is bytes_linear or bytes_file."""
    ours, theirs = entry.mean(column), rival.mean(column)
    return 1 - ours / theirs if ours and theirs else None


def pair(study: Study, entry: Entry, rival: Entry, text: str) -> Pair | None:
    """Return the paired comparison of two entries of one model, or None where they share no windows."""
    found = [study.sums(each, text, "nll") for each in (entry, rival)]
    if found[0] is None or found[1] is None:
        return None
    nll, tokens, n_windows = _aligned(found[0], found[1])
    if n_windows == 0:
        return None
    difference = ratio = error = None
    nll_difference = paired_difference(*nll, tokens)
    p = None
    kl = [study.sums(each, text, "kl") for each in (entry, rival)]
    if kl[0] is not None and kl[1] is not None:
        (a, b), kl_tokens, shared = _aligned(kl[0], kl[1])
        if shared:
            difference = paired_difference(a, b, kl_tokens)
            ratio = paired_ratio(a, b, kl_tokens) if b.sum() > 0 else None
            error = standard_error(a, b, kl_tokens)
            p = p_value(difference.value, error)
    if p is None:
        p = p_value(nll_difference.value, standard_error(*nll, tokens))
    return Pair(entry, rival, text, n_windows, difference, ratio, exponential(nll_difference), p, error)


Sums = tuple[np.ndarray, np.ndarray, np.ndarray]


def _aligned(a: Sums, b: Sums) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, int]:
    """Return the windows that both have: (a, b) sums [seeds, shared], tokens [shared], how many are shared."""
    shared, in_a, in_b = np.intersect1d(a[2], b[2], return_indices=True)
    return (a[0][:, in_a], b[0][:, in_b]), a[1][in_a], len(shared)


def task_ratio(study: Study, entry: Entry, reference: Entry) -> tuple[Estimate, int, list[str]] | None:
    """Compare the mean accuracy over tasks with that of ``reference``, item by item.

    Returns:
        The ratio with its interval, the number of shared items and the tasks; None where the two share no items.
    """
    a, b = _answers(study, entry), _answers(study, reference)
    ours, theirs = {}, {}
    for task in sorted(set(a) & set(b)):
        shared = sorted(set(a[task]) & set(b[task]))
        if shared:
            ours[task] = np.array([a[task][item] for item in shared])
            theirs[task] = np.array([b[task][item] for item in shared])
    if not ours or sum(values.sum() for values in theirs.values()) == 0:
        return None
    return task_mean_ratio(ours, theirs), sum(len(values) for values in ours.values()), sorted(ours)


def _answers(study: Study, entry: Entry) -> dict[str, dict[int, float]]:
    """Return, per task and item, the share of seeds that answered correctly."""
    part = study.rows_of(entry, "items")
    if part is None:
        return {}
    means = part.assign(correct=part["correct"].astype("float64")).groupby(["task", "doc_id"])["correct"].mean()
    answers: dict[str, dict[int, float]] = {}
    for (task, item), share in means.items():
        answers.setdefault(str(task), {})[int(item)] = float(share)
    return answers

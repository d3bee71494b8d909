"""The score of one candidate on one text."""

from __future__ import annotations

from typing import NamedTuple


class Score(NamedTuple):
    """The result of one true evaluation of an allocation; means are over the scored positions."""

    kl: float  # mean KL(float model || quantized model), nats per token
    ppl: float  # exp(nll)
    nll: float  # mean negative log-likelihood, nats per token
    tokens: int  # forward tokens spent: windows x length

"""KL and NLL per token: against scipy in float64, and the searches' fast form against the plain one."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr

import ramp.scoring.kl_divergence as kl_divergence
from ramp.models.token_windows import TextError
from ramp.scoring.kl_divergence import EvaluationError, Scorer, nll_and_kl
from tests.model_folders import load_float


def logits(tokens: int, vocab: int, seed: int, scale: float = 4.0) -> torch.Tensor:
    return scale * torch.randn(tokens, vocab, generator=torch.Generator().manual_seed(seed))


def reference_nll_and_kl(q: torch.Tensor, p: torch.Tensor, targets: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """float64, scipy."""
    log_q, log_p = (log_softmax(x.double().numpy(), axis=-1) for x in (q, p))
    return -log_q[np.arange(len(targets)), targets.numpy()], rel_entr(np.exp(log_p), np.exp(log_q)).sum(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_against_scipy_in_float64(dtype, monkeypatch):
    monkeypatch.setattr(kl_divergence, "CPU_TILE", 7 * 97)  # tiles of 7 tokens, the last one shorter
    q, p = logits(40, 97, 1).to(dtype), logits(40, 97, 2).to(dtype)
    targets = torch.randint(97, (40,), generator=torch.Generator().manual_seed(3))
    nll, kl = nll_and_kl(q, p, targets)
    want_nll, want_kl = reference_nll_and_kl(q, p, targets)
    np.testing.assert_allclose(nll.numpy(), want_nll, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(kl.numpy(), want_kl, rtol=2e-5, atol=1e-5)
    assert kl.dtype == torch.float32


def test_small_divergences_keep_their_digits():
    p = logits(64, 1000, 1)
    q = p + 0.01 * logits(64, 1000, 2, scale=1.0)  # KL of about 5e-5 nats
    _, kl = nll_and_kl(q, p, torch.zeros(64, dtype=torch.int64))
    _, want = reference_nll_and_kl(q, p, torch.zeros(64, dtype=torch.int64))
    assert 1e-6 < want.mean() < 1e-4
    assert float(kl.double().mean()) == pytest.approx(want.mean(), rel=0.01)


def test_identical_logits_give_exactly_zero():
    p = logits(16, 500, 1)
    assert (nll_and_kl(p, p.clone(), torch.zeros(16, dtype=torch.int64))[1] == 0).all()


def test_infinite_and_missing_logits_are_not_hidden():
    p, q = logits(3, 5, 1), logits(3, 5, 2)
    p[0, 0] = -torch.inf  # p = 0: contributes nothing
    q[1, 0] = -torch.inf  # q = 0 where p > 0: infinite
    q[2, 0] = torch.nan
    nll, kl = nll_and_kl(q, p, torch.ones(3, dtype=torch.int64))
    assert torch.isfinite(kl[0])
    assert kl[1] == torch.inf
    assert kl[2].isnan()
    assert nll[2].isnan()


def disturbed(model, size: float, seed: int = 0):
    changed = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in changed.named_parameters():
            if "proj" in name:
                weight += size * weight.std() * torch.randn(weight.shape, generator=generator)
    return changed


def plain_score(model, candidate, windows: torch.Tensor) -> tuple[float, float]:
    """Mean KL and NLL from whole logits, float64."""
    with torch.no_grad():
        p, q = (m(windows).logits[:, :-1].reshape(-1, m.config.vocab_size) for m in (model, candidate))
    nll, kl = reference_nll_and_kl(q, p, windows[:, 1:].reshape(-1))
    return float(kl.mean()), float(nll.mean())


@pytest.fixture(scope="module")
def model(tiny_llama_dir):
    return load_float(tiny_llama_dir)


@pytest.fixture(scope="module")
def windows(model):
    return torch.randint(model.config.vocab_size, (16, 64), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [0.02, 0.1, 0.5])
def test_scorer_agrees_with_the_plain_form_to_a_thousandth(model, windows, size, monkeypatch):
    monkeypatch.setattr(kl_divergence, "CPU_SLICE", 100 * model.config.vocab_size)
    monkeypatch.setattr(kl_divergence, "CPU_TILE", 7 * model.config.vocab_size)
    monkeypatch.setattr(kl_divergence, "BATCH_TOKENS", 300)  # four windows a batch
    candidate = disturbed(model, size)
    score = Scorer(model, windows).score(candidate)
    kl, nll = plain_score(model, candidate, windows)
    assert score.kl == pytest.approx(kl, rel=1e-3)
    assert score.nll == pytest.approx(nll, rel=1e-6)
    assert score.ppl == pytest.approx(np.exp(nll), rel=1e-5)
    assert score.tokens == 16 * 64


def test_scorer_of_the_float_model_itself(model, windows):
    scorer = Scorer(model, windows)
    score = scorer.score(model)
    assert -1e-6 <= score.kl < 1e-5  # what rounding p to bfloat16 costs, second order
    assert score.nll == pytest.approx(scorer.nll_float, rel=1e-6)
    assert score.nll == pytest.approx(plain_score(model, model, windows)[1], rel=1e-6)


def test_scorer_reports_broken_candidates_and_refuses_a_broken_reference(model, windows):
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.model.layers[0].mlp.up_proj.weight[0, 0] = torch.nan
    assert np.isnan(Scorer(model, windows).score(broken).kl)
    with pytest.raises(EvaluationError, match="not finite"):
        Scorer(broken, windows)


def test_tied_heads_and_bfloat16(tiny_qwen2_dir, windows):
    tied = load_float(tiny_qwen2_dir, torch.bfloat16)
    candidate = disturbed(tied, 0.2)
    score = Scorer(tied, windows).score(candidate)
    kl, nll = plain_score(tied, candidate, windows)
    assert score.kl == pytest.approx(kl, rel=0.01)  # batches round differently in bfloat16
    assert score.nll == pytest.approx(nll, rel=1e-3)


@pytest.mark.parametrize(
    ("shape", "fill", "says"),
    [((2, 1), 0, "at least 2"), ((1, 300), 0, "context of 256"), ((1, 8), 10**6, "vocabulary"), ((1, 8), -1, "vocab")],
)
def test_bad_windows_are_refused(model, shape, fill, says):
    with pytest.raises(TextError, match=says):
        Scorer(model, torch.full(shape, fill, dtype=torch.int64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_far_candidates_keep_a_finite_divergence(model, windows, dtype):
    """Logits that move by hundreds leave the range of exp without a shift."""
    own = copy.deepcopy(model).to(dtype)
    scorer = Scorer(own, windows[:4])
    far = copy.deepcopy(own)
    with torch.no_grad():
        far.model.norm.weight *= 200
    with torch.no_grad():
        p, q = (m(windows[:4]).logits[:, :-1].double().log_softmax(-1) for m in (own, far))
    kl = float((p.exp() * (p - q)).sum(-1).mean())
    nll = float(-q.gather(-1, windows[:4, 1:, None]).mean())
    assert kl > 90
    score = scorer.score(far)
    assert score.kl == pytest.approx(kl, rel=0.01)
    assert score.nll == pytest.approx(nll, rel=0.01)


def test_bfloat16_does_not_round_the_difference_away(model, windows):
    """Logits of 20 in bfloat16 are off by 0.06, their differences are not: float64 from the very same states."""
    own = copy.deepcopy(model).bfloat16()
    with torch.no_grad():
        own.lm_head.weight *= 8
    candidate = disturbed(own, 0.02)
    with torch.no_grad():
        p, q = (
            (m.model(windows).last_hidden_state[:, :-1].double() @ own.lm_head.weight.double().T).log_softmax(-1)
            for m in (own, candidate)
        )
    assert p.min() < -15
    assert Scorer(own, windows).score(candidate).kl == pytest.approx(
        float((p.exp() * (p - q)).sum(-1).mean()), rel=2e-3
    )


def test_a_candidate_with_another_head_is_refused(model, windows):
    other = copy.deepcopy(model)
    scorer = Scorer(model, windows)
    scorer.score(other)  # an equal head in other memory
    with torch.no_grad():
        other.lm_head.weight[0, 0] += 1
    with pytest.raises(EvaluationError, match="head"):
        scorer.score(other)

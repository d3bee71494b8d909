"""The prefix cache: every score is that of the full pass, to the last bit, whatever was scored before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

import ramp.scoring.kl_divergence as kl_divergence
from ramp.models.architecture import list_linears
from ramp.scoring.kl_divergence import EvaluationError, Scorer
from ramp.scoring.prefix_cache import PrefixScorer, block_names

LAYERS, HIDDEN, VOCAB, OPTIONS = 5, 32, 61, 3
WINDOWS, LENGTH = 7, 24
PER_LAYER = 7
FAMILIES = {
    "llama": {},
    "mistral": {"sliding_window": 8},  # slides inside the windows, so that blocks get a mask
    "qwen2": {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2},  # masks differ by block
}


class Study:
    """A random model, ``OPTIONS`` weights for each of its linears, and how to write an allocation into it."""

    def __init__(self, family: str, dtype: torch.dtype) -> None:
        config = AutoConfig.for_model(
            family, vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=48, num_hidden_layers=LAYERS,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0,
            initializer_range=0.2, **FAMILIES[family],
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
        self.model.eval().requires_grad_(False)
        self.linears = list_linears(config)
        generator = torch.Generator().manual_seed(1)
        self.windows = torch.randint(VOCAB, (WINDOWS, LENGTH), generator=generator)
        self.weights = {}
        for x in self.linears:
            own = self.model.get_submodule(x.name).weight.clone()
            for option in range(OPTIONS):
                noise = torch.randn(own.shape, generator=generator) * own.float().std() * 0.1 * 2**option
                self.weights[x.name, option] = (own + noise).to(dtype)
        self.plain = Scorer(self.model, self.windows)

    def write(self, choice: np.ndarray) -> None:
        for x, option in zip(self.linears, choice, strict=True):
            self.model.get_submodule(x.name).weight.copy_(self.weights[x.name, int(option)])

    def names(self, choice: np.ndarray) -> list[tuple[int, ...]]:
        return block_names(self.linears, choice)


@pytest.fixture(scope="module", autouse=True)
def small_batches() -> Iterator[None]:
    """Three windows a batch, the last batch with one; slices and tiles that do not divide anything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kl_divergence, "BATCH_TOKENS", 3 * LENGTH)
        patch.setattr(kl_divergence, "CPU_SLICE", 50 * VOCAB)
        patch.setattr(kl_divergence, "CPU_TILE", 7 * VOCAB)
        yield


@pytest.fixture(scope="module", params=[(f, d) for f in FAMILIES for d in (torch.float32, torch.bfloat16)], ids=str)
def study(request: pytest.FixtureRequest, small_batches: None) -> tuple[Study, Any]:
    family, dtype = request.param
    made = Study(family, dtype)
    return made, made.model.state_dict()


def fresh_scorer(study: tuple[Study, Any], limit_bytes: int | None = None) -> PrefixScorer:
    """A scorer whose float model is the one that ``Study.plain`` was made of."""
    own, _ = study
    float_model = Study(own.model.config.model_type, own.model.dtype).model
    scorer = PrefixScorer(float_model, own.windows, limit_bytes)
    scorer._model = own.model  # candidates live in another copy of the same model
    return scorer


STATE_BYTES = WINDOWS * LENGTH * HIDDEN * 4


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    moves=st.lists(
        st.one_of(
            st.tuples(st.integers(0, LAYERS * PER_LAYER - 1), st.integers(0, OPTIONS - 1)),  # one linear changes
            st.integers(0, 2**16),  # all of them do, by this seed
        ),
        min_size=1,
        max_size=8,
    ),
    room=st.sampled_from([0, 1, 2, 3, 5, 9, 100]),
)
def test_any_walk_gives_the_scores_of_full_passes(study: Any, moves: list[Any], room: int) -> None:
    own, _ = study
    scorer = fresh_scorer(study, room * STATE_BYTES)
    choice = np.zeros(len(own.linears), dtype=np.int64)
    for move in moves:
        if isinstance(move, tuple):
            choice[move[0]] = move[1]
        else:
            choice = np.random.default_rng(move).integers(OPTIONS, size=len(own.linears))
        own.write(choice)
        expected = own.plain.score(own.model)
        assert scorer.score(own.model, own.names(choice)) == expected
        assert scorer.cache.nbytes <= room * STATE_BYTES
    assert expected.kl > 1e-4
    assert scorer.score(own.model) == expected  # and in full, without names


def blocks_run(scorer: PrefixScorer, own: Study, choice: np.ndarray) -> float:
    own.write(choice)
    before = scorer.computed_blocks
    scorer.score(own.model, own.names(choice))
    return (scorer.computed_blocks - before) / 3  # batches


def test_a_candidate_starts_at_its_first_new_block(study: Any) -> None:
    own, _ = study
    scorer = fresh_scorer(study)
    base = np.zeros(len(own.linears), dtype=np.int64)
    assert blocks_run(scorer, own, base) == LAYERS
    for block in (4, 1, 3, 2, 0):  # in any order: the prefixes of ``base`` stay known
        changed = base.copy()
        changed[block * PER_LAYER + 3] = 1
        assert blocks_run(scorer, own, changed) == LAYERS - block
    assert blocks_run(scorer, own, base) == 1  # what leaves the last block is not kept


def test_another_model_starts_anew(study: Any) -> None:
    own, _ = study
    scorer = fresh_scorer(study)
    choice = np.zeros(len(own.linears), dtype=np.int64)
    blocks_run(scorer, own, choice)
    other = Study(own.model.config.model_type, own.model.dtype)
    other.write(choice + 1)
    assert scorer.score(other.model, own.names(choice)) == own.plain.score(other.model)  # same names, other weights


def test_broken_candidates_leave_no_trace(study: Any) -> None:
    own, _ = study
    scorer = fresh_scorer(study)
    choice = np.ones(len(own.linears), dtype=np.int64)
    own.write(choice)
    own.model.get_submodule(own.linears[-1].name).weight[0, 0] = torch.nan
    broken = [*own.names(choice)[:-1], "broken"]
    assert np.isnan(scorer.score(own.model, broken).kl)
    own.write(choice)
    assert scorer.score(own.model, own.names(choice)) == own.plain.score(own.model)
    with pytest.raises(EvaluationError, match="4 names"):
        scorer.score(own.model, own.names(choice)[:-1])

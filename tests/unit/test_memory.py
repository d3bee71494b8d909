"""Budgets of memory: what is free is shared out, states go where they fit, and NaN is seen in one pass."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ramp.bank.bank import Bank
from ramp.evaluation.lm_eval_tasks import GPU_ANSWERS, answers_at_once
from ramp.models.memory import StateRoom, all_finite, free_bytes
from ramp.models.streamed_model import fits, model_bytes
from ramp.search import device_budget
from ramp.search.device_budget import share_device, share_out, working_bytes
from tests.model_folders import load_float, read_config

SHARES = {"search": 3, "selection": 1, "bank": 4}
GPU = torch.device("cuda")
LLAMA_7B = SimpleNamespace(hidden_size=4096, intermediate_size=11008, vocab_size=32000, max_position_embeddings=4096)


@given(free=st.integers(-5, 1000), wanted=st.tuples(*[st.integers(0, 600)] * 3))
def test_shares_are_within_what_is_free_and_wanted(free: int, wanted: tuple[int, int, int]) -> None:
    asked = dict(zip(SHARES, wanted, strict=True))
    given_ = share_out(free, asked, SHARES)
    assert sum(given_.values()) <= max(0, free)
    assert all(0 <= given_[name] <= asked[name] for name in asked)
    if sum(wanted) <= free:
        assert given_ == asked
    elif free > 0:
        assert sum(given_.values()) >= free - len(asked)  # nothing is left over but rounding


def test_what_one_leaves_goes_to_the_others() -> None:
    assert share_out(800, {"search": 900, "selection": 10, "bank": 900}, SHARES) == {
        "selection": 10, "bank": 790 * 4 // 7, "search": 790 - 790 * 4 // 7,
    }  # fmt: skip


def test_a_search_on_a_processor_keeps_its_constants_and_on_a_gpu_shares_what_is_left(
    tiny_llama_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, int] = {}

    def scorer(name: str, device: str, wanted: int) -> SimpleNamespace:
        return SimpleNamespace(
            device=torch.device(device), head=torch.zeros(1, dtype=torch.bfloat16),
            allocations_bytes=lambda count: count * wanted, keep=lambda size: kept.update({name: size}),
        )  # fmt: skip

    bank = SimpleNamespace(
        bytes=lambda: torch.tensor([[700 << 20]]), prepare=lambda model, room: kept.update(bank=room)
    )
    model = SimpleNamespace(config=LLAMA_7B)
    for device in ("cpu", "cuda"):
        kept.clear()
        free = working_bytes(LLAMA_7B, torch.bfloat16) + (800 << 20)
        monkeypatch.setattr(device_budget, "free_bytes", lambda device, free=free: free)
        share_device(model, bank, scorer("search", device, 1 << 30), scorer("selection", device, 1 << 30))
        expected = {"search": 300 << 20, "selection": 100 << 20, "bank": 400 << 20}
        assert kept == (expected if device == "cuda" else {})


def test_states_stay_on_the_device_until_its_share_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    placed = []
    monkeypatch.setattr("ramp.models.memory.free_bytes", lambda device: 4000)
    monkeypatch.setattr(torch, "empty", lambda *shape, dtype, **where: placed.append(where))
    room = StateRoom(GPU)  # half: 2,000 bytes
    for count in (300, 300, 150):  # of 4 bytes
        room.empty((count,), torch.float32)
    assert placed == [{"device": GPU}, {"pin_memory": True}, {"device": GPU}]


def test_states_of_a_processor_are_plain_tensors() -> None:
    states = torch.rand(2, 3)
    kept = StateRoom("cpu").keep(states)
    assert torch.equal(kept, states)
    assert kept.data_ptr() != states.data_ptr()


@pytest.mark.parametrize(("value", "finite"), [(1.0, True), (float("nan"), False), (float("inf"), False)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_value_that_is_not_finite_is_seen(value: float, finite: bool, dtype: torch.dtype) -> None:
    x = torch.zeros(3, 50, dtype=dtype)
    x[1, 17] = value
    assert bool(all_finite(x)) is finite


def test_bytes_of_a_model_count_a_tied_head_once(tiny_qwen2_dir: Path) -> None:
    loaded = load_float(tiny_qwen2_dir)
    config = read_config(tiny_qwen2_dir)
    assert model_bytes(config, torch.float32) == sum(p.nbytes for p in loaded.parameters())
    assert model_bytes(config, torch.bfloat16) * 2 == model_bytes(config, torch.float32)
    assert fits(config, torch.float32, torch.device("cpu"))
    assert free_bytes("cpu") > 1 << 20


def test_answers_at_once_follow_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert answers_at_once(LLAMA_7B, torch.device("cpu")) == 8
    found = []
    for free in (0, 10 << 30, 60 << 30, 1 << 50):
        monkeypatch.setattr("ramp.evaluation.lm_eval_tasks.free_bytes", lambda device, free=free: free)
        found.append(answers_at_once(LLAMA_7B, GPU))
    assert found == [1, 8, GPU_ANSWERS // 2, GPU_ANSWERS]


def test_a_bank_is_prepared_once_for_a_model(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """The room that a search gave is not lost at the first allocation."""
    from ramp.bank.build import build_bank

    build_bank(
        tiny_llama_dir, None, tmp_path / "bank", fold={}, fold_name="none", quantizer="rtn", widths=[3, 4],
        group_size=32, device="cpu",
    )  # fmt: skip
    bank, model = Bank(tmp_path / "bank"), load_float(tiny_llama_dir)
    bank.prepare(model, 123)
    before = bank._assembler
    assert bank.assemble(model, [0] * len(bank.linears)) == len(bank.linears)
    assert bank._assembler is before

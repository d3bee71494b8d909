"""Sizes that are asked for, the size of a file before it is written, and the knapsack over both."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramp.export.write import write_file
from ramp.models.folder import ModelFolder
from ramp.quantizers.ggml import NEEDS_IMPORTANCE
from ramp.sized_gguf.allocate import Frame, allocate, cheapest, check_size, file_bytes, plan_types, predicted_kl
from ramp.sized_gguf.size import SizeRequestError, memory_beside_weights, parse_size, weights_in
from ramp.sized_gguf.units import MENU, MenuError, Unit, check_menu, list_units
from tests.ggml_models import NARROW, WIDE
from tests.refusals import refused
from tests.tiny_models import random_llama


@pytest.fixture(scope="module", params=[(True, WIDE), (False, NARROW)], ids=["tied", "untied"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    tied, shape = request.param
    return ModelFolder(random_llama(tmp_path_factory.mktemp("model"), tied=tied, **shape))


def test_sizes_with_units() -> None:
    found = {text: parse_size(text) for text in ("90MB", " 90 mb ", "1.5GiB", "90000000", "2k", "3KiB", "7b", "0.1GB")}
    expected = [90 * 10**6, 90 * 10**6, 3 * 2**29, 90_000_000, 2000, 3072, 7, 10**8]
    assert list(found.values()) == expected
    assert parse_size("9" * 400) == int("9" * 400)
    bad = ("", "-5", "0", "nan", "inf", "1e9", "1_000", "5TB", "MB", "90MBs", "1iB", "\N{ARABIC-INDIC DIGIT THREE}MB")
    for text in bad:
        refused(SizeRequestError, {f"'{text}'": lambda text=text: parse_size(text)})


@given(st.integers(1, 10**15), st.sampled_from(["", "k", "m", "g"]))
def test_whole_sizes_are_exact(number: int, prefix: str) -> None:
    assert parse_size(f"{number}{prefix}B") == number * 1000 ** ["", "k", "m", "g"].index(prefix)


def test_memory_beside_weights(model: ModelFolder) -> None:
    config = model.config
    two, one = memory_beside_weights(config, 200), memory_beside_weights(config, 100)
    heads, width = config.num_key_value_heads, config.hidden_size // config.num_attention_heads
    assert two.cache == 200 * config.num_hidden_layers * heads * width * 2 * 2  # keys and values, 2 bytes each
    assert two.cache == 2 * one.cache
    assert weights_in(config, 10**8, 200) == 10**8 - two.cache - two.buffers
    calls = {
        "--context 257": lambda: weights_in(config, 10**8, 257),
        "--context 0": lambda: weights_in(config, 10**8, 0),
        "shorten --context": lambda: weights_in(config, two.cache, 200),
    }
    refused(SizeRequestError, calls)


@settings(max_examples=15)
@given(data=st.data())
def test_every_choice_of_types_has_the_predicted_size(
    model: ModelFolder, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """The bytes' content has no bearing on the size: zeros stand for them."""
    units = list_units(model.config)
    types = {unit.name: data.draw(st.sampled_from(unit.types)) for unit in units}
    planned = plan_types(model, types)
    arrays = [
        np.zeros(x.shape, np.float32) if x.type == "F32" else np.zeros(x.bytes, np.uint8).reshape(x.shape[0], -1)
        for x in planned
    ]
    path = tmp_path_factory.mktemp("file") / "a.gguf"
    write_file(path, model, planned, arrays, name="a name")
    assert path.stat().st_size == file_bytes(Frame.of(model, units, "a name"), units, types)


def test_size_outside_what_the_types_give(model: ModelFolder) -> None:
    units = list_units(model.config)
    frame = Frame.of(model, units, model.name)
    least = file_bytes(frame, units, cheapest(units))
    assert least == min(file_bytes(frame, units, {x.name: x.types[k % len(x.types)] for x in units}) for k in range(12))
    check_size(least, frame, units)
    calls = {
        f"has {least}": lambda: check_size(least - 1, frame, units),
        "float16": lambda: check_size(10**9, frame, units),
    }
    refused(SizeRequestError, calls)


class Costs(SimpleNamespace):
    """Part of a bank that an allocation reads."""


def bank_of(units: list[Unit], rng: np.random.Generator) -> Any:
    costs = {x.name: {kind: float(rng.random()) for kind in x.types} for x in units}
    return Costs(units=units, costs=costs, kept={x.name: sorted(x.types, key=x.bytes) for x in units})


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), share=st.floats(0, 1), count=st.integers(1, 4))
def test_knapsack_is_exhaustive_searchs_optimum(model: ModelFolder, seed: int, share: float, count: int) -> None:
    rng = np.random.default_rng(seed)
    every = list_units(model.config, ("Q3_K", "IQ4_NL", "Q4_0", "Q8_0"))
    units = [every[index] for index in sorted(rng.choice(len(every), count, replace=False))]
    bank, frame = bank_of(units, rng), Frame(int(rng.integers(0, 10**5)), 1)
    sizes = [sum(edge(x.room(kind) for kind in x.types) for x in units) for edge in (min, max)]
    size = frame.bytes + int(sizes[0] + share * (sizes[1] - sizes[0]))
    best = min(
        predicted_kl(bank, types)
        for choice in itertools.product(*(x.types for x in units))
        if file_bytes(frame, units, types := dict(zip((x.name for x in units), choice, strict=True))) <= size
    )
    found = allocate(bank, frame, size)
    assert file_bytes(frame, units, found) <= size
    assert predicted_kl(bank, found) == pytest.approx(best, rel=1e-9)


def test_types_that_a_tensor_may_have(model: ModelFolder) -> None:
    for unit in list_units(model.config):
        wide = unit.tensor.shape[1] % 256 == 0
        assert ("Q4_K" in unit.types) == wide
        assert "Q8_0" in unit.types
        if unit.tensor.kind == "embedding" and not model.tied:
            assert not NEEDS_IMPORTANCE & set(unit.types)
    assert check_menu(["q8_0", " Q4_K", "Q8_0"]) == ("Q4_K", "Q8_0")
    refused(MenuError, {"'Q9_Z'": lambda: check_menu(["Q9_Z"]), "''": lambda: check_menu([""])})


def test_menu_of_which_no_type_fits(tmp_path: Path) -> None:
    config = ModelFolder(random_llama(tmp_path / "m", **NARROW)).config
    refused(MenuError, {"rows of 64, 96": lambda: list_units(config, ("Q4_K", "Q6_K"))})
    odd = ModelFolder(random_llama(tmp_path / "odd", hidden_size=48, intermediate_size=80)).config
    refused(MenuError, {"rows of 48, 80": lambda: list_units(odd, MENU)})

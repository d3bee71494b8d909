"""Sizes against files that were really written, budgets, and widths: bits, or bits and a group size of their own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ramp.models.architecture import LinearSpec
from ramp.problem.budget import budget_bytes
from ramp.quantizers import sizes
from ramp.quantizers.affine import quantize_rtn
from ramp.quantizers.packing import to_tensors
from ramp.quantizers.sizes import linear_bytes
from ramp.quantizers.widths import SizeError, bits_of, group_of, grouped, make_menu, parse_width, split
from tests.refusals import refused


def linear(name: str, d_out: int, d_in: int) -> LinearSpec:
    return LinearSpec(name, 0, "q", d_out, d_in, "model.layers.0.attn_in", 0, False)


LINEARS = [linear("a", 64, 64), linear("b", 96, 192), linear("c", 5, 128)]


@pytest.mark.parametrize(
    ("d_in", "requested", "expected"),
    [(4096, 128, 128), (576, 128, 64), (96, 128, 32), (576, 64, 64), (172, 4, 4), (1024, 256, 256), (172, -1, 172)],
)
def test_group_size(d_in: int, requested: int, expected: int) -> None:
    assert sizes.group_size_for(d_in, requested) == expected


def test_no_group_size_is_one_sentence() -> None:
    calls = {
        "down_proj: rows of 172": lambda: sizes.group_size_for(172, 128, "down_proj"),
        "not positive": lambda: sizes.group_size_for(128, 0),
    }
    refused(sizes.SizeError, calls)


@given(st.integers(1, 9), st.sampled_from([32, 64, 96, 128, 172]), st.integers(2, 8), st.sampled_from([4, 32, 128, -1]))
def test_linear_bytes_are_those_of_the_packed_tensors(d_out: int, d_in: int, bits: int, requested: int) -> None:
    try:
        group_size = sizes.group_size_for(d_in, requested)
    except sizes.SizeError:
        return
    weight = torch.linspace(-1, 1, d_out * d_in).view(d_out, d_in)
    packed = to_tensors(quantize_rtn(weight, bits, group_size))
    assert sum(t.nbytes for t in packed.values()) == sizes.linear_bytes(d_out, d_in, bits, requested)


def test_budget() -> None:
    at = {bits: sizes.uniform_bytes(LINEARS, bits, 128) for bits in range(2, 9)}
    for bits, expected in at.items():
        assert budget_bytes(LINEARS, bits, 128) == expected
        assert budget_bytes(LINEARS, float(bits), 128) == expected
    assert budget_bytes(LINEARS, 3.65, 128) == (35 * at[3] + 65 * at[4]) // 100
    for wrong in (1.9, 8.1):
        with pytest.raises(sizes.SizeError, match="outside"):
            budget_bytes(LINEARS, wrong, 128)


@given(st.integers(200, 799))
def test_budget_is_monotone_and_between_its_neighbours(hundredths: int) -> None:
    low, high = (budget_bytes(LINEARS, x / 100, 128) for x in (hundredths, hundredths + 1))
    assert sizes.uniform_bytes(LINEARS, hundredths // 100, 128) <= low <= high


def test_bits_nominal() -> None:
    weighted, unweighted = sizes.bits_nominal({"a": 3, "b": 4, "c": 6}, LINEARS)
    assert weighted == pytest.approx((64 * 64 * 3 + 96 * 192 * 4 + 5 * 128 * 6) / (64 * 64 + 96 * 192 + 5 * 128))
    assert unweighted == pytest.approx(13 / 3)
    with pytest.raises(sizes.SizeError, match=" b"):
        sizes.bits_nominal({"a": 3, "c": 3}, LINEARS)


@pytest.mark.parametrize("bits", [1, 9, 3.5])
def test_width_outside_the_grid(bits: float) -> None:
    with pytest.raises(sizes.SizeError, match="not a width"):
        sizes.linear_bytes(8, 32, bits, 32)  # type: ignore[arg-type]  # 3.5 is wrong on purpose


GROUPS = [-1, 32, 48, 64, 128, 192, 576]
WIDTHS = st.one_of(
    st.integers(2, 8), st.builds(lambda bits, group: f"{bits}g{group}", st.integers(2, 8), st.sampled_from(GROUPS))
)


def test_both_forms() -> None:
    assert (split(4), split("3g32"), split("5g-1")) == ((4, None), (3, 32), (5, -1))
    assert (bits_of("3g32"), bits_of(3)) == (3, 3)
    assert (group_of("3g32", 128), group_of(3, 128), group_of("3g-1", 128)) == (32, 128, -1)
    assert [parse_width(value) for value in ("4", "4g64", 4)] == [4, "4g64", 4]
    assert grouped([3, "3g32"])
    assert not grouped([3, 4])


@pytest.mark.parametrize("value", ["3g", "g32", "3g0", "3g-2", "3G32", "three", "9g32", "1g32", 9, 1, "3g32 "])
def test_what_is_no_width(value: str | int) -> None:
    with pytest.raises(SizeError, match="is not a width"):
        parse_width(value)


def test_a_menu_rises_and_leaves_the_usual_group_out_of_a_name() -> None:
    assert make_menu([4, "3g32", 3, "3g-1", "3g192", "4g128", "3g64"], 128) == ["3g-1", "3g192", 3, "3g64", "3g32", 4]
    assert make_menu([6, 4, 4, 3], 128) == [3, 4, 6]
    assert make_menu(["3g64", 3], 64) == [3]


@given(st.lists(WIDTHS, min_size=1, max_size=12), st.sampled_from([32, 64, 128, -1]))
def test_a_menu_keeps_every_entry_and_rises_in_bytes(widths: list, group_size: int) -> None:
    menu = make_menu(widths, group_size)
    assert make_menu(menu, group_size) == menu
    assert {(bits_of(w), group_of(w, group_size)) for w in widths} == {
        (bits_of(w), group_of(w, group_size)) for w in menu
    }
    assert len({(bits_of(w), group_of(w, group_size)) for w in menu}) == len(menu)
    sizes = [linear_bytes(64, 1152, width, group_size) for width in menu]  # 1,152 is a multiple of every group here
    assert sizes == sorted(sizes)

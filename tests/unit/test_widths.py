"""Widths: bits, or bits and a group size of their own; their order, names and bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramp.quantizers.sizes import linear_bytes
from ramp.quantizers.widths import SizeError, bits_of, group_of, grouped, make_menu, parse_width, split

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

"""Time left of a search, as its log lines tell it."""

from __future__ import annotations

import logging

import pytest

from ramp.core import progress
from ramp.core.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that stands still until it is set."""
    now = {"s": 0.0}
    monkeypatch.setattr(progress.time, "monotonic", lambda: now["s"])
    return now


def test_time_left_follows_the_evaluations_of_now_not_the_replayed_ones(clock, caplog):
    caplog.set_level(logging.INFO)
    shown = Progress("search", 100)
    for done in range(1, 81):
        clock["s"] += 0.01 if done <= 60 else 7.0  # a journal's 60 evaluations, then 20 whole ones
        shown.show({"evals": done, "best": 0.2})
        if done == 60:
            assert "left" not in caplog.records[-1].getMessage(), "what was replayed predicts nothing"
    last = caplog.records[-1].getMessage()
    assert "80 of 100" in last
    assert "2 min left" in last  # 20 evaluations of 7 s


def test_one_evaluation_promises_no_time(clock, caplog):
    caplog.set_level(logging.INFO)
    Progress("search", 100).show({"evals": 1, "best": None})
    assert "left" not in caplog.records[-1].getMessage()


def test_several_rows_of_one_evaluation_count_once(clock, caplog):
    caplog.set_level(logging.INFO)
    shown = Progress("search", 20)
    for row in range(40):  # episodes that evaluate nothing new repeat the count
        clock["s"] += 3.0
        shown.show({"evals": 1 + row // 2, "best": 0.2})
    assert shown.left(10) == ", 60 s left"

"""Calls that should be refused, as a table: the words that a user has to see in each error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest


def refused(kind: type[Exception], calls: Mapping[str, Callable[[], Any]]) -> None:
    """Assert that every call raises ``kind`` with its words in a message of one line."""
    for words, call in calls.items():
        with pytest.raises(kind) as caught:
            call()
        message = str(caught.value)
        assert words in message, message
        assert "\n" not in message, message

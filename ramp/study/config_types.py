"""Patterns of names and small types that the sections of the configuration share."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, PlainValidator, StringConstraints, WithJsonSchema

from ramp.assets.registry import Role
from ramp.core.fault_words import value_text
from ramp.core.safe_name import LONGEST_NAME, SafeName
from ramp.core.safe_path import relative_parts
from ramp.quantizers import widths

DEVICE_PATTERN = r"^(auto|cpu|cuda(:[0-9]+)?)$"
METHOD_PATTERN = r"^[a-z][a-z0-9_]*$"
PATH_PATTERN = (
    r"^/?[^-./\\{}<>*?\[\],=:\x00-\x1f\x7f][^/\\{}<>*?\[\],=:\x00-\x1f\x7f]*(/[^/\\{}<>*?\[\],=:\x00-\x1f\x7f]+)*$"
)
GROUPED_PATTERN = r"^[2-8]g(-1|[1-9][0-9]*)$"
ROW_PATTERN = r"^[a-z][a-z0-9_]*-b[0-9]+(\.[0-9]+)?$"

Name = SafeName
"""A study, model, text or task: lower case, digits, dot, dash and underscore, because it becomes a file name."""
MethodName = Annotated[str, StringConstraints(pattern=METHOD_PATTERN, max_length=LONGEST_NAME)]
"""A method: a name that a file in ``baselines/`` registers."""


def _downwards(path: str) -> str:
    """Return a path that leads downwards; raise ``ValueError`` for others."""
    try:
        relative_parts(path.removeprefix("/"))
    except ValueError:
        raise ValueError(f"'{path}' is not allowed: use {PATH_WORDS}") from None
    return path


PATH_WORDS = r"a path without '..', braces, '<>*?[],=:' and '\'"
RelativePath = Annotated[str, StringConstraints(pattern=PATH_PATTERN), AfterValidator(_downwards)]
"""A path without ``..`` and what Snakemake and our own lists of files give a meaning; blanks and quotes are taken."""
RowName = Annotated[str, StringConstraints(pattern=ROW_PATTERN, max_length=LONGEST_NAME)]
"""A row without its seed: ``{method}-b{bits}``, for instance ``ramp-b3.65``; the float model is ``float-b16``."""
Count = Annotated[int, Field(gt=0, le=10**9)]
"""A number of tokens, windows, steps or evaluations."""
Item = TypeVar("Item", str, int)


def _once(items: list[Item]) -> list[Item]:
    """Return a list that repeats nothing; raise ``ValueError`` with all that is listed more than once."""
    repeated = dict.fromkeys(item for item in items if items.count(item) > 1)
    if repeated:
        names = ", ".join(f"'{item}'" for item in repeated)
        raise ValueError(f"{names} {'is' if len(repeated) == 1 else 'are'} listed twice")
    return items


def _rising(numbers: list[int]) -> list[int]:
    """Return numbers that rise; raise ``ValueError`` for others."""
    if sorted(set(numbers)) != numbers:
        raise ValueError(f"{numbers} should rise and repeat nothing")
    return numbers


Once = Annotated[list[Item], AfterValidator(_once)]
"""A list that repeats nothing."""
Rising = Annotated[list[Item], AfterValidator(_rising)]
"""Numbers that rise."""
DepthName = Literal["quick", "wide", "full", "exhaustive"]
Width = Annotated[int, Field(ge=2, le=8)]
"""Bits per weight of the affine grid."""


def menu_width(value: Any) -> widths.Width:
    """Read a width as ``ramp.quantizers.widths`` has it; ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{value_text(value)} should be bits (4), or bits and a group size of its own (4g32)")
    return widths.parse_width(value)


MenuWidth = Annotated[
    widths.Width,
    PlainValidator(menu_width),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 2, "maximum": 8}, {"type": "string", "pattern": GROUPED_PATTERN}]}
    ),
]
"""A width of mixed rows: bits in groups of ``group_size``, or bits and a group size of its own (``3g32``, ``4g-1``)."""
TextRoleName = Role
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""A seed that numpy and torch take."""
Track = Literal["q8_0", "fp16"]
"""How embedding and head are stored: in ggml's Q8_0, or in float16."""
CountOrAll = Count | None
"""How many; null means all there are."""

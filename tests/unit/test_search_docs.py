"""The page of switches names every switch, with its default where that is one plain value."""

import re

from ramp.agent.params import RampParams
from ramp.rl.additive_critic import SurrogateParams
from ramp.search.resume import ROOT

PAGE = (ROOT / "docs" / "search.md").read_text()
ROWS = [line.split("|")[1:3] for line in PAGE.splitlines() if line.startswith("| `")]
NAMED = {name for names, _ in ROWS for name in re.findall(r"`([\w.]+)`", names)}


def test_every_switch_is_on_the_page_and_nothing_else() -> None:
    own = set(RampParams.model_fields) - {"reward", "sac", "surrogate"}
    assert own | {"surrogate.text"} == NAMED


def shown(default: object) -> str:
    """A default as the page writes it."""
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, tuple):
        return {9: "nine budgets"}[len(default)]
    return "all" if default is None else f"{default:g}" if isinstance(default, int | float) else str(default)


def test_the_page_has_the_defaults() -> None:
    params, surrogate = RampParams(), SurrogateParams()
    for names, default in ROWS:
        found = re.findall(r"`([\w.]+)`", names)
        owners = [surrogate if name.startswith("surrogate.") else params for name in found]
        pairs = zip(owners, found, strict=True)
        defaults = [shown(getattr(owner, name.removeprefix("surrogate."))) for owner, name in pairs]
        assert default.strip() == ", ".join(defaults), names

"""RAMP with our defaults: every addition to the paper's scheme on (ramp/agent/)."""

from ramp.agent.params import RampParams
from ramp.agent.search_loop import search
from ramp.methods.kinds import Allocator

METHOD = Allocator(
    title="RAMP (ours)",
    source="after arXiv:2603.17891, warm-started and masked",
    learned=True,
    allocate=search,
    params=RampParams,
)

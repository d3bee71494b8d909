"""Costs of searches: evaluations of assembled candidates, and what a method learns between them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ramp.agent.params import RampParams
from ramp.methods.kinds import SearchParams
from ramp.methods.loader import parse_params
from ramp.plan.evaluation_costs import CARD_BATCH, SLICE_BYTES, SOFTMAX
from ramp.plan.pass_operations import KERNELS, block_products, head_products
from ramp.plan.quantities import Facts
from ramp.plan.work import Work, compared_again
from ramp.quantizers.widths import Width
from ramp.study.league_plan import LeagueRun
from ramp.study.model_shape import ModelShape

if TYPE_CHECKING:
    from pydantic import BaseModel

FINALISTS = 5
"""Allocations that are compared on selection text at the end of a search (``SearchParams.finalists``)."""

CHANGED = 0.85
"""Share of the blocks that a candidate runs: the inputs of those before its first change are kept. Arithmetic."""

UPDATE_S = 0.0065
"""Seconds of one core for a gradient step of an agent. Measured on the smoke study: 1,000 steps in 6.5 s."""

DECISION_S = 0.0006
"""Seconds of one core for an agent's decision on one linear."""

RESIDENT_BYTES = 3 << 30
"""De-quantized entries of the bank and hidden states that a search on a processor keeps, at most."""

KEPT_SEARCH, KEPT_SELECTION = 4, 2
"""Allocations whose hidden states are of use on a card, of both texts (``ramp.search.device_budget``)."""


def evaluation(
    facts: Facts, shape: ModelShape, tokens: int, length: int, *, first: bool = False, share: float = CHANGED
) -> Work:
    """Return one candidate: its linears de-quantized, a forward pass in the study's dtype and one through the head.

    products = 2 * weights * ``share`` of blocks that changed + 2 * vocabulary * hidden, per token. A float reference
    (``first``) runs all blocks, and takes two passes through the head more.
    """
    half = facts.half_bytes(shape)
    share = 1.0 if first else share
    heads = 3 if first else 1
    return Work(
        half=share * block_products(shape, tokens, length) + heads * head_products(shape, tokens),
        moved=(0 if first else 8 * half * share * shape.linear_params)
        + heads * SOFTMAX * half * tokens * shape.vocab_size,
        steps=share * KERNELS * shape.num_hidden_layers * max(1, tokens / CARD_BATCH) + 10 * len(shape.linears),
    )


def searched(
    facts: Facts, model: str, method: str, evals: int, text: tuple[int, int, int], widths: list[Width]
) -> Work:
    """Return a search: references of both texts, its evaluations, its finalists on selection text, the agent's steps.

    text: tokens of search and of selection text, length of a window. The whole model is on the device in the study's
    dtype, with the float model's probabilities of both texts and the activations of a batch, and where there is room
    the packed bank and the hidden states of some earlier candidates.
    """
    shape = facts.shape(model)
    half = facts.half_bytes(shape)
    search_tokens, selection_tokens, length = text
    if not isinstance(method_params(facts, method), SearchParams):
        selection_tokens = 0  # it does not search, and compares no finalists
    parts = [(evaluation(facts, shape, search_tokens, length, first=True), 1),
             (evaluation(facts, shape, search_tokens, length), evals)]  # fmt: skip
    if selection_tokens:
        parts += [(evaluation(facts, shape, selection_tokens, length, first=True), 1),
                  (evaluation(facts, shape, selection_tokens, length), min(FINALISTS, evals) + 1)]  # fmt: skip
    bank = shape.menu_bytes(widths, facts.plan.study.group_size)
    kept = (search_tokens + selection_tokens) * (8 * shape.hidden_size + (2 * shape.vocab_size if half == 2 else 0))
    state = half * shape.hidden_size * shape.num_hidden_layers  # of a token
    states = state * max(search_tokens, selection_tokens)
    working = CARD_BATCH * (4 * shape.hidden_size + 3 * shape.intermediate_size) * half + SLICE_BYTES * 3 // 4
    return Work(
        half=sum(count * each.half for each, count in parts),
        moved=sum(count * each.moved for each, count in parts),
        steps=sum(count * each.steps for each, count in parts),
        core_s=learning(facts, method, evals, len(shape.linears)) + compared_again(bank),
        disk=2 * shape.params * shape.float_bytes + bank,
        uses_gpu=True,
        device_bytes=half * shape.params + kept + working,
        wanted_bytes=bank + state * (KEPT_SEARCH * search_tokens + KEPT_SELECTION * selection_tokens),
        host_bytes=4 * sum(x.params for x in shape.block),
        core_bytes=half * shape.params + kept + min(RESIDENT_BYTES, half * shape.linear_params * len(widths) + states),
        output_bytes=1e6,
    )


def method_params(facts: Facts, method: str) -> BaseModel:
    """Return the parameters of a method or variant."""
    return parse_params(facts.plan.method(method), facts.plan.params(method))


def learning(facts: Facts, method: str, evals: int, linears: int) -> float:
    """Return the seconds of one core for the decisions and gradient steps of an agent."""
    params = method_params(facts, method)
    if not isinstance(params, RampParams):
        return 0.0
    episodes = max(0, evals - params.warmup_episodes)
    steps = params.updates_per_episode * episodes
    if params.updates_total:
        steps = min(steps, params.updates_total + episodes)
    cloned = params.clone_steps + params.distil_steps
    return UPDATE_S * (steps + cloned) + DECISION_S * evals * linears


def search(facts: Facts, model: str, method: str, budget: str, seed: str) -> Work:
    """Return the work of one search; a method that draws nothing has one evaluation."""
    return searched(facts, model, method, facts.evals(model, method), facts.search(), facts.plan.study.widths)


def learn(facts: Facts, model: str, method: str, budget: str, seed: str) -> Work:
    """Return the work of a search that leaves a policy."""
    return search(facts, model, method, budget, seed)


def transfer(facts: Facts, model: str, method: str) -> Work:
    """Return the work of a policy applied once to every linear, without an evaluation."""
    shape, study = facts.shape(model), facts.plan.study
    bank = shape.menu_bytes(study.widths, study.group_size)
    return Work(
        core_s=DECISION_S * len(shape.linears) + compared_again(bank),
        disk=shape.params * shape.float_bytes + bank,
        host_bytes=4 * sum(x.params for x in shape.block), output_bytes=1e5,
    )  # fmt: skip


def league_run(facts: Facts, model: str, method: str, budget: str, evals: str, seed: str) -> Work:
    """Return the work of a search of the league, with its incumbents at every checkpoint on held-out text."""
    league = facts.plan.league
    grid = league.section.grids[league.named[LeagueRun(model, method, budget, int(evals), int(seed))]]
    text, heldout = league.search(grid), league.heldout(grid)
    lengths = (text.windows * text.length, (text.selection_windows or text.windows) * text.length, text.length)
    spent = 1 if facts.plan.base_of(method) in facts.plan.study.deterministic else int(evals)
    work = searched(facts, model, method, spent, lengths, facts.plan.study.widths)
    points = len(grid.checkpoints) + 2
    each = evaluation(facts, facts.shape(model), heldout.windows * heldout.length, heldout.length)
    return replace(work, half=work.half + points * each.half, moved=work.moved + points * each.moved)


def enumeration(facts: Facts, model: str, units: str) -> Work:
    """Return the work of scoring every allocation of the last units once, from the first of their blocks on."""
    optimum, shape = facts.plan.league.optimum, facts.shape(model)
    tokens = optimum.text.windows * optimum.text.length
    allocations = len(optimum.widths) ** optimum.count
    per_block = 2 if optimum.units == "halves" else len(shape.block)
    share = min(1.0, optimum.count / per_block / shape.num_hidden_layers)
    body = share * block_products(shape, tokens, optimum.text.length) / 2
    return Work(
        float32=allocations * (body + head_products(shape, tokens)),
        moved=allocations * SOFTMAX * 4 * tokens * shape.vocab_size,
        steps=allocations * KERNELS * shape.num_hidden_layers * share / 2,
        host_bytes=8 * shape.params, output_bytes=16 * allocations,
    )  # fmt: skip


def optimum_run(facts: Facts, model: str, units: str, method: str) -> Work:
    """Return the work of an allocator whose evaluations are looked up: its own steps alone."""
    optimum = facts.plan.league.optimum
    runs = len(optimum.budgets) * len(facts.plan.seeds(method, optimum.seeds))
    return Work(core_s=runs * learning(facts, method, optimum.checkpoints[-1], optimum.count), output_bytes=1e5)

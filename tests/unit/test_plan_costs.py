"""Costs of a study: operations and bytes of small cases by hand, devices, resources, refusals, the timeline."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants

from ramp.assets.registry import Asset
from ramp.calibration import block
from ramp.calibration.stream import stream
from ramp.core.errors import RampError
from ramp.methods.kinds import SearchParams
from ramp.plan import calibration_costs, evaluation_costs, export_costs, refusal, search_costs
from ramp.plan.__main__ import main as plan_main
from ramp.plan.beside_run import check
from ramp.plan.devices import CARDS, UnknownDevice, find_device, known_as, processor
from ramp.plan.dry_run import Job
from ramp.plan.job_costs import FORMULAS, JobCosts
from ramp.plan.pass_operations import block_products, gptq, gptq_steps, head_products, moments, site_errors, site_share
from ramp.plan.quantities import Facts
from ramp.plan.refusal import DoesNotFit, Downloads, Room, check_room, refuse
from ramp.plan.resources import WITHOUT_GPU, RuleResources
from ramp.plan.table import LAST, plan_study, smallest_card, stage_of
from ramp.plan.timeline import run
from ramp.plan.work import CONTEXT_BYTES, FILLED, GPU_PROCESS_BYTES, HASH_BANDWIDTH, Cost, Work, cost
from ramp.problem.budget import budget_bytes
from ramp.quantizers import awq
from ramp.quantizers.gptq import SWEEP_BYTES
from ramp.rows.sequential_quantization import quantize_model
from ramp.scoring.kl_divergence import BATCH_TOKENS, GPU_BATCHES, GPU_SLICE
from ramp.search import device_budget
from ramp.sensitivity import fisher
from ramp.study.model_shape import ModelShape, SizeUnknown, shape_of
from ramp.study.temporary_files import passes
from tests.plans import REPO, plan_of
from tests.refusals import refused

GGML_ROW = "ramp-b4-s0-ggml"
TINY = ModelShape("llama", 8, 16, 2, 2, 1, 10, 64)  # two blocks: q o 8x8, k v 4x8, gate up 16x8, down 8x16
CORE = replace(processor(), float32=1e9, half=1e9, bandwidth=1e9, step_s=1e-6, start_s=1.0)
CARD = replace(CARDS["h200"], float32=1e12, half=1e13, bandwidth=1e11, step_s=1e-5, start_s=5.0, memory=100 * 2**30)


@pytest.fixture(scope="module")
def paper() -> Facts:
    return Facts(plan_of("paper.yaml"))


# --- sizes and operations ------------------------------------------------------------------------------------------


def test_sizes_in_the_registry_are_those_of_the_papers_models(paper: Facts) -> None:
    """Weights of Llama-2-7B tensor by tensor, those of the others in billions."""
    llama = paper.shape("llama-2-7b")
    assert llama.linear_params == 6_476_005_376
    assert llama.table_params == 2 * 131_072_000
    billions = {name: round(paper.shape(name).params / 1e9, 2) for name in paper.plan.models}
    assert billions == {"llama-2-7b": 6.74, "llama-2-13b": 13.02, "mistral-7b-v0.1": 7.24, "llama-3-8b": 8.03}


def test_products_of_a_model_of_two_blocks_by_hand() -> None:
    block = 2 * 64 + 2 * 32 + 3 * 128  # weights
    assert TINY.linear_params == 2 * block == 1152
    assert TINY.sites == {"attn_in": (8, 16), "o_in": (8, 8), "mlp_in": (8, 32), "down_in": (16, 8)}
    assert block_products(TINY, 100, 6) == 100 * (2 * 1152 + 2 * 6 * 8 * 2)
    assert head_products(TINY, 100) == 100 * 2 * 80
    assert moments(TINY, 100) == 100 * 9 / 8 * 2 * (3 * 64 + 256)
    assert site_errors(TINY) == 2 * 2 * (64 * (8 + 4 + 4 + 8 + 16 + 16) + 256 * 8)
    assert site_errors(TINY, rows=4) == 2 * 2 * (64 * 6 * 4 + 256 * 4)
    assert gptq(TINY, 3) == 2 * (3 * (64 * 56 + 256 * 8) + 3 * 512 + 4096)
    assert gptq_steps(TINY, 2, sweep_bytes=8 * 8 * 16) == 2 * 6 * (8 * 2 + 8 * 1 + 8 * 4 + 16 * 2)
    assert [site_share(TINY, kind) for kind in TINY.sites] == [0, 128 / 576, 192 / 576, 448 / 576]


@pytest.mark.parametrize("bits", [3, 3.65, 4.0])
def test_bytes_of_a_row_are_those_of_its_budget(bits: float) -> None:
    llama = ModelShape("llama", 256, 512, 3, 4, 2, 1000, 64)
    assert abs(llama.packed_bytes(bits, 128) - budget_bytes(llama.linears, bits, 128)) <= 1


def test_a_block_runs_again_for_each_site_where_activations_are_large(paper: Facts) -> None:
    small = Facts(plan_of("smoke.yaml"))
    assert (
        calibration_costs.sequential_passes(small, "tiny-llama-s")
        == calibration_costs.whole_pass(small, "tiny-llama-s")
        == 1
    )
    assert calibration_costs.sequential_passes(paper, "llama-2-7b") == pytest.approx(
        1 + 0.249 + 0.332 + 0.777, abs=1e-3
    )


def test_a_reference_has_one_pass_through_the_head_and_a_row_two(paper: Facts) -> None:
    llama = paper.shape("llama-2-7b")
    tokens, length = paper.evaluated("llama-2-7b", ["wikitext2"])
    assert tokens == 303_415 // 2048 * 2048
    once = evaluation_costs.reference(paper, "llama-2-7b", "wikitext2").half
    assert once == block_products(llama, tokens, length) + head_products(llama, tokens)
    tokens, length = paper.evaluated("llama-2-7b")
    row = evaluation_costs.evaluate(paper, "llama-2-7b", "gptq-b4-s0")
    assert row.half == block_products(llama, tokens, length) + 2 * head_products(llama, tokens)


def test_a_search_pays_for_every_evaluation_and_a_knapsack_for_one(paper: Facts) -> None:
    ramp, knapsack = (search_costs.search(paper, "llama-2-7b", name, "3.65", "0") for name in ("ramp", "knapsack"))
    tokens, _, length = paper.search()
    assert tokens == 16 * 512
    llama = paper.shape("llama-2-7b")
    each, reference = (
        search_costs.evaluation(paper, llama, tokens, length, first=first).half for first in (False, True)
    )
    # beside its other evaluations, RAMP compares its finalists and its start on selection text, of the same length
    assert ramp.half - knapsack.half == pytest.approx((149 + 5 + 1) * each + reference)
    whole = search_costs.evaluation(paper, llama, tokens, length, share=1.0).half
    assert whole - each == pytest.approx((1 - search_costs.CHANGED) * block_products(llama, tokens, length))
    assert ramp.core_s > knapsack.core_s
    assert ramp.device_bytes > 2 * paper.shape("llama-2-7b").params


def test_all_bytes_of_packages_and_mixes_pass_and_weights_off_our_grid_are_float32(paper: Facts) -> None:
    row = {"model": "llama-2-7b", "budget": "4", "seed": "0"}
    for rule, method in (("package", "gptqmodel_gptq"), ("package_row", "gptqmodel_gptq"), ("static_mix", "q4_k_m")):
        work = JobCosts.on(paper, CARDS["h200"]).work(rule, {**row, "method": method})
        assert work.passing_bytes == work.output_bytes > 3e9
    costs = JobCosts.on(paper, CARDS["h200"])
    linears = 4 * paper.shape("llama-2-7b").linear_params
    dense = costs.work("package_row", {**row, "method": "hqq_proximal"})
    assert dense.output_bytes == pytest.approx(linears + 2 * 262_144_000)  # and two tables in float16
    assert costs.work("package", {**row, "method": "hqq_proximal"}).output_bytes > linears
    reading = costs.work("evaluate", {"model": "llama-2-7b", "row": "hqq_proximal-b4-s0"}).disk
    assert reading > 2 * linears > costs.work("evaluate", {"model": "llama-2-7b", "row": "rtn-b4-s0"}).disk


def test_a_package_holds_what_its_method_file_says(paper: Facts) -> None:
    """Four bytes a weight where it loads float32; AWQ's search the inputs of a block on all of the text in 16 bits."""
    weights, tokens = paper.shape("llama-2-7b").params, 262_144
    streamed = calibration_costs.streamed(paper, "llama-2-7b", 2.0, hessians=True)

    def beside(method: str) -> tuple[float, float]:
        work = JobCosts.on(paper, CARDS["h200"]).work(
            "package", {"model": "llama-2-7b", "method": method, "budget": "4"}
        )
        return work.host_bytes - streamed.host_bytes, work.device_bytes - streamed.device_bytes

    assert beside("gptqmodel_gptq") == beside("autoround") == (4 * weights, 0)
    assert beside("autogptq_gptq") == beside("llmcompressor_gptq") == (4 * weights, 4 * weights)
    inputs, widest = 2 * tokens * (3 * 4096 + 11008), 2 * 2 * tokens * 11008
    assert beside("autoawq_awq") == (2 * weights + inputs, 2 * weights + widest)
    assert beside("gptqmodel_awq") == (2 * weights + inputs, widest)


def test_scores_of_grouped_heads_are_counted_where_they_are_kept(paper: Facts) -> None:
    """Mistral's and Llama-3's attention in float32 on a card; none in bfloat16 or with a key for each query."""
    scores = 13 * 4 * 2048 * 2048 * 32  # bytes of a score, windows, length^2, heads
    for model, more in (("mistral-7b-v0.1", scores), ("llama-3-8b", scores), ("llama-2-7b", 0)):
        shape = paper.shape(model)
        without = calibration_costs.block_bytes(shape, 8192, hessians=True)
        assert calibration_costs.streamed(paper, model, 1.0, hessians=True).device_bytes == without + more
        assert calibration_costs.streamed(paper, model, 1.0, hessians=True).core_bytes == without
    wide = Facts(plan_of("paper.yaml", dtype="float32"))
    shape, batch = paper.shape("mistral-7b-v0.1"), evaluation_costs.CARD_BATCH
    more = (
        evaluation_costs.scored(wide, shape, 1e5, 2048, 1).device_bytes
        - evaluation_costs.scored(wide, shape, 1e5, 0, 1).device_bytes
    )
    assert more == 13 * batch * 2048 * 32
    half = [evaluation_costs.scored(paper, shape, 1e5, length, 1).device_bytes for length in (0, 2048)]
    assert half[0] == half[1]


def test_a_text_of_the_hub_takes_the_bytes_that_the_registry_gives(paper: Facts) -> None:
    work = JobCosts.on(paper, CARDS["h200"]).work("fetch", {"asset": "c4-train"})
    assert work.download == work.output_bytes == 319e6


def test_what_a_core_does_while_a_job_holds_the_card_is_planned(paper: Facts) -> None:
    """Checksums of rows and banks by one core, blocks of GGUF files by the job's threads; no packing of codes."""
    llama, threads = paper.shape("llama-2-7b"), paper.plan.study.threads
    assert threads == 4
    made = calibration_costs.quantize(paper, "llama-2-7b", "gptq", "4")
    assert made.core_s == paper.row_bytes("llama-2-7b", "gptq", "4") / HASH_BANDWIDTH
    packed, ggml, plain = (
        evaluation_costs.evaluate(paper, "llama-2-7b", row) for row in ("gptq-b4-s0", GGML_ROW, "float-b16-s0")
    )
    assert packed.core_s == made.core_s
    assert ggml.core_s == llama.params / evaluation_costs.DEQUANTIZED_PER_S / threads
    assert plain.core_s == 0
    assert export_costs.halo_check(paper, "llama-2-7b", "ramp-b4-s0").core_s > ggml.core_s
    assert export_costs.halo_export(paper, "llama-2-7b", "ramp", "4").spread


def test_a_large_file_is_hashed_by_its_first_reader_a_small_one_by_each(paper: Facts) -> None:
    llama = paper.shape("llama-2-7b")
    bank = llama.menu_bytes(paper.plan.study.widths, 128)
    assert calibration_costs.sensitivity(paper, "llama-2-7b", "awq", "gptq").core_s == bank / HASH_BANDWIDTH
    assert search_costs.search(paper, "llama-2-7b", "knapsack", "3.65", "0").core_s == 0
    assert calibration_costs.calibration(paper, "llama-2-7b").core_s == 2 * llama.params / HASH_BANDWIDTH
    small = Facts(plan_of("smoke.yaml"))
    bank = small.shape("tiny-llama-s").menu_bytes(small.plan.study.widths, small.plan.study.group_size)
    assert search_costs.search(small, "tiny-llama-s", "knapsack", "3.65", "0").core_s == bank / HASH_BANDWIDTH


def test_a_weight_takes_the_bytes_of_its_checkpoints_dtype(paper: Facts) -> None:
    """Both dtypes of the paper's models have 16 bits; a model that is trained here has 32."""
    assert {paper.half_bytes(paper.shape(name)) for name in paper.plan.models} == {2}
    tiny = Facts(plan_of("smoke.yaml", dtype="checkpoint"))
    assert tiny.half_bytes(tiny.shape("tiny-llama-s")) == 4
    assert Facts(plan_of("paper.yaml", dtype="float32")).half_bytes(paper.shape("llama-2-7b")) == 4


def test_a_model_of_unknown_sizes_is_named_with_the_cure(tmp_path: Path) -> None:
    registry = plan_of("paper.yaml").registry
    bare = registry.model_copy(update={"assets": {"mine": registry.get("llama-2-7b").model_copy(update={"sizes": {}})}})
    with pytest.raises(SizeUnknown, match=r"'mine'.*'sizes'"):
        shape_of("mine", bare, tmp_path)
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(
        '{"model_type": "llama", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "vocab_size": 10, '
        '"num_attention_heads": 2, "max_position_embeddings": 64, "dtype": "bfloat16", "rope_theta": 1.0}'
    )
    found = shape_of("mine", bare, tmp_path)
    assert (found.num_key_value_heads, found.float_bytes) == (2, 2)
    local = registry.model_copy(
        update={
            "assets": {
                "mine": Asset.model_validate(
                    {"type": "model", "licence": "x", "sources": [{"kind": "path", "path": str(folder)}]}
                )
            }
        }
    )
    assert shape_of("mine", local, tmp_path / "elsewhere") == found
    (folder / "config.json").write_text('{"model_type": "llama", "hidden_size": 8}')
    with pytest.raises(SizeUnknown, match="num_hidden_layers"):
        shape_of("mine", bare, tmp_path)


# --- devices -------------------------------------------------------------------------------------------------------


def test_work_becomes_seconds_on_a_card_and_on_cores() -> None:
    work = Work(float32=2e12, half=1e13, moved=1e11, steps=1e5, disk=1e9, uses_gpu=True, device_bytes=1e9, host_bytes=7)
    there = cost(work, CARD, CORE)
    assert there.seconds == pytest.approx(2 + 1 + 1 + 1 + 1 + 5)
    assert (there.gpu, there.host_bytes) == (True, 7 + GPU_PROCESS_BYTES)
    here = cost(work, CORE, CORE, threads=2)
    assert here.seconds == pytest.approx(6000 + 100 + 0.1 + 1 + 1)
    assert (here.gpu, here.device_bytes, here.least_bytes) == (False, 0, 0)
    beside = cost(replace(work, uses_gpu=False), CARD, CORE)
    assert not beside.gpu
    assert beside.seconds > 1e4


def test_a_job_takes_what_it_wants_as_far_as_the_card_goes() -> None:
    small, large = (cost(Work(uses_gpu=True, device_bytes=1e9, wanted_bytes=w), CARD, CORE) for w in (1e9, 1e12))
    assert small.device_bytes == 2e9 + CONTEXT_BYTES
    assert large.device_bytes == FILLED * CARD.memory
    assert small.least_bytes == large.least_bytes == 1e9 + CONTEXT_BYTES
    assert smallest_card(0) == ""
    assert smallest_card(20e9) == "rtx-4090"
    assert smallest_card(1e12) == "none"


def test_an_unknown_device_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownDevice, match=r"did you mean 'h200'"):
        find_device("h20")
    assert find_device("cpu").name == "cpu"


@pytest.mark.parametrize(
    ("name", "gib", "wanted"),
    [
        ("NVIDIA H200", 140, "h200"),
        ("NVIDIA A100-SXM4-40GB", 40, "a100-40"),
        ("NVIDIA A100 80GB PCIe", 80, "a100-80"),
        ("NVIDIA GeForce RTX 4090", 24, "rtx-4090"),
        ("Some Other Card", 32, "some-other-card"),
    ],
)
def test_a_drivers_name_finds_its_card(name: str, gib: int, wanted: str) -> None:
    found = known_as(name, gib * 2**30)
    assert (found.name, found.memory) == (wanted, gib * 2**30)


# --- what rules ask for --------------------------------------------------------------------------------------------


def resources(file: str, **change: Any) -> RuleResources:
    return RuleResources(JobCosts.on(Facts(plan_of(file, **change)), CARDS["h200"]), 1)


ROW = {"model": "llama-2-7b", "method": "gptq", "budget": "4", "seed": "0"}


def test_rules_ask_for_memory_time_and_a_card() -> None:
    asked = resources("paper.yaml")
    found = {name: ask(SimpleNamespace(items=ROW.items)) for name, ask in asked.of_rule("quantize").items()}
    planned = asked.costs.cost("quantize", ROW)
    assert found["gpu"] == 1
    assert found["runtime"] >= 2 * planned.seconds / 60
    assert found["mem_mb"] > planned.host_bytes / 1e6
    assert 8_000 < found["gpu_mem_mb"] < 24_000
    assert asked.ask("halo_export", "gpu", ROW) == 0
    assert resources("paper.yaml", memory_mb=123).ask("quantize", "mem_mb", ROW) == 123


def test_jobs_of_a_model_of_unknown_sizes_ask_for_something(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resources("paper.yaml")

    def unknown(*given: Any) -> None:
        raise SizeUnknown("not yet")

    monkeypatch.setattr("ramp.plan.quantities.shape_of", unknown)
    assert asked.ask("bank", "mem_mb", {"model": "llama-2-7b", "fold": "awq", "quantizer": "gptq"}) > 0
    assert not asked.known


def test_rules_of_unknown_models_ask_for_a_card_where_their_command_leases_one() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (REPO / "workflow" / "rules").glob("*.smk"))
    parts = re.findall(r"^(?:use rule (\w+) as|rule) (\w+)(.*?)(?=^use rule |^rule |\Z)", text, flags=re.M | re.S)
    stands = {name: body for old, name, body in parts if not old}
    bodies = {name: stands.get(old, "") + body for old, name, body in parts}
    leases = {name: "gpu_lease" in body for name, body in bodies.items() if "planned_for(" in body}
    assert sum(leases.values()) > 10
    assert {name for name, leased in leases.items() if not leased} == set(WITHOUT_GPU)


def test_every_rule_that_asks_has_a_formula_and_every_formula_a_rule() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (REPO / "workflow" / "rules").glob("*.smk"))
    asked = set(re.findall(r'planned_for\("(\w+)"\)', text))
    rules = set(re.findall(r"^(?:rule|use rule \w+ as) (\w+)", text, re.M))
    assert asked <= set(FORMULAS) <= rules
    assert len(asked) > 25


def test_what_passes_is_named_once() -> None:
    assert passes("bank/m/awq-gptq/bank.safetensors")
    assert passes("quantized/{model}/{row}-{track}/model.safetensors")
    assert passes("halo/m/float-b16-s0.gguf")
    assert passes("quantized/m/q4_k_m-b4-s0-ggml/model.gguf")
    for kept in (
        "halo/m/ramp-b4-s0.gguf",
        "quantized/m/r/meta.json",
        "allocations/m/ramp/4/0.json",
        "bank/m/b/bank.json",
    ):
        assert not passes(kept)


# --- refusals ------------------------------------------------------------------------------------------------------


def needing(**sizes: float) -> Cost:
    empty = Cost(1, True, True, 0, 0, 0, 0, 0, 0, 0, "arithmetic")
    return replace(empty, **sizes)


def test_a_machine_without_a_core_or_a_card_is_refused() -> None:
    cases = {f"{option} 0: give at least one": partial(plan_main, [option, "0"]) for option in ("--cores", "--gpus")}
    refused(RampError, cases)


def test_what_cannot_fit_is_refused_in_one_sentence() -> None:
    jobs = [("search llama-2-13b", needing(least_bytes=30e9, host_bytes=8e9)), ("bank", needing(least_bytes=9e9))]
    with pytest.raises(DoesNotFit, match=r"search llama-2-13b needs 30\.0 GB of GPU memory"):
        refuse(jobs, 1e9, Room(24e9, 64e9, 1e12), study="paper")
    with pytest.raises(DoesNotFit, match="host memory"):
        refuse(jobs, 1e9, Room(80e9, 6e9, 1e12), study="paper")
    with pytest.raises(DoesNotFit, match=r"'paper' needs 300\.0 GB of disk"):
        refuse(jobs, 300e9, Room(80e9, 64e9, 200e9), study="paper")
    assert refuse(jobs, 300e9, Room(80e9, 64e9, 1e12), study="paper") == []
    assert refuse(jobs, 1e9, Room(0, float("inf"), 1e12), study="elsewhere") == []
    (warning,) = refuse(jobs, 300e9, Room(80e9, 64e9, 400e9), study="paper")
    assert "disk" in warning


def test_what_the_hubs_cache_cannot_hold_is_refused_where_it_lies_on_another_disk(
    paper: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HF_HOME on a small disk: what is there already need not fit again."""
    costs = JobCosts.on(paper, CARDS["h200"])
    jobs = [Job("fetch", {"asset": name}, (), (f"R/{name}",), "") for name in ("llama-2-7b", "c4-train", "commonsense")]
    size = 2 * paper.shape("llama-2-7b").params
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(refusal, "machine_memory", lambda: 1e12)
    free = {str(tmp_path / "hub"): 10e9}
    monkeypatch.setattr(refusal, "free_disk", lambda folder: free.get(str(folder), 1e12))
    check_room(costs, jobs, jobs_run_here=True)  # one disk
    monkeypatch.setattr(refusal, "same_disk", lambda one, other: False)
    with pytest.raises(DoesNotFit, match=rf"'paper' needs {(size + 319e6) / 1e9:.1f} GB for downloads.*HF_HOME"):
        check_room(costs, jobs, jobs_run_here=True)
    check_room(costs, jobs, jobs_run_here=False)  # nodes of a cluster have a cache of their own
    blobs = tmp_path / "hub" / "models--meta-llama--Llama-2-7b-hf" / "blobs"
    blobs.mkdir(parents=True)
    with (blobs / "shard").open("wb") as file:
        file.truncate(size)
    assert check_room(costs, jobs[:1], jobs_run_here=True) == []
    found = Downloads.of(costs, [(job, costs.cost(job.rule, job.wildcards)) for job in jobs])
    assert (found.wanted, found.there) == (size + 319e6, size)


def test_bytes_that_the_cache_holds_already_need_no_disk(
    paper: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = JobCosts.on(paper, CARDS["h200"])
    jobs = [Job("fetch", {"asset": "llama-2-7b"}, (), ("R/llama-2-7b",), "")]
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(refusal, "same_disk", lambda one, other: True)
    monkeypatch.setattr(refusal, "free_disk", lambda folder: 1e9)
    with pytest.raises(DoesNotFit, match=r"13\.5 GB of disk"):
        check_room(costs, jobs, jobs_run_here=True)
    blobs = tmp_path / "models--meta-llama--Llama-2-7b-hf" / "blobs"
    blobs.mkdir(parents=True)
    with (blobs / "shard").open("wb") as file:
        file.truncate(2 * paper.shape("llama-2-7b").params)
    check_room(costs, jobs, jobs_run_here=True)


# --- the timeline --------------------------------------------------------------------------------------------------


def made(rule: str, inputs: str, output: str, priority: int = 0) -> Job:
    return Job(rule, {}, tuple(inputs.split()), (output,), "", priority)


def rows(count: int, priority: int) -> list[Job]:
    """A model, rows of it, and a reader of each row."""
    files = [f"R/quantized/m/r{k}/model.safetensors" for k in range(count)]
    jobs = [made("model", "", "R/models/m")]
    jobs += [made("quantize", "R/models/m", file) for file in files]
    return jobs + [made("evaluate", file, f"R/metrics/{k}", priority) for k, file in enumerate(files)]


def test_a_row_goes_when_its_reader_is_done_and_readers_go_first() -> None:
    costs = [needing(seconds=1.0)]
    costs += [needing(seconds=2.0, output_bytes=10.0, passing_bytes=10.0)] * 4 + [needing(seconds=3.0)] * 4
    late, early = (run(rows(4, priority), costs, results="R", held=False, cores=8, threads=1) for priority in (0, 10))
    assert late.seconds == early.seconds == 1 + 4 * 5  # one card
    assert (late.peak_bytes, early.peak_bytes, early.left_bytes) == (40, 10, 0)
    held = run(rows(4, 10), costs, results="R", held=True, cores=8, threads=1)
    assert (held.peak_bytes, held.left_bytes) == (40, 40)
    assert run(rows(4, 10), costs, results="R", held=False, cores=8, threads=1, gpus=4).seconds == 6


def test_jobs_beside_the_card_run_with_it_and_scratch_counts_while_they_run() -> None:
    jobs = [made("quantize", "", "R/a"), made("halo_check", "", "R/b"), made("collect", "R/a R/b", "R/c")]
    costs = [needing(seconds=5.0), needing(seconds=4.0, gpu=False, scratch_bytes=7.0), needing(seconds=1.0, gpu=False)]
    found = run(jobs, costs, results="R", held=False, cores=2, threads=1)
    assert (found.seconds, found.gpu_seconds, found.core_seconds) == (6, 5, 5)
    assert (found.peak_bytes, found.left_bytes) == (7, 0)


# --- the table, the check --------------------------------------------------------------------------------------------


def test_the_table_has_a_line_for_every_stage_and_counts_what_is_done() -> None:
    costs = JobCosts.on(Facts(plan_of("paper.yaml")), CARDS["h200"])
    jobs = [Job("quantize", {**ROW, "seed": str(seed)}, (), (f"R/{seed}",), "") for seed in range(3)]
    jobs.append(Job("claims", {}, (), ("R/claims.json",), ""))
    plan = plan_study(costs, jobs, jobs[1:], cores=4)
    assert [(line.stage, line.jobs, line.done) for line in plan.lines] == [
        ("quantizing", 3, 1),
        ("records and paper", 1, 0),
    ]
    assert plan.total.jobs == 4
    assert plan.total.hours == pytest.approx(plan.timeline.seconds / 3600)
    assert [line.basis for line in plan.lines] == ["arithmetic", "measured"]
    assert stage_of("learn") == stage_of("search") == "searches"


def test_a_plan_is_compared_with_logs(tmp_path: Path) -> None:
    costs = JobCosts.on(Facts(plan_of("smoke.yaml")), CORE)
    jobs = []
    for number, end in enumerate(
        ("done in 9.0 s, with 4.0 s of processor time and 300 MiB of memory at peak", "killed")
    ):
        log = tmp_path / f"{number}.log"
        log.write_text(f"00:00:01 began\n00:00:02 {end}\n")
        jobs.append(Job("claims", {}, (), (str(number),), str(log)))
    (stage, total) = check(costs, jobs)
    assert (stage.jobs, stage.hours_run) == (1, 4 / 3600)
    assert total.ratio == pytest.approx(costs.cost("claims", {}).seconds / 4)
    with pytest.raises(RampError, match="run the study"):
        check(costs, jobs[1:])


def test_every_formula_has_a_stage_and_constants_are_the_stages_own() -> None:
    assert {rule for rule in FORMULAS if stage_of(rule) == LAST} == set()
    assert (evaluation_costs.BATCH_TOKENS, evaluation_costs.CARD_BATCH) == (BATCH_TOKENS, GPU_BATCHES * BATCH_TOKENS)
    kept = (device_budget.SEARCH_ALLOCATIONS, device_budget.SELECTION_ALLOCATIONS)
    assert kept == (search_costs.KEPT_SEARCH, search_costs.KEPT_SELECTION)
    assert calibration_costs.SEEN_BYTES == fisher.SEEN_BYTES
    assert evaluation_costs.SLICE_BYTES == 4 * 4 * GPU_SLICE
    assert calibration_costs.ACTIVATION_BYTES == block.ACTIVATION_BYTES
    assert {default(stream, "batch"), default(quantize_model, "batch")} == {calibration_costs.BATCH}
    assert (calibration_costs.CANDIDATES, calibration_costs.FINALISTS) == (
        awq.GRID - 1,
        awq.FINALISTS,
    )  # r = 0 is no candidate
    assert calibration_costs.SWEEP_BYTES == default(gptq_steps, "sweep_bytes") == SWEEP_BYTES
    assert SearchParams().finalists == search_costs.FINALISTS


def default(function: Callable[..., Any], argument: str) -> Any:
    return inspect.signature(function).parameters[argument].default

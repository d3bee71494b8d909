"""A file against what llama.cpp itself makes and counts: its quantizer's bytes, its tool's perplexity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ramp.core.errors import RampError
from ramp.export.llamacpp_check import transformers_nll
from ramp.export.write import export
from ramp.models.token_windows import JOIN, read_documents
from ramp.sized_gguf import against_mixes
from ramp.sized_gguf.llama_perplexity import check_characters, chunks_of, llama_perplexity, second_half
from ramp.sized_gguf.rival import check_bytes, float_file
from tests.ggml_models import Made
from tests.refusals import refused
from tests.tiny_models import write_text
from tests.unit.test_sized_gguf_bank import written

pytest.importorskip("cyllama")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("verification"), "untied", menu=("Q4_0", "IQ4_NL", "Q8_0"))


def test_chunks_and_what_is_scored_of_them() -> None:
    """As perplexity.cpp: first = n_ctx / 2, n_ctx - first - 1 tokens are scored, the first token becomes <bos>."""
    assert chunks_of(list(range(10)), None, 2, 4) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert chunks_of(list(range(10)), 99, 2, 4) == [[99, 1, 2, 3], [99, 5, 6, 7]]
    nll = np.arange(511)  # of tokens 1 to 511, each given those before it
    assert (second_half(nll)[0], len(second_half(nll))) == (256, 512 - 256 - 1)
    refused(RampError, {"2 chunks of 4 tokens": lambda: chunks_of(list(range(10)), None, 3, 4)})


def test_perplexity_of_llama_cpps_tool_equals_transformers_on_the_same_tokens(made: Made, tmp_path: Path) -> None:
    text = write_text(tmp_path / "text.jsonl", "the cat sat on the mat and looked at the dog ", 60)
    export(made.model.path, tmp_path / "float.gguf")
    found = llama_perplexity(tmp_path / "float.gguf", text, count=2, context=128, threads=1)
    tokenizer = made.model.tokenizer()
    joined = JOIN.join(document.text for document in read_documents(text))
    ids = tokenizer(joined).input_ids
    begin = ids[0] if ids[0] == tokenizer.bos_token_id else None
    chunks = torch.tensor(chunks_of(ids, begin, 2, 128))
    nll = transformers_nll(made.model.load_float(), chunks)
    assert found == pytest.approx(np.exp(np.mean([second_half(row) for row in nll])), rel=1e-3)
    assert found != pytest.approx(np.exp(nll.mean()), rel=1e-4)  # the first half counts for nothing


def test_characters_at_which_llama_cpp_ends_are_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    letters = Tokenizer(models.BPE(vocab={"<unk>": 0, "a": 1, "b": 2, "\n": 3}, merges=[], unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, unk_token="<unk>")
    model: Any = SimpleNamespace(name="tiny", tokenizer=lambda: tokenizer)
    check_characters(model, write_text(tmp_path / "known.jsonl", "ab"), "known.txt")
    odd = write_text(tmp_path / "odd.jsonl", "abé")
    refused(RampError, {"odd.txt has characters": lambda: check_characters(model, odd, "odd.txt")})


def test_bytes_are_compared_with_llama_cpps_quantizer(made: Made, tmp_path: Path) -> None:
    source = float_file(made.model, tmp_path)
    types = {unit.name: made.bank.kept[unit.name][0] for unit in made.units}
    path = written(made, types, tmp_path / "ours.gguf")
    assert check_bytes(path, types, source, made.imatrix, 1).ok
    other = dict(types) | {made.units[3].name: made.bank.kept[made.units[3].name][-1]}
    found = check_bytes(written(made, other, path), types, source, made.imatrix, 1)
    assert (found.check, found.value, found.ok) == ("tensors_unlike_llama_cpp", 1, False)
    refuses = check_bytes(path, types, tmp_path / "ours.gguf", made.imatrix, 1)  # quantized already
    assert refuses.value == len(made.units) + 5
    assert not list(tmp_path.glob("*-llama.gguf"))


def test_the_float_file_of_the_mixes_is_checked(made: Made, tmp_path: Path) -> None:
    text = write_text(tmp_path / "text.jsonl", "the cat sat on the mat and looked at the dog ", 60)
    texts = SimpleNamespace(held_out=text)
    job = against_mixes.Job(made.model, "m", made.units, None, 0, None, texts, tmp_path, tmp_path, 1)  # type: ignore[arg-type]
    checks = against_mixes.check_float(job)
    assert {check.file for check in checks} == {"float.gguf"}
    assert all(check.ok for check in checks)
    assert next(check.limit for check in checks if check.check == "perplexity_difference") == 0.001
    (tmp_path / "float.gguf").unlink()
    assert against_mixes.check_float(replace(job, texts=None)) == checks  # type: ignore[arg-type]  # kept

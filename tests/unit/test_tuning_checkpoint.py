"""Checkpoints that a killed training goes on from: whole, or set aside; and a full disk is one sentence."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
import torch

from ramp.core import tensors
from ramp.core.faults import sentence
from ramp.tuning.resume import Progress, keep, resumed


def trained(steps: int) -> tuple[list[torch.nn.Parameter], torch.optim.Adam]:
    """Return two parameters, one of which never has a gradient, after some steps."""
    torch.manual_seed(0)
    changes = [torch.nn.Parameter(torch.randn(3, 2)), torch.nn.Parameter(torch.zeros(2))]
    optimizer = torch.optim.Adam(changes, lr=0.1)
    for step in range(steps):
        step_on(changes, optimizer, step)
    return changes, optimizer


def step_on(changes: list[torch.nn.Parameter], optimizer: torch.optim.Adam, step: int) -> None:
    optimizer.zero_grad()
    ((changes[0] - step) ** 2).sum().backward()
    optimizer.step()


def test_training_goes_on_with_the_same_numbers(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    changes, optimizer = trained(3)
    keep(path, changes, optimizer, Progress([0.1, 1 / 3, 2.0], 1.25))
    again, other = trained(0)
    done = resumed(path, again, other)
    assert (done.losses, done.wall_s) == ([0.1, 1 / 3, 2.0], 1.25)
    for step in (3, 4):
        step_on(changes, optimizer, step)
        step_on(again, other, step)
    assert all(torch.equal(one, two) for one, two in zip(changes, again, strict=True))


@pytest.mark.parametrize("place", [-1, -30, 40, 0])
def test_one_bit_is_enough_to_begin_again(tmp_path: Path, place: int) -> None:
    path = tmp_path / "checkpoint.safetensors"
    changes, optimizer = trained(3)
    keep(path, changes, optimizer, Progress([1.0], 1.0))
    data = bytearray(path.read_bytes())
    data[place] ^= 0x40
    path.write_bytes(data)
    tensors._compared.clear()
    again, other = trained(0)
    before = again[0].detach().clone()
    assert resumed(path, again, other) == Progress()
    assert torch.equal(again[0], before)
    assert not other.state_dict()["state"]
    assert (tmp_path / "checkpoint.safetensors.damaged-1").is_file()


def test_a_checkpoint_of_another_student_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    keep(path, *trained(1), Progress([1.0], 1.0))
    other = [torch.nn.Parameter(torch.zeros(4))]
    assert resumed(path, other, torch.optim.Adam(other)) == Progress()
    assert not path.exists()


def test_a_checkpoint_too_large_for_its_disk_is_one_sentence(tmp_path: Path) -> None:
    changes = [torch.nn.Parameter(torch.zeros(100_000))]
    optimizer = torch.optim.Adam(changes)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
            keep(tmp_path / "checkpoint.safetensors", changes, optimizer, Progress())
        except BaseException as error:
            status = 0 if "ulimit -f" in (sentence(error) or "") else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(tmp_path.iterdir()) == []

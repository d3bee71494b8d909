"""A pretended GPU for a machine without one: tensors compute on the processor and say that they lie on ``pgpu:0``.

    python -m tests.pretended_gpu COMMANDS.json RESULTS.json

runs command lines of stages (lists of a module and its arguments) one after another, and writes an empty text or the
end of the traceback for each. An operation raises where CUDA's would: tensors of two devices, an index on the wrong
one, numpy of a tensor that is not on the host, a generator of the host for a draw on the device. A command whose first
word is ``free=BYTES`` runs with that much free memory on the device.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from tests.sealed import read_json

aten = torch.ops.aten
NAME = "pgpu"
FREE = 20 << 30

CROSSES = {aten.copy_.default, aten._to_copy.default, aten.set_.source_Tensor}
"""Operations between devices."""

INDEXES = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
"""A tensor of the device takes indices of either device, one of the host only its own."""


class DeviceError(RuntimeError):
    """An operation that CUDA refuses."""


class PretendedTensor(torch.Tensor):
    """A tensor on the pretended device, with its values in a tensor of the host."""

    host: torch.Tensor

    @staticmethod
    def __new__(cls, host: torch.Tensor) -> PretendedTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls, host.size(), strides=host.stride(), storage_offset=host.storage_offset(), dtype=host.dtype,
            layout=host.layout, device=torch.device("cpu"), requires_grad=False, dispatch_device=True,
        )  # fmt: skip
        made.host = host
        return made

    def __repr__(self, **options: Any) -> str:
        return f"PretendedTensor({self.host!r})"

    def tolist(self) -> Any:
        return self.host.tolist()

    def numpy(self, *args: Any, **options: Any) -> Any:
        raise DeviceError("numpy() of a tensor on the device: call .cpu() first")

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise DeviceError("numpy array of a tensor on the device: call .cpu() first")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


def on_device(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def mapped(call: Callable[[Any], Any], value: Any) -> Any:
    """Return a value with ``call`` of everything in its lists, tuples and dictionaries.

    This is torch's ``tree_map`` for what operators take and give, at a fraction of its time: it is called for each.
    """
    kind = type(value)
    if kind in (tuple, list) or kind.__module__ == "torch.return_types":
        return kind([mapped(call, each) for each in value])
    if kind is dict:
        return {key: mapped(call, each) for key, each in value.items()}
    return call(value)


def check(func: Any, args: Any, tensors: list[torch.Tensor], kwargs: dict[str, Any]) -> None:
    """Raise ``DeviceError`` where CUDA would; a number of the host (0 dimensions) goes with any tensor."""
    ours = [x for x in tensors if isinstance(x, PretendedTensor)]
    others = [x for x in tensors if not isinstance(x, PretendedTensor) and x.dim() > 0 and x.device.type != "meta"]
    if ours and isinstance(generator := kwargs.get("generator"), torch.Generator) and not on_device(generator.device):
        raise DeviceError(f"{func}: a generator of the host draws on the device")
    if not ours or not others or func in CROSSES or (func in INDEXES and isinstance(args[0], PretendedTensor)):
        return
    raise DeviceError(f"{func}: tensors on {NAME}:0 and on the host")


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Call an operation with the tensors of the host; its results lie where CUDA's would."""
    if func is torch.ops.prim.device.default:
        return torch.device(NAME, 0)
    tensors: list[torch.Tensor] = []
    mapped(lambda x: tensors.append(x) if isinstance(x, torch.Tensor) else None, (args, kwargs))
    check(func, args, tensors, kwargs)
    known = {id(x.host): x for x in tensors if isinstance(x, PretendedTensor)}
    given = {id(x.host) if isinstance(x, PretendedTensor) else id(x) for x in tensors}
    named = [kwargs["device"]] if kwargs.get("device") is not None else [x for x in args if isinstance(x, torch.device)]
    ours = on_device(named[0]) if named else bool(known)
    if func in CROSSES and not named:
        ours = isinstance(args[0], PretendedTensor)

    def to_host(x: Any) -> Any:
        if isinstance(x, PretendedTensor):
            return x.host
        return torch.device("cpu") if isinstance(x, torch.device) and x.type == NAME else x

    def wrap(x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or isinstance(x, PretendedTensor):
            return x
        if id(x) in known and (ours or not named):  # in place, or a move to where it is
            return known[id(x)]
        if named and id(x) in given:  # a move that is none on the processor must not share memory
            x = x.clone() if ours or id(x) in known else x
        return PretendedTensor(x) if ours else x

    options = {name: value for name, value in kwargs.items() if name not in ("pin_memory", "non_blocking")}
    return mapped(wrap, func(*mapped(to_host, args), **mapped(to_host, options)))


class PretendedDevice(TorchDispatchMode):
    """While it is entered, tensors are made on the device that was asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {})


class Memory:
    """Memory that the device claims to have."""

    free = FREE


@contextlib.contextmanager
def pretended() -> Iterator[None]:
    """Give this process the device ``pgpu:0``, for good; operations are watched until the block ends.

    To be entered before a stage is imported.
    """
    import transformers

    _setup_privateuseone_for_python_backend(NAME)
    torch.cuda.mem_get_info = lambda device=None: (Memory.free, 2 * FREE)
    torch.cuda.memory_reserved = torch.cuda.memory_allocated = lambda device=None: 0
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.autocast = lambda *args, **options: contextlib.nullcontext()  # transformers asks for none
    torch.inference_mode = torch.no_grad  # views of inference tensors need a real one
    tensor, load = torch.tensor, transformers.AutoModelForCausalLM.from_pretrained

    def made(data: Any, *args: Any, device: Any = None, **options: Any) -> torch.Tensor:
        found = tensor(data, *args, device=None if on_device(device) else device, **options)
        return PretendedTensor(found) if on_device(device) else found

    def loaded(*args: Any, **options: Any) -> Any:  # its lazy buffers do not survive the mode
        with _disable_current_modes():
            model = load(*args, **options)
            for module in model.modules():  # rotary buffers, which no file holds, are left as allocated here
                if hasattr(module, "original_inv_freq"):
                    model._init_weights(module)
            return model

    torch.tensor = made
    transformers.AutoModelForCausalLM.from_pretrained = loaded
    with PretendedDevice():
        yield


def outcome(words: Sequence[str]) -> str:
    """Run one command line; return the end of its traceback, or nothing."""
    asked = words[0].partition("=")
    Memory.free = int(asked[2]) if asked[0] == "free" else FREE
    module, *arguments = words[1:] if asked[0] == "free" else words
    try:
        found = importlib.import_module(module)
        stage = found if hasattr(found, "main") else importlib.import_module(f"{module}.__main__")
        status = stage.main(arguments)
    except BaseException:
        return "".join(traceback.format_exc().splitlines(keepends=True)[-12:])
    return f"exit status {status}" if status else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    commands, results = map(Path, sys.argv[1:] if argv is None else argv)
    with pretended():
        found = [outcome(words) for words in read_json(commands)]
    results.write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Arithmetic that gives the same bytes on every x86-64 processor with AVX2.

torch takes its matrix products from MKL, and on contiguous tensors exp, log and sqrt too. MKL chooses its code by the
processor's maker and instruction set, so that an AMD and an Intel processor round differently. In ``reproducible``
arithmetic the products, the Cholesky factor and the triangular solution come from OpenBLAS with its Haswell kernels on
one thread, through numpy and scipy; a large product is cut into pieces that depend on its shape alone, and the threads
share the pieces. The elementary functions come from numpy and scipy. torch's own kernels are limited to AVX2 and to
one thread, because they split a sum over a whole tensor by the number of threads. Causal attention works in the
processor's cache (``ramp.core.attention``). Nothing changes on a GPU; on a
machine that has one, attention on the processor stays torch's too.

``fast`` arithmetic leaves torch as it is. benchmarks/stability.py measures where two machines part with it.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ramp.core.errors import RampError
from ramp.core.provenance import cpuinfo
from ramp.core.torch_import_hook import WhenTorchIsImported

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    import torch
    from torch import Tensor

REPRODUCIBLE, FAST = "reproducible", "fast"
KINDS = (REPRODUCIBLE, FAST)

X86 = platform.machine() in ("x86_64", "AMD64")
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    **(
        {
            "OPENBLAS_CORETYPE": "Haswell",  # kernels and blocks of AVX2 with FMA, on processors of both makers
            "ATEN_CPU_CAPABILITY": "avx2",
            "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
        }
        if X86
        else {}
    ),
}
"""Variables that the libraries read when they are loaded."""

COMMANDS = ("ramp", "paper", "benchmarks", "workflow", "tests")
"""Packages whose modules are run with ``python -m``."""
PIECE = 512
"""Rows or columns of a matrix product that one call of BLAS makes."""
PIECE_LIMIT = 1 << 22
"""Multiplications below which a product is not cut."""
FLAT_PIECE = 1 << 18
"""Elements of an elementary function that one call makes."""

ELEMENTARY = {
    **{name: f"numpy.{name}" for name in ("exp", "log", "log10", "sqrt", "sin", "cos", "tan", "tanh")},
    **{name: f"numpy.arc{name[1:]}" for name in ("asin", "acos", "atan")},
    **{name: f"scipy.special.{name}" for name in ("erf", "erfc", "erfinv")},
}
"""Functions that torch may take from MKL (ATen/cpu/vml.h), with the function that replaces each."""


class _Kernels:
    """The arithmetic of this process, its replaced kernels, and the threads that share their pieces."""

    kind: str = FAST
    library: Any = None
    pool: ThreadPoolExecutor | None = None
    threads: int | None = None  # what was asked for before torch was there
    sharing: int = 1  # threads that share the pieces of one operation


def demanded(arguments: Sequence[str]) -> str:
    """Return the arithmetic that a command line asks for; ``reproducible`` where it does not say."""
    values = [after for option, after in pairwise(arguments) if option == "--arithmetic"]
    values += [word.partition("=")[2] for word in arguments if word.startswith("--arithmetic=")]
    return values[-1] if values else REPRODUCIBLE


def in_force() -> str:
    """Return the arithmetic of this process."""
    return _Kernels.kind


def threads_in_use() -> int:
    """Return the threads that share one operation: of the pool in reproducible arithmetic, else torch's own."""
    import torch

    return torch.get_num_threads() if _Kernels.library is None else _Kernels.sharing


def prepare(arguments: Sequence[str]) -> None:
    """Set the arithmetic of a process that is one of the project's commands, before a stage computes anything.

    The process starts itself anew where numpy was loaded without ``ENVIRONMENT``. Raises ``RampError`` as ``enable``.
    """
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is None or spec.name.partition(".")[0] not in COMMANDS:
        return  # a test or a notebook that calls a stage: its arithmetic is its own
    _Kernels.kind = demanded(arguments)
    if _Kernels.kind == FAST:
        return
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.environ.update(ENVIRONMENT)
        if "numpy" in sys.modules:
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    if "torch" in sys.modules:
        enable()
    else:
        sys.meta_path.insert(0, WhenTorchIsImported(lambda: enable(_Kernels.threads)))


def has_avx2() -> bool:
    """Return whether the processor has AVX2 and FMA; True where the system does not tell."""
    flags = cpuinfo("flags").split()
    return not flags or {"avx2", "fma"} <= set(flags)


def as_it_is(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without ``ENVIRONMENT``, for programs of others, which are run as their users run them."""
    return {name: value for name, value in environment.items() if name not in ENVIRONMENT}


def set_threads(count: int) -> None:
    """Let a stage use ``count`` threads of the processor; torch need not be there yet."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    _Kernels.threads = count
    if "torch" not in sys.modules:
        return
    import torch

    if _Kernels.kind == REPRODUCIBLE:
        enable(count)
    else:
        torch.set_num_threads(count)


def enable(threads: int | None = None) -> None:
    """Replace torch's kernels on a processor; ``threads`` share the pieces of one operation (None: all processors).

    Raises ``RampError`` where the processor lacks AVX2.
    """
    from concurrent.futures import ThreadPoolExecutor

    import torch

    if X86 and not has_avx2():
        raise RampError(
            "this processor has no AVX2, which reproducible arithmetic needs: "
            "pass --arithmetic fast, in a study `reproducible: false`"
        )
    threads = threads or os.cpu_count() or 1
    _Kernels.sharing = threads
    _Kernels.pool = ThreadPoolExecutor(threads) if threads > 1 else None
    torch.set_num_threads(1)
    if _Kernels.library is not None:
        return
    torch.backends.mkldnn.set_flags(False)
    # One switch for both devices: flash attention on a processor calls MKL, on a GPU it is wanted.
    torch.backends.cuda.enable_flash_sdp(torch.cuda.is_available())
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that kernels are replaced
        for name, kernel in _kernels().items():
            library.impl(name, kernel, "CPU", allow_override=True)
        if not torch.cuda.is_available():
            for key in ("CPU", "AutogradCPU"):  # torch makes it of other operators, which have gradients of their own
                library.impl("scaled_dot_product_attention", _attention, key, allow_override=True)
    _Kernels.library = library


def _kernels() -> dict[str, Callable[..., Any]]:
    """Return the operators of torch that are replaced, with their kernels."""
    found: dict[str, Callable[..., Any]] = {
        "mm": _mm,
        "mm.out": _out(_mm),
        "addmm": _addmm,
        "addmm_": _in_place(_addmm),
        "addmm.out": _out(_addmm),
        "bmm": _bmm,
        "bmm.out": _out(_bmm),
        "baddbmm": _baddbmm,
        "baddbmm_": _in_place(_baddbmm),
        "baddbmm.out": _out(_baddbmm),
        "mv": lambda matrix, vector: _mm(matrix, vector[:, None])[:, 0],
        "dot": lambda one, other: _mm(one[None], other[:, None])[0, 0],
        "linalg_cholesky_ex": _cholesky,
        "linalg_solve_triangular": _solve_triangular,
    }
    for name, function in ELEMENTARY.items():
        kernel = _elementary(function)
        found |= {name: kernel, f"{name}_": _in_place(kernel), f"{name}.out": _out(kernel)}
    return found


def _in_place(kernel: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the form of a kernel that writes into its first argument."""
    return lambda first, *rest, **options: first.copy_(kernel(first, *rest, **options))


def _out(kernel: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the form of a kernel that writes into ``out``."""

    def call(*given: Any, out: Tensor, **options: Any) -> Tensor:
        made = kernel(*given, **options)
        return out.resize_(made.shape).copy_(made)

    return call


def share(work: Callable[[slice], Any], count: int, piece: int) -> None:
    """Call ``work`` with every run of at most ``piece`` of ``count`` places, on the pool's threads."""
    runs = [slice(start, start + piece) for start in range(0, count, piece)]
    if _Kernels.pool is None or len(runs) < 2:
        for run in runs:
            work(run)
    else:
        list(_Kernels.pool.map(work, runs))


def _kind(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that numpy computes with: float32 for those of 16 bits."""
    import torch

    return dtype if not dtype.is_floating_point or dtype.itemsize > 2 else torch.float32


def _array(tensor: Tensor) -> np.ndarray:
    """Return a tensor as numpy sees it, with its strides."""
    return tensor.detach().to(_kind(tensor.dtype)).numpy()


def _mm(one: Tensor, other: Tensor) -> Tensor:
    """Return the product of [m, k] and [k, n]."""
    import numpy as np
    import torch

    left, right = _array(one), _array(other)
    rows, columns = one.shape[0], other.shape[1]
    made = torch.empty((rows, columns), dtype=_kind(one.dtype))
    into = made.numpy()
    if rows * columns * one.shape[1] <= PIECE_LIMIT:
        np.matmul(left, right, out=into)
    elif rows >= columns:
        share(lambda run: np.matmul(left[run], right, out=into[run]), rows, PIECE)
    else:
        share(lambda run: np.matmul(left, right[:, run], out=into[:, run]), columns, PIECE)
    return made.to(one.dtype)


def _bmm(one: Tensor, other: Tensor) -> Tensor:
    """Return the products of [b, m, k] and [b, k, n]; each is made by one call, whatever shares them."""
    import numpy as np
    import torch

    left, right = _array(one), _array(other)
    made = torch.empty((len(one), one.shape[1], other.shape[2]), dtype=_kind(one.dtype))
    into = made.numpy()
    small = made.numel() * one.shape[2] <= PIECE_LIMIT
    share(lambda run: np.matmul(left[run], right[run], out=into[run]), len(one), len(one) if small else 1)
    return made.to(one.dtype)


def _addmm(added: Tensor, one: Tensor, other: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """Return beta * added + alpha * product; ``added`` is not read where beta is 0."""
    return _plus(added, _mm(one, other), beta, alpha)


def _baddbmm(added: Tensor, one: Tensor, other: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """Return beta * added + alpha * products; ``added`` is not read where beta is 0."""
    return _plus(added, _bmm(one, other), beta, alpha)


def _plus(added: Tensor, product: Tensor, beta: float, alpha: float) -> Tensor:
    if alpha != 1:
        product.mul_(alpha)
    return product if beta == 0 else product.add_(added, alpha=beta)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return attention: ``ramp.core.attention`` where it applies, else torch's plain form."""
    import torch

    from ramp.core import attention

    if attention.applies(query, key, value, mask, dropout, is_causal):
        return attention.causal(query, key, value, scale, share)
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -torch.inf)
    plain = torch.ops.aten._scaled_dot_product_attention_math
    return plain(query, key, value, mask, dropout, is_causal, scale=scale, enable_gqa=enable_gqa)[0]


def _elementary(name: str) -> Callable[[Tensor], Tensor]:
    """Return an elementary function of numpy or scipy as a kernel."""
    import numpy as np

    module, _, short = name.rpartition(".")
    function = getattr(importlib.import_module(module), short)

    def kernel(tensor: Tensor) -> Tensor:
        import torch

        if tensor.is_complex():
            raise RampError(f"reproducible arithmetic has no {name} of complex numbers: pass --arithmetic fast")
        dtype = tensor.dtype if tensor.is_floating_point() else torch.get_default_dtype()
        values = _array(tensor.to(dtype).contiguous()).reshape(-1)
        made = torch.empty(tensor.shape, dtype=_kind(dtype))
        into = made.numpy().reshape(-1)
        with np.errstate(all="ignore"):  # torch gives inf and NaN without a word
            share(lambda run: function(values[run], out=into[run]), len(values), FLAT_PIECE)
        return made.to(dtype)

    return kernel


def _cholesky(matrix: Tensor, *, upper: bool = False, check_errors: bool = False) -> tuple[Tensor, Tensor]:
    """Return the Cholesky factor of [n, n] and 0, or the order of the first minor that is not positive."""
    import torch
    from scipy.linalg import lapack

    values = _array(matrix)
    factor, info = lapack.get_lapack_funcs("potrf", (values,))(values, lower=not upper, clean=True)
    if check_errors and info:
        raise torch.linalg.LinAlgError(f"the leading minor of order {info} is not positive-definite")
    return torch.from_numpy(factor).to(matrix.dtype), torch.tensor(info, dtype=torch.int32)


def _solve_triangular(
    matrix: Tensor, right: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """Return X of ``matrix @ X = right`` (``X @ matrix = right`` with ``left`` False) for a triangular [n, n]."""
    import torch
    from scipy.linalg import solve_triangular

    values, known = _array(matrix), _array(right)
    if not left:
        values, known, upper = values.T, known.T, not upper
    found = solve_triangular(values, known, lower=not upper, unit_diagonal=unitriangular, check_finite=False)
    return torch.from_numpy(found if left else found.T).to(right.dtype)

"""A model as a GGUF file of the size that you ask for: ``python -m ramp gguf MODEL --size 90MB --out model.gguf``.

MODEL is a folder with a Hugging Face checkpoint, a repository of the hub (``owner/name``, ``owner/name@commit``), or a
name in config/assets.yaml. The stages:

1. the importance matrix, from calibration text;
2. a bank: every linear, the embedding and the head at every ggml type, and the KL that each is predicted to cost
   (``ramp.sized_gguf.bank``);
3. an exact knapsack over the bytes of the whole file; the file is the bank's bytes, copied;
4. checks of the file: every tensor against the plan, then stock llama.cpp (loads, generates, tokenizes, perplexity);
5. a comparison on held-out text with the float model and with llama.cpp's mix that is nearest in size, made from the
   same float file and importance matrix.

Beside ``model.gguf``: ``model.plan.json``, ``model.types.txt`` and ``model.imatrix.gguf`` (with which llama-quantize
makes the same tensors), ``model.card.md`` (a README for a hub) and ``model.result.json``. What the stages leave in the
work folder serves another size of the same model at once, and a run that was killed goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from ramp.core import cli
from ramp.core.cli import log
from ramp.sized_gguf.options import add_arguments

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.sized_gguf.job import locked, open_job
    from ramp.sized_gguf.make import check, choose_types, compare, make_bank, plan_text, publish, result, write_model


def main(argv: Sequence[str] | None = None) -> int:
    """Make one file; see the module's docstring."""
    started = time.monotonic()
    parser = cli.parser("Write a model as a GGUF file of the size that you ask for, and prove what it is.")
    add_arguments(parser)
    args = parser.parse_args(argv)
    job = open_job(args)
    with locked(job.work):
        bank = make_bank(job)
        types = choose_types(job, bank)
        plan = plan_text(job, bank, types)
        print("\n".join(plan), flush=True)
        if args.dry_run:
            return 0
        path, written = write_model(job, bank, types)
        checks = check(job, path, written)
        if failed := [one for one in checks if not one.ok]:
            for one in failed:
                log.error("check failed: %s is %g, limit %g", one.check, one.value, one.limit)
            log.error("%s was not written; the file that failed is %s", job.out, path)
            return 1
        publish(job, path, written)
        found = compare(job, job.out, args.heldout_windows, not args.no_rival, args.llama_perplexity)
        path.unlink()
    lines = result(job, plan, checks, found, args.heldout_windows, args.llama_perplexity, started)
    print("\n".join(lines[len(plan) :]))
    log.info("intermediate files for other sizes of this model: %s", job.work)
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))

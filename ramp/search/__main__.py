"""The search stage: one model, one method, one budget, one seed -> one allocation file.

    python -m ramp.search --model smollm2-135m --budget 3.65

The short form finds its inputs in a folder that the workflow laid out (``--results``, ``ramp.search.layout``).

    python -m ramp.search --model-dir R/models/M --bank R/bank/M/awq-gptq --fold R/folds/M/awq.safetensors \\
        --calibration R/calibration/M.safetensors --sensitivity R/sensitivity/M/awq-gptq.json \\
        --search-text R/texts/search.jsonl --selection-text R/texts/selection.jsonl \\
        --method-file baselines/ramp.py --budget 3.65 --evals 100 --seed 0 --out alloc.json \\
        --artifacts R/search/M/ramp/3.65/0 --state-dir R/.state

A search writes ``--out`` (``ramp.problem.allocation``) and, in ``--artifacts``, ``episodes.jsonl``, ``summary.txt``
(plain text for people) and, for learned methods, ``policy.safetensors`` and ``policy.json`` (``ramp.rl.policy``).
Killed at any moment, the same command goes on where it stopped (``ramp.search.journal``).

``episodes.jsonl`` has one JSON object per episode: ``episode``, ``evals`` and ``tokens`` (forward tokens so far,
sensitivities included), ``choice`` (a sign per linear: the index of its width), ``proposer``, ``kl`` and ``ppl`` on
search text (null where not finite), ``bytes``, ``best`` (KL of the best feasible one so far, or null), and for learned
methods ``feasible``, the reward's terms ``reward_quality``, ``reward_saving``, ``reward_overshoot``, ``reward_cliff``,
``reward_total`` and the learner's ``critic_loss``, ``actor_loss``, ``alpha``, ``entropy``. Where episodes are scored
on parts of a pool (``ramp.agent.text_schedule``), ``kl`` and ``best`` are estimates relative to the start, and
``evals`` counts parts by their tokens, rounded up.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ramp.core import cli
from ramp.core.output_path import OutputFile, OutputFolder
from ramp.search.options import add_arguments

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.search.results import summary, write_results
    from ramp.search.setup import prepare

log = logging.getLogger("ramp.search.run")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("Search the widths of a model's linears under a budget of bytes; resumes after a kill.")
    add_arguments(parser)
    parser.add_argument("--study", default="", help="name of the study")
    parser.add_argument("--out", type=OutputFile, default=None, help="allocation file to write")
    parser.add_argument("--artifacts", type=OutputFolder, default=None, help="folder for episodes.jsonl and the policy")
    args = parser.parse_args(argv)
    search, paths = prepare(args, "out", "artifacts")
    state, banked = search.open_state(), search.open_model()
    found = search.run(banked, state, paths["artifacts"])
    bank = {key: getattr(banked.bank, key) for key in ("group_size", "fold", "quantizer")}
    record = write_results(found, search.method.name, seed=args.seed, study=args.study, **paths, **bank)
    for line in summary(record).splitlines():
        log.info(line)
    state.forget()
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.run(main))

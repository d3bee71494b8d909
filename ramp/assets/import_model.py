"""Make a Hugging Face checkpoint folder of a fetched model: ``python -m ramp.assets.import_model --model NAME``.

Writes R/models/NAME: links to the files of a checkpoint, or a released GGUF file in float32 (the weights are the file's
de-quantized blocks, not those of the float model that the file was made from); and ``asset.json``, that of the fetched
asset with ``released_bytes``, ``released_format`` and ``linears_released_bytes`` besides.
"""

from __future__ import annotations

from collections.abc import Sequence

from ramp.assets.options import add_entry_option
from ramp.core import cli
from ramp.core.cli import log

if __name__ != "__main__":  # the work, behind the arguments (ramp.core.cli)
    from ramp.assets.checkpoint import make_model
    from ramp.assets.registry import registry_of


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    parser = cli.parser("make a checkpoint folder of a fetched model", "--registry --assets --out/")
    parser.add_argument("--model", required=True, help="name in the registry")
    add_entry_option(parser)
    args = parser.parse_args(argv)
    record = make_model(registry_of(args), args.model, args.assets, args.out)
    log.info("model %s: released %s, %d bytes", args.model, record["released_format"], record["released_bytes"])


if __name__ == "__main__":
    raise SystemExit(cli.run(main))

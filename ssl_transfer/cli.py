"""The command line: `fit | validate | test | predict` are LightningCLI, the other verbs functions in `commands/`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

HELP = """\
usage: ssl-transfer VERB [arguments]

Pretrain an image encoder on your own unlabelled images, learn whether that helped, and put it to work.

train and use
  fit        train: ssl-transfer fit --config configs/pretrain/simclr.yaml --data.source photos/ --data.size 96 \\
                      --trainer.default_root_dir runs/a
  validate   score a fitted run on the validation split
  test       score a fitted run on the test split
  predict    write predictions.parquet for every image of a source

decide
  advise     freeze, tune or start over, before training: ssl-transfer advise runs/a/encoder labelled/ --label_budget 20
  evidence   did pretraining help, from one label a class to all: ssl-transfer evidence runs/a/encoder labelled/
  compare    finished runs side by side, best first: ssl-transfer compare runs/a runs/b
  shift      how a new domain differs, and which adaptation suits: ssl-transfer shift labelled/ new/ --out shift/

look
  demo       the whole story on handwritten digits, in about a minute: ssl-transfer demo
  scan       check every image of a source and write a manifest: ssl-transfer scan photos/
  inspect    an encoder in words and a table: ssl-transfer inspect runs/a/encoder
  embed      images to a Parquet of feature vectors: ssl-transfer embed runs/a/encoder photos/ --out features.parquet
  explore    a map of all images to walk through: ssl-transfer explore runs/a/encoder photos/ --out explore/

hand over
  export     for projects without this package: ssl-transfer export runs/a/encoder --to onnx --out exports/a

Every verb explains itself: ssl-transfer VERB --help.  A mistake gets one line; --debug shows the traceback.
"""
TRAINING = ("fit", "validate", "test", "predict")
VERBS = (*TRAINING, "demo", "scan", "inspect", "embed", "explore", "advise", "evidence", "compare", "shift", "export")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0 done, 1 done with findings, 2 a mistake in what was asked."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    if not given or given[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if given[0] == "--version":
        from importlib.metadata import version

        print(version("ssl_transfer"))
        return 0
    try:
        return _dispatch(given[0], given[1:])
    except (
        ValueError,
        FileNotFoundError,
        FileExistsError,
        IsADirectoryError,
        NotADirectoryError,
        PermissionError,
    ) as error:
        if debug:
            raise
        print(f"ssl-transfer {given[0]}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _dispatch(verb: str, rest: list[str]) -> int:
    if verb not in VERBS:
        from difflib import get_close_matches

        close = get_close_matches(verb, VERBS, n=1)
        hint = f"; did you mean {close[0]}?" if close else "."
        raise ValueError(f"unknown verb {verb!r}{hint} Known verbs: {', '.join(VERBS)}")
    if verb in TRAINING:
        from ssl_transfer.running.command import run_training_verb

        return run_training_verb(verb, rest)
    from importlib import import_module

    from ssl_transfer.parsing import call

    function = getattr(import_module(f"ssl_transfer.commands.{verb}"), verb)
    return call(function, rest, program=f"ssl-transfer {verb}")

"""`fit | validate | test | predict`: LightningCLI with our run folder around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import Namespace
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException

import ssl_transfer.data.domains
import ssl_transfer.data.stream
import ssl_transfer.downstream
import ssl_transfer.pretraining
from ssl_transfer.data.module import ImageDataModule
from ssl_transfer.parsing import OneLineErrors, in_plain_words
from ssl_transfer.pretraining.monitor import Monitor
from ssl_transfer.running import fit as running
from ssl_transfer.running.calm import calm
from ssl_transfer.running.folder import RunFolder
from ssl_transfer.running.processes import check_alone, check_processes, check_shares, check_split, parting
from ssl_transfer.running.recorder import RunCheckpoint
from ssl_transfer.running.shipped import with_shipped

DEFAULT_DIRECTORY = "runs/last"


@calm
def run_training_verb(verb: str, arguments: list[str]) -> int:
    """Run one of LightningCLI's verbs."""
    try:
        TrainingCommand(args=[verb, *first_things_first(with_shipped(arguments))])
    except MisconfigurationException as error:  # Lightning's word for what a user cannot have, such as no GPU
        raise ValueError(str(error)) from error
    return 0


def first_things_first(arguments: list[str]) -> list[str]:
    """`--config`, `--model NAME` and `--data NAME` before the options that depend on them, whatever the order given.

    >>> first_things_first(["--data.size", "96", "--model", "SimCLR", "--config=a.yaml"])
    ['--config=a.yaml', '--model', 'SimCLR', '--data.size', '96']
    """
    ranks = ("--config", "-c", "--model", "--data")
    groups: list[list[str]] = []
    for argument in arguments:
        if argument.startswith("-") or not groups:
            groups.append([argument])
        else:
            groups[-1].append(argument)
    groups.sort(key=lambda group: ranks.index(n) if (n := group[0].split("=")[0]) in ranks else len(ranks))
    return [argument for group in groups for argument in group]


class TrainingParser(OneLineErrors, LightningArgumentParser):  # type: ignore[misc]
    """LightningCLI's parser with one-line errors."""


class TrainingCommand(LightningCLI):
    """LightningCLI whose runs live in `--trainer.default_root_dir`."""

    def __init__(self, args: list[str]) -> None:
        super().__init__(
            parser_class=TrainingParser,
            save_config_callback=None,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--overwrite", action="store_true", help="fit: replace the run that is in the folder")
        parser.add_class_arguments(RunCheckpoint, "checkpoint")
        parser.add_class_arguments(Monitor, "monitor")
        parser.set_defaults(
            {
                "data": {"class_path": f"{ImageDataModule.__module__}.ImageDataModule"},
                "trainer.default_root_dir": DEFAULT_DIRECTORY,
                "trainer.enable_model_summary": False,
            }
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        with in_plain_words(parser):
            super().parse_arguments(parser, args)

    def _parse_ckpt_path(self) -> None:
        """The command line wins over hyper-parameters stored in a checkpoint: they are not read."""

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        options = dict(self._get(self.config_init, "trainer", default={}))
        given = self.config[str(self.subcommand)]["trainer"]
        bounded = given["max_steps"] != -1 or given["max_time"] is not None
        defaults = {**running.trainer_defaults(), **({} if bounded else running.default_max_epochs(self.model))}
        pretrains = self.subcommand == "fit" and isinstance(self.model, ssl_transfer.pretraining.Objective)
        if not pretrains and options.get("devices") in (None, "auto"):
            options["devices"] = 1  # only pretraining spreads over all devices unasked
        for name, value in defaults.items():
            if given[name] is None:
                options[name] = value
        run = RunFolder(options["default_root_dir"])
        bar = options.get("enable_progress_bar") is not False
        checkpoint, monitor = (self._get(self.config_init, name) for name in ("checkpoint", "monitor"))
        own = running.run_callbacks(checkpoint, monitor, bar)
        options["callbacks"] = [*own, *(options.get("callbacks") or [])]
        if options.get("logger") in (None, True):
            options["logger"] = running.logger(run) if self.subcommand == "fit" else False
        return pl.Trainer(**options)

    def instantiate_classes(self) -> None:
        with in_plain_words(self.parser):
            self.config_init = self.parser.instantiate(self.config)
        self.datamodule = self._get(self.config_init, "data")
        self.model = self._get(self.config_init, "model")
        self.trainer = self.instantiate_trainer()

    def _run_subcommand(self, subcommand: str) -> None:
        run = RunFolder(self.trainer.default_root_dir)
        config = self.config[subcommand]
        if subcommand == "fit":
            self._fit(config)
            return
        check_processes(self.trainer)
        if subcommand == "predict":
            check_alone(self.trainer, subcommand)
            outputs = self._evaluate(run, config)
            for path in running.write_outputs(run, self.model, self.datamodule, outputs or []):
                print(f"wrote {path}")
        else:
            split = "val" if subcommand == "validate" else "test"
            check_split(self.datamodule, split)
            check_shares(self.trainer, self.datamodule, (split,))
            self._evaluate(run, config, verbose=False)
            of_the_run = config.get("ckpt_path") is None
            with parting(self.trainer):
                running.report_figures(self.trainer, run, self.model, record=of_the_run)

    def _fit(self, config: Namespace) -> None:
        asked = config.get("ckpt_path")
        if asked not in (None, "last"):
            raise ValueError(
                f"--ckpt_path {asked}: a fit goes on from its own folder only; use --ckpt_path last with the same "
                "--trainer.default_root_dir, or start from an encoder with --model.encoder DIR/encoder"
            )
        running.fit_with(
            self.trainer,
            self.model,
            self.datamodule,
            config=self._config_text(),
            overwrite=bool(config.get("overwrite")),
            resume=asked == "last",
        )

    def _config_text(self) -> str:
        parser = self._parser(self.subcommand)
        kept = self.config[str(self.subcommand)].clone()
        for name in ("config", "overwrite", "ckpt_path"):  # what was meant for this fit alone
            kept.pop(name, None)
        for name in ("model.init_args.encoder", "model.init_args.compare_with"):
            folder = kept.get(name)
            if isinstance(folder, str) and Path(folder).exists():
                kept[name] = str(Path(folder).absolute())  # valid from any working directory
        return str(parser.dump(kept, skip_unset=False, skip_validation=True))

    def _evaluate(self, run: RunFolder, config: Namespace, **options: Any) -> Any:
        asked = config.get("ckpt_path")
        checkpoint = run.fitted_checkpoint() if asked is None else _local_checkpoint(run, asked)
        verb = getattr(self.trainer, str(self.subcommand))
        checkpoint = running.ready(self.model, checkpoint)
        with running.readable(checkpoint):
            return verb(self.model, datamodule=self.datamodule, ckpt_path=checkpoint, weights_only=True, **options)


def _local_checkpoint(run: RunFolder, asked: str) -> Path:
    """A checkpoint by its name in the run's `checkpoints/`, or by its path."""
    for candidate in (run.checkpoints / asked, run.checkpoints / f"{asked}.ckpt", Path(asked)):
        if candidate.is_file():
            return candidate
    raise ValueError(f"--ckpt_path {asked}: no such checkpoint in {run.checkpoints}, nor a file of that name")

r"""NumLM's command line.

    python train.py fit              # the whole experiment on the embedded checkpoint
    python train.py fit --seeds 5    # five of them: median and range of every figure
    python train.py fit --config configs/smoke.yaml    # the same in seconds, to see it run
    python train.py fit --config configs/qwen2.5-0.5b.yaml --model.qwen_model_path FOLDER
    python train.py fit --data.train_file train.jsonl --data.test_file test.jsonl     # own data
    python train.py test --model.qwen_model_path results/latest/model
    python train.py predict --model.qwen_model_path results/latest/model \
        --data.predict_file in.jsonl --predictions.path out.jsonl
    python train.py fit --ckpt_path last     # go on with the last run, stopped or killed
    python train.py fit --help

`configs/default.yaml` is read first, `--config` files and options after it in their order; the
last one wins. `--ckpt_path last` reads the options of the last run after the default ones.
"""

import gc
import json
import logging
import os
import signal
import sys
import warnings
from pathlib import Path

if __name__ == "__main__":
    # What is imported stays. To look through it for garbage every time that it has grown by a
    # quarter, and all of it once more at the end, would be a third of a start.
    gc.disable()

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from callbacks.predictions import PredictionsError, WritePredictions
from callbacks.resume import KEYWORDS, Resume, find_run, replace_repeated
from callbacks.run_folder import RunFolderError, timestamped
from callbacks.spread import run_seeds
from datamodules.number_data_module import NumberDataModule
from datamodules.row_files import DataNotFoundError
from datamodules.rows import BadRow
from lightning_modules.number_lm import NumberLMModule
from lightning_modules.strategies import ShardedStrategy
from numlm.checkpoint import ModelNotFoundError
from numlm.errors import (
    BadNumbersError,
    CheckpointError,
    MemoryShortError,
    OptionsError,
    is_out_of_memory,
)
from numlm.hub import HubError
from numlm.identity import ModelMismatchError
from numlm.lora import PeftMissingError

DEFAULT_CONFIG = Path(__file__).resolve().parent / "configs" / "default.yaml"
# Errors that a user can mend, whose message is one sentence.
_MENDABLE = (
    *(BadRow, DataNotFoundError, PredictionsError, RunFolderError, HubError),
    *(ModelNotFoundError, ModelMismatchError, PeftMissingError, OptionsError),
    *(MemoryShortError, CheckpointError, BadNumbersError),
)


class NumberLMCLI(LightningCLI):
    """LightningCLI of one module and one data module, which share the model and the seed."""

    def __init__(self, args: ArgsType) -> None:
        self.arguments = sys.argv[1:] if args is None else args
        defaults = [str(DEFAULT_CONFIG)]
        super().__init__(
            NumberLMModule,
            NumberDataModule,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            parser_kwargs={
                name: {"default_config_files": defaults} for name in self.subcommands()
            },
            args=args,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # there it is static
        """The one that is asked for, since each takes a while to set up; all if none is."""
        known = LightningCLI.subcommands()
        if isinstance(self.arguments, list) and self.arguments and self.arguments[0] in known:
            return {self.arguments[0]: known[self.arguments[0]]}
        return known

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The data module tokenizes with the model's tokenizer; one seed makes a run another."""
        parser.link_arguments("model.qwen_model_path", "data.qwen_model_path")
        parser.link_arguments("model.trust_remote_code", "data.trust_remote_code")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        parser.link_arguments("seed_everything", "model.seed", compute_fn=int)
        parser.add_lightning_class_args(WritePredictions, "predictions")
        parser.add_argument(
            "--seeds",
            type=PositiveInt,
            default=1,
            help="How many experiments `fit` runs, with seed_everything and the seeds after it; "
            "more than one reports median and range.",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; of a run that is to go on its options come first, and those given win."""
        super().parse_arguments(parser, args)
        config = self.config[self.config.subcommand]
        if config.get("ckpt_path") not in KEYWORDS:
            return
        if not isinstance(args := self.arguments, list):
            raise OptionsError(f"--ckpt_path {config.ckpt_path} belongs to the command line")
        logger = config.trainer.get("logger.init_args", {})
        if "run" not in logger:
            raise OptionsError(
                f"--ckpt_path {config.ckpt_path} needs the ResultsLogger of the default "
                "configuration, which knows the folders of runs: give the file instead"
            )
        found = find_run(config.ckpt_path, logger.save_dir, logger.run, self.config.subcommand)
        if found is None:
            config.ckpt_path = None
        else:
            self._go_on(parser, args, found)

    def _go_on(self, parser: LightningArgumentParser, args: list[str], found: Resume) -> None:
        """Parse again, with the options of a run before those given."""
        first = args.index(self.config.subcommand) + 1
        own = ["--config", json.dumps(found.options)]
        super().parse_arguments(parser, [*args[:first], *own, *args[first:]])
        config = self.config[self.config.subcommand]
        config.ckpt_path = found.checkpoint and str(found.checkpoint)
        if self.config.subcommand == "fit":
            logger = config.trainer.logger.init_args
            logger.save_dir, logger.run = str(found.folder.parent), found.folder.name
            logger.resume = True
            before = found.options["trainer"]["callbacks"] or []
            config.trainer.callbacks = replace_repeated(config.trainer.callbacks, len(before))

    def _parse_ckpt_path(self) -> None:
        """Leave the options as given: Lightning would put the checkpoint's in their place."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Run; where memory is short say which options lower what is needed."""
        checkpoint = self.config[subcommand].get("ckpt_path")
        sharded = isinstance(self.trainer.strategy, ShardedStrategy)
        if checkpoint and Path(checkpoint).is_dir() and not sharded:
            raise OptionsError(
                f"the checkpoint '{checkpoint}' is a folder of parts: go on with --config "
                "configs/fsdp.yaml, which reads it on any number of devices, one too"
            )
        try:
            super()._run_subcommand(subcommand)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            advice = memory_advice(subcommand, self.config[subcommand])
            reason = str(error).strip().splitlines()[0]
            raise MemoryShortError(f"out of memory ({reason}): {advice}") from error

    def before_instantiate_classes(self) -> None:
        """Set up `predict`; where several seeds are asked for, run them instead."""
        config = self.config[self.subcommand]
        if self.subcommand == "predict":
            if config.predictions.path is None:
                raise SystemExit("error: say where to write: --predictions.path out.jsonl")
            # The file is all that is written, and what is in it is not kept in memory too.
            config.trainer.logger = False
            self.save_config_callback = None
            config.return_predictions = False
        elif config.predictions.path is not None:
            raise SystemExit("error: --predictions.path is an option of `predict`")
        if config.seeds == 1:
            return
        if self.subcommand != "fit" or not isinstance(self.arguments, list):
            raise SystemExit("error: --seeds is an option of `fit` on the command line")
        logger = config.trainer.logger.init_args
        folder = Path(logger.save_dir) / timestamped(f"{logger.experiment}_seeds")
        command = [sys.executable, str(Path(__file__).resolve()), *self.arguments]
        first = int(config.seed_everything)
        run_seeds(command, range(first, first + config.seeds), folder)
        raise SystemExit(0)


def memory_advice(subcommand: str, config: Namespace) -> str:
    """The options that lower what a command needs, the cheapest first, without those in use."""
    trainer, model, data = config.trainer, config.model, config.data
    evaluation = f"evaluation takes less with --data.eval_batch_size below {data.eval_batch_size}"
    if subcommand != "fit":
        return evaluation
    pieces = trainer.accumulate_grad_batches
    options = {
        f"--trainer.accumulate_grad_batches above {pieces} (the same steps in smaller pieces)": (
            pieces < data.batch_size
        ),
        "--trainer.precision bf16-mixed": "mixed" not in str(trainer.precision),
        "--model.activation_checkpointing true": not model.activation_checkpointing,
        "--model.lora.rank 16": model.lora is None,
        "--config configs/fsdp.yaml on several devices": trainer.strategy in ("auto", "ddp"),
    }
    unused = [option for option, is_unused in options.items() if is_unused]
    return f"training takes less with {', '.join(unused) or 'shorter texts'}; {evaluation}"


def main(args: ArgsType = None) -> NumberLMCLI:
    """Run a subcommand; errors that a user can mend are one sentence and exit code 1."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda record: "Tip:" not in record.getMessage())
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # The options of a run that goes on are put into the arguments.
    warnings.filterwarnings("ignore", message="LightningCLI.s args parameter.*")
    # What is logged at an epoch's end is the same on every process already.
    warnings.filterwarnings("ignore", message=".*recommended to use `self.log.*sync_dist=True.*")
    try:
        return NumberLMCLI(["fit"] if args is None and len(sys.argv) == 1 else args)
    except _MENDABLE as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # of which Lightning makes exit code 1
            raise SystemExit(128 + signal.SIGINT) from None
        raise


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    main()

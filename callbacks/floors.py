"""Floors and rivals beside the model's figures: constants, the last number, the base's digits."""

import statistics
import time
from functools import partial
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from callbacks.evaluation_data import EvaluationData, evaluation_data
from callbacks.live_scoring import evaluating, progress_bar
from callbacks.results import FINETUNED_FILE
from callbacks.run_folder import read_json, run_folder, update_run_record, write_json
from numlm.batch import deal
from numlm.floors import Question, beats, point_figures
from numlm.sharding import is_sharded

FLOORS_FILE = "floors.json"
IDEAL = "best_possible"  # stands among the floors, but nothing can be expected to beat it
Floors = dict[str, dict[str, dict[str, Any]]]


class MeasureFloors(Callback):
    """Measures the floors before training and says after it which of them are beaten.

    Writes `floors.json`: for every evaluation set and floor the figures of
    `numlm.floors.point_figures`, the constant answered (`answer`) and whether the fine-tuned model
    has the lower root mean square error (`beaten`). The floors of a resumed run are kept.
    Comes after the evaluation.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure while the model is still the base model."""
        folder = run_folder(trainer)
        if trainer.strategy.broadcast((folder / FLOORS_FILE).exists()):
            return
        start = time.monotonic()
        data = evaluation_data(trainer)
        asked = {
            name: found
            for name in data.evaluation_names
            if (found := data.evaluation_questions(name))
        }
        written = _written_digits(trainer, pl_module, asked)
        if trainer.is_global_zero:
            write_json(folder / FLOORS_FILE, _floors(data, asked, written))
            update_run_record(folder, {"seconds": {"floors": round(time.monotonic() - start, 1)}})
        trainer.strategy.barrier()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare with the fine-tuned model."""
        folder = run_folder(trainer)
        if not trainer.is_global_zero:
            return
        floors: Floors = read_json(folder / FLOORS_FILE)
        finetuned = read_json(folder / FINETUNED_FILE)
        for name, entries in floors.items():
            tuned = finetuned[name]["rmse_all"]
            for floor, entry in entries.items():
                if floor != IDEAL:
                    entry["beaten"] = beats(tuned, entry["rmse_all"])
                elif tuned is not None and entry["rmse_all"]:
                    entry["rmse_over_best"] = tuned / entry["rmse_all"]
        write_json(folder / FLOORS_FILE, floors)


def _floors(
    data: EvaluationData,
    asked: dict[str, list[Question]],
    written: dict[str, list[float | None]],
) -> Floors:
    """Figures of every floor on every set."""
    values = data.training_values()
    constants = {
        "training_median": statistics.median(values) if values else None,
        "training_mean": statistics.fmean(values) if values else None,
    }
    floors: Floors = {}
    for name, found in asked.items():
        truths = [question.truth for question in found]
        answers: dict[str, list[float | None]] = {
            **{floor: [constant] * len(found) for floor, constant in constants.items()},
            "best_constant": [statistics.fmean(truths)] * len(found),
            "last_number": [question.last_number for question in found],
            "digits": written[name],
        }
        best = data.best_answers(name)
        if all(answer is not None for answer in best):
            answers[IDEAL] = best
        floors[name] = {
            floor: {
                **point_figures(given, truths),
                "answer": given[0] if floor in (*constants, "best_constant") else None,
                "beaten": None,
            }
            for floor, given in answers.items()
        }
    return floors


def _written_digits(
    trainer: Trainer, pl_module: LightningModule, asked: dict[str, list[Question]]
) -> dict[str, list[float | None]]:
    """What the base model writes after every prompt; the batches are dealt to the processes."""
    from numlm.digits import DigitWriter  # here: the options need no generation

    model: Any = pl_module.model
    with evaluating(pl_module), trainer.precision_plugin.forward_context():
        # Processes that share weights go on writing until the last of them is done.
        generate = partial(model.write_tokens, synced_gpus=is_sharded(model))
        writer = DigitWriter(model.backbone, model.tokenizer.base, generate=generate)
        prompts = {name: [question.prompt for question in found] for name, found in asked.items()}
        batches = [(name, batch) for name, p in prompts.items() for batch in writer.batches(p)]
        mine = deal(batches, trainer.global_rank, trainer.world_size)
        values: list[tuple[str, int, float | None]] = []
        with progress_bar(trainer, len(mine), "Base model writes digits", " batches") as progress:
            for name, batch in mine:
                answers = writer([prompts[name][i] for i in batch])
                values += [(name, i, a) for i, a in zip(batch, answers, strict=True)]
                progress.update()
    gathered: list[Any] = [values]
    if trainer.world_size > 1:
        gathered = [None] * trainer.world_size
        torch.distributed.all_gather_object(gathered, values)
    written: dict[str, list[float | None]] = {
        name: [None] * len(found) for name, found in asked.items()
    }
    for name, index, value in (entry for part in gathered for entry in part):
        written[name][index] = value
    return written

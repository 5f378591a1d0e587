"""The card of an exported model, `README.md`, in the form that the Hugging Face hub reads.

It is written from the files of the run; what was not written by the run is not on it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from callbacks.findings import coverage_key
from callbacks.floors import FLOORS_FILE
from callbacks.markdown import markdown_template
from callbacks.results import BASELINE_FILE, FINETUNED_FILE
from callbacks.run_files import RunFiles
from callbacks.run_folder import RUN_FILE, read_json
from callbacks.tables import FigureTables
from callbacks.words import LANGUAGES
from numlm.lora import Lora
from numlm.model import NumberLM

CARD_FILE = "README.md"
_ABSOLUTE = re.compile(r"(?<=[\s=])/(?:[^\s/]+/)+")  # where files lie is nobody's business


class Scorecard(FigureTables):
    """The figures of a card."""

    def table(self) -> str:
        """Main figures before and after, by set, beside the strongest floor."""
        run = self.run
        metrics = ("rmse_all", "exact_match", "accuracy", coverage_key(run, 80))
        return self.by_set(
            [*self.metric_names(metrics), self.word("strongest_floor")],
            (
                [
                    self.label(name),
                    *(self._before_after(name, metric) for metric in metrics),
                    self._strongest_floor(name),
                ]
                for name in run.sets_with_slots
            ),
        )


def model_card(folder: Path, model: NumberLM, lora: Lora | None, repo_id: str | None) -> str:
    """The card as Markdown.

    Args:
        folder: The run; its record, results and floors may be missing.
        model: The model that is exported.
        lora: The settings of adapters that were folded in.
        repo_id: Where it is on the hub, if it will be there.
    """
    run = _what_is_there(folder)
    sources = list(_own_sources(run.run))
    generated = bool(run.run["started"]) and not sources
    return markdown_template("model_card.md.j2").render(
        metadata=_metadata(run, model, lora, generated).to_yaml(),
        name=repo_id.split("/")[-1] if repo_id else f"{model.identity.backbone.name} with NumLM",
        where=repo_id or "path/to/this/folder",
        base=model.identity.backbone.name,
        model_type=model.identity.backbone.model_type,
        token_head=type(model.token_head).__name__,
        context_length=model.context_length,
        calibrated=model.calibration.fitted,
        lora=lora,
        generated=generated,
        sources=sources,
        run=run.run,
        command=_ABSOLUTE.sub("", run.run.get("command", "")),
        scorecard=Scorecard(run, "en").table() if run.baseline and run.finetuned else None,
        floors=bool(run.floors),
    )


def _what_is_there(folder: Path) -> RunFiles:
    """The files of a run that a card needs, empty where they are not."""

    def read(name: str) -> dict[str, Any]:
        found: dict[str, Any] = read_json(folder / name) if (folder / name).exists() else {}
        return found

    return RunFiles(
        folder=folder,
        run={"calibration": None, "started": None, **read(RUN_FILE)},
        baseline=read(BASELINE_FILE),
        finetuned=read(FINETUNED_FILE),
        floors=read(FLOORS_FILE),
        answers=[],
        curves={},
        scorings={},
    )


def _own_sources(record: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Role, name and rows of the user's own data, without where they lie."""
    for entry in record.get("data") or ():
        yield entry["role"], Path(entry["source"]).name, entry["rows"]


def _metadata(run: RunFiles, model: NumberLM, lora: Lora | None, generated: bool) -> ModelCardData:
    """What the hub files a model under; the base model only if it is on the hub, by its name."""
    base = model.identity.backbone.name
    groups = {group for entry in run.finetuned.values() for group in entry["groups"]}
    languages: list[str] = [name for name in LANGUAGES if generated or name in groups]
    return ModelCardData(
        library_name="numlm",
        pipeline_tag="text-generation",
        language=languages or None,
        base_model=base if "/" in base else None,
        tags=["numlm", "numbers", "uncertainty", *(["lora"] if lora else [])],
    )

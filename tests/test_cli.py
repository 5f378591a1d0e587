"""The command line through `main([...])`: every config, what a run leaves behind, what is refused."""

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks.floors import FLOORS_FILE, IDEAL
from callbacks.results import BASELINE_FILE, FINETUNED_FILE, TEST_FILE
from callbacks.targets import TARGETS
from numlm.model import NumberLM
from train import main

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
EMBEDDED = ROOT / "assets" / "tiny-qwen2"
ASKING = ["basic", "question_answering", "extreme_values", "boundary_values", "noisy_readings"]
SETS = [*ASKING, "ordinary_text"]
TINY = ["--config", str(CONFIGS / "smoke.yaml")]


def run(folder: Path, *options: str) -> None:
    main(["fit", *TINY, "--trainer.logger.save_dir", str(folder), *options])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run of the smoke config."""
    folder = tmp_path_factory.mktemp("results")
    run(folder)
    return folder / "latest"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_run_writes_both_results(results: Path) -> None:
    assert results.is_symlink()
    assert results.resolve().name.startswith("smoke_")
    baseline, finetuned = read(results / BASELINE_FILE), read(results / FINETUNED_FILE)
    wanted = {target.metric for target in TARGETS} | {"rmse_all", "mae", "precision", "recall"}
    for stage in (baseline, finetuned):
        assert list(stage) == SETS
        for name in ASKING:
            figures = stage[name]
            assert wanted <= set(figures)
            assert figures["slots"] == figures["texts"] == 6
            assert figures["groups"]["seen"]["texts"] == 4
            assert figures["groups"]["unseen"]["texts"] == 2
            groups = figures["groups"]
            for pair in (("en", "zh"), ("with_distractors", "without_distractors")):
                assert sum(groups[group]["texts"] for group in pair if group in groups) == 6
            low, high = figures["intervals"]["mean_rank"]
            assert low <= figures["mean_rank"] <= high
            assert sum(part["slots"] for part in figures["by_magnitude"]) == 6
            assert len(figures["worst"]) == 5
            assert 0 < len(figures["mistakes"]) <= 10
        assert stage["ordinary_text"]["slots"] == 0
        assert stage["ordinary_text"]["accuracy"] is None
        assert stage["ordinary_text"]["perplexity"] > 1
    # Nobody has told the base model of <NUM>.
    for name in ASKING:
        assert baseline[name]["accuracy"] == 0
        assert baseline[name]["rmse"] is None
        assert baseline[name]["mean_rank"] > 100
        assert baseline[name]["groups"]["unseen"] != baseline[name]["groups"]["seen"]
    assert baseline["ordinary_text"]["agreement"] is None
    assert 0 < finetuned["ordinary_text"]["agreement"] <= 1
    assert baseline != finetuned


def test_a_run_writes_floors_and_says_which_are_beaten(results: Path) -> None:
    floors, finetuned = read(results / FLOORS_FILE), read(results / FINETUNED_FILE)
    assert list(floors) == ASKING
    for name, entries in floors.items():
        wanted = {"training_median", "training_mean", "best_constant", "last_number", "digits"}
        assert set(entries) == wanted | ({IDEAL} if name == "noisy_readings" else set())
        tuned = finetuned[name]["rmse_all"]
        for floor, entry in entries.items():
            error = entry["rmse_all"]
            if floor != IDEAL and error is not None:
                assert entry["beaten"] == (tuned < error or tuned == error == 0)
        assert entries["training_median"]["answer"] != entries["best_constant"]["answer"]
        assert entries["last_number"]["answered"] == 1
    # The embedded checkpoint can restate in digits.
    assert floors["basic"]["digits"]["exact_match"] >= 0.8
    best = floors["noisy_readings"][IDEAL]
    assert best["beaten"] is None
    assert best["rmse_over_best"] * best["rmse_all"] == pytest.approx(
        finetuned["noisy_readings"]["rmse_all"]
    )


def test_every_answer_is_a_row(results: Path) -> None:
    with (results / "finetuned_answers.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [sum(row["set"] == name for row in rows) for name in SETS] == [6] * 5 + [0]
    errors = [float(r["answer"]) - float(r["truth"]) for r in rows if r["set"] == "basic"]
    rmse = (sum(error**2 for error in errors) / 6) ** 0.5
    assert rmse == pytest.approx(read(results / FINETUNED_FILE)["basic"]["rmse_all"])
    for row in rows:
        assert row["language"] in ("en", "zh")
        assert row["wording"] in ("seen", "unseen")
        assert float(row["low"]) <= float(row["answer"]) <= float(row["high"])
        # What is printed of a new value is short; of a copy it is the value itself.
        if row["source"] != "-1":
            assert float(row["printed"]) == float(row["answer"])


def test_a_run_writes_record_config_charts_and_report(results: Path) -> None:
    record = read(results / "run.json")
    assert record["steps"] == 3
    assert record["seed"] == "42"
    assert record["versions"]["torch"] == torch.__version__
    assert set(record["seconds"]) == {
        "baseline_evaluation",
        "floors",
        "training",
        "calibration",
        "finetuned_evaluation",
    }
    assert (results / "config.yaml").exists()
    for name in ("accuracy", "mean_rank", "exact_match", "rmse"):
        assert (results / f"{name}_comparison.png").read_bytes().startswith(b"\x89PNG")
    assert record["command"].startswith("python ")
    assert record["calibration"]["answers"] >= 99
    assert 0 <= record["calibration"]["50"] < record["calibration"]["80"] < 1
    report = (results / "report.md").read_text(encoding="utf-8")
    # Three steps cannot reach the targets, and the conclusion says so.
    assert "accuracy on basic" in report
    assert "实验目标" in (results / "report.zh.md").read_text(encoding="utf-8")
    assert "<html" in (results / "report.html").read_text(encoding="utf-8")


def test_tensorboard_has_losses_rates_figures_and_hyperparameters(results: Path) -> None:
    events = EventAccumulator(str(results), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()
    scalars = set(tags["scalars"])
    assert {"train/loss", "train/token", "train/value", "train/pointer"} <= scalars
    assert any(tag.startswith("lr-AdamW") for tag in scalars)
    for stage in ("baseline", "finetuned"):
        assert {f"{stage}/{name}/accuracy" for name in ASKING} <= scalars
        assert f"{stage}/ordinary_text/perplexity" in scalars
    assert "final/basic/accuracy" in scalars
    assert {f"charts/{m}_comparison" for m in ("accuracy", "mean_rank")} <= set(tags["images"])
    rmse = read(results / FINETUNED_FILE)["basic"]["rmse_all"]
    logged = events.Scalars("finetuned/basic/rmse_all")[0].value
    assert logged == pytest.approx(rmse, rel=1e-6)


def test_the_exported_model_loads_and_test_gives_the_same_digits(
    results: Path, tmp_path: Path
) -> None:
    model = results / "model"
    assert type(NumberLM.from_pretrained(model)) is NumberLM
    path = ["--model.qwen_model_path", str(model)]
    save = ["--trainer.logger.save_dir", str(tmp_path)]
    main(["test", *TINY, *save, *path])
    (written,) = tmp_path.glob(f"*/{TEST_FILE}")
    tested, finetuned = read(written), read(results / FINETUNED_FILE)
    # What the base model said is known to the run alone.
    assert tested["ordinary_text"].pop("agreement") is None
    finetuned["ordinary_text"].pop("agreement")
    assert tested == finetuned
    assert NumberLM.from_pretrained(model).calibration.fitted


@pytest.mark.slow
def test_one_vs_rest_by_class_path(tmp_path: Path) -> None:
    run(tmp_path, "--model.token_head", "numlm.heads.OneVsRestHead", "--trainer.max_steps", "1")
    settings = read(tmp_path / "latest" / "model" / "number_lm.json")
    assert settings["token_head"] == "one_vs_rest"


@pytest.mark.slow
def test_evaluating_first_does_not_change_training(tmp_path: Path) -> None:
    weights = []
    for name, drop in (("with", []), ("without", ["--trainer.callbacks", "[]"])):
        cli = main(["fit", *TINY, "--trainer.logger.save_dir", str(tmp_path / name), *drop])
        weights.append(cli.model.model.backbone.get_input_embeddings().weight.detach().clone())
    assert torch.equal(*weights)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    sorted(file for file in CONFIGS.glob("*.yaml") if file.stem not in {"ddp", "fsdp"}),
    ids=lambda file: file.stem,
)
def test_every_config_runs(config: Path, tmp_path: Path) -> None:
    """Every shipped file, at a tiny budget on the embedded checkpoint.

    Those of several processes are in `test_strategies.py`.
    """
    tiny = ["--trainer.max_steps", "1", "--trainer.accelerator", "cpu", "--trainer.devices", "1"]
    sizes = {"num_samples": 32, "val_samples": 4, "eval_samples": 3, "noisy_samples": 3}
    sizes["batch_size"] = 4
    data = [part for name, size in sizes.items() for part in (f"--data.{name}", str(size))]
    save = ["--trainer.logger.save_dir", str(tmp_path)]
    path = ["--model.qwen_model_path", str(EMBEDDED)]
    main(["fit", "--config", str(config), *save, *tiny, *data, *path])
    assert list(read(tmp_path / "latest" / FINETUNED_FILE)) == SETS


@pytest.mark.parametrize(
    "options",
    [["--model.learning_rate", "1"], ["--data.sample", "3"], ["--nonsense"], ["--model.lr", "x"]],
)
def test_an_unknown_option_or_value_is_refused(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, *options)
    assert stop.value.code == 2
    assert options[0].split(".")[-1].lstrip("-") in capsys.readouterr().err


def test_a_missing_model_is_one_sentence_and_nothing_is_trained(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, "--model.qwen_model_path", "/nowhere/Qwen2.5-0.5B")
    message = str(stop.value.code)
    assert message.startswith("error: no model folder at '/nowhere/Qwen2.5-0.5B'")
    assert "\n" not in message
    assert not (tmp_path / "latest").exists()


def test_a_results_folder_that_cannot_be_written_is_found_first(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    with pytest.raises(SystemExit) as stop:
        run(file / "results")
    assert "cannot write results to" in str(stop.value.code)
    assert "--trainer.logger.save_dir" in str(stop.value.code)


def test_a_precision_that_cuts_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: .*12345\.678 arrives as 12352.*use bf16-mixed"):
        run(tmp_path, "--trainer.precision", "bf16-true")


@pytest.mark.slow
def test_from_any_folder_as_a_process(tmp_path: Path) -> None:
    """`python train.py` elsewhere: the default config is found, errors are one line on stderr."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "train.py")]
    printed = subprocess.run(
        [*command, "fit", "--print_config"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "num_samples: 41600" in printed
    assert "callbacks.report.WriteReport" in printed
    broken = tmp_path / "model"
    shutil.copytree(EMBEDDED, broken)
    (broken / "tokenizer.json").unlink()
    failed = subprocess.run(
        [*command, "fit", "--model.qwen_model_path", str(broken)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert "has no tokenizer (tokenizer.json)" in failed.stderr.splitlines()[-1]


@pytest.mark.slow
def test_several_seeds_report_median_and_range(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "fit", *TINY, "--seeds", "2", "--trainer.max_steps",
         "1", "--trainer.logger.save_dir", str(tmp_path), "--seed_everything", "5"],
        cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, timeout=600,
    )  # fmt: skip
    (folder,) = tmp_path.glob("smoke_seeds_*")
    found = read(folder / "spread.json")
    assert found["seeds"] == [5, 6]
    singles = [read(folder / f"seed_{seed}" / FINETUNED_FILE) for seed in (5, 6)]
    ranks = [single["basic"]["mean_rank"] for single in singles]
    summary = found["sets"]["basic"]["mean_rank"]
    assert summary["values"] == ranks
    assert ranks[0] != ranks[1]
    assert (summary["low"], summary["high"]) == (min(ranks), max(ranks))
    assert "| mean_rank |" in (folder / "spread.md").read_text(encoding="utf-8")


def test_seeds_belong_to_fit(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--seeds is an option of `fit`"):
        main(["test", *TINY, "--seeds", "2", "--trainer.logger.save_dir", str(tmp_path)])


def test_options_of_the_batch_script_are_those_of_the_command_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its command, with SLURM's numbers filled in, parses, and no file that it names is missing."""
    monkeypatch.chdir(ROOT)
    script = (ROOT / "examples" / "train.sbatch").read_text(encoding="utf-8")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    command = script[script.index("python train.py") :].replace("\\\n", " ")
    filled = {"$SLURM_NNODES": "2", "$SLURM_NTASKS_PER_NODE": "8", "$1": "FOLDER", "${@:2}": ""}
    words = [filled.get(word, word) for word in shlex.split(command)]
    with pytest.raises(SystemExit) as stop:
        main([*words[2:-1], "--print_config"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    for line in ("num_nodes: 2", "devices: '8'", "strategy: ddp", "qwen_model_path: FOLDER"):
        assert line in printed

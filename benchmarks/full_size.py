"""The whole experiment at full size without the published weights: random ones in the real shape.

    python benchmarks/full_size.py --shape FOLDER                       # 8 minutes of training
    python benchmarks/full_size.py --shape FOLDER --minutes 2
    python benchmarks/full_size.py --shape FOLDER --steps 500 -- --model.lr 1e-4 --data.seed 1

FOLDER has config.json, tokenizer_config.json and tokenizer.json or tokenizer.json.gz; weights in
it are not used. A model with random weights is written into a temporary folder, and `train.py fit`
runs on it with --config and configs/from-scratch.yaml: evaluation, training with a learning curve,
evaluation, report. What is kept is small: benchmarks/results/<date>_<device>_full-size.json and
the drawn curve beside it (a second run on the same day and device takes their place).
"""

import argparse
import gzip
import math
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.compact_json import as_json  # noqa: E402
from callbacks.learning_curve import CURVE_FILE, curve_line  # noqa: E402
from callbacks.results import BASELINE_FILE, FINETUNED_FILE, format_figure  # noqa: E402
from callbacks.run_folder import RUN_FILE, read_json  # noqa: E402

TOKENS_PER_TEXT = 63  # mean of the generated training texts under Qwen2.5's tokenizer
FIGURES = ("accuracy", "mean_rank", "exact_match", "rmse_all", "coverage_80", "perplexity")
_RUN = (
    *("started", "device", "processes", "threads", "precision", "parameters", "steps", "seed"),
    *("token_head", "versions", "tokens", "tokens_per_second", "peak_memory_gib"),
)
_RUN_NAME = "full-size"
_SCORINGS = 15
_ESTIMATE = f"""\
how the size is chosen:
  Steps are minutes x 60 x tokens a second / (texts a step x {TOKENS_PER_TEXT} tokens a text).
  100,000 real tokens a second is an estimate, not a measurement, for 494M weights in bfloat16 on
  one H100 or H200: others reach 145,000 with long texts and kernels of their own.
  256 texts a step are 16,000 tokens; in 4 pieces the longest one has 14,800 with padding, which at
  3.5 MB a token (1.5 of activations, 2 of the vocabulary's scores and their gradients) and 9 GB of
  weights, gradients and optimizer state needs about 60 of 80 GB. On smaller GPUs raise --pieces:
  the steps stay the same.
  Around the 8 minutes of training there are one or two for writing the texts and about two for
  evaluation and export: 10 to 15 minutes in all. On a CPU give --steps.
"""


def main(arguments: list[str] | None = None) -> Path:
    """Make a model, train it as a process of its own, and keep and print the figures.

    Returns:
        The file with the figures.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parse(arguments)
    start = time.monotonic()
    with nullcontext(options.keep) if options.keep else tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / f"{options.shape.resolve().name}-random"
        write_model(options.shape, model, options.seed)
        made = time.monotonic() - start
        command = train_command(options, model, Path(folder))
        print(shlex.join(command), flush=True)
        if code := subprocess.run(command, check=False).returncode:
            raise SystemExit(f"error: train.py ended with exit code {code}")
        run = Path(folder) / _RUN_NAME
        found = {
            "command": shlex.join(["python", "benchmarks/full_size.py", *arguments]),
            "shape": options.shape.resolve().name,
            **read_figures(run),
        }
        found["seconds"] = {
            "random_weights": round(made, 1),
            **found["seconds"],
            "whole": round(time.monotonic() - start, 1),
        }
        file: Path = (
            options.out / f"{time.strftime('%Y-%m-%d')}_{device_slug(found)}_full-size.json"
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(as_json(found) + "\n", encoding="utf-8")
        shutil.copy(run / "learning_curve.png", file.with_suffix(".png"))
    print(f"\n{summary(found)}\n\nWritten to {file}")
    return file


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options, with the number of steps settled."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_ESTIMATE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--shape", type=Path, required=True, help="folder of configuration and tokenizer")
    add(
        "--config",
        type=Path,
        default=ROOT / "configs" / "qwen2.5-0.5b.yaml",
        help="config that configs/from-scratch.yaml goes beside (default: qwen2.5-0.5b.yaml)",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes", type=float, default=8.0, help="of training, as estimated below (default: 8)"
    )
    length.add_argument("--steps", type=int, help="optimizer steps, instead of --minutes")
    add(
        "--tokens-per-second",
        type=float,
        default=1e5,
        help="what --minutes counts on (default: 100000)",
    )
    add("--batch-size", type=int, default=256, help="texts a step (default: 256)")
    add("--pieces", type=int, default=4, help="of a step, one after another (default: 4)")
    add(
        "--texts",
        type=int,
        default=200_000,
        help="different texts to write, at about 2,000 a second; seen again if the steps need "
        "more (default: 200000)",
    )
    add(
        "--every",
        type=int,
        help=f"steps between two scorings of the learning curve (default: steps / {_SCORINGS})",
    )
    add("--seed", type=int, default=42, help="of the random weights and the run (default: 42)")
    add(
        "--keep",
        type=Path,
        help="folder in which model and run stay (about 4 GB); a temporary one without it",
    )
    add(
        "--out",
        type=Path,
        default=ROOT / "benchmarks" / "results",
        help="folder of the figures (default: benchmarks/results)",
    )
    add("options", nargs="*", help="after --: more options of train.py, which win")
    options = parser.parse_args(arguments)
    for names in (("config.json",), ("tokenizer_config.json",), tokenizer_files()):
        if not any((options.shape / name).exists() for name in names):
            parser.error(f"--shape: the folder '{options.shape}' has no {' or '.join(names)}")
    if options.steps is None:
        tokens = options.minutes * 60 * options.tokens_per_second
        options.steps = round(tokens / (options.batch_size * TOKENS_PER_TEXT))
    if options.steps < 1:
        parser.error("there is less than one step to train: raise --minutes or --steps")
    if options.texts < options.batch_size:
        parser.error(f"--texts {options.texts} do not make a step of {options.batch_size}")
    return options


def tokenizer_files() -> tuple[str, str]:
    """The names that a tokenizer's definition may have."""
    return "tokenizer.json", "tokenizer.json.gz"


def write_model(shape: Path, folder: Path, seed: int) -> None:
    """Write a model folder with random weights, as Transformers draws and saves them."""
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer_config.json"):
        shutil.copy(shape / name, folder)
    plain, packed = tokenizer_files()
    if (shape / plain).exists():
        shutil.copy(shape / plain, folder)
    else:
        (folder / plain).write_bytes(gzip.decompress((shape / packed).read_bytes()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = AutoConfig.from_pretrained(folder)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.to(torch.bfloat16).save_pretrained(folder)


def train_command(options: argparse.Namespace, model: Path, folder: Path) -> list[str]:
    """What trains the model, with its run in `folder / _RUN_NAME`."""
    texts = min(options.texts, options.steps * options.batch_size)
    settings = {
        "seed_everything": options.seed,
        "model.qwen_model_path": model,
        "trainer.max_epochs": math.ceil(options.steps / (texts // options.batch_size)),
        "trainer.max_steps": options.steps,
        "trainer.accumulate_grad_batches": options.pieces,
        # Of the last one in the list, the learning curve of from-scratch.yaml.
        "trainer.callbacks.every_n_steps": options.every or max(1, options.steps // _SCORINGS),
        "trainer.logger.save_dir": folder,
        "trainer.logger.run": _RUN_NAME,
        "data.batch_size": options.batch_size,
        "data.num_samples": texts,
    }
    configs = (options.config, ROOT / "configs" / "from-scratch.yaml")
    return [
        *(sys.executable, str(ROOT / "train.py"), "fit"),
        *(part for config in configs for part in ("--config", str(config))),
        *(part for name, value in settings.items() for part in (f"--{name}", str(value))),
        *options.options,
    ]


def read_figures(run: Path) -> dict[str, Any]:
    """What is kept of a run's folder."""
    entries = read_json(run / RUN_FILE)
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    training = entries["seconds"]["training"] - entries["seconds"].get("learning_curve", 0)
    return {
        **{name: entries[name] for name in _RUN if name in entries},
        "tokens_per_second_without_scoring": round(entries.get("tokens", 0) / training),
        "lr": config["model"]["lr"],
        "head_lr": config["model"]["head_lr"],
        "texts": config["data"]["num_samples"],
        "batch_size": config["data"]["batch_size"],
        "accumulate_grad_batches": config["trainer"]["accumulate_grad_batches"],
        "seconds": entries["seconds"],
        **{
            name: {
                key: {figure: result[figure] for figure in FIGURES}
                for key, result in read_json(run / file).items()
            }
            for name, file in (("baseline", BASELINE_FILE), ("finetuned", FINETUNED_FILE))
        },
        "learning_curve": read_json(run / CURVE_FILE),
    }


def device_slug(found: dict[str, Any]) -> str:
    """The device as a part of a file's name.

    >>> device_slug({"device": "cpu, 2 cores (x86_64)", "processes": 1})
    'cpu-2-cores'
    >>> device_slug({"device": "NVIDIA H100 80GB HBM3", "processes": 2})
    '2x-nvidia-h100-80gb-hbm3'
    """
    name = re.sub(r"[^a-z0-9]+", "-", found["device"].split(" (")[0].lower()).strip("-")
    return name if found["processes"] == 1 else f"{found['processes']}x-{name}"


def summary(found: dict[str, Any]) -> str:
    """The figures for people: the run, every set before and after, the learning curve."""
    lines = [
        f"{found['device']}, {found['precision']}, {found['parameters']:,} parameters, "
        f"{found['steps']:,} steps of {found['batch_size']} texts",
        ", ".join(f"{name} {value}" for name, value in found["seconds"].items()) + " seconds",
        ", ".join(
            f"{name} {found[name]:,}"
            for name in ("tokens", "tokens_per_second_without_scoring", "peak_memory_gib")
            if name in found
        ),
        "",
        f"{'before -> after':<20}" + "".join(f"{figure:>24}" for figure in FIGURES),
    ]
    for name, after in found["finetuned"].items():
        before = found["baseline"][name]
        pairs = (f"{format_figure(before[f])} -> {format_figure(after[f])}" for f in FIGURES)
        lines.append(f"{name:<20}" + "".join(f"{pair:>24}" for pair in pairs))
    curves = found["learning_curve"]
    scorings = zip(*curves.values(), strict=True)
    return "\n".join(
        [*lines, "", *(curve_line(dict(zip(curves, p, strict=True))) for p in scorings)]
    )


if __name__ == "__main__":
    main()

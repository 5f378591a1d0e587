"""What a training step holds in memory, measured beside what the formulas say.

    python benchmarks/memory.py --model FOLDER                    # a model, or only its shape
    python benchmarks/memory.py --model FOLDER --layers 2 4       # so many layers, random weights
    python benchmarks/memory.py --model FOLDER --layers 2 --processes 2 --modes bf16
    python benchmarks/memory.py --model FOLDER --set hidden_size=1024 tie_word_embeddings=false
    python benchmarks/memory.py --model FOLDER --no-products      # on a CPU without bf16
    python benchmarks/memory.py --table                           # the tables of docs/scaling.md

A shape folder has configuration and tokenizer. Every measurement is printed and added to
`benchmarks/results/<date>_<device>_memory.json`, in place of an earlier one of the same settings.
"""

import argparse
import datetime
import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
import transformers  # noqa: E402
from transformers import AutoConfig  # noqa: E402

from benchmarks import memory_formulas as formulas  # noqa: E402
from benchmarks.memory_formulas import Held, Mode, Piece, Shape  # noqa: E402
from benchmarks.memory_probe import Setting, measure, model_folder  # noqa: E402
from benchmarks.memory_processes import measure_processes  # noqa: E402
from benchmarks.scaling_formulas import ddp_traffic, fsdp_traffic  # noqa: E402
from benchmarks.scaling_tables import RESULTS, tables  # noqa: E402

MODES: dict[str, dict[str, Any]] = {
    "float32": {"autocast": False},
    "float32-checkpointing": {"autocast": False, "checkpointing": True},
    "bf16": {},
    "bf16-checkpointing": {"checkpointing": True},
    "bf16-unpadded": {"padded": False},
    "bf16-one-vs-rest": {"one_vs_rest": True},
    "bf16-lora": {"lora_rank": 16},
}
_PARTS = {  # of a step, and the moments that are in each
    "forward": ("root gathered", "layers forward", "forward"),
    "backward": ("head backward", "layers backward", "end of backward"),
    "optimizer": ("optimizer",),
}
Row = dict[str, Any]


def shape_of(folder: Path) -> Shape:
    """The shape of a model folder's Qwen2.

    Raises:
        ValueError: If it is of another architecture.
    """
    config = AutoConfig.from_pretrained(folder)
    if config.model_type != "qwen2":
        raise ValueError(f"{folder} is a {config.model_type}; the formulas are of qwen2")
    return Shape(
        config.hidden_size,
        config.num_hidden_layers,
        config.intermediate_size,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.vocab_size,
        config.tie_word_embeddings,
    )


def mode_of(setting: Setting) -> Mode:
    """How a setting trains, for the formulas."""
    return Mode(
        autocast=setting.autocast,
        checkpointing=setting.checkpointing,
        one_vs_rest=setting.one_vs_rest,
        lora_rank=setting.lora_rank,
        gpu=setting.device != "cpu",
    )


def piece_of(setting: Setting, found: dict[str, Any]) -> Piece:
    """What was read, for the formulas."""
    return Piece(
        setting.texts,
        setting.length,
        found["labelled"] / setting.texts,
        found["numbers"],
        found["asked"],
        padding=1 if setting.padded else 0,
    )


def row(what: str, measured: float, predicted: float) -> Row:
    """A measured quantity beside its formula."""
    ratio = round(measured / predicted, 4) if predicted else None
    return {"what": what, "measured": measured, "predicted": predicted, "ratio": ratio}


def held_rows(found: dict[str, Any], held: Held) -> list[Row]:
    """What is held, and the peaks of the parts of a step."""
    names = ("weights", "gradients", "optimizer")
    rows = [row(name, found[name], getattr(held, name)) for name in names]
    for part, moments in _PARTS.items():
        worst = max(held.moments.get(moment, 0) for moment in moments)
        rows.append(row(f"peak: {part}", found["moments"][part], worst))
    return rows


def compare(shape: Shape, setting: Setting, found: dict[str, Any]) -> list[Row]:
    """One device's measurements beside their formulas."""
    mode, piece, kept = mode_of(setting), piece_of(setting, found), found["kept"]
    held = formulas.whole(shape, piece, mode)
    pairs = {
        "kept: layers": (kept["layers"], formulas.kept_layers(shape, piece, mode)),
        "kept: layers' weights in bf16": (
            kept.get("cast_layers", 0),
            formulas.cast_layers(shape, mode, forward=False),
        ),
        "kept: token head": (kept["head"], formulas.kept_head(shape, piece, mode)),
        "kept: number head": (kept["numbers"], formulas.kept_numbers(shape, piece, mode)),
        "kept: rest": (kept["rest"], formulas.kept_rest(shape, piece, mode)),
    }
    rows = [
        *held_rows(found, held),
        *(row(name, *pair) for name, pair in pairs.items() if any(pair)),
    ]
    if setting.device == "cpu":
        process = found["resident"] - found["resident_before"]
        rows.append(row("process, above its start", process, held.peak))
    return rows


def compare_processes(
    shape: Shape, setting: Setting, found: dict[str, Any], strategy: str, processes: int
) -> list[Row]:
    """One of several processes' measurements beside their formulas."""
    mode, piece = mode_of(setting), piece_of(setting, found)
    sent = found["sent"]
    if strategy == "ddp":
        held = formulas.whole(shape, piece, mode, buckets=True)
        whole = 2 * sent["reduced"]  # a ring's all-reduce is a reduce-scatter and an all-gather
        traffic = ddp_traffic(shape, mode, processes)
    else:
        held = formulas.sharded(shape, piece, mode, processes)
        whole = sent["gathered"] + sent["reduced"]
        traffic = fsdp_traffic(shape, mode, processes)
    received = whole * (processes - 1) / processes
    return [*held_rows(found, held), row("received", received, traffic.total)]


def in_process(function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401
    """Call a function in a process of its own.

    What getrusage calls a process's peak begins with its parent's: this one must stay small.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def device_name(device: str) -> str:
    """A device as in the names of results."""
    if device == "cpu":
        return f"cpu-{os.cpu_count()}-cores"
    return torch.cuda.get_device_name().lower().replace(" ", "-")


def add_result(file: Path, entry: dict[str, Any]) -> None:
    """Add a measurement to a file, in place of an earlier one of the same settings."""
    results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"entries": []}
    results |= {"torch": torch.__version__, "transformers": transformers.__version__}
    key = ("strategy", "processes", "layers", "shape", "setting", "mmap_threshold")
    others = [e for e in results["entries"] if any(e[name] != entry[name] for name in key)]
    results["entries"] = [*others, entry]
    file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Measure, or print the tables."""
    options = _options()
    if options.table:
        for name, table in tables().items():
            print(f"## {name}\n\n{table}\n")
        return
    today = datetime.datetime.now(tz=datetime.UTC).date()
    file = options.results / f"{today}_{device_name(options.device)}_memory.json"
    for layers in options.layers or [None]:
        with TemporaryDirectory() as temporary:
            target = Path(temporary) / "model"
            changes = dict(options.set)
            if layers is not None:
                changes["num_hidden_layers"] = layers
            folder = in_process(model_folder, options.model, changes, target)
            shape = shape_of(folder)
            base = Setting(
                "",
                options.texts,
                options.length,
                device=options.device,
                products=not options.no_products,
            )
            for share in options.share:
                for name in options.modes:
                    setting = replace(base, folder=str(folder), share=share, **MODES[name])
                    for strategy, found, rows in _measurements(shape, setting, options.processes):
                        entry = {
                            "strategy": strategy,
                            "processes": options.processes,
                            "layers": shape.layers,
                            "shape": dict(options.set),
                            "setting": asdict(setting) | {"folder": options.model.name},
                            "mode": name,
                            "mmap_threshold": os.environ.get("MALLOC_MMAP_THRESHOLD_"),
                            "seconds": found.get("seconds"),
                            "rows": rows,
                        }
                        _show(entry)
                        add_result(file, entry)
    print(f"written to {file}")


def _measurements(
    shape: Shape, setting: Setting, processes: int
) -> list[tuple[str, dict[str, Any], list[Row]]]:
    """Measurements of a setting: strategy, what was found, rows beside the formulas."""
    if processes == 1:
        found = in_process(measure, setting)
        return [("one", found, compare(shape, setting, found))]
    several = []
    for strategy in ("ddp", "fsdp"):
        found = measure_processes(setting, strategy, processes)
        rows = compare_processes(shape, setting, found, strategy, processes)
        several.append((strategy, found, rows))
    return several


def _show(entry: dict[str, Any]) -> None:
    print(
        f"\n{entry['layers']} layers, {entry['mode']}, loss on {entry['setting']['share']:.0%}, "
        f"{entry['strategy']}, {entry['processes']} process(es)"
    )
    for line in entry["rows"]:
        ratio = "-" if line["ratio"] is None else f"{line['ratio']:.4f}"
        print(
            f"  {line['what']:<32}{line['measured'] / 1e6:>12.3f} MB"
            f"{line['predicted'] / 1e6:>12.3f} MB{ratio:>10}",
            flush=True,
        )


def _change(text: str) -> tuple[str, Any]:
    name, value = text.split("=")
    return name, json.loads(value)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="print the page's tables, and end")
    parser.add_argument("--model", type=Path, help="model or shape folder")
    parser.add_argument("--layers", type=int, nargs="+", help="instead of the model's own number")
    parser.add_argument(
        "--set", type=_change, nargs="+", default=[], metavar="NAME=VALUE", help="of config.json"
    )
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--share", type=float, nargs="+", default=[1.0], help="labelled share")
    parser.add_argument("--texts", type=int, default=8)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--processes", type=int, default=1, help="more: DDP and FSDP2 over gloo")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument(
        "--no-products", action="store_true", help="zeros in place of matrix products"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if not options.table and options.model is None:
        parser.error("give --model FOLDER, or --table")
    return options


if __name__ == "__main__":
    main()

"""The tables of `docs/scaling.md`, made of the formulas and of what was measured."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import memory_formulas as formulas
from benchmarks.memory_formulas import FLOAT, QWEN25, Held, Mode, Piece, Shape
from benchmarks.scaling_formulas import (
    H100,
    cost,
    ddp_traffic,
    fsdp_collectives,
    fsdp_traffic,
    hiding_bandwidth,
    step_seconds,
    work,
)

RESULTS = Path(__file__).resolve().parent / "results"
MEASURED = "2026-11-27_cpu-2-cores_memory.json"
# What a device reads at once: texts of 512 tokens, of which one has one less.
PIECE = Piece(texts=8, length=512, labelled=4087 / 8, numbers=20, padding=1)
SHORT = Piece(texts=102, length=40, labelled=39, numbers=3)  # about as many tokens, short texts
FULL, AGAIN = Mode(), Mode(checkpointing=True)
ONE_VS_REST = Mode(one_vs_rest=True)
LORA, LORA_AGAIN = Mode(lora_rank=16), Mode(lora_rank=16, checkpointing=True)
TIGHT = 0.9  # of a device's memory; the rest is for CUDA context, NCCL and fragmentation

# Of the table of memory: name, how is trained, strategy, devices.
STRATEGIES = (
    ("one device", FULL, "one", 1),
    ("one device, one-vs-rest", ONE_VS_REST, "one", 1),
    ("DDP, any number", FULL, "ddp", 1),
    ("FSDP2, 1", FULL, "fsdp", 1),
    ("FSDP2, 8", FULL, "fsdp", 8),
    ("FSDP2, 64", FULL, "fsdp", 64),
    ("LoRA, one device", LORA, "one", 1),
    ("LoRA, FSDP2, 8", LORA, "fsdp", 8),
)
# What each model is trained on in the tables of time and price: devices, FSDP2 or not, how.
SETUPS = (
    ("0.5B", 1, False, FULL),
    ("0.5B", 8, False, FULL),
    ("7B", 8, True, FULL),
    ("72B", 64, True, AGAIN),
    ("0.5B", 1, False, LORA),
    ("7B", 1, False, LORA_AGAIN),
    ("72B", 8, True, LORA_AGAIN),
)


def tables() -> dict[str, str]:
    """All tables by name, in the order of the page."""
    return {
        "sizes": sizes(),
        "memory": memory(),
        "smallest": smallest(),
        "time": times(),
        "price": prices(),
        "network": network(),
        "host": host(),
        "measured": measured(),
        "measured, a layer": measured_layers(),
        "measured in two processes": measured_processes(),
    }


def sizes() -> str:
    """What the shapes imply, before a number of devices is chosen."""

    def kept(mode: Mode) -> Callable[[Shape], str]:
        return lambda s: _figure(formulas.kept_layers(s, PIECE, mode) / PIECE.tokens / 1e6)

    def gigaflop(mode: Mode) -> Callable[[Shape], str]:
        return lambda s: _figure(work(s, PIECE, mode).total / PIECE.tokens / 1e9)

    def at_work(mode: Mode) -> Callable[[Shape], str]:
        return lambda s: _gigabytes(formulas.head_at_work(s, PIECE, mode))

    rows: dict[str, Callable[[Shape], str]] = {
        "parameters of the backbone": lambda s: f"{s.backbone_parameters:,}",
        "of a layer": lambda s: f"{s.layer_parameters:,}",
        "of the number modules": lambda s: f"{formulas.number_parameters(s, FULL):,}",
        "of adapters of rank 16": lambda s: f"{formulas.adapter_parameters(s, LORA):,}",
        "kept by all layers, MB a token: float32": kept(Mode(autocast=False)),
        "... bf16-mixed": kept(FULL),
        "... bf16-mixed, LoRA": kept(LORA),
        "... bf16-mixed, checkpointing": kept(AGAIN),
        "tokens from which bf16-mixed holds less than float32": _worthwhile_tokens,
        "token head, GB: kept": lambda s: _gigabytes(formulas.kept_head(s, PIECE, FULL)),
        "... at work beside it, softmax": at_work(FULL),
        "... one-vs-rest": at_work(ONE_VS_REST),
        "scores of all positions, GB, which are never there": lambda s: _gigabytes(
            FLOAT * PIECE.positions * s.rows
        ),
        "work, GFLOP a token": gigaflop(FULL),
        "... checkpointing": gigaflop(AGAIN),
        "... LoRA": gigaflop(LORA),
    }
    return _table(
        ["", *QWEN25],
        ([what, *(cell(shape) for shape in QWEN25.values())] for what, cell in rows.items()),
    )


def _worthwhile_tokens(shape: Shape) -> str:
    """Tokens whose smaller activations make up for the copies of all weights in bf16."""
    copies = formulas.cast_layers(shape, FULL) + formulas.HALF * shape.table
    single, half = (
        formulas.kept_layers(shape, PIECE, mode) / PIECE.tokens
        for mode in (Mode(autocast=False), FULL)
    )
    return f"{_rounded(copies / (single - half)):,}"


def memory() -> str:
    """Memory of one device, in GB."""
    rows = []
    for name, shape in QWEN25.items():
        for what, mode, strategy, devices in STRATEGIES:
            again = replace(mode, checkpointing=True)
            once, twice = (_held(shape, each, strategy, devices) for each in (mode, again))
            if strategy == "fsdp":
                copies = FLOAT * formulas.root_parameters(shape, mode)
            else:
                copies = formulas.cast_layers(shape, mode)
                copies += once.gradients if strategy == "ddp" else 0
            head = formulas.kept_head(shape, PIECE, mode)
            head += formulas.head_at_work(shape, PIECE, mode)
            rows.append(
                [
                    f"{name}: {what}",
                    *map(_gigabytes, (once.weights, once.gradients, once.optimizer, copies, head)),
                    *(_gigabytes(formulas.kept_layers(shape, PIECE, m)) for m in (mode, again)),
                    *(_fits(held.peak) for held in (once, twice)),
                ]
            )
    held_columns = ["weights", "gradients", "AdamW", "copies", "head", "layers", "layers, ckpt"]
    return _table(["GB", *held_columns, "**peak**", "**peak, ckpt**"], rows)


def _held(shape: Shape, mode: Mode, strategy: str, devices: int) -> Held:
    if strategy == "fsdp":
        return formulas.sharded(shape, PIECE, mode, devices)
    return formulas.whole(shape, PIECE, mode, buckets=strategy == "ddp")


def smallest() -> str:
    """From how many devices on FSDP2 fits `PIECE` into nine tenths of the memory."""

    def number(shape: Shape, mode: Mode) -> int | str:
        fitting = (
            n
            for n in range(1, 1025)
            if formulas.sharded(shape, PIECE, mode, n).peak <= TIGHT * H100.memory
        )
        return next(fitting, "never")

    options = {"all weights": FULL, "all weights, ckpt": AGAIN, "LoRA": LORA}
    options["LoRA, ckpt"] = LORA_AGAIN
    return _table(
        ["FSDP2 fits from so many devices", *QWEN25],
        ([what, *(number(s, mode) for s in QWEN25.values())] for what, mode in options.items()),
    )


def times() -> str:
    """Expected time of a step of `PIECE` on every device."""
    rows = []
    for name, devices, shared, mode in SETUPS:
        shape = QWEN25[name]
        seconds = step_seconds(shape, PIECE, mode, devices, shared)
        rows.append(
            [
                _setup(name, devices, shared, mode),
                _figure(work(shape, PIECE, mode).total / PIECE.tokens / 1e9),
                _figure(seconds),
                f"{_rounded(PIECE.tokens / seconds):,}",
                f"{_rounded(devices * PIECE.tokens / seconds):,}",
            ]
        )
    columns = ["GFLOP a token", "s a step", "tokens/s, a device", "tokens/s, all"]
    return _table(["expected", *columns], rows)


def prices() -> str:
    """Expected time and price of two runs, training alone."""
    rows = []
    for name, devices, shared, mode in SETUPS:
        shape = QWEN25[name]
        few = Piece(max(16 // devices, 1), 40, 39, 3)
        cells = []
        for piece, texts in ((few, 10_000), (SHORT, 1_000_000)):
            run = cost(shape, piece, mode, texts, devices, shared)
            cells += [
                f"{piece.texts * devices:,} x {run.steps:,}",
                _figure(run.hours),
                _figure(run.gpu_hours),
                _figure(run.dollars),
            ]
        rows.append([_setup(name, devices, shared, mode), *cells])
    return _table(
        [
            "expected",
            *("10 x 1,000 texts: texts x steps", "hours", "GPU hours", "$"),
            *("1M texts: texts x steps", "hours", "GPU hours", "$"),
        ],
        rows,
    )


def network() -> str:
    """What a device receives in a step of `PIECE`, and from which bandwidth that is hidden."""
    rows = []
    for name, shape in QWEN25.items():
        for what, mode, traffic in (
            ("DDP", FULL, ddp_traffic),
            ("FSDP2", FULL, fsdp_traffic),
            ("FSDP2, checkpointing", AGAIN, fsdp_traffic),
            ("LoRA, DDP", LORA, ddp_traffic),
            ("LoRA, FSDP2", LORA, fsdp_traffic),
        ):
            sent = traffic(shape, mode, 64)
            done = work(shape, PIECE, mode)
            rows.append(
                [
                    f"{name}: {what}",
                    *(_gigabytes(x) for x in (sent.forward, sent.backward, sent.alone)),
                    _gigabytes(sent.total),
                    _rounded(hiding_bandwidth(done, sent) / 1e9),
                    f"{fsdp_collectives(shape, mode):,}" if "FSDP2" in what else "-",
                ]
            )
    columns = [
        "forward",
        "backward",
        "not beside work",
        "in all",
        "hidden from, GB/s",
        "collectives",
    ]
    return _table(["GB a step", *columns], rows)


def host() -> str:
    """Memory of the host, in GB, of the first process of all."""
    rows = []
    for name, shape in QWEN25.items():
        weights = FLOAT * formulas.all_parameters(shape, FULL)
        rows.append(
            [
                name,
                _gigabytes(weights),
                _gigabytes(FLOAT * shape.layer_parameters),
                _gigabytes(FLOAT * formulas.root_parameters(shape, FULL)),
                _gigabytes(weights),
                _gigabytes(3 * weights),
            ]
        )
    return _table(
        [
            "GB",
            "loading, first process",
            "a device receives at once: a layer",
            "... the root",
            "export, first process",
            "checkpoint in one file, first process",
        ],
        rows,
    )


def measured() -> str:
    """One device: the largest run beside its formulas, and the range of ratios of all runs."""
    alone = [entry for entry in _entries() if entry["strategy"] == "one"]
    entries = [entry for entry in alone if not entry["mmap_threshold"]]
    largest = max(entries, key=lambda entry: entry["layers"])
    ratios: defaultdict[str, list[float]] = defaultdict(list)
    for entry in entries:
        for row in entry["rows"]:
            if row["ratio"] is not None:
                ratios[row["what"]].append(row["ratio"])

    def line(what: str, row: dict[str, Any], spread: str) -> list[str]:
        sizes = (f"{row[name] / 1e6:,.1f}" for name in ("measured", "predicted"))
        return [what, *sizes, f"{row['ratio']:.3f}", spread]

    lines = []
    for row in largest["rows"]:
        found = ratios[row["what"]]
        lines.append(line(row["what"], row, f"{min(found):.3f} to {max(found):.3f}"))
    for entry in alone:
        if entry["mmap_threshold"]:
            what = f"... with MALLOC_MMAP_THRESHOLD_={entry['mmap_threshold']}"
            lines.append(line(what, entry["rows"][-1], "-"))
    title = f"{largest['layers']} layers, {largest['mode']}"
    columns = ["measured, MB", "formula, MB", "ratio", f"ratio in all {len(entries)} runs"]
    return _table([title, *columns], lines)


def measured_layers() -> str:
    """What one more layer keeps of a token, in KB."""
    kept: dict[tuple[str, int], Any] = {
        (entry["mode"], entry["layers"]): (entry["setting"], row)
        for entry in _entries()
        for row in entry["rows"]
        if row["what"] == "kept: layers" and entry["setting"]["share"] == 1
    }
    rows = []
    for mode in ("float32", "bf16", "bf16-checkpointing"):
        (setting, few), (_, more) = kept[mode, 2], kept[mode, 4]
        measured, formula = (
            (more[name] - few[name]) / 2 / setting["texts"] / setting["length"]
            for name in ("measured", "predicted")
        )
        rows.append(
            [mode, f"{measured / 1e3:.2f}", f"{formula / 1e3:.2f}", f"{measured / formula:.4f}"]
        )
    return _table(["one more layer, KB a token", "measured", "formula", "ratio"], rows)


def measured_processes() -> str:
    """Several processes: ratios of all runs."""
    entries = [entry for entry in _entries() if entry["strategy"] != "one"]
    whats = [row["what"] for row in entries[0]["rows"]]
    return _table(
        ["measured / formula", *whats],
        (
            [
                _run(entry),
                *(f"{row['ratio']:.3f}" for row in entry["rows"]),
            ]
            for entry in sorted(entries, key=lambda entry: entry["strategy"])
        ),
    )


def _run(entry: dict[str, Any]) -> str:
    layers = f"{entry['layers']}{' wide' if entry['shape'] else ''} layers"
    return f"{entry['strategy'].upper()}, {layers}, {entry['mode']}"


def _entries() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((RESULTS / MEASURED).read_text(encoding="utf-8"))[
        "entries"
    ]
    return found


def _setup(name: str, devices: int, shared: bool, mode: Mode) -> str:
    how = "FSDP2" if shared else "DDP"
    return ", ".join(
        [
            f"{name}: {devices} x {how}" if devices > 1 else f"{name}: 1",
            *(["LoRA"] if mode.lora_rank else []),
            *(["ckpt"] if mode.checkpointing else []),
        ]
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _figure(value: float) -> str:
    """Three digits, or fewer where they would say less than a thousandth."""
    if value >= 1000:
        return f"{_rounded(value):,}"
    if value == 0:
        return "0"
    return f"{value:.{3 if value < 0.1 else 2 if value < 10 else 1 if value < 100 else 0}f}"


def _rounded(value: float) -> int:
    """Two digits: more would not be expected, but claimed."""
    unit = int(10 ** max(len(str(int(value))) - 2, 0))
    return round(value / unit) * unit


def _gigabytes(value: float) -> str:
    return _figure(value / 1e9)


def _fits(value: float) -> str:
    """A peak, and whether a device has so much."""
    mark = " no" if value > H100.memory else " tight" if value > TIGHT * H100.memory else ""
    return f"{_gigabytes(value)}{mark}"

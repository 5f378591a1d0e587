"""Where the time of a training step goes, by kind of operation, forward and backward together.

    python benchmarks/step_profile.py
    python benchmarks/step_profile.py --compile-layers --json FILE --chart FILE

Steps of the default experiment's model, batch and options under PyTorch's profiler; what an
operation calls is counted once, where it runs. With --compile-layers as written and compiled are
set side by side.
"""

import argparse
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch.profiler import ProfilerActivity, profile

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.compact_json import as_json  # noqa: E402
from benchmarks.train_arms import GivenTexts  # noqa: E402
from benchmarks.train_speed import EMBEDDED, texts  # noqa: E402
from benchmarks.trainer_turns import DEVICE  # noqa: E402
from benchmarks.turns import circumstances  # noqa: E402
from lightning_modules.number_lm import NumberLMModule  # noqa: E402

# The first kind one of whose words is in an operation's name.
KINDS = {
    "elementwise, compiled": ("compiledfx", "compiledfunction", "compiled region", "triton"),
    "attention": ("scaled_dot_product",),
    "optimizer and clipping": ("_fused_adamw", "vector_norm", "_foreach", "stack"),
    "products": ("mm", "matmul", "linear", "bmm", "dot", "einsum"),
    "gathers and copies": (
        *("copy", "index", "gather", "scatter", "cat", "clone", "select", "slice", "embedding"),
        *("fill", "zero", "nonzero", "repeat", "argsort", "sort"),
    ),
    "softmax and logarithms": ("softmax", "logsumexp", "log", "exp", "atan2"),
    "elementwise": (
        *("mul", "add", "sub", "div", "silu", "sigmoid", "pow", "sqrt", "mean", "sum", "neg"),
        *("where", "square", "norm", "hypot", "reciprocal", "cos", "sin", "cum", "max", "min"),
        *("abs", "eq", "ne", "gt", "lt", "le", "ge", "bitwise", "logical", "isfinite", "any"),
    ),
}
OTHER = "Python and the rest"


class _Steps(Callback):
    """Profiles the last steps of a run."""

    def __init__(self, warm_up: int, steps: int) -> None:
        self.warm_up, self.steps = warm_up, steps
        self.profile = profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        if batch_idx == self.warm_up:
            self.profile.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, _: int
    ) -> None:
        if trainer.global_step == self.warm_up + self.steps:
            self.profile.stop()


def kind_of(name: str) -> str:
    """The kind that an operation belongs to."""
    if "::" in name and "Compiled" not in name and not name.startswith(("aten::", "torch::")):
        return OTHER  # autograd's own, around the operations of a backward pass
    name = name.lower().removeprefix("aten::")
    return next((k for k, words in KINDS.items() if any(word in name for word in words)), OTHER)


def milliseconds(compiled: bool, warm_up: int, steps: int, batch_size: int) -> dict[str, float]:
    """Milliseconds of a step by kind, the longest first."""
    callback = _Steps(warm_up, steps)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_steps=warm_up + steps, devices=1, gradient_clip_val=1.0, callbacks=[callback],
            logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, limit_val_batches=0, use_distributed_sampler=False,
            default_root_dir=folder,
        )  # fmt: skip
        records = texts((warm_up + steps) * batch_size, None)
        data = GivenTexts(records, qwen_model_path=str(EMBEDDED), batch_size=batch_size)
        trainer.fit(NumberLMModule(str(EMBEDDED), compile_layers=compiled), datamodule=data)
    device = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    spent: Counter[str] = Counter()
    for event in callback.profile.key_averages():
        spent[kind_of(event.key)] += getattr(event, device) / 1000 / steps
    return dict(spent.most_common())


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    """Profile, print a table, write what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=32, help="texts a step")
    parser.add_argument("--warm-up", type=int, default=10, help="steps before")
    parser.add_argument("--steps", type=int, default=20, help="steps that are profiled")
    parser.add_argument("--compile-layers", action="store_true", help="compiled as well")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--chart", type=Path, help="where to draw them")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    found = {
        name: milliseconds(compiled, options.warm_up, options.steps, options.batch)
        for name, compiled in (("as written", False), ("compiled", True))
        if not compiled or options.compile_layers
    }
    kinds = list(dict.fromkeys(kind for spent in found.values() for kind in spent))
    print(f"{'ms a step':<26}" + "".join(f"{name:>12}" for name in found))
    for kind in kinds:
        print(f"{kind:<26}" + "".join(f"{s.get(kind, 0.0):>12.1f}" for s in found.values()))
    print(f"{'all':<26}" + "".join(f"{sum(s.values()):>12.1f}" for s in found.values()))
    if options.chart:
        draw(found, kinds, options.chart)
    if options.json:
        about: dict[str, Any] = {
            **circumstances(DEVICE),
            "batch": options.batch,
            "milliseconds": {
                name: {kind: round(ms, 2) for kind, ms in spent.items()}
                for name, spent in found.items()
            },
        }
        options.json.write_text(as_json(about) + "\n", encoding="utf-8")
    return found


def draw(found: dict[str, dict[str, float]], kinds: Sequence[str], path: Path) -> None:
    """A bar of stacked kinds for each way to run."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 1.4 + 0.8 * len(found)), layout="constrained")
    ends = [0.0] * len(found)
    for kind in kinds:
        spent = [one.get(kind, 0.0) for one in found.values()]
        bars = axes.barh(list(found), spent, left=ends, label=kind)
        shown = [f"{ms:.0f}" if ms > 0.03 * max(ends) + 2 else "" for ms in spent]
        axes.bar_label(bars, shown, label_type="center", color="white", fontsize=9)
        ends = [end + ms for end, ms in zip(ends, spent, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds of a training step")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()

"""What a training step really holds: tensors kept for the backward pass, peaks, gradients.

Every measurement runs in a process of its own, so that the peak memory of the process is its own
too. The order within a step is Lightning's: forward pass, gradients of the step before let go,
backward pass, optimizer.
"""

import gzip
import json
import resource
import shutil
import time
import warnings
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function
from transformers import AutoConfig, AutoModelForCausalLM

from numlm.batch import IGNORE, Batch, Record, collate
from numlm.heads import OneVsRestHead, SoftmaxHead
from numlm.layers import decoder_layers
from numlm.lora import Lora
from numlm.model import NumberLM

PARTS = ("forward", "backward", "optimizer")
_NUMBER_EVERY = 10  # tokens


@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured.

    Attributes:
        folder: Model folder with weights and tokenizer.
        texts: Texts of the step.
        length: Tokens of a text.
        share: Of a text's tokens, from its end, that a loss is taken on.
        padded: Whether the last text has one token less.
        autocast: bf16 autocast; else float32.
        checkpointing: Activation checkpointing.
        one_vs_rest: One-vs-rest instead of softmax.
        lora_rank: Rank of adapters; 0: all weights learn.
        device: "cpu" or "cuda".
        products: Whether matrix products are computed. Else zeros stand in their place: what is
            held is the same, and a CPU without instructions for bf16 would take hours.
    """

    folder: str
    texts: int = 8
    length: int = 64
    share: float = 1.0
    padded: bool = True
    autocast: bool = True
    checkpointing: bool = False
    one_vs_rest: bool = False
    lora_rank: int = 0
    device: str = "cpu"
    products: bool = True


def model_folder(source: Path, changes: dict[str, Any], target: Path) -> Path:
    """A folder that loads: with random weights where there are none, or of another shape.

    Args:
        source: Model or shape folder.
        changes: Fields of `config.json` in place of its own.
        target: Where to write it, if it is another one.
    """
    if not changes and list(source.glob("*.safetensors")):
        return source
    target.mkdir()
    for file in source.glob("*token*"):
        if file.suffix == ".gz":
            (target / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
        else:
            shutil.copy(file, target)
    config = json.loads((source / "config.json").read_text(encoding="utf-8")) | changes
    config.pop("layer_types", None)  # one for every layer that there was
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    loaded = AutoConfig.from_pretrained(target)
    AutoModelForCausalLM.from_config(loaded, dtype=torch.float32).save_pretrained(target)
    return target


def load(setting: Setting, empty: bool = False) -> NumberLM:
    """The model of a setting, on the CPU; empty: without values."""
    return NumberLM.from_pretrained(
        setting.folder,
        token_head=OneVsRestHead if setting.one_vs_rest else SoftmaxHead,
        activation_checkpointing=setting.checkpointing,
        lora=Lora(rank=setting.lora_rank) if setting.lora_rank else None,
        empty=empty,
    )


def leave_out_products() -> torch.library.Library:
    """Zeros in place of matrix products on the CPU, as long as the result lives."""

    def mm(left: Tensor, right: Tensor) -> Tensor:
        return left.new_zeros(len(left), right.shape[1])

    def mm_out(left: Tensor, right: Tensor, *, out: Tensor) -> Tensor:
        return out.zero_()

    def addmm_(total: Tensor, left: Tensor, right: Tensor, **scales: float) -> Tensor:
        return total

    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that kernels are replaced
        for name, kernel in (("mm", mm), ("mm.out", mm_out), ("addmm_", addmm_)):
            library.impl(name, kernel, "CPU")
    return library


def make_batch(setting: Setting, num_token_id: int) -> Batch:
    """Texts with a number at every tenth token."""
    answer_start = round(setting.length * (1 - setting.share))
    records = []
    for row in range(setting.texts):
        length = setting.length - (setting.padded and row == setting.texts - 1)
        places = range(_NUMBER_EVERY - 1, length, _NUMBER_EVERY)
        ids = [num_token_id if i in places else 100 + i + row for i in range(length)]
        records.append(Record(ids, [row + 0.5] * len(places), answer_start=answer_start))
    return collate(records, num_token_id, 0).to(torch.device(setting.device))


def contents(batch: Batch, num_token_id: int) -> dict[str, int]:
    """What a batch holds: labelled positions, and the most numbers and number labels of a text."""
    return {
        "labelled": int((batch.labels[:, 1:] != IGNORE).sum()),
        "numbers": int((batch.input_ids == num_token_id).sum(-1).max()),
        "asked": int((batch.labels[:, 1:] == num_token_id).sum(-1).max()),
    }


class _Kept:
    """A tensor kept for the backward pass, and what it is a part of."""

    __slots__ = ("__weakref__", "part", "tensor")

    def __init__(self, tensor: Tensor, part: str) -> None:
        self.tensor = tensor.detach()  # an output with its graph would keep itself
        self.part = part


def kept_tensors(model: NumberLM, batch: Batch, autocast: bool) -> dict[str, int]:
    """Bytes that are kept between forward and backward pass, every storage counted once.

    Returns:
        Bytes of `layers`, `head`, `numbers` and `rest`, and of copies of weights in 16 bits,
        `cast_layers`. Parameters and buffers are left out.
    """
    owned = {
        tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]
    }
    frozen = {_extent(p) for p in model.parameters() if not p.requires_grad}
    alive: list[weakref.ref[_Kept]] = []
    parts = ["rest"]

    def pack(tensor: Tensor) -> _Kept:
        part = parts[-1]
        if _is_cast_weight(tensor, frozen):
            part = "cast_layers"
        kept = _Kept(tensor, part)
        alive.append(weakref.ref(kept))
        return kept

    held: list[_Kept] = []

    def keep_gradients(result: tuple[Tensor, Tensor]) -> None:
        """The gradients that a vocabulary loss takes in the forward pass, which no hook sees."""
        held.extend(
            _Kept(gradient, "head")
            for gradient in result[0].grad_fn.gradients  # type: ignore[union-attr]
            if gradient is not None
        )
        alive.extend(map(weakref.ref, held))

    with ExitStack() as stack:
        for layer in decoder_layers(model.backbone):
            stack.enter_context(_named(layer, "forward", "layers", parts))
        stack.enter_context(_named(model, "token_loss", "head", parts, keep_gradients))
        stack.enter_context(_named(model, "number_answer", "numbers", parts))
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(pack, lambda k: k.tensor))
        with torch.autocast(model.device.type, torch.bfloat16, enabled=autocast):
            loss = model.losses(batch).total(0.3)
    found: defaultdict[str, int] = defaultdict(int)
    seen = set(owned)
    for reference in alive:
        kept = reference()
        if kept is None:  # of what no gradient flows through
            continue
        storage = kept.tensor.untyped_storage()
        if storage.data_ptr() in seen:
            continue
        seen.add(storage.data_ptr())
        found[kept.part] += storage.nbytes()
    del loss
    return dict(found)


def _extent(tensor: Tensor) -> tuple[int, ...]:
    """A shape, transposed or not."""
    return tuple(sorted(tensor.shape))


def _is_cast_weight(tensor: Tensor, frozen: set[tuple[int, ...]]) -> bool:
    """Whether a tensor is what autocast made of a weight; `frozen`: shapes of those without."""
    if tensor.dtype != torch.bfloat16:
        return False
    if not tensor.requires_grad:
        return _extent(tensor) in frozen
    node = tensor.grad_fn
    while node is not None and node.name() in ("TBackward0", "ToCopyBackward0"):
        node = node.next_functions[0][0]
    return node is not None and node.name() == "torch::autograd::AccumulateGrad"


@contextmanager
def _named(
    owner: nn.Module,
    method: str,
    part: str,
    parts: list[str],
    after: Callable[[Any], None] = lambda result: None,
) -> Iterator[None]:
    """What is kept while a method runs is a part of this name.

    Args:
        owner: Whose method it is.
        method: Its name.
        part: The name of the part.
        parts: The parts that run, the innermost last.
        after: Gets what the method returns.
    """
    original: Callable[..., Any] = getattr(owner, method)

    def wrapped(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        parts.append(part)
        try:
            result = original(*args, **options)
        finally:
            parts.pop()
        after(result)
        return result

    setattr(owner, method, wrapped)
    yield
    delattr(owner, method)


def _steps(
    model: nn.Module,
    losses: Callable[[], Tensor],
    optimizer: torch.optim.Optimizer,
    autocast: bool,
    device: str,
    after_part: Callable[[str], None],
) -> None:
    """Three steps: the first has no gradients before it, the second has DDP's buckets twice.

    DDP makes them anew then, and lets the first ones go whenever their sum is through.
    """
    for _ in range(3):
        with (
            record_function("part: forward"),
            torch.autocast(device, torch.bfloat16, enabled=autocast),
        ):
            loss = losses()
        after_part("forward")
        optimizer.zero_grad()
        after_part("between")
        with record_function("part: backward"):
            loss.backward()
        after_part("backward")
        del loss
        with record_function("part: optimizer"):
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        after_part("optimizer")


def peaks(
    model: nn.Module,
    losses: Callable[[], Tensor],
    optimizer: torch.optim.Optimizer,
    autocast: bool,
    device: str,
) -> dict[str, int]:
    """Bytes allocated at the worst of every part of a third step, weights among them."""
    if device != "cpu":
        found: dict[str, int] = {}

        def after_part(part: str) -> None:
            torch.cuda.synchronize()
            found[part] = torch.cuda.max_memory_allocated()
            torch.cuda.reset_peak_memory_stats()

        torch.cuda.reset_peak_memory_stats()
        _steps(model, losses, optimizer, autocast, device, after_part)
        return found
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as profiler:
        _steps(model, losses, optimizer, autocast, device, lambda part: None)
    events = profiler.profiler.kineto_results.events()
    spans = {  # of the last step, which replaces those before
        event.name().removeprefix("part: "): (
            event.start_ns(),
            event.start_ns() + event.duration_ns(),
        )
        for event in sorted(events, key=lambda event: event.start_ns())
        if event.name().startswith("part: ")
    }
    allocated = local_bytes(model.parameters())
    found = dict.fromkeys(spans, 0)
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            allocated += event.nbytes()
            for part, (start, end) in spans.items():
                if start <= event.start_ns() <= end:
                    found[part] = max(found[part], allocated)
    return found


def local_bytes(tensors: Any) -> int:  # noqa: ANN401
    """Bytes of tensors, of spread ones of this process's part."""
    return sum(
        tensor.to_local().nbytes if hasattr(tensor, "to_local") else tensor.nbytes
        for tensor in tensors
    )


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of an optimizer's state, without its step counters."""
    states = (value for state in optimizer.state.values() for value in state.values())
    return local_bytes(value for value in states if value.ndim)


def resident() -> int:
    """Greatest resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(setting: Setting) -> dict[str, Any]:
    """Everything about one device; run it in a process of its own."""
    torch.manual_seed(0)
    before = resident()
    start = time.perf_counter()
    _library = None if setting.products else leave_out_products()
    model = load(setting).to(setting.device)
    batch = make_batch(setting, model.tokenizer.num_token_id)
    kept = kept_tensors(model, batch, setting.autocast)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-5, fused=True)
    moments = peaks(
        model,
        lambda: model.losses(batch).total(0.3),
        optimizer,
        setting.autocast,
        setting.device,
    )
    return {
        "weights": local_bytes(model.parameters()),
        "gradients": local_bytes(parameter.grad for parameter in learning),
        "optimizer": state_bytes(optimizer),
        "kept": kept,
        "moments": moments,
        "resident_before": before,
        "resident": resident(),
        "seconds": round(time.perf_counter() - start, 1),
        **contents(batch, model.tokenizer.num_token_id),
    }

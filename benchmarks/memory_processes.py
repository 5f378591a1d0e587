"""What several processes hold and send: DDP and FSDP2 over gloo, on the CPU of one machine.

gloo runs without streams, so nothing overlaps; which tensors are there, and how many bytes are
sent, is as on GPUs.
"""

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.device_mesh import init_device_mesh
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.memory_probe import (
    Setting,
    contents,
    leave_out_products,
    load,
    local_bytes,
    make_batch,
    peaks,
    state_bytes,
)
from numlm.batch import Batch
from numlm.model import NumberLM
from numlm.sharding import load_sharded

# The names until torch 2.12, and those since.
_GATHERS = ("all_gather_into_tensor", "all_gather_single")
_REDUCTIONS = ("reduce_scatter_tensor", "reduce_scatter_single")


class _Loss(nn.Module):
    """The loss of a batch as a forward pass, which DDP asks for."""

    def __init__(self, model: NumberLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        return self.model.losses(batch).total(0.3)


def measure_processes(setting: Setting, strategy: str, processes: int) -> dict[str, Any]:
    """What the first of several processes holds and receives; "ddp" or "fsdp"."""
    with TemporaryDirectory() as folder:
        spawn(_process, (setting, strategy, processes, folder), nprocs=processes)
        found: dict[str, Any] = json.loads((Path(folder) / "found.json").read_text())
        return found


def _process(rank: int, setting: Setting, strategy: str, processes: int, folder: str) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=processes
    )
    torch.manual_seed(0)
    _library = None if setting.products else leave_out_products()
    sent: Counter[str] = Counter()
    _count_collectives(sent)
    if strategy == "fsdp":
        mesh = init_device_mesh("cpu", (processes,))
        dtype = torch.bfloat16 if setting.autocast else None
        model = load_sharded(partial(load, setting), mesh, dtype)
    else:
        model = load(setting)
    batch = make_batch(setting, model.tokenizer.num_token_id)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-5, fused=True)
    wrapped: list[DistributedDataParallel] = []

    def losses() -> Tensor:
        sent.clear()
        if strategy == "fsdp":
            return model.losses(batch).total(0.3)
        if not wrapped:  # here, so that its buckets are counted
            wrapped.append(DistributedDataParallel(_Loss(model)))
            wrapped[0].register_comm_hook(sent, _counting_hook)
        loss: Tensor = wrapped[0](batch)
        return loss

    moments = peaks(model, losses, optimizer, setting.autocast, "cpu")
    if rank == 0:
        found = {
            "weights": local_bytes(model.parameters()),
            "gradients": local_bytes(parameter.grad for parameter in learning),
            "optimizer": state_bytes(optimizer),
            "moments": moments,
            "sent": dict(sent),
            **contents(batch, model.tokenizer.num_token_id),
        }
        (Path(folder) / "found.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def _counting_hook(
    sent: Counter[str],
    bucket: dist.GradBucket,  # type: ignore[name-defined]  # torch does not export it
) -> torch.futures.Future[Tensor]:
    sent["reduced"] += bucket.buffer().nbytes
    sent["collectives"] += 1
    return allreduce_hook(dist.distributed_c10d._get_default_group(), bucket)


def _count_collectives(sent: Counter[str]) -> None:
    """Count the bytes of whole tensors that are gathered, and reduced and scattered."""

    def counting(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def collective(*tensors: Tensor, **options: Any) -> Any:  # noqa: ANN401
            given = [*tensors, *(v for v in options.values() if isinstance(v, Tensor))]
            sent[name] += max(tensor.nbytes for tensor in given)
            sent["collectives"] += 1
            return original(*tensors, **options)

        return collective

    for name, functions in (("gathered", _GATHERS), ("reduced", _REDUCTIONS)):
        for function in functions:
            if hasattr(dist, function):
                setattr(dist, function, counting(name, getattr(dist, function)))

"""How Lightning spreads a model over devices."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from lightning_modules.checkpoint_io import read_checkpoint, reason
from lightning_modules.sharded_files import load_parts
from numlm.checkpoint_files import check, finish_parts, sweep, unfinished_path
from numlm.errors import CheckpointError

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
_FROM_THE_FIRST = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2: every device keeps a part of every weight, of all nodes together.

    Lightning's own strategy has two sizes, of which "auto" means tensor parallelism within a node;
    here no layer is split. And it numbers an optimizer's weights in the order of the model, which
    is not that of an optimizer with groups: its checkpoints would be read wrongly elsewhere.

    Args:
        save_distributed_checkpoint: Let every process write its part into a folder, for models
            that no single machine should put together; else a checkpoint is one file, which every
            other strategy loads.
        **options: As of Lightning's strategy: `process_group_backend`, `timeout`.
    """

    def __init__(self, save_distributed_checkpoint: bool = False, **options: Any) -> None:  # noqa: ANN401
        super().__init__(
            data_parallel_size=1,
            tensor_parallel_size=1,
            save_distributed_checkpoint=save_distributed_checkpoint,
            **options,
        )

    @property
    def saves_parts(self) -> bool:
        """Whether a checkpoint is a folder with a part from every process."""
        return self._save_distributed_checkpoint

    def setup_environment(self) -> None:
        """Put all devices into one dimension."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The state of an optimizer, as `optimizer.state_dict()` gives it on one device.

        Of what is put together the first process has all, the others nothing.
        """
        if self.saves_parts:
            return super().optimizer_state(optimizer)
        assert self.model is not None
        found: Any = get_optimizer_state_dict(
            self.model, getattr(optimizer, "_optimizer", optimizer), options=_WHOLE
        )
        if self.global_rank != 0:
            return {}
        names = [name for group in found["param_groups"] for name in group["params"]]
        numbers = {name: i for i, name in enumerate(names)}
        return {
            "state": {numbers[name]: state for name, state in found["state"].items()},
            "param_groups": [
                {**group, "params": [numbers[name] for name in group["params"]]}
                for group in found["param_groups"]
            ],
        }

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        filepath: str | Path,
        storage_options: Any | None = None,  # noqa: ANN401
    ) -> None:
        """Write a file, or a folder of parts; either has its name when all of it is there.

        Raises:
            CheckpointError: If it cannot be written, on every process.
        """
        if not self.saves_parts:
            super().save_checkpoint(checkpoint, filepath, storage_options)
            return
        target = Path(self.broadcast(filepath))
        unfinished = unfinished_path(target)
        failure = None
        try:
            if self.is_global_zero:
                unfinished.parent.mkdir(parents=True, exist_ok=True)
                sweep(unfinished.parent)
            self.barrier()
            super().save_checkpoint(checkpoint, unfinished)
            self.barrier()
            if self.is_global_zero:
                finish_parts(unfinished, target)
        except (OSError, RuntimeError, CheckpointException) as error:
            failure = reason(error)
        if failure := self.broadcast(failure):
            raise CheckpointError(f"cannot write the checkpoint '{target}': {failure}")

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read weights and optimizers into their places; returns what else is in a checkpoint.

        Raises:
            CheckpointError: If it is not whole, or holds more than tensors and plain values.
            RuntimeError: If a trained weight is missing in it or not in the model.
        """
        path = Path(self.broadcast(checkpoint_path))
        assert self.lightning_module is not None
        if path.is_dir():
            check(path)
            assert self.model is not None
            strict = self.lightning_module.strict_loading
            return load_parts(path, self.model, self.optimizers, strict)
        # Mapped, not read: the first process hands out what is in it.
        checkpoint = read_checkpoint(path, mmap=True, map_location="cpu")
        weights = checkpoint.pop("state_dict")
        self._check_names(weights)
        set_model_state_dict(self.lightning_module, weights, options=_FROM_THE_FIRST)
        states = checkpoint["optimizer_states"] if self.optimizers else []  # a test has none
        for optimizer, state in zip(self.optimizers, states, strict=True):
            set_optimizer_state_dict(
                self.lightning_module,
                optimizer,
                optim_state_dict=self._named(optimizer, state),
                options=_FROM_THE_FIRST,
            )
        return checkpoint

    def _check_names(self, weights: Mapping[str, Any]) -> None:
        """Refuse a checkpoint of other weights; frozen ones are not in it."""
        assert self.lightning_module is not None
        module = self.lightning_module
        trained = {name for name, p in module.named_parameters() if p.requires_grad}
        if missing := trained - weights.keys():
            raise RuntimeError(f"Missing key(s) in the checkpoint: {sorted(missing)}")
        if unknown := weights.keys() - module.state_dict().keys():
            raise RuntimeError(f"Unexpected key(s) in the checkpoint: {sorted(unknown)}")

    def _named(self, optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        """An optimizer's state by the names of its weights instead of their numbers."""
        assert self.lightning_module is not None
        known = {p: name for name, p in self.lightning_module.named_parameters()}
        names = [known[p] for group in optimizer.param_groups for p in group["params"]]
        return {
            "state": {names[number]: entry for number, entry in state["state"].items()},
            "param_groups": [
                {**group, "params": [names[number] for number in group["params"]]}
                for group in state["param_groups"]
            ],
        }

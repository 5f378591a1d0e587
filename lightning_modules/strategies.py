"""How Lightning spreads a model over devices."""

from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2: every device keeps a part of every weight, of all nodes together.

    Lightning's own strategy has two sizes, of which "auto" means tensor parallelism within a node;
    here no layer is split.

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

    def setup_environment(self) -> None:
        """Put all devices into one dimension."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

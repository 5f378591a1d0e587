"""Reading a checkpoint that is a folder of parts, without executing anything that is in it.

PyTorch writes which weight lies in which part as a pickle (`.metadata`), and so is every value of
an optimizer that is no tensor; it reads both with the plain unpickler, which calls whatever
function a file names. Here such a file names the few classes of PyTorch's own that describe
tensors, or it is not read.
"""

import io
import pickle
from importlib import import_module
from pathlib import Path, PurePath
from typing import IO, Any

import torch
from lightning.fabric.utilities.load import _METADATA_FILENAME
from torch import nn
from torch.distributed.checkpoint._traverse import set_element
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner, ReadItem
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.futures import Future
from torch.optim import Optimizer

from lightning_modules.checkpoint_io import not_plain, reason
from numlm.errors import CheckpointError

_DESCRIPTIONS = {
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size"},
    "collections": {"OrderedDict"},
}


class DescriptionUnpickler(pickle.Unpickler):
    """Reads what describes tensors and where they lie, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        """What a file may name.

        Raises:
            UnpicklingError: If it names anything else.
        """
        if name in _DESCRIPTIONS.get(module, ()):
            return getattr(import_module(module), name)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if module.split(".")[0] == "pathlib":  # where it was written, by whatever system
            return PurePath
        raise pickle.UnpicklingError(f"it names {module}.{name}")


class SafeReader(FileSystemReader):
    """Reads the files of a folder of parts, and no others.

    Args:
        path: The folder.
    """

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:  # noqa: ANN401
        """Which tensor lies where.

        Raises:
            UnpicklingError: If the file holds anything else.
        """
        with Path(self._get_metadata_path(kwargs.get("rank"))).open("rb") as file:
            metadata = DescriptionUnpickler(file).load()
        if not isinstance(metadata, Metadata) or not isinstance(metadata.storage_data, dict):
            raise pickle.UnpicklingError("it does not say which weight lies in which part")
        if metadata.storage_meta is None:
            metadata.storage_meta = StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Read what is planned.

        Raises:
            UnpicklingError: If it is to be read from outside of the folder.
        """
        for item in plan.items:
            part = self.storage_data[item.storage_index].relative_path
            if Path(part).name != part:
                raise pickle.UnpicklingError(f"it takes a part from '{part}'")
        return super().read_data(plan, planner)


class SafePlanner(DefaultLoadPlanner):
    """Puts what is read into its place; values that are no tensors are plain ones."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO | IO[bytes]) -> None:
        """Put a value into its place.

        Raises:
            UnpicklingError: If it is more than a plain value.
        """
        assert read_item.type == LoadItemType.BYTE_IO
        name = read_item.dest_index.fqn
        found = torch.load(value, weights_only=True)
        if self.flatten_state_dict:
            set_element(self.original_state_dict, self.mappings[name], found)
        else:
            self.state_dict[name] = found


def load_parts(
    folder: Path, model: nn.Module, optimizers: list[Optimizer], strict: bool
) -> dict[str, Any]:
    """Read weights and optimizers from a folder of parts; every process must call.

    Args:
        folder: What Lightning's `ModelParallelStrategy` wrote; it is whole.
        model: Gets its weights.
        optimizers: Get their states.
        strict: Whether the model must have exactly the weights that are read.

    Returns:
        What else is in the checkpoint.

    Raises:
        CheckpointError: If the folder holds more than tensors and plain values, or is damaged, or
            belongs to another model.
    """
    try:
        SafeReader(folder).read_metadata()  # whose errors `load` hides behind a second try
        weights = {"state_dict": get_model_state_dict(model)}
        _read(folder, weights)
        model.load_state_dict(weights["state_dict"], strict=strict)
        for number, optimizer in enumerate(optimizers):
            state = {f"optimizer_{number}": get_optimizer_state_dict(model, optimizer)}
            _read(folder, state)
            set_optimizer_state_dict(
                model,
                optimizer,
                optim_state_dict=state[f"optimizer_{number}"],
                options=StateDictOptions(cpu_offload=True),
            )
        rest: dict[str, Any] = torch.load(folder / _METADATA_FILENAME, weights_only=True)
    except CheckpointException as error:  # of every process, what it met
        raise _refusal(folder, next(iter(error.failures.values()))[0]) from None
    except (pickle.UnpicklingError, EOFError, OSError, RuntimeError) as error:
        raise _refusal(folder, error) from None
    return rest


def _read(folder: Path, state: dict[str, Any]) -> None:
    load(state, storage_reader=SafeReader(folder), planner=SafePlanner())


def _refusal(folder: Path, error: BaseException) -> CheckpointError:
    if isinstance(error, pickle.UnpicklingError):
        return not_plain(folder, error)
    return CheckpointError(
        f"cannot read the checkpoint '{folder}': {reason(error)}; it is damaged, or belongs to "
        "another model"
    )

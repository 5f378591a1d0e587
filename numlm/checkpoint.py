"""Model folders: what must be in one, and one sentence about what is not."""

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import GENERATION_CONFIG_NAME

from numlm.errors import is_out_of_memory
from numlm.model_files import first_flaw, flaw, why_not_plain
from numlm.packing import PER_TEXT

if TYPE_CHECKING:  # all that models are made of comes with it, and the options need none
    from transformers import PreTrainedModel

NUMBER_CONFIG = "number_lm.json"
NUMBER_WEIGHTS = "number_lm.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZERS = ("tokenizer.json", "vocab.json", "tokenizer.model")


class ModelNotFoundError(FileNotFoundError):
    """A model folder or name that cannot be loaded; the message is one sentence for users."""


def resolve_model_path(path: str) -> str:
    """Check that a path can be a model folder before anything is loaded from it.

    Args:
        path: A folder (which may begin with `~`), or the name of a model on the hub.

    Returns:
        The folder, or the name as it is.

    Raises:
        ModelNotFoundError: If it is a folder that lacks something, or a path to nothing.
    """
    folder = Path(path).expanduser()
    if not folder.exists():
        if not path or path.startswith((".", "~", "/")) or path.count("/") > 1 or "\\" in path:
            raise ModelNotFoundError(
                f"no model folder at '{path}': give the folder of a downloaded model "
                "(`hf download Qwen/Qwen2.5-0.5B --local-dir FOLDER` gets one) or a hub name"
            )
        return path
    adapted = (folder / ADAPTER_CONFIG).exists()
    wanted = {
        **({} if adapted else {"configuration (config.json)": ("config.json",)}),
        "tokenizer (tokenizer.json)": _TOKENIZERS,
        "weights (*.safetensors)": (ADAPTER_WEIGHTS,) if adapted else _WEIGHTS,
    }
    missing = [
        what
        for what, patterns in wanted.items()
        if not any(f for p in patterns for f in folder.glob(p))
    ]
    if missing:
        raise ModelNotFoundError(
            f"the model folder '{path}' has no {' and no '.join(missing)}: download it whole, "
            "with `hf download Qwen/Qwen2.5-0.5B --local-dir FOLDER` for example"
        )
    return str(folder)


def load_tokenizer(path: str, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub name.

    Args:
        path: Folder or hub name.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        ModelNotFoundError: As `resolve_model_path`, or if the hub does not give it.
    """
    return _from_hub(AutoTokenizer.from_pretrained, path, trust_remote_code=trust_remote_code)


def model_file(path: str, name: str) -> Path | None:
    """A file of a model folder or hub name; None where it has none.

    Raises:
        ModelNotFoundError: As `resolve_model_path`, or if the hub does not give it.
    """

    def find(resolved: str) -> Path | None:
        folder = Path(resolved)
        if folder.is_dir():
            return folder / name if (folder / name).exists() else None
        try:
            return Path(hf_hub_download(resolved, name))
        except EntryNotFoundError:
            return None

    return _from_hub(find, path)


def needed_file(path: str, name: str) -> Path:
    """A file of a model folder or hub name that must be there.

    Raises:
        ModelNotFoundError: If it is not.
    """
    file = model_file(path, name)
    if file is None:
        raise ModelNotFoundError(
            f"the model '{path}' has a {NUMBER_CONFIG} but no {name}: copy or download it whole"
        )
    return file


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file of a model folder.

    Raises:
        ModelNotFoundError: If it is damaged.
    """
    if (found := flaw(file)) is not None:
        raise _damaged(file, found)
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file of a model folder.

    Raises:
        ModelNotFoundError: If it is damaged.
    """
    if (found := flaw(file)) is not None:
        raise _damaged(file, found)
    weights: dict[str, Tensor] = load_file(file)
    return weights


def _damaged(file: Path, found: str) -> ModelNotFoundError:
    return ModelNotFoundError(f"'{file}' is damaged ({found}): copy or download it again")


def backbone_path(path: str) -> str:
    """Where a model's backbone is: a folder of adapters names another, every other is its own.

    Raises:
        ModelNotFoundError: As `resolve_model_path`, of either folder.
    """
    config = model_file(path, ADAPTER_CONFIG)
    if config is None:
        return resolve_model_path(path)
    base = read_json(config).get("base_model_name_or_path")
    if not isinstance(base, str):
        raise ModelNotFoundError(
            f"'{config}' does not say which model its adapters belong to: write its folder or hub "
            "name as base_model_name_or_path into it"
        )
    try:
        return resolve_model_path(base)
    except ModelNotFoundError:
        raise ModelNotFoundError(
            f"the adapters in '{path}' belong to the model '{base}', which is not there: put it "
            f"back, or write where it is now as base_model_name_or_path into {config}"
        ) from None


def load_backbone(
    path: str, weights: bool = True, trust_remote_code: bool = False, **options: object
) -> "PreTrainedModel":
    """The causal language model of a model folder or hub name, without adapters.

    Args:
        path: Folder or hub name.
        weights: Whether to load weights; without, the architecture with random ones.
        trust_remote_code: Whether code that comes with the model may run.
        **options: Given to Transformers: `dtype`, `attn_implementation`; "sdpa" takes packed texts
            where the architecture can (`numlm.attention`).

    Raises:
        ModelNotFoundError: As `resolve_model_path`, or if the hub does not give it.
    """
    path = backbone_path(path)
    # Of a damaged one Transformers takes nothing and goes on; it says what ends a text.
    file = model_file(path, GENERATION_CONFIG_NAME)
    settings = None if file is None else read_json(file)
    make = _whole_backbone if weights else _random_backbone
    backbone: PreTrainedModel = _from_hub(
        make, path, trust_remote_code=trust_remote_code, **options
    )
    if not weights and settings is not None:
        backbone.generation_config = GenerationConfig.from_dict(settings)
    from numlm.attention import can_pack  # here: the options need no attention

    if options.get("attn_implementation") == "sdpa" and can_pack(backbone):
        backbone.set_attn_implementation(PER_TEXT)
    return backbone


def _random_backbone(path: str, trust_remote_code: bool, **options: object) -> "PreTrainedModel":
    config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code, **options)


def _whole_backbone(
    path: str,
    trust_remote_code: bool,
    attn_implementation: str | None = None,
    **options: object,
) -> "PreTrainedModel":
    """Refuse what Transformers goes on with: random values for weights that no file has."""
    config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    # Transformers takes the one in config.json, which may name compiled code on the hub.
    config._attn_implementation = attn_implementation
    backbone, report = AutoModelForCausalLM.from_pretrained(
        path,
        config=config,
        attn_implementation=attn_implementation,
        trust_remote_code=trust_remote_code,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # else it says so on a page of its own
        **options,
    )
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"weights are not in its files: {len(missing)}, such as {missing[0]}")
    if wrong := sorted(report["mismatched_keys"]):
        raise ValueError(
            f"weights in its files have not the sizes that config.json says: {len(wrong)}, such "
            f"as {wrong[0][0]}"
        )
    return backbone


def tokenizer_fingerprint(base: PreTrainedTokenizerBase) -> str:
    """What tells a fast tokenizer apart from every other: SHA-256 of its definition.

    Padding and truncation are states of use, and left out.
    """
    definition = json.loads(base.backend_tokenizer.to_str())
    definition.pop("padding"), definition.pop("truncation")
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()


def context_length(config: PretrainedConfig) -> int:
    """Greatest number of tokens that a model of a configuration was made for."""
    text = config.get_text_config()
    return int(getattr(text, "max_position_embeddings", None) or text.n_positions)


def load_context_length(path: str, trust_remote_code: bool = False) -> int:
    """`context_length` of a model folder or hub name.

    Args:
        path: Folder or hub name.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        ModelNotFoundError: As `resolve_model_path`, or if the hub does not give it.
    """
    return context_length(
        _from_hub(
            AutoConfig.from_pretrained, backbone_path(path), trust_remote_code=trust_remote_code
        )
    )


def _from_hub(load: Callable[..., Any], path: str, **options: object) -> Any:  # noqa: ANN401
    """Load, with one sentence instead of another library's page where nothing can be loaded."""
    resolved = resolve_model_path(path)
    try:
        return load(resolved, **options)
    except Exception as error:  # of every kind, where a file is damaged
        if is_out_of_memory(error):
            raise
        if "trust_remote_code" in str(error) and not options.get("trust_remote_code"):
            raise ModelNotFoundError(
                f"the model '{path}' brings code of its own, which could do anything: read its "
                ".py files, then let them run with --model.trust_remote_code true "
                "(trust_remote_code=True in Python, --trust-remote-code of the demo)"
            ) from None
        is_folder = Path(resolved).is_dir()
        where = (
            "from the folder"
            if is_folder
            else "no folder of that name, and the hub did not give it"
        )
        reason = (is_folder and first_flaw(Path(resolved))) or _reason(error)
        raise ModelNotFoundError(f"cannot load the model '{path}' ({where}): {reason}") from error


def _reason(error: Exception) -> str:
    """What a library says, in one line."""
    if isinstance(error, pickle.UnpicklingError):
        why = why_not_plain(error)
        return f"a file of its weights {why}: it was not read; take *.safetensors files instead"
    words = str(error).strip()
    if isinstance(error, OSError | ValueError | RuntimeError | SafetensorError) and words:
        return words.splitlines()[0]
    # Words of such an error are a key or a detail of Python's.
    line = words.splitlines()[0] if words else ""
    return (
        f"its files are damaged, or of another version ({type(error).__name__} {line}): copy or "
        "download the folder again"
    )

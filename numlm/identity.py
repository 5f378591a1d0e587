"""Which backbone and tokenizer number modules belong to, so that no others get them.

Two are the same if what they are made of is; their names are for people.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from transformers import PreTrainedTokenizerBase

from numlm.checkpoint import tokenizer_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ModelMismatchError(ValueError):
    """Weights and a model that do not belong together; the message is one sentence for users."""


@dataclass(frozen=True, slots=True)
class BackboneIdentity:
    """A kind of backbone.

    Attributes:
        name: Hub name, or the folder's name without what is above it.
        model_type: Its architecture, as Transformers calls it.
        hidden_size: Size of its hidden state.
        rows: Rows of its embedding table.
    """

    name: str = field(compare=False)
    model_type: str
    hidden_size: int
    rows: int

    def __str__(self) -> str:
        sizes = f"hidden size {self.hidden_size}, {self.rows} rows"
        return f"backbone '{self.name}' ({self.model_type}, {sizes})"


@dataclass(frozen=True, slots=True)
class TokenizerIdentity:
    """A tokenizer.

    Attributes:
        name: Hub name, or the folder's name without what is above it.
        fingerprint: `numlm.checkpoint.tokenizer_fingerprint`.
    """

    name: str = field(compare=False)
    fingerprint: str

    def __str__(self) -> str:
        return f"tokenizer '{self.name}' ({self.fingerprint[:8]})"


@dataclass(frozen=True, slots=True)
class Identity:
    """The backbone and the tokenizer of a model."""

    backbone: BackboneIdentity
    tokenizer: TokenizerIdentity

    @classmethod
    def of(cls, backbone: "PreTrainedModel", base: PreTrainedTokenizerBase) -> Self:
        """The identity of a model that is loaded."""
        return cls(
            BackboneIdentity(
                _short_name(backbone.name_or_path),
                backbone.config.model_type,
                backbone.config.get_text_config().hidden_size,
                backbone.get_input_embeddings().weight.shape[0],
            ),
            TokenizerIdentity(_short_name(base.name_or_path), tokenizer_fingerprint(base)),
        )

    @classmethod
    def read(cls, record: dict[str, Any], owner: str) -> Self:
        """What `dataclasses.asdict` made of an identity.

        Args:
            record: A dictionary that it is in.
            owner: Whose it is, for the message.

        Raises:
            ModelMismatchError: If it is not in there.
        """
        try:
            return cls(
                BackboneIdentity(**record["backbone"]), TokenizerIdentity(**record["tokenizer"])
            )
        except (KeyError, TypeError):
            raise ModelMismatchError(
                f"{owner} does not say which backbone and tokenizer it belongs to: write it again "
                "with this version"
            ) from None

    def check(self, found: "Identity", owner: str, finder: str) -> None:
        """Refuse another backbone or tokenizer.

        Args:
            found: What is to be used.
            owner: Whose identity this is, for the message.
            finder: What has `found`, for the message.

        Raises:
            ModelMismatchError: If they differ.
        """
        pairs = ((self.backbone, found.backbone), (self.tokenizer, found.tokenizer))
        for own, other in pairs:
            if own != other:
                raise ModelMismatchError(
                    f"{owner} belongs to the {own}, but {finder} has the {other}: give the model "
                    "that it was made with"
                )


def _short_name(name_or_path: str) -> str:
    """A hub name as it is; of a folder the last part, for where it lies is nobody's business."""
    path = Path(name_or_path).expanduser()
    return path.resolve().name if path.exists() else name_or_path

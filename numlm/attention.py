"""Attention within each text of a batch whose texts stand in one row, without padding.

Everything else in a layer treats every token alone, and so computes nothing for padding.
Attention takes the texts apart: tokens (1, N) -> texts (B, T), causal attention of each, and back.
Padding is to the right, where no token of a text looks; the result is that of every text alone.

Transformers hands a mask of four dimensions through to attention as it is. In place of a mask it
gets the table of where each text's tokens stand (`numlm.packing`), in integers, which no real mask
is. Importing this module makes the attention known to Transformers.
"""

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from numlm.packing import PER_TEXT

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def can_pack(backbone: "PreTrainedModel") -> bool:
    """Whether attention is all in a backbone that looks from one token at another.

    Not where layers look through a window or keep a state, nor in code that came with a model.
    """
    config = backbone.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        windowed = getattr(config, "sliding_window", None) is not None
    else:
        windowed = set(kinds) != {"full_attention"}
    return (
        type(backbone).__module__.startswith("transformers.")
        and backbone._supports_attention_backend
        and not getattr(backbone, "_is_stateful", False)
        and "position_ids" in inspect.signature(backbone.base_model.forward).parameters
        and not windowed
        and not any(isinstance(module, nn.Conv1d | nn.Conv2d) for module in backbone.modules())
    )


def attend_per_text(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    """Attention as Transformers calls it: `sdpa`, and of packed texts each for itself.

    Args:
        module: The attention layer.
        query: (1, heads, N, D) of packed texts.
        key: (1, key heads, N, D).
        value: (1, key heads, N, D).
        attention_mask: `Packing.table`; anything else is left to `sdpa`.
        **options: Left to `sdpa`.

    Returns:
        (1, N, heads, D), and no weights.
    """
    if attention_mask is None or attention_mask.dtype != torch.int64:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    table = attention_mask[0, 0]
    tokens = query.shape[2]
    apart = [_apart(states[0], table) for states in (query, key, value)]
    output, _ = sdpa_attention_forward(module, *apart, None, **{**options, "is_causal": True})
    if tokens == table.numel():
        return output.flatten(0, 1)[None], None
    row = output.new_empty(tokens + 1, *output.shape[2:])
    return row.index_copy(0, table.flatten(), output.flatten(0, 1))[None, :tokens], None


def _apart(states: Tensor, table: Tensor) -> Tensor:
    """(heads, N, D) -> (B, heads, T, D); in place of padding stands the last token of all."""
    rows = states.transpose(0, 1).flatten(1)  # a view: products put a token's heads side by side
    if len(rows) != table.numel():
        rows = _Spread.apply(rows, table.flatten())
    return rows.view(*table.shape, len(states), -1).transpose(1, 2)


class _Spread(Function):
    """Rows of tokens at their places; autograd would add gradients up, one element at a time."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, table: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(table)
        ctx.tokens = len(rows)
        return rows.index_select(0, table.clamp(max=len(rows) - 1))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (table,) = ctx.saved_tensors
        row = upstream.new_empty(ctx.tokens + 1, upstream.shape[1])
        return row.index_copy_(0, table, upstream)[:-1], None


AttentionInterface.register(PER_TEXT, attend_per_text)
AttentionMaskInterface.register(PER_TEXT, sdpa_mask)

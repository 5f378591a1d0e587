"""Which token a model says: looked up in the vocabulary tile by tile, without sorting it.

A rank is one more than the number of greater scores. No table of all scores is made.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from numlm.heads import Latent
from numlm.vocabulary_loss import tile_size, tiles

if TYPE_CHECKING:
    from numlm.model import NumberLM


class Choice(NamedTuple):
    """What is said at N positions.

    Attributes:
        said: (N,) int64, the most probable token; `<NUM>` where none is more probable.
        rank: (N,) int64, of `<NUM>` among all tokens, 1 is best.
        prob: (N,) float32, of `<NUM>`.
        nll: (N,) float32, negative log-likelihood of the right tokens in nats.
    """

    said: Tensor
    rank: Tensor
    prob: Tensor
    nll: Tensor


def count_greater(scores: Tensor, own: Tensor) -> Tensor:
    """How many of the scores (N, t) are greater than a token's own (N, 1), as (N,) int32."""
    return (scores > own).sum(-1, dtype=torch.int32)  # in 64 bits it takes half as long again


@torch.no_grad()
def choose(model: "NumberLM", latent: Latent, right: Tensor) -> Choice:
    """What the model says after N positions.

    Args:
        model: The model.
        latent: Latent cause there, loc (N, H).
        right: (N,) the tokens that do come there.
    """
    head, num_id = model.token_head, model.tokenizer.num_token_id
    number = model.token_scores(latent, slice(num_id, num_id + 1))
    best = number[:, 0]
    said = torch.full_like(right, num_id)
    greater = torch.zeros_like(right)
    right_weight = torch.zeros_like(best)
    total = torch.full_like(best, float("-inf"))  # logarithm of the sum of all weights
    for tile in tiles(head.rows, tile_size(len(right), right.device, tables=4)):
        scores = model.token_scores(latent, tile)
        if tile.start <= num_id < tile.stop:
            # The same product of other shape may round to another score than it is compared with.
            scores[:, num_id - tile.start] = number[:, 0]
        greater += count_greater(scores, number)
        highest, which = scores.max(-1)
        said = torch.where(highest > best, which + tile.start, said)
        best = torch.maximum(best, highest)
        weights = head.log_weights(scores)
        total = torch.logaddexp(total, weights.logsumexp(-1))
        column = right - tile.start
        inside = (column >= 0) & (column < scores.shape[-1])
        at = column.clamp(0, scores.shape[-1] - 1)[:, None]
        right_weight = torch.where(inside, weights.gather(-1, at)[:, 0], right_weight)
    return Choice(
        said=said,
        rank=1 + greater,
        prob=head.prob_from(head.log_weights(number)[:, 0], total),
        nll=total - right_weight,
    )

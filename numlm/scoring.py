"""What the model says about evaluation texts, as rows that metrics are computed from."""

from typing import NamedTuple

import torch
from torch import Tensor

from numlm.batch import IGNORE, Batch, positions_of, take_positions
from numlm.clock import shortest_decimal
from numlm.distributions import ValueMixture
from numlm.heads import Latent
from numlm.model import NumberLM


class Scores(NamedTuple):
    """Rows of figures, on the CPU.

    Attributes:
        slots: (N, len(SLOT_COLUMNS)) float64, one row for every number that is asked for.
        records: (B, len(RECORD_COLUMNS)) float64, one row for every text.
    """

    slots: Tensor
    records: Tensor


# rank of <NUM> among all tokens (1 is best), its probability, the true value, the answer as it
# would be printed, and the answer with the pointer switched off
SLOT_COLUMNS = ("record", "position", "rank", "prob", "truth", "value", "value_without_pointer")
# decisions "the next token is <NUM>" over every position of the text that has a next token
RECORD_COLUMNS = ("record", "true_positives", "false_positives", "false_negatives", "positions")


@torch.no_grad()
def score_batch(model: NumberLM, batch: Batch) -> Scores:
    """Score the texts of a batch.

    Returns:
        Scores; every row carries its record's id, so that a record seen twice can be counted once.
    """
    latent = model(batch)
    num_id = model.tokenizer.num_token_id
    labels, asked = batch.labels[:, 1:], batch.asked[:, 1:]
    labelled = labels != IGNORE

    scores = model.token_scores(
        Latent(latent.loc[:, :-1][labelled], latent.scale[:, :-1][labelled])
    )
    num_scores = scores[:, num_id]
    rank = _scatter(1 + (scores > num_scores[:, None]).sum(-1).double(), labelled)
    prob = _scatter(model.token_head.prob(scores, num_id).double(), labelled)
    said, true = (rank == 1) & labelled, labels == num_id
    counts = [(said & true), (said & ~true), (~said & true), labelled]
    records = torch.stack(
        [batch.record_ids.double(), *(count.sum(-1).double() for count in counts)], dim=-1
    )

    positions, real = positions_of(asked)
    answer = model.number_answer(latent, batch, positions)
    columns = [
        batch.record_ids[:, None].expand_as(positions).double(),
        positions.double(),
        take_positions(rank, positions),
        take_positions(prob, positions),
        take_positions(batch.number_values[:, 1:], positions),
        printed_values(answer.mixture()).view_as(positions),
        printed_values(answer.mixture(copies=False)).view_as(positions),
    ]
    return Scores(torch.stack(columns, dim=-1)[real].cpu(), records.cpu())


def printed_values(mixture: ValueMixture) -> Tensor:
    """The median as printed (N,): a copy as it is, else the shortest decimal within the scale."""
    median, source = mixture.quantile(0.5)
    printed = [
        value if copied else shortest_decimal(value, scale)
        for value, copied, scale in zip(
            median.tolist(), (source >= 0).tolist(), mixture.scale.tolist(), strict=True
        )
    ]
    return torch.tensor(printed, dtype=torch.float64, device=median.device)


def _scatter(values: Tensor, mask: Tensor) -> Tensor:
    """Values back at the true places of a mask, 0 elsewhere."""
    result = torch.zeros(mask.shape, dtype=values.dtype, device=values.device)
    result[mask] = values
    return result

"""What the model says about evaluation texts, as rows that metrics are computed from."""

from typing import NamedTuple

import torch
from torch import Tensor

from numlm.batch import IGNORE, Batch, positions_of, take_positions
from numlm.calibration import INTERVAL
from numlm.choice import choose
from numlm.heads import Latent, States
from numlm.model import NumberLM


class Scores(NamedTuple):
    """Rows of figures in float64, on the CPU; columns by name below.

    Attributes:
        slots: (N, len(SLOT_COLUMNS)), one row for every number that is asked for.
        records: (B, len(RECORD_COLUMNS)), one row for every text.
        mistakes: (M, len(MISTAKE_COLUMNS)), one row for every position where `<NUM>` was said
            and does not follow, or was not said and does.
        plain: (P, len(PLAIN_COLUMNS)), one row for every position of the texts without numbers.
    """

    slots: Tensor
    records: Tensor
    mistakes: Tensor
    plain: Tensor


SLOT_COLUMNS = (
    "record",
    "position",  # of the token before the number
    "rank",  # of <NUM> among all tokens, 1 is best
    "prob",  # of <NUM>
    "truth",
    "median",  # the point prediction, `ValueMixture.point`
    "printed",  # the number as it would be written
    "printed_without_pointer",  # the same when no copy is allowed
    "source",  # which of the text's numbers was copied, -1 for a new value
    "low",  # ends of the interval of level INTERVAL, calibrated if the model is
    "high",
    "level",  # the level that the model's own interval needs to hold the truth
    "calibrated_level",  # the nominal level that the calibrated interval needs
    "crps",
)
# decisions "the next token is <NUM>" over every position of the text that has a next token, and
# the negative log-likelihood of the tokens of a text without numbers
RECORD_COLUMNS = (
    "record",
    "true_positives",
    "false_positives",
    "false_negatives",
    "positions",
    "plain_nll",
    "plain_tokens",
)
MISTAKE_COLUMNS = ("record", "position", "said", "right")  # token ids said and right
PLAIN_COLUMNS = ("record", "position", "said")
COLUMNS = Scores(SLOT_COLUMNS, RECORD_COLUMNS, MISTAKE_COLUMNS, PLAIN_COLUMNS)  # type: ignore[arg-type]


@torch.no_grad()
def score_batch(model: NumberLM, batch: Batch) -> Scores:
    """Score the texts of a batch.

    Returns:
        Scores; every row carries its record's id, so that a record seen twice can be counted once.
    """
    states = model(batch)
    num_id = model.tokenizer.num_token_id
    labels = batch.labels[:, 1:]
    rows, positions = (labels != IGNORE).nonzero(as_tuple=True)
    right = labels[rows, positions]
    choice = choose(
        model, Latent(states.loc[rows, positions], states.scale[rows, positions]), right
    )
    said = choice.said
    is_said, is_right = said == num_id, right == num_id

    record = batch.record_ids[rows]
    plain = ~((batch.labels == num_id).any(-1))[rows]
    counted = torch.stack(
        [
            is_said & is_right,
            is_said & ~is_right,
            ~is_said & is_right,
            torch.ones_like(is_said),
            choice.nll.double() * plain,
            plain,
        ],
        dim=-1,
    ).double()
    records = torch.zeros(len(labels), counted.shape[-1], dtype=torch.float64, device=rows.device)
    records.index_add_(0, rows, counted)
    wrong = is_said != is_right
    rank_at, prob_at = (
        _at(values, rows, positions, labels) for values in (choice.rank, choice.prob)
    )
    return Scores(
        slots=_score_slots(model, batch, states, rank_at, prob_at).cpu(),
        records=torch.cat([batch.record_ids[:, None].double(), records], dim=-1).cpu(),
        mistakes=torch.stack([record, positions, said, right], dim=-1)[wrong].double().cpu(),
        plain=torch.stack([record, positions, said], dim=-1)[plain].double().cpu(),
    )


def _score_slots(
    model: NumberLM, batch: Batch, states: States, rank: Tensor, prob: Tensor
) -> Tensor:
    """Rows of the numbers that are asked for; rank and prob are (B, T - 1)."""
    positions, real = positions_of(batch.asked[:, 1:])
    answer = model.number_answer(states, batch, positions)
    truth = take_positions(batch.number_values[:, 1:], positions).flatten()
    mixture = answer.mixture()
    median, source = mixture.point()
    printed = mixture.printed()
    level = mixture.central_level(truth)
    low, high = mixture.interval(model.interval_level(source, INTERVAL))
    new = source < 0
    columns = [
        batch.record_ids[:, None].expand_as(positions),
        positions,
        take_positions(rank, positions),
        take_positions(prob, positions),
        truth,
        median,
        printed,
        answer.mixture(copies=False).printed(),
        source,
        low,
        high,
        level,
        torch.where(new, model.calibration.nominal_level(level), level),
        mixture.crps(truth),
    ]
    return torch.stack([column.flatten().double() for column in columns], dim=-1)[real.flatten()]


def _at(values: Tensor, rows: Tensor, columns: Tensor, like: Tensor) -> Tensor:
    """Values at their places of a table shaped as another, 0 elsewhere; float64."""
    table = torch.zeros(like.shape, dtype=torch.float64, device=values.device)
    table[rows, columns] = values.double()
    return table

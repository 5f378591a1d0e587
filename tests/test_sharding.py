"""Models without values, pieces of a step, and losses counted once; processes are elsewhere."""

import itertools
import shutil
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig

from numlm.batch import Batch, Record, collate, count_labels, deal
from numlm.heads import OneVsRestHead
from numlm.losses import Term
from numlm.metrics import LossTable
from numlm.model import FIGURES, Losses, NumberLM
from numlm.sharding import is_sharded, whole_copy
from tests.conftest import without_dropout
from tests.test_lora import LORA
from tests.test_model import EMBEDDED

TEXTS = [
    "The red lamp shows 42.5 volts. So it is 42.5",
    "no number",
    "总之，电压是-3e-5，也就是-3e-5",
    "7 doors, 12 windows and 3 keys in the old house by the garden",
    "It is 5",
]


def records_of(model: NumberLM) -> list[Record]:
    return [Record.of(model.tokenizer.encode(text), record_id=i) for i, text in enumerate(TEXTS)]


def batch_of(model: NumberLM, records: list[Record]) -> Batch:
    return collate(records, model.tokenizer.num_token_id, model.tokenizer.pad_token_id)


@pytest.mark.parametrize("lora", [None, LORA])
def test_a_model_without_values_is_the_same_but_for_them(tmp_path: Path, lora: object) -> None:
    """What the processes make that get their weights from the first: from files, or as a twin."""
    folder = tmp_path / "model"
    shutil.copytree(EMBEDDED, folder)
    ends = [3, 5, 7]
    GenerationConfig(eos_token_id=ends).save_pretrained(folder)
    options = {"token_head": OneVsRestHead, "lora": lora, "embedding_hands": 3}
    model = NumberLM.from_pretrained(folder, **options)
    for empty in (NumberLM.from_pretrained(folder, **options, empty=True), model.twin()):
        assert {p.device.type for p in empty.parameters()} == {"meta"}
        shapes = {name: tensor.shape for name, tensor in empty.state_dict().items()}
        assert shapes == {name: tensor.shape for name, tensor in model.state_dict().items()}
        trained = [name for name, p in empty.named_parameters() if p.requires_grad]
        assert trained == [name for name, p in model.named_parameters() if p.requires_grad]
        assert empty.end_token_ids == model.end_token_ids == set(ends)
        assert empty.identity == model.identity
        assert empty.lora == model.lora == lora
        assert empty.number_embedding.hands == 3
        tables = empty.backbone.get_input_embeddings(), empty.backbone.get_output_embeddings()
        assert tables[0].weight is tables[1].weight


def test_a_copy_predicts_as_its_model() -> None:
    model = NumberLM.from_pretrained(EMBEDDED).eval()
    copied = whole_copy(model)
    assert copied is not None
    assert not copied.training
    assert not is_sharded(model)
    assert copied.predict(TEXTS) == model.predict(TEXTS)
    with torch.no_grad():
        copied.number_head.skip.bias.add_(1.0)
    assert copied.predict(TEXTS) != model.predict(TEXTS)


@pytest.mark.parametrize("cuts", [[2], [1, 2, 3, 4], [4]])
def test_the_mean_over_pieces_is_the_loss_of_the_step(cuts: list[int]) -> None:
    """With other numbers of texts, tokens and numbers in each piece; one has no number at all."""
    model = without_dropout(NumberLM.from_pretrained(EMBEDDED))
    records = records_of(model)
    whole = model.losses(batch_of(model, records))
    whole.total(0.3).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    ends = [0, *cuts, len(records)]
    pieces = [records[start:end] for start, end in itertools.pairwise(ends)]
    counts = count_labels(records, model.tokenizer.num_token_id).sum(0).float() / len(pieces)
    figures = torch.zeros(len(FIGURES))
    for piece in pieces:
        losses = model.losses(batch_of(model, piece)).over(*counts)
        (losses.total(0.3) / len(pieces)).backward()
        figures += losses.figures(0.3).detach() / len(pieces)
    torch.testing.assert_close(figures, whole.figures(0.3).detach(), rtol=1e-5, atol=1e-5)
    for name, parameter in model.named_parameters():
        # Where an answer is right already its likelihood is steep: a rounding is seen in one place.
        difference = (parameter.grad - expected[name]).norm()
        assert difference <= 1e-3 * expected[name].norm() + 1e-7, name


def losses(*sums: float) -> Losses:
    return Losses(*(Term(torch.tensor(x), torch.tensor(2.0 + x)) for x in sums))


def test_a_batch_that_fills_up_is_counted_once_in_any_order() -> None:
    """The last batch is repeated where batches do not divide by the processes."""
    batches = {7: losses(0.1, 1.3, 2.7, 3.1), 0: losses(4.2, 5.5, 6.1, 7.9), 3: losses(8, 9, 1, 2)}
    alone, shared = LossTable(), LossTable()
    for first in (0, 3, 7):
        alone.update(torch.tensor(first), batches[first])
    for first in (7, 0, 3, 7):
        shared.update(torch.tensor(first), batches[first])
    assert torch.equal(alone.compute(), shared.compute())
    assert alone.compute()[0].tolist() == pytest.approx([12.3, 18.3])
    assert alone.losses().token.mean.item() == pytest.approx(12.3 / 18.3)


@pytest.mark.parametrize(("count", "world_size"), [(7, 2), (6, 2), (1, 4), (0, 3)])
def test_shares_are_even_and_cover_everything(count: int, world_size: int) -> None:
    batches = [[i] for i in range(count)]
    shares = [deal(batches, rank, world_size) for rank in range(world_size)]
    assert len({len(share) for share in shares}) == 1
    assert sorted({batch[0] for share in shares for batch in share}) == list(range(count))

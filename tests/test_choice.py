"""Tokens looked up in tiles of the vocabulary: as in the whole of it."""

import pytest
import torch

from numlm import choice
from numlm.batch import IGNORE
from numlm.choice import choose
from numlm.heads import OneVsRestHead, SoftmaxHead, TokenHead
from numlm.model import NumberLM
from tests.test_model import EMBEDDED, NUMBERS, batch_of


@pytest.mark.parametrize("tile", [64, 100, 703, 704, 705, 1408])
@pytest.mark.parametrize("head", [SoftmaxHead, OneVsRestHead])
def test_tiles_choose_as_the_whole(
    head: type[TokenHead], tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "tile_size", lambda *_, **__: tile)
    model = NumberLM.from_pretrained(EMBEDDED, token_head=head).eval()
    num_id = model.tokenizer.num_token_id
    batch = batch_of(model, NUMBERS)
    with torch.no_grad():
        real = batch.labels[:, 1:] != IGNORE
        at = model(batch).map(lambda part: part[:, :-1][real]).latent
        # So that <NUM> stands everywhere among the others, first and last too.
        shift = torch.randn(at.loc.shape[1], generator=torch.Generator().manual_seed(1))
        model.backbone.get_output_embeddings().weight[num_id] += shift
        scores = model.token_scores(at)
        right = batch.input_ids[:, 1:][real]
        right[:3] = torch.tensor([0, num_id, len(scores[0]) - 1])
        found = choose(model, at, right)
    order = scores.argsort(-1, descending=True)
    rank = (order == num_id).int().argmax(-1) + 1
    assert rank.min() == 1, "somewhere it is said"
    assert rank.max() > 1000
    assert torch.equal(found.rank, rank)
    assert torch.equal(found.said, order[:, 0])
    torch.testing.assert_close(found.prob, model.token_head.prob(scores, num_id))
    nll = -model.token_head.log_probs(scores).gather(-1, right[:, None])[:, 0]
    torch.testing.assert_close(found.nll, nll, rtol=1e-5, atol=1e-5)

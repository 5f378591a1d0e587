"""Results of a set from rows: groups, mistakes with context, worst answers; spread over seeds."""

import pytest
import torch

from callbacks.results import frequent_mistakes, set_results, worst_answers
from callbacks.spread import spread, spread_table
from datamodules.number_data_module import NumberDataModule
from numlm.parsing import find_numbers
from numlm.scoring import MISTAKE_COLUMNS, PLAIN_COLUMNS, RECORD_COLUMNS, SLOT_COLUMNS, Scores


def rows_of(data: NumberDataModule, name: str, errors: list[float]) -> Scores:
    """Rows of a set whose answers are off by given errors."""
    slots, records = [], []
    for record, (example, error) in enumerate(zip(data.examples[name], errors, strict=True)):
        *_, (_, _, number) = find_numbers(example.text)
        values = dict.fromkeys(SLOT_COLUMNS, 0.0)
        values |= {"record": record, "rank": 1, "prob": 0.9, "truth": number.value}
        values |= {"median": number.value + error, "printed": number.value + error, "source": -1}
        slots.append(list(values.values()))
        counts = dict.fromkeys(RECORD_COLUMNS, 0.0)
        counts |= {"record": record, "true_positives": 1, "positions": 10}
        records.append(list(counts.values()))
    return Scores(
        torch.tensor(slots).double(),
        torch.tensor(records).double(),
        torch.zeros(0, len(MISTAKE_COLUMNS)).double(),
        torch.zeros(0, len(PLAIN_COLUMNS)).double(),
    )


def test_groups_are_figures_of_their_texts(embedded_data: NumberDataModule) -> None:
    errors = [0.0, 0.0, 3.0, 0.0, 0.0, -3.0, 0.0, 0.0, 3.0]  # off where the wording is unseen
    found = set_results(embedded_data, "basic", rows_of(embedded_data, "basic", errors))
    assert found["groups"]["seen"]["rmse_all"] == pytest.approx(0, abs=1e-5)
    assert found["groups"]["unseen"]["rmse_all"] == pytest.approx(3, abs=1e-5)
    assert found["rmse_all"] == pytest.approx(3**0.5, abs=1e-5)
    low, high = found["intervals"]["rmse_all"]
    assert low < found["rmse_all"] < high
    languages = found["groups"]["en"]["texts"] + found["groups"]["zh"]["texts"]
    assert languages == found["texts"] == 9


def test_the_worst_answers_come_first_with_their_text(embedded_data: NumberDataModule) -> None:
    errors = [0.0, 5.0, -7.0, 1.0, 0.0, 0.0, 2.0, 0.5, 0.0]
    worst = worst_answers(embedded_data, "basic", rows_of(embedded_data, "basic", errors))
    assert [entry["record"] for entry in worst] == [2, 1, 6, 3, 7]
    assert worst[0]["answer"] - worst[0]["truth"] == pytest.approx(-7, abs=1e-4)
    assert embedded_data.examples["basic"][2].text.startswith(worst[0]["text"])


def test_mistakes_are_counted_by_context(embedded_data: NumberDataModule) -> None:
    tokenizer = embedded_data.tokenizer
    num = tokenizer.num_token_id
    ids = embedded_data.evaluation_records("basic")[0].input_ids
    other = tokenizer.encode("green").input_ids[0]
    rows = rows_of(embedded_data, "basic", [0.0] * 9)
    mistakes = [(0, 3, num, ids[4]), (0, 3, num, ids[4]), (0, len(ids) - 2, other, num)]
    rows = rows._replace(mistakes=torch.tensor(mistakes).double())
    found = frequent_mistakes(embedded_data, "basic", rows)
    assert [entry["count"] for entry in found] == [2, 1]
    assert (found[0]["said"], found[1]["right"]) == ("<NUM>", "<NUM>")
    assert found[0]["context"] == tokenizer.decode(ids[:4])
    assert found[1]["context"] == tokenizer.decode(ids[-7:-1])


def test_a_set_without_numbers_has_figures_that_are_none(embedded_data: NumberDataModule) -> None:
    empty = Scores(
        torch.zeros(0, len(SLOT_COLUMNS)).double(),
        torch.zeros(0, len(RECORD_COLUMNS)).double(),
        torch.zeros(0, len(MISTAKE_COLUMNS)).double(),
        torch.zeros(0, len(PLAIN_COLUMNS)).double(),
    )
    found = set_results(embedded_data, "ordinary_text", empty)
    assert found["accuracy"] is None
    assert found["perplexity"] is None
    assert found["intervals"]["f1"] is None
    assert found["by_magnitude"] == found["worst"] == found["mistakes"] == []


def test_spread_is_median_and_range() -> None:
    def run(rank: float, ratio: float, beaten: bool) -> tuple[dict, dict]:
        entry = {"mean_rank": rank, "rmse": None, "groups": {"unseen": {"exact_match": 1.0}}}
        floors = {
            "digits": {"beaten": beaten},
            "best_possible": {"beaten": None, "rmse_over_best": ratio},
        }
        return {"noisy": entry}, {"noisy": floors}

    runs = [run(3.0, 1.02, True), run(1.0, 1.01, False), run(8.0, 1.05, True)]
    found = spread([results for results, _ in runs], [floors for _, floors in runs])["noisy"]
    assert found["mean_rank"] == {"median": 3.0, "low": 1.0, "high": 8.0, "values": [3, 1, 8]}
    assert found["rmse_over_best"]["median"] == 1.02
    assert found["floors_not_beaten"]["values"] == [0, 1, 0]
    assert found["rmse"]["median"] is None
    whole = {name: dict.fromkeys(("median", "low", "high")) for name in _shown()}
    table = spread_table({"noisy": {**whole, **found}}, [1, 2, 3])
    assert "| mean_rank | 3 (1 to 8) |" in table
    assert "| f1 | - |" in table


def _shown() -> tuple[str, ...]:
    from callbacks import spread as module

    return module._SHOWN

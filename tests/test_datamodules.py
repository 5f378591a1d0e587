"""The generated text: what the sets hold, and what training text must never show."""

import itertools
from collections import Counter
from pathlib import Path

import pytest
import torch
from lightning import Callback, LightningModule, Trainer

from datamodules import noisy_readings, ordinary_text, training_mix
from datamodules.examples import Example, sentences
from datamodules.number_data_module import COPYING_SETS, EVALUATION_SETS, NumberDataModule
from datamodules.sampling import EvenBatchSampler, StepPiece, StepSampler
from datamodules.templates import TEMPLATES, Wording
from datamodules.vocabulary import LANGUAGES
from lightning_modules.number_lm import NumberLMModule
from numlm.batch import IGNORE, Piece
from numlm.parsing import Number, find_numbers, split_numbers


def numbers_of(text: str) -> list[float]:
    return [number.value for _, _, number in find_numbers(text)]


def evaluation_examples(count: int = 200) -> list[Example]:
    return [e for generate in EVALUATION_SETS.values() for e in generate(count, 0)]


@pytest.mark.parametrize("name", sorted(COPYING_SETS))
def test_the_answer_ends_the_text_and_follows_from_it(name: str) -> None:
    examples = EVALUATION_SETS[name](200, 0)
    assert len({e.text for e in examples}) == 200
    for example in examples:
        pieces = split_numbers(example.text)
        values = numbers_of(example.text)
        assert isinstance(pieces[-1], Number), example.text
        assert example.answers == (len(values) - 1,)
        assert values[-1] in values[:-1], example.text


def test_values_of_the_sets() -> None:
    answers = {n: [numbers_of(e.text)[-1] for e in g(200, 0)] for n, g in COPYING_SETS.items()}
    assert all(0 <= v <= 100 for v in answers["basic"] + answers["question_answering"])
    extreme = [abs(v) for v in answers["extreme_values"]]
    assert min(extreme) < 1e-5
    assert max(extreme) > 1e5
    assert 0.3 < sum(v < 0 for v in answers["extreme_values"]) / 200 < 0.7
    boundary = Counter(answers["boundary_values"])
    assert all(0 <= v <= 1 for v in boundary)
    assert boundary[0.0] >= 5
    assert boundary[1.0] >= 5
    assert sum(0.99 <= v < 1 for v in answers["boundary_values"]) >= 10


def test_questions_have_several_facts_and_the_last_number_rarely_answers() -> None:
    examples = EVALUATION_SETS["question_answering"](200, 0)
    values = [numbers_of(e.text) for e in examples]
    assert all(len(v) >= 3 for v in values)
    last_is_right = sum(v[-1] == v[-2] for v in values) / len(values)
    assert last_is_right < 0.5


def test_both_languages_and_a_third_of_unseen_wording() -> None:
    for name, generate in EVALUATION_SETS.items():
        examples = generate(200, 0)
        if name == "ordinary_text":
            continue
        assert sum(e.wording is Wording.UNSEEN for e in examples) == 66
        assert 0.2 < sum(e.language == "zh" for e in examples) / 200 < 0.5


def test_a_set_is_its_seed() -> None:
    for generate in EVALUATION_SETS.values():
        assert generate(20, 0) == generate(20, 0)
        assert generate(20, 0) != generate(20, 1)


def test_a_third_of_the_wording_is_unseen_and_shares_no_template() -> None:
    for language in LANGUAGES:
        seen, unseen = (TEMPLATES[language, wording] for wording in Wording)
        for kind in ("statements", "restatements", "questions"):
            a, b = getattr(seen, kind), getattr(unseen, kind)
            assert not set(a) & set(b)
            assert len(b) / (len(a) + len(b)) == pytest.approx(1 / 3, abs=0.04)


def test_training_text_shares_no_sentence_with_the_evaluation() -> None:
    evaluation = evaluation_examples()
    reserved = training_mix.reserved_sentences(iter(evaluation))
    for example in itertools.islice(training_mix.generate(0, reserved), 3000):
        assert reserved.isdisjoint(sentences(example.text)), example.text


def test_noise_is_of_the_size_that_the_text_states() -> None:
    examples = noisy_readings.generate(4000, 0)
    errors = []
    for example in examples:
        values = numbers_of(example.text)
        assert example.best is not None
        assert example.noise is not None
        assert example.best in values[:-1], example.text
        assert example.noise in values[:-1], example.text
        errors.append((values[-1] - example.best) / example.noise)
    z = torch.tensor(errors, dtype=torch.float64)
    # Four standard errors of a mean and of a standard deviation of 4,000.
    assert abs(z.mean()) < 4 / 4000**0.5
    assert abs(z.std() - 1) < 4 / 8000**0.5
    assert (z.abs() < 0.6745).double().mean() == pytest.approx(0.5, abs=4 * 0.5 / 4000**0.5)


def test_noisy_values_are_near_zero_and_far_from_it_with_several_noise_sizes() -> None:
    examples = noisy_readings.generate(1000, 0)
    distances = [abs(e.best or 0) / (e.noise or 1) for e in examples]
    assert 0.4 < sum(d < 2.1 for d in distances) / 1000 < 0.6
    assert max(distances) > 150
    noises = [e.noise or 0 for e in examples]
    assert min(noises) < 0.15
    assert max(noises) > 8
    # Neither the first nor the last number of a text is always the stated value.
    first = sum(numbers_of(e.text)[0] == e.best for e in examples) / 1000
    last = sum(numbers_of(e.text)[-2] == e.best for e in examples) / 1000
    assert 0.2 < last < 0.6
    assert first < 0.8


def test_ordinary_text_has_no_number_but_what_looks_like_one() -> None:
    examples = ordinary_text.generate(200, 0)
    assert all(not numbers_of(e.text) and not e.answers for e in examples)
    digits = [any(c.isdigit() for c in e.text) for e in examples]
    assert digits == [e.distractors for e in examples]
    assert sum(digits) == 100


def test_pretraining_text_has_no_noise() -> None:
    """The embedded checkpoint's stream stays what it was."""
    for example in itertools.islice(training_mix.generate(0, pretraining=True), 1000):
        values = numbers_of(example.text)
        assert all(values[answer] in values[:answer] for answer in example.answers)


def test_training_answers_follow_from_the_text() -> None:
    kinds: Counter[str] = Counter()
    for example in itertools.islice(training_mix.generate(0, pretraining=True), 2000):
        values = numbers_of(example.text)
        for answer in example.answers:
            assert values[answer] in values[:answer], example.text
        kinds["none" if not values else "asked" if example.answers else "distractors"] += 1
        kinds[example.language] += 1
    assert kinds["none"] > 40
    assert kinds["distractors"] > 10
    assert kinds["zh"] > 400


def test_distractors_are_not_numbers() -> None:
    texts = [e.text for e in itertools.islice(training_mix.generate(0), 3000)]
    for mark in (" v", "GPT", ":"):
        assert any(mark in text for text in texts)
    assert split_numbers("On 2025-06-08 the door was quiet. At 12:30 it was v1.2.3.") == [
        "On 2025-06-08 the door was quiet. At 12:30 it was v1.2.3."
    ]


LENGTHS = [7, 3, 9, 1, 4, 8, 2, 6, 5, 10, 12, 11, 14, 13]


def steps(world_size: int, accumulate: int) -> list[list[StepPiece]]:
    """The pieces of every step, those of all processes."""
    ranks = []
    for rank in range(world_size):
        sampler = StepSampler(LENGTHS, 5, 3, rank, world_size, accumulate)
        pieces = list(sampler)
        assert len(pieces) == len(sampler) == 2 * accumulate
        ranks.append([pieces[i : i + accumulate] for i in range(0, len(pieces), accumulate)])
    return [
        [piece for pieces in of_step for piece in pieces] for of_step in zip(*ranks, strict=True)
    ]


@pytest.mark.parametrize(("world_size", "accumulate"), [(1, 1), (2, 1), (1, 3), (2, 2), (5, 1)])
def test_a_step_has_the_same_texts_on_any_number_of_processes(
    world_size: int, accumulate: int
) -> None:
    """5 texts do not divide by most of these."""
    alone = [pieces[0].mine for pieces in steps(1, 1)]
    found = steps(world_size, accumulate)
    assert len(alone) == len(found) == 2
    for texts, pieces in zip(alone, found, strict=True):
        assert len(pieces) == world_size * accumulate
        assert all(piece.all == texts and piece.mine for piece in pieces)
        assert sorted(i for piece in pieces for i in piece.mine) == sorted(texts)
    assert len({i for texts in alone for i in texts}) == 10
    assert [LENGTHS[i] for i in alone[0]] == sorted(LENGTHS[i] for i in alone[0])


def test_a_step_of_fewer_texts_than_pieces_is_refused() -> None:
    with pytest.raises(ValueError, match="5 texts cannot be dealt to 3 processes x 2"):
        StepSampler(LENGTHS, 5, 3, 0, 3, 2)


def test_passes_have_an_order_of_their_own_and_a_seed_repeats_them() -> None:
    first, second = (
        list(StepSampler(range(64), 8, seed=1, first_step=lambda step=step: step))
        for step in (0, 8)
    )
    assert first == list(StepSampler(range(64), 8, seed=1))
    assert first != second
    for steps in (first, second):
        assert sorted(i for piece in steps for i in piece.mine) == list(range(64))


@pytest.mark.parametrize("step", [1, 7, 8, 13, 25])
def test_which_texts_a_step_has_depends_on_its_number_alone(step: int) -> None:
    """Wherever a run begins, also in the middle of a pass, with several pieces a step."""
    stream = [
        piece
        for start in (0, 8, 16, 24, 32)
        for piece in StepSampler(range(64), 8, 1, 1, 2, 3, first_step=lambda start=start: start)
    ]
    sampler = StepSampler(range(64), 8, 1, 1, 2, 3, first_step=lambda: step)
    assert list(sampler) == stream[3 * step : 3 * step + len(sampler)]


def test_nothing_is_drawn_before_the_first_batch_is_wanted(
    embedded_data: NumberDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trainer makes an iterator before it knows its step; workers would begin at once."""
    loader = embedded_data.train_dataloader()
    asked: list[int] = []
    loader.loader.sampler.first_step = lambda: asked.append(1) or 3
    batches = iter(loader)
    assert not asked
    piece = next(batches)
    expected = next(iter(StepSampler(loader.loader.sampler.lengths, 8, 0, first_step=lambda: 3)))
    assert piece.batch.record_ids.tolist() == expected.mine


@pytest.mark.parametrize(("count", "world_size"), [(7, 2), (6, 2), (25, 3), (1, 4)])
def test_even_batches_deal_out_every_record_in_the_batches_of_one_process(
    count: int, world_size: int
) -> None:
    lengths = [7 * i % 10 for i in range(count)]
    alone = list(EvenBatchSampler(lengths, 4))
    order = [i for batch in alone for i in batch]
    assert sorted(order) == list(range(count))
    assert [lengths[i] for i in order] == sorted(lengths)
    dealt = [list(EvenBatchSampler(lengths, 4, rank, world_size)) for rank in range(world_size)]
    assert len({len(part) for part in dealt}) == 1
    assert {tuple(batch) for part in dealt for batch in part} == {tuple(batch) for batch in alone}


def test_data_module_batches(embedded_data: NumberDataModule) -> None:
    data = embedded_data
    assert data.evaluation_names == list(EVALUATION_SETS)
    assert data.tokenizer is not None
    for name, loader in zip(data.evaluation_names, data.test_dataloader(), strict=True):
        batches = list(loader)
        assert sorted(torch.cat([b.record_ids for b in batches]).tolist()) == list(range(9))
        asked = 0 if name == "ordinary_text" else 9
        assert sum(int(b.asked.sum()) for b in batches) == asked
        for batch in batches:
            is_number = batch.input_ids == data.tokenizer.num_token_id
            assert (batch.asked <= is_number).all()
            expected = [
                numbers_of(data.examples[name][i].text)[-1] for i in batch.record_ids if asked
            ]
            assert batch.number_values[batch.asked].tolist() == expected
        groups = data.evaluation_groups(name)
        assert groups["unseen"] == ([2, 5, 8] if asked else list(range(9)))
        for pair in (
            ("seen", "unseen"),
            ("en", "zh"),
            ("with_distractors", "without_distractors"),
        ):
            assert sorted(groups[pair[0]] + groups[pair[1]]) == list(range(9))
        questions = data.evaluation_questions(name)
        assert [q.truth for q in questions] == [
            numbers_of(e.text)[-1] for e in data.examples[name] if asked
        ]
        assert all(data.examples[name][q.record].text.startswith(q.prompt) for q in questions)
        best = data.best_answers(name)
        assert [b is None for b in best] == [name != "noisy_readings"] * asked
    assert len(data.train_dataloader()) == 64 // 8
    assert sum(len(b.input_ids) for b in data.val_dataloader()) == 5
    answers = sum(int(piece.batch.asked.sum()) for piece in data.train_dataloader())
    assert len(data.training_values()) == answers > 64


def test_a_piece_knows_the_labels_of_its_step(embedded_data: NumberDataModule) -> None:
    """On one process a step is one piece, whose batch has all of the step's labels."""
    for piece in embedded_data.train_dataloader():
        labels = piece.batch.labels[:, 1:]
        assert piece.tokens.item() == (labels != IGNORE).sum().item()
        numbers = (labels == embedded_data.tokenizer.num_token_id).sum().item()
        assert piece.numbers.item() == numbers > 0


def test_a_single_noisy_reading_or_none_can_be_asked_for() -> None:
    data = NumberDataModule("unused", eval_samples=1, noisy_samples=3, num_samples=32)
    assert len(data.examples["basic"]) == 1
    assert len(data.examples["noisy_readings"]) == 3
    with pytest.raises(ValueError, match=r"data\.noisy_samples is 0"):
        NumberDataModule("unused", noisy_samples=0, num_samples=32)


def test_sizes_that_make_no_batch_are_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.num_samples is 3"):
        NumberDataModule("unused", num_samples=3, batch_size=4)
    with pytest.raises(ValueError, match=r"data\.eval_samples is 0"):
        NumberDataModule("unused", eval_samples=0)


class Seen(Callback):
    """The texts of every step."""

    def __init__(self) -> None:
        self.epochs: dict[int, list[list[int]]] = {}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Piece, batch_idx: int
    ) -> None:
        steps = self.epochs.setdefault(trainer.current_epoch, [])
        steps.append(batch.batch.record_ids.tolist())


def test_a_trainer_gives_every_epoch_its_order(
    embedded_data: NumberDataModule, tmp_path: Path
) -> None:
    seen = Seen()
    trainer = Trainer(
        default_root_dir=tmp_path, accelerator="cpu", max_epochs=2, limit_val_batches=0,
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[seen],
    )  # fmt: skip
    trainer.fit(NumberLMModule(), datamodule=embedded_data)
    for epoch, steps in seen.epochs.items():
        lengths = [len(r.input_ids) for r in embedded_data._train]
        sampler = StepSampler(lengths, 8, 0, first_step=lambda epoch=epoch: 8 * epoch)
        assert steps == [piece.mine for piece in sampler]
    assert seen.epochs[0] != seen.epochs[1]
    assert sorted(itertools.chain.from_iterable(seen.epochs[1])) == list(range(64))

"""Generation through Transformers: numbers are said, rendered, fed back; cached and batched alike."""

import re
from pathlib import Path

import pytest
import torch
from transformers import MaxLengthCriteria, StoppingCriteriaList, TextIteratorStreamer
from transformers.generation.streamers import TextStreamer

from numlm.batch import Record, collate
from numlm.generation import Continuation
from numlm.heads import OneVsRestHead, SoftmaxHead, TokenHead
from numlm.model import NumberLM
from numlm.parsing import render, split_numbers

EMBEDDED = Path(__file__).resolve().parents[1] / "assets" / "tiny-qwen2"
PROMPTS = [
    "The red lamp shows 42.57 volts. In short, it is",
    "The pump is at -0.00125 bar and the fan at 1.5e12 turns. So it is",
    "总之，电压是7，它是",
    "The door was open all day.",
    "1,234 and 5",
]


def trained(head: type[TokenHead]) -> NumberLM:
    """A model that has been told for a few steps that numbers are restated, with words after."""
    torch.manual_seed(0)
    model = NumberLM.from_pretrained(EMBEDDED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    end = model.tokenizer.end_token_id
    for step in range(25):
        value = render(round(37.5 * step - 200, 2))
        texts = [
            f"The red lamp shows {value} volts. In short, it is {value} volts and {value} amps.",
            f"总之，电压是{value}，它是{value}，也就是{value}。",
            f"The pump is at {value} bar and the fan at 3 turns. So it is {value} bar.",
            f"The door was open all day. It has {value} locks.",
        ]
        records = [
            Record.of(encoding, end_token_id=end)
            for encoding in model.tokenizer.encode_batch(texts)
        ]
        batch = collate(records, model.tokenizer.num_token_id, model.tokenizer.pad_token_id)
        model.losses(batch).total(0.3).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.token_head = head(model.token_head.rows)  # one-vs-rest ranks tokens alike from the start
    return model.eval()


@pytest.fixture(scope="module", params=[SoftmaxHead, OneVsRestHead], ids=["softmax", "ovr"])
def model(request: pytest.FixtureRequest) -> NumberLM:
    return trained(request.param)


@pytest.fixture(scope="module")
def softmax() -> NumberLM:
    return trained(SoftmaxHead)


def said(continuation: Continuation) -> list[float]:
    return [number.value for number in continuation.numbers if number.said is not None]


def test_numbers_are_said_rendered_and_placed(model: NumberLM) -> None:
    written = model.generate(PROMPTS, max_new_tokens=24)
    assert sum(len(said(one)) for one in written) >= 4
    for prompt, one in zip(PROMPTS, written, strict=True):
        assert one.prompt == prompt
        assert one.text.startswith(prompt)
        for index, number in enumerate(one.numbers):
            surface = one.text[number.start : number.end]
            if number.said is None:
                assert number.end <= len(prompt)
                continue
            assert surface == render(number.value)
            assert number.start >= len(prompt)
            assert number.said.low <= number.value <= number.said.high
            assert 0 < number.said.p_number <= 1
            if number.said.source is not None:
                assert number.said.source < index
                assert one.numbers[number.said.source].value == number.value
    assert model.generate_text(PROMPTS, max_new_tokens=24) == [one.text for one in written]


def test_generation_is_greedy_decoding_of_the_uncached_model(model: NumberLM) -> None:
    """An independent loop: encode the text as it stands, take the best token, write, again."""
    (written,) = model.generate(PROMPTS[:1], max_new_tokens=10, min_new_tokens=10)
    tokenizer = model.tokenizer
    encoding = tokenizer.encode(PROMPTS[0])
    ids, values = list(encoding.input_ids), [number.value for number in encoding.numbers]
    start = len(ids)
    for _ in range(10):
        batch = collate([Record(ids, values)], tokenizer.num_token_id, tokenizer.pad_token_id)
        with torch.no_grad():
            states = model(batch)
            scores = model.token_scores(states.map(lambda part: part[:, -1]).latent)[0]
            scores[tokenizer.end_token_id] = float("-inf")
            token_id = int(scores[: tokenizer.num_token_id + 1].argmax())
            if token_id == tokenizer.num_token_id:
                at = torch.tensor([[len(ids) - 1]])
                values.append(model.number_answer(states, batch, at).mixture().printed().item())
        ids.append(token_id)
    assert tokenizer.num_token_id in ids[start:]
    pieces = tokenizer.decode_pieces(ids[start:], values[len(encoding.numbers) :], after_text=True)
    assert written.text == PROMPTS[0] + "".join(pieces)


def test_cached_and_uncached_give_the_same(model: NumberLM) -> None:
    cached = model.generate(PROMPTS, max_new_tokens=24)
    uncached = model.generate(PROMPTS, max_new_tokens=24, use_cache=False)
    assert [one.text for one in cached] == [one.text for one in uncached]
    assert [said(one) for one in cached] == [said(one) for one in uncached]


def test_a_batch_gives_what_one_by_one_gives(model: NumberLM) -> None:
    together = model.generate(PROMPTS, max_new_tokens=24)
    for prompt, one in zip(PROMPTS, together, strict=True):
        (alone,) = model.generate([prompt], max_new_tokens=24)
        assert alone.text == one.text
        assert said(alone) == said(one)


def test_what_was_written_reads_the_same(model: NumberLM) -> None:
    """The value that is fed back is the one that is printed."""
    for one in model.generate(PROMPTS, max_new_tokens=12):
        numbers = [piece for piece in split_numbers(one.text) if not isinstance(piece, str)]
        # digits that are said as such are read as a number too
        values = [number.value for number in numbers]
        assert [v for v in said(one) if v not in values] == []


def test_sampling_is_seeded_varied_and_can_give_several(softmax: NumberLM) -> None:
    options = {"max_new_tokens": 15, "do_sample": True, "temperature": 2.0}
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        runs.append(softmax.generate(PROMPTS[:2], num_return_sequences=3, **options))
    assert [len(run) for run in runs] == [6, 6, 6]
    assert [one.prompt for one in runs[0]] == [PROMPTS[0]] * 3 + [PROMPTS[1]] * 3
    assert runs[0] == runs[1] != runs[2]
    assert len({one.text for one in runs[0]}) > 3
    for one in runs[0]:
        assert all(number.end <= len(one.text) for number in one.numbers)


def test_a_streamer_gets_the_text_piece_by_piece(softmax: NumberLM) -> None:
    class Pieces(TextStreamer):
        def __init__(self, **options: bool) -> None:
            super().__init__(softmax.tokenizer.base, **options)
            self.pieces: list[str] = []

        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            self.pieces.append("<end>" if stream_end else text)

    for prompt in PROMPTS[:3]:
        (expected,) = softmax.generate_text([prompt], max_new_tokens=15)
        for skip in (False, True):
            streamer = Pieces(skip_prompt=skip)
            softmax.generate([prompt], max_new_tokens=15, streamer=streamer)
            assert streamer.pieces.pop() == "<end>"
            whole = ("" if not skip else prompt) + "".join(streamer.pieces)
            assert whole == expected
            assert len(streamer.pieces) > 3
    iterator = TextIteratorStreamer(softmax.tokenizer.base, skip_prompt=True)
    (one,) = softmax.generate(PROMPTS[:1], max_new_tokens=15, streamer=iterator)
    assert PROMPTS[0] + "".join(iterator) == one.text
    with pytest.raises(ValueError, match="one prompt"):
        softmax.generate(PROMPTS[:2], streamer=iterator)


def test_it_stops_where_the_text_ends(softmax: NumberLM) -> None:
    one = softmax.generate(PROMPTS[:1], max_new_tokens=200)[0]
    assert len(one.text) < 150
    assert "<|endoftext|>" not in one.text
    criteria = StoppingCriteriaList([MaxLengthCriteria(1000)])
    two = softmax.generate(PROMPTS[:1], max_new_tokens=200, stopping_criteria=criteria)[0]
    assert two.text == one.text
    stopped = softmax.generate(
        PROMPTS[:1], max_new_tokens=200, stop_strings=[" volts"], tokenizer=softmax.tokenizer.base
    )
    assert stopped[0].text in one.text


def test_a_number_in_the_last_place_has_its_value(softmax: NumberLM) -> None:
    (whole,) = softmax.generate(PROMPTS[:1], max_new_tokens=20)
    number = next(n for n in whole.numbers if n.said)
    for count in range(1, 6):
        (cut,) = softmax.generate(PROMPTS[:1], max_new_tokens=count)
        assert whole.text.startswith(cut.text)
        if len(cut.text) == number.end:
            assert said(cut) == [number.value]
            break
    else:
        pytest.fail("no cut ended in the number")


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        (["a", ""], {}, "prompt 1 is empty"),
        (["word " * 1200], {}, r"prompt 0 is 24\d\d tokens long .* the model's context is 1024"),
        (["a"], {"max_new_tokens": 1024}, "1024 are to follow"),
        (["a"], {"num_beams": 2}, "use greedy or sampling"),
    ],
)
def test_what_cannot_be_continued_is_refused(
    softmax: NumberLM, prompts: list[str], options: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        softmax.generate(prompts, **options)


def test_no_prompts_no_text_and_training_mode_stays(softmax: NumberLM) -> None:
    assert softmax.generate([]) == []
    softmax.train()
    softmax.generate(PROMPTS[:1], max_new_tokens=2)
    assert softmax.training
    softmax.eval()


def test_the_writer_is_made_once_and_ends_where_the_model_does_now(softmax: NumberLM) -> None:
    (whole,) = softmax.generate(PROMPTS[:1], max_new_tokens=24)
    writer, settings = softmax.writer, softmax.backbone.generation_config
    before = settings.eos_token_id
    settings.eos_token_id = softmax.tokenizer.num_token_id
    (cut,) = softmax.generate(PROMPTS[:1], max_new_tokens=24)
    settings.eos_token_id = before
    assert said(whole)
    assert not said(cut)
    assert whole.text.startswith(cut.text)
    assert softmax.generate(PROMPTS[:1], max_new_tokens=24) == [whole]
    assert softmax.writer is writer
    assert writer not in list(softmax.modules())
    assert not any(name.startswith("writer") for name in softmax.state_dict())


def test_what_is_told_of_a_number_does_not_depend_on_the_numbers_beside_it(
    softmax: NumberLM,
) -> None:
    """Intervals are worked out for all numbers at once, whatever texts and steps they are from."""
    together = softmax.generate(PROMPTS, max_new_tokens=24)
    assert len({len(one.numbers) for one in together}) > 1
    for prompt, one in zip(PROMPTS, together, strict=True):
        (alone,) = softmax.generate([prompt], max_new_tokens=24)
        for mine, other in zip(one.numbers, alone.numbers, strict=True):
            if mine.said is None or other.said is None:
                assert mine == other
                continue
            assert mine.said.source == other.said.source
            assert mine.said.low == pytest.approx(other.said.low, rel=1e-4, abs=1e-6)
            assert mine.said.high == pytest.approx(other.said.high, rel=1e-4, abs=1e-6)
            assert mine.said.p_number == pytest.approx(other.said.p_number, rel=1e-3)


def test_modes_of_single_modules_are_put_right(softmax: NumberLM) -> None:
    """A part that was left in training mode is evaluated like the rest."""
    softmax.backbone.train()
    softmax.generate(PROMPTS[:1], max_new_tokens=2)
    assert not softmax.backbone.training


def test_predict_is_what_generate_says(softmax: NumberLM) -> None:
    """Where `<NUM>` is the next token, both give the same number, interval and source."""
    prompt = "The red lamp shows 42.5 volts. In short, it is "
    (predicted,) = softmax.predict([prompt])
    (written,) = softmax.generate([prompt], max_new_tokens=1)
    number = written.numbers[-1].said
    assert number is not None
    assert (predicted.value, predicted.source) == (number.value, number.source)
    assert predicted.p_number == pytest.approx(number.p_number, rel=1e-5)
    assert predicted.high == pytest.approx(number.high, rel=1e-4, abs=1e-6)
    assert re.match(re.escape(prompt) + r"-?[\d.]+$", predicted.text)


def test_predict_does_not_depend_on_the_batch(softmax: NumberLM) -> None:
    prompts = [f"The pump is at {i / 8} bar. So it is" for i in range(9)] + PROMPTS
    together = softmax.predict(prompts)
    small = softmax.predict(prompts, batch_size=2)
    for one, two in zip(together, small, strict=True):
        assert (one.value, one.source, one.text) == (two.value, two.source, two.text)
        assert one.p_number == pytest.approx(two.p_number, rel=1e-3, abs=1e-9)

"""Text to ids: one `<NUM>` for every number, every other token as the base tokenizer has it."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from numlm.parsing import Number, find_numbers
from numlm.tokenization import NUM_TOKEN, NumberTokenizer

QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CORPUS = [
    "the lamp is 0 volts, (0) or 0% (-0) 价格是0元",
    "it is 0 0 0 0 lamp the 价格是 价格是",
] * 5

WITHOUT_NUMBERS = [
    "the lamp is on",
    "没有数字。",
    "GPT2 and v1.2.3 at 12:30 on 2025-06-08 from 192.168.0.1",
    "a literal <NUM>, <NUM>!",
    "  two  spaces\n\nand lines\t",
    "1e400 and 1e-400",
    "<|endoftext|>the",
    "",
]
WITH_NUMBERS = [
    "the lamp is 42.5 volts",
    "-3 and 10-20, (-5) or +7%",
    "42",
    "  5\n\n6  -7 ",
    "价格是99.9元，共１２３个",
    "$1,200 and 6.02e23 of <NUM> at 12:30",
    "<|endoftext|>5 lamps",
    "é 5 𠮷 6 🙂7",
]


def _train(
    pattern: str | None, corpus: list[str], post_processor: object = None
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a few merges."""
    tokenizer = Tokenizer(models.BPE())
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if pattern:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    else:
        tokenizer.pre_tokenizer = to_bytes
    tokenizer.decoder = decoders.ByteLevel()
    if post_processor is not None:
        tokenizer.post_processor = post_processor
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


@cache
def _qwen_like() -> PreTrainedTokenizerFast:
    """Single digits, a space before a digit is a token of its own."""
    return _train(QWEN_PATTERN, CORPUS, processors.ByteLevel(trim_offsets=False))


@cache
def _gpt2_like() -> PreTrainedTokenizerFast:
    """A token ` 0` joins the space and the digit."""
    return _train(GPT2_PATTERN, CORPUS, processors.ByteLevel(trim_offsets=False))


@cache
def _trimming() -> PreTrainedTokenizerFast:
    """As GPT-2's, but with offsets that leave out the space (RoBERTa, BART)."""
    return _train(GPT2_PATTERN, CORPUS, processors.ByteLevel(trim_offsets=True))


@cache
def _joining() -> PreTrainedTokenizerFast:
    """Nothing separates: a token may hold text, several digits and more text."""
    return _train(None, ["=0-0;" for _ in range(50)])


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "qwen_like": _qwen_like,
    "gpt2_like": _gpt2_like,
    "trimming": _trimming,
    "joining": _joining,
}


@pytest.fixture(scope="module", params=list(TOKENIZERS))
def tokenizer(request: pytest.FixtureRequest) -> NumberTokenizer:
    base = TOKENIZERS[request.param]()
    return NumberTokenizer(base, num_token_id=len(base))


@pytest.fixture(scope="module")
def qwen_like() -> NumberTokenizer:
    base = _qwen_like()
    return NumberTokenizer(base, num_token_id=len(base) + 3)


@pytest.fixture(scope="module")
def qwen(qwen_folder: Path) -> NumberTokenizer:
    base = AutoTokenizer.from_pretrained(qwen_folder)
    return NumberTokenizer(base, num_token_id=len(base))


def _base_ids(base: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(base(text, add_special_tokens=False)["input_ids"])


def _texts(tokenizer: NumberTokenizer, text: str) -> list[str]:
    return [tokenizer.token_text(token_id) for token_id in tokenizer.encode(text).input_ids]


def _merged(tokenizer: NumberTokenizer, text: str) -> list[int]:
    """Ids of the untouched text, `<NUM>` instead of all tokens that lie within one number."""
    encoded = tokenizer.base(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = [(start, end) for start, end, _ in find_numbers(text)]
    ids = []
    for token_id, (start, end) in zip(
        encoded["input_ids"], encoded["offset_mapping"], strict=True
    ):
        inside = [span for span in spans if span[0] <= start and end <= span[1]]
        if not inside:
            ids.append(token_id)
        elif start == inside[0][0]:
            ids.append(tokenizer.num_token_id)
    return ids


@pytest.mark.parametrize("text", WITHOUT_NUMBERS)
def test_text_without_numbers_has_the_base_ids(tokenizer: NumberTokenizer, text: str) -> None:
    encoding = tokenizer.encode(text)
    assert encoding.input_ids == _base_ids(tokenizer.base, text)
    assert encoding.numbers == []


@pytest.mark.parametrize("text", WITH_NUMBERS)
def test_numbers_stand_at_num_and_the_text_comes_back(
    tokenizer: NumberTokenizer, text: str
) -> None:
    encoding = tokenizer.encode(text)
    assert encoding.numbers == [number for _, _, number in find_numbers(text)]
    assert encoding.input_ids.count(tokenizer.num_token_id) == len(encoding.numbers) > 0
    assert tokenizer.decode(encoding.input_ids, encoding.numbers) == text


_WORDS = st.sampled_from(
    ["the", " lamp", " is", " ", "\n", "价格是", "元", "(", ")", "%", "-", "=", ";", "<NUM>", "é"]
)
_NUMBERS = st.sampled_from(["42.5", " 42.5", " -3", "-3", "0", " 1,234", "１２", "1e-5", " .5"])


@given(st.lists(st.one_of(_WORDS, _NUMBERS), max_size=12).map("".join))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_every_text_comes_back(text: str) -> None:
    for make in (_qwen_like, _gpt2_like, _joining):
        base = make()
        tokenizer = NumberTokenizer(base, num_token_id=len(base))
        encoding = tokenizer.encode(text)
        assert encoding.numbers == [number for _, _, number in find_numbers(text)]
        assert tokenizer.decode(encoding.input_ids, encoding.numbers) == text


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("the lamp is 42.5 volts", ["the", " lamp", " is", " ", NUM_TOKEN, " volts"]),
        ("10-20", [NUM_TOKEN, "-", NUM_TOKEN]),
        ("5%", [NUM_TOKEN, "%"]),
        ("$1,200", ["$", NUM_TOKEN]),
        ("(-5)", ["(", NUM_TOKEN, ")"]),
        ("is -5", ["is", " ", NUM_TOKEN]),
        ("lamp\n７", ["lamp", "\n", NUM_TOKEN]),
    ],
)
def test_tokens_of_single_digit_tokenizers(
    qwen_like: NumberTokenizer, text: str, tokens: list[str]
) -> None:
    pieces = [piece for token in tokens for piece in _pieces(qwen_like, token)]
    assert _texts(qwen_like, text) == pieces


def _pieces(tokenizer: NumberTokenizer, token: str) -> list[str]:
    """A word may be several tokens of the small vocabulary."""
    if token == NUM_TOKEN:
        return [token]
    return [tokenizer.token_text(token_id) for token_id in _base_ids(tokenizer.base, token)]


@pytest.mark.parametrize(
    "text",
    [
        "the lamp is 42.5 volts",
        "it is 0 or 1,234,567.89 of 6.02e23, 5% and $1,200 (99)",
        "10-20 lamps at 12:30",
        "价格是99.9元，v1.2.3，共3个。",
        "  5\n\n6\t7  lamps",
    ],
)
@pytest.mark.parametrize("fixture", ["qwen_like", "qwen"])
def test_every_other_token_is_the_one_of_the_untouched_text(
    request: pytest.FixtureRequest, fixture: str, text: str
) -> None:
    tokenizer: NumberTokenizer = request.getfixturevalue(fixture)
    assert tokenizer.encode(text).input_ids == _merged(tokenizer, text)


def test_a_token_that_joins_space_and_digit_is_cut() -> None:
    base = _gpt2_like()
    assert len(_base_ids(base, " 0")) == 1, "the base must join them for this test"
    tokenizer = NumberTokenizer(base, len(base))
    assert tokenizer.encode("the lamp is 42.5 volts").input_ids == [
        *_base_ids(base, "the lamp is"),
        *_base_ids(base, " "),
        tokenizer.num_token_id,
        *_base_ids(base, " volts"),
    ]


def test_a_token_of_several_numbers_is_cut_at_each() -> None:
    base = _joining()
    assert len(_base_ids(base, "=0-0;")) == 1, "the base must join them for this test"
    tokenizer = NumberTokenizer(base, len(base))
    assert _texts(tokenizer, "=10-20;") == ["=", NUM_TOKEN, "-", NUM_TOKEN, ";"]


@cache
def _word_marking() -> PreTrainedTokenizerFast:
    """SentencePiece style (Llama 2, Mistral): `▁` stands for a space, and before the text."""
    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="first"), pre_tokenizers.Digits(True)]
    )
    inner.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=120, show_progress=False, special_tokens=["<unk>"])
    inner.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")


_MARKED = ["the lamp is 42.5 volts", "42.5 volts", "0 or 17", "价格是99.9元"]


@pytest.mark.parametrize("text", _MARKED)
def test_a_tokenizer_that_marks_words_has_one_num_a_number(text: str) -> None:
    base = _word_marking()
    tokenizer = NumberTokenizer(base, len(base))
    marked = _base_ids(base, _with_zeros(text))
    zero = base.convert_tokens_to_ids("0")
    expected = [tokenizer.num_token_id if token_id == zero else token_id for token_id in marked]
    assert tokenizer.encode(text).input_ids == expected


def _with_zeros(text: str) -> str:
    for start, end, _ in reversed(list(find_numbers(text))):
        text = text[:start] + "0" + text[end:]
    return text


@pytest.mark.parametrize("text", _MARKED)
def test_a_tokenizer_that_marks_words_gives_the_text_back(text: str) -> None:
    base = _word_marking()
    tokenizer = NumberTokenizer(base, len(base))
    encoding = tokenizer.encode(text)
    assert tokenizer.decode(encoding.input_ids, encoding.numbers) == text


def test_a_literal_num_is_ordinary_text(qwen_like: NumberTokenizer) -> None:
    encoding = qwen_like.encode("<NUM> is 5")
    assert encoding.input_ids[-1] == qwen_like.num_token_id
    assert encoding.input_ids[:-1] == _base_ids(qwen_like.base, "<NUM> is ")
    assert encoding.input_ids.count(qwen_like.num_token_id) == 1
    assert len(_base_ids(qwen_like.base, "<NUM>")) > 1


def test_a_batch_is_its_texts(tokenizer: NumberTokenizer) -> None:
    texts = [*WITH_NUMBERS, *WITHOUT_NUMBERS]
    encodings = tokenizer.encode_batch(texts)
    assert encodings == [tokenizer.encode(text) for text in texts]
    assert sum(len(encoding.numbers) for encoding in encodings) > 10


def test_a_batch_may_be_empty(qwen_like: NumberTokenizer) -> None:
    assert qwen_like.encode_batch([]) == []


def test_decode_writes_values_and_leaves_num_where_there_is_none(
    qwen_like: NumberTokenizer,
) -> None:
    ids = qwen_like.encode("1 or 2 or 3").input_ids
    assert qwen_like.decode(ids, [42.5, Number(7.0, "+7.00")]) == "42.5 or +7.00 or <NUM>"
    assert qwen_like.decode(ids) == "<NUM> or <NUM> or <NUM>"


def test_token_text(qwen_like: NumberTokenizer) -> None:
    assert qwen_like.token_text(qwen_like.num_token_id) == NUM_TOKEN
    assert qwen_like.token_text(_base_ids(qwen_like.base, "%")[0]) == "%"


def test_padding_is_the_base_tokenizers_or_its_end_of_text() -> None:
    base = _train(None, ["=0-0;"])
    assert NumberTokenizer(base, len(base)).pad_token_id == base.eos_token_id
    base.pad_token = "="
    assert NumberTokenizer(base, len(base)).pad_token_id == _base_ids(base, "=")[0]
    assert base.pad_token_id != base.eos_token_id


def test_the_id_must_be_free() -> None:
    base = _joining()
    with pytest.raises(ValueError, match=f"{len(base) - 1} is one of the tokenizer's {len(base)}"):
        NumberTokenizer(base, len(base) - 1)


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ValueError, match="Slow has no character offsets"):
        NumberTokenizer(Slow(), 10)  # type: ignore[arg-type]


def test_qwen_takes_the_first_spare_row(qwen: NumberTokenizer) -> None:
    assert len(qwen.base) == 151665
    assert qwen.num_token_id == 151665
    # the published vocabulary: " is" 374, " " 220, "the" 1782
    assert qwen.encode("the is 42.5").input_ids == [1782, 374, 220, 151665]


@pytest.mark.parametrize("text", WITH_NUMBERS + WITHOUT_NUMBERS)
def test_qwen_gives_the_text_back(qwen: NumberTokenizer, text: str) -> None:
    encoding = qwen.encode(text)
    assert qwen.decode(encoding.input_ids, encoding.numbers) == text
    assert encoding.input_ids.count(151665) == len(encoding.numbers)
    if text in WITHOUT_NUMBERS:
        assert encoding.input_ids == _base_ids(qwen.base, text)

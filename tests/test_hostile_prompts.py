"""`predict` and `generate` with texts that nobody meant to write: an answer, or one clear error."""

from typing import Any

import pytest

from numlm import NumberLM
from tests.conftest import EMBEDDED


@pytest.fixture(scope="module")
def model() -> NumberLM:
    return NumberLM.from_pretrained(EMBEDDED).eval()


ANSWERED = {
    "nul": "It is\x00 5. It is",
    "nul only": "\x00",
    "zero width": "It\u200b is\u200d 5\u2060. It is\ufeff",
    "right to left": "الجهد 5 فولت. إنه \u200f",
    "override": "\u202eIt is 5\u202c. It is",
    "space": " ",
    "white space": "  \n\t ",
    "ideographic space": "\u3000",
    "line separators": "5\u2028\u2029\x85\r\n",
    "beyond the basic plane": "😀𝟓 5 👩\u200d🚀",
    "half a pair": "half \ud800 5. It is",
    "escape": "\x1b[31m 5",
    "combining": "5" + "\u0301" * 50,
}


@pytest.mark.parametrize("text", ANSWERED.values(), ids=ANSWERED)
def test_any_unicode_text_is_kept_and_continued(model: NumberLM, text: str) -> None:
    (prediction,) = model.predict([text])
    assert prediction.text.startswith(text)
    assert prediction.low <= prediction.value <= prediction.high
    (continuation,) = model.generate([text], max_new_tokens=3)
    assert continuation.text.startswith(text)
    for number in continuation.numbers:
        assert 0 <= number.start < number.end <= len(continuation.text)


def test_one_odd_text_leaves_its_neighbours_as_they_are(model: NumberLM) -> None:
    plain = "The red lamp shows 42.5 volts. In short, it is"
    alone = model.predict([plain])[0]
    among = model.predict([*ANSWERED.values(), plain])[-1]
    assert (among.text, among.source) == (alone.text, alone.source)
    assert among.p_number == pytest.approx(alone.p_number, rel=1e-4)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([""], "prompt 0 is empty"),
        (["It is", ""], "prompt 1 is empty"),
        (["1 " * 600], "prompt 0 is 1200 tokens long .* context is 1024: shorten it"),
        (["It is", None], "prompt 1 is no text .* NoneType"),
        ([5], "prompt 0 is no text .* int"),
        ([b"It is"], "prompt 0 is no text .* bytes"),
        ([["It is"]], "prompt 0 is no text .* list"),
        ("It is", "give a list of texts"),
        (b"It is", "give a list of texts"),
    ],
    ids=[
        "empty",
        "second empty",
        "long",
        "none",
        "number",
        "bytes",
        "list",
        "one",
        "one of bytes",
    ],
)
@pytest.mark.parametrize("name", ["predict", "generate"])
def test_what_cannot_be_continued_is_one_sentence(
    model: NumberLM, name: str, prompts: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        getattr(model, name)(prompts)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("most", [0, -1, 10**9])
def test_a_length_that_cannot_be_is_one_sentence(model: NumberLM, most: int) -> None:
    with pytest.raises(ValueError, match=r"max_new_tokens|shorten it"):
        model.generate(["It is"], max_new_tokens=most)

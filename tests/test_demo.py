"""The page of `make demo`: what it draws, what it answers, and that it asks nothing elsewhere."""

import asyncio
import re
import socket
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import gradio
import pytest
from conftest import EMBEDDED, ROOT
from hypothesis import given
from hypothesis import strategies as st
from test_architecture import imported_packages

from datamodules.templates import TEMPLATES, Wording
from datamodules.vocabulary import PLAIN_PREDICATES, PLAIN_SUBJECTS
from demo import app
from demo.__main__ import main
from demo.answers import (
    MAX_CHARACTERS,
    MAX_NEW_TOKENS,
    Notice,
    continue_text,
    number_here,
    show,
)
from demo.highlight import highlight, interval_text, notice
from demo.words import EXAMPLES, WORDS, Language
from numlm import Continuation, NumberLM
from numlm.generation import TextNumber
from numlm.prediction import NumberSaid

VOID = {"br", "hr", "img", "input", "link", "meta"}


class Drawn(HTMLParser):
    """Elements with their attributes, and which characters of the text each of them covers."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, Any], str]] = []  # tag, attributes, own text
        self.text = ""  # of the paragraph, cards left out
        self.spans: dict[str, tuple[int, int]] = {}  # id or class -> characters of the text
        self._open: list[tuple[int, int]] = []
        self.feed(html)
        assert not self._open, "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in VOID
        self.elements.append((tag, dict(attrs), ""))
        self._open.append((len(self.elements) - 1, len(self.text)))

    def handle_endtag(self, tag: str) -> None:
        index, start = self._open.pop()
        opened, attributes, _ = self.elements[index]
        assert opened == tag
        name = attributes.get("id") or attributes.get("class") or tag
        self.spans.setdefault(name, (start, len(self.text)))  # the legend comes later

    def handle_data(self, data: str) -> None:
        classes = []
        for index, _ in self._open:
            tag, attributes, text = self.elements[index]
            self.elements[index] = tag, attributes, text + data
            classes.append(attributes.get("class"))
        if "text" in classes and "card" not in classes:
            self.text += data

    def of(self, **wanted: str) -> list[tuple[str, dict[str, Any], str]]:
        """Elements with some attributes, `class_` and `id` among them."""
        wanted = {name.rstrip("_"): value for name, value in wanted.items()}
        return [e for e in self.elements if wanted.items() <= e[1].items()]


def said(value: float, source: int | None = None, low: float = 40, high: float = 45) -> NumberSaid:
    return NumberSaid(value, low, high, p_number=0.9876, source=source)


def continuation(prompt: str, *pieces: str | tuple[str, NumberSaid | None]) -> Continuation:
    """A prompt and pieces of text, numbers as pairs; the prompt's own are the digits in it."""
    numbers = [
        TextNumber(m.start(), m.end(), float(m.group()), None)
        for m in re.finditer(r"\d+(\.\d+)?", prompt)
    ]
    text = prompt
    for piece in pieces:
        surface, what = piece if isinstance(piece, tuple) else (piece, None)
        if what is not None:
            numbers.append(TextNumber(len(text), len(text) + len(surface), what.value, what))
        text += surface
    return Continuation(prompt, text, numbers)


SENTENCE = continuation(
    "A is 42.5 & B is 7. A is", " ", ("42.5", said(42.5, 0)), " volts, about ", ("43", said(43.0))
)


def test_every_number_is_marked_at_its_characters_and_the_text_is_kept() -> None:
    drawn = Drawn(highlight(SENTENCE, "en"))
    assert drawn.text == SENTENCE.text
    for index, number in enumerate(SENTENCE.numbers):
        assert drawn.spans[f"number-{index}"] == (number.start, number.end)
    assert drawn.spans["written"] == (len(SENTENCE.prompt), len(SENTENCE.text))
    assert {a["id"] for _, a, _ in drawn.of(class_="number") if "id" in a} == {
        "number-0",
        "number-1",
    }


def test_a_number_that_was_said_has_a_card_for_pointer_and_keyboard() -> None:
    drawn = Drawn(highlight(SENTENCE, "en"))
    (_, number, _), (_, card, text) = drawn.of(id="number-2")[0], drawn.of(id="card-2")[0]
    assert number["tabindex"] == "0"
    assert number["aria-describedby"] == card["id"]
    assert card["role"] == "tooltip"
    for part in ("42.5", "[40, 45]", "98.8 %", "copied from 42.5"):
        assert part in text
    assert "new value" in drawn.of(id="card-3")[0][2]
    assert not drawn.of(id="card-0"), "a number of the prompt has no card"


def test_the_table_lists_what_was_said_and_links_to_its_source() -> None:
    drawn = Drawn(highlight(SENTENCE, "en"))
    rows = [(a["id"], text) for tag, a, text in drawn.elements if tag == "tr" and "id" in a]
    assert rows == [
        ("row-2", "42.5[40, 45]98.8 %copied from 42.5"),
        ("row-3", "43[40, 45]98.8 %new value"),
    ]
    links = [a["href"] for tag, a, _ in drawn.elements if tag == "a"]
    assert links == ["#number-0"]
    assert drawn.of(id="number-0"), "the link's target is in the text"


def test_pointing_at_a_copy_or_its_row_lights_up_the_source() -> None:
    rules = Drawn(highlight(SENTENCE, "en")).elements[-1]
    assert rules[0] == "style"
    lights = re.findall(r"has\(:is\(#(\S+), #(\S+)\).*?\) #(number-\d+) \{", rules[2])
    assert lights == [
        ("number-2", "row-2", "number-2"),
        ("number-2", "row-2", "number-0"),
        ("number-3", "row-3", "number-3"),
    ]


def test_what_was_typed_is_text_and_nothing_else() -> None:
    typed = "<script>alert(1)</script> <img src=x onerror=y> ' \" ${1+1} {{2}} `` \\ \n & 3 is"
    html = highlight(continuation(typed, " <b>", ("3", said(3.0, 2))), "en")
    drawn = Drawn(html)
    assert drawn.text == typed + " <b>3"
    assert {tag for tag, _, _ in drawn.elements} <= set(
        "div p span ins strong b i ul li table thead tbody tr th td a style".split()
    )
    assert "<script" not in notice(typed, "en")
    before_style = html.split("<style>")[0]
    assert not set("${}`\\") & set(before_style), "Gradio would read a template"


@pytest.mark.parametrize(
    ("value", "low", "high", "numbers", "left", "width"),
    [
        (42.5, 40.0, 45.0, "10 and 50 then", 80.0, 10.0),
        (0.0, 0.0, 0.0, "0 then", 0.0, 0.0),
        (0.0, -1e308, 1e308, "1 then", 0.0, 100.0),
        (-5.0, -10.0, 0.0, "none then", 0.0, 100.0),
        (1.0, 1.0, 1.0, "4 then", 25.0, 0.0),
    ],
)
def test_the_bar_is_on_one_scale_with_the_text_s_numbers(
    value: float, low: float, high: float, numbers: str, left: float, width: float
) -> None:
    drawn = Drawn(highlight(continuation(numbers, ("x", said(value, None, low, high))), "en"))
    ranges = {a["style"] for _, a, _ in drawn.of(class_="range")}
    assert ranges == {f"left: {left:.2f}%; width: {width:.2f}%"}


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (41.98765, 43.12345, "[41.98, 43.13]"),
        (21.25, 180.5, "[21, 181]"),
        (1.1, 4.2, "[1.1, 4.2]"),
        (-0.00012345, -0.00012311, "[-0.00012345, -0.00012311]"),
        (1234567.891, 1234567.893, "[1234567.891, 1234567.893]"),
        (10432.0, 98765.0, "[10400, 98800]"),
        (-2.5, 0.0, "[-2.5, 0]"),
        (1.25, 1.25, "[1.25, 1.25]"),
        (-1e308, 1.7e308, "[-1e+308, 1.7e+308]"),
        (1e-320, 3e-320, "[1e-320, 3e-320]"),
        (1e300, 1.5e300, "[1e+300, 1.5e+300]"),
    ],
)
def test_an_interval_has_the_digits_of_its_width(low: float, high: float, text: str) -> None:
    assert interval_text(low, high) == text


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2))
def test_a_written_interval_still_holds_what_it_held(ends: list[float]) -> None:
    low, high = sorted(ends)
    first, last = map(float, interval_text(low, high).strip("[]").split(", "))
    assert first <= low
    assert last >= high


@pytest.mark.parametrize("language", ["en", "zh"])
def test_words_say_the_same_in_both_languages(language: Language) -> None:
    for field in WORDS["en"].__dataclass_fields__:
        braces = [re.findall(r"{\w+}", getattr(WORDS[lang], field)) for lang in ("en", "zh")]
        assert sorted(braces[0]) == sorted(braces[1]), field
    words = WORDS[language]
    nothing = Drawn(highlight(Continuation("plain", "plain", []), language))
    assert nothing.elements[0][1]["lang"] == words.lang
    assert nothing.of(role="alert")[0][2] == words.ended
    assert words.no_number in nothing.elements[0][2]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_are_worded_as_the_training_text_is(name: str) -> None:
    *before, last = re.split(r"(?<=\.) (?=[A-Z])|(?<=。)", EXAMPLES[name])
    seen = [t for (_, wording), t in TEMPLATES.items() if wording is Wording.SEEN]
    if name in ("No number", "没有数"):
        words = [
            w
            for kind in (PLAIN_SUBJECTS, PLAIN_PREDICATES)
            for lang in kind.values()
            for w in lang
        ]
        assert all(sum(w in s.lower() for w in words) == 2 for s in before)
        assert any(w == last.lower() for w in words)
        return
    stated = [s for t in seen for s in (*t.statements, *t.noisy_statements)]
    asked = [s for t in seen for s in (*t.restatements, *t.questions, *t.readings)]
    for sentence in before:
        assert is_worded(sentence[:-1], stated), sentence
    assert is_worded(last, [s.removesuffix("{value}").rstrip() for s in asked]), last


def is_worded(sentence: str, wordings: list[str]) -> bool:
    """Whether a sentence is one of the wordings with its placeholders filled in."""
    patterns = (re.sub(r"\\{\w+\\}", ".*", re.escape(wording)) for wording in wordings)
    return any(re.fullmatch(pattern, sentence) for pattern in patterns)


@pytest.fixture(scope="module")
def model() -> NumberLM:
    return NumberLM.from_pretrained(EMBEDDED).eval()


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("text", EXAMPLES.values(), ids=EXAMPLES)
def test_both_questions_are_answered(model: NumberLM, text: str, language: Language) -> None:
    for answer in (continue_text(model, text, 0.0, 8), number_here(model, text)):
        assert isinstance(answer, Continuation)
        assert answer.text.startswith(text)
        assert Drawn(show(answer, language)).text == answer.text


def test_a_number_that_hardly_comes_is_said_to_be_unlikely() -> None:
    unlikely = NumberSaid(3.0, 2.0, 4.0, p_number=0.2, source=None)
    drawn = Drawn(highlight(continuation("The door", " ", ("3", unlikely)), "en"))
    assert [text for _, _, text in drawn.of(role="alert")] == [WORDS["en"].unlikely]
    assert not Drawn(highlight(SENTENCE, "en")).of(role="alert")


def test_the_number_that_comes_here_is_what_the_model_predicts(model: NumberLM) -> None:
    text = "The red lamp shows 42.5 volts. In short, it is"
    answer = number_here(model, text)
    expected = model.predict([text])[0]
    assert isinstance(answer, Continuation)
    assert answer.text == expected.text
    assert [n.value for n in answer.numbers] == [42.5, expected.value]
    last = answer.numbers[-1]
    assert last.said == expected
    assert float(answer.text[last.start : last.end]) == expected.value


def test_sampling_draws_and_greedy_does_not(model: NumberLM) -> None:
    text = EXAMPLES["No number"]
    greedy = {continue_text(model, text, 0.0, 12).text for _ in range(3)}  # type: ignore[union-attr]
    sampled = {continue_text(model, text, 2.0, 12).text for _ in range(5)}  # type: ignore[union-attr]
    assert len(greedy) == 1
    assert len(sampled) > 1


@pytest.mark.parametrize("ask", ["continue", "number"])
@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("a" * (MAX_CHARACTERS + 1), "characters"),
        ("好" * (MAX_CHARACTERS - 1), "tokens"),
    ],
    ids=["nothing", "blank", "characters", "tokens"],
)
def test_what_cannot_be_answered_is_said_in_words(
    model: NumberLM, text: str, name: str, ask: str
) -> None:
    answer = number_here(model, text) if ask == "number" else continue_text(model, text, 0, 40)
    assert isinstance(answer, Notice)
    assert answer.name == name
    for language in WORDS:
        (message,) = Drawn(show(answer, language)).of(role="alert")
        assert message[2]
        assert "{" not in message[2]


def test_the_longest_text_that_fits_is_answered(model: NumberLM) -> None:
    room = model.context_length - 2
    text = "1 " * (room // 2 + 2)
    while len(model.tokenizer.encode(text).input_ids) > room:
        text = text[:-1]
    assert isinstance(number_here(model, text), Continuation)


def test_no_more_is_written_than_the_bound(model: NumberLM) -> None:
    answer = continue_text(model, "The door", 0.0, 10**9)
    assert isinstance(answer, Continuation)
    tokens = model.tokenizer.encode(answer.text).input_ids
    assert len(tokens) <= MAX_NEW_TOKENS + 10


def test_the_page_is_built_and_asks_nothing_elsewhere(
    model: NumberLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: dict[str, Any] = {}
    monkeypatch.setattr(gradio.Blocks, "launch", lambda _, **options: launched.update(options))
    page = app.build(model)
    app.serve(page, "127.0.0.1", 7999)
    assert not page.analytics_enabled
    assert launched["share"] is False
    assert launched["server_name"] == "127.0.0.1"
    theme = launched["theme"]
    assert theme._stylesheets == []
    assert not re.search(r"""url\(['"]?http""", theme._get_theme_css())
    assert "http" not in launched["head"]
    (policy,) = (middleware.cls for middleware in launched["app_kwargs"]["middleware"])
    assert policy is app.OnlyThisMachine


def test_the_switch_gives_every_word_of_the_page_in_the_other_language() -> None:
    written = str(app._relabel("zh"))
    for field in ("subtitle", "text", "placeholder", "examples", "temperature", "length_info"):
        assert getattr(WORDS["zh"], field) in written
        assert getattr(WORDS["en"], field) not in written


def test_the_browser_is_told_to_stay_on_this_machine() -> None:
    sent: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app.OnlyThisMachine(application)({"type": "http", "headers": []}, None, send))  # type: ignore[arg-type]
    ((name, policy),) = sent[0]["headers"]
    assert name == b"content-security-policy"
    assert policy.startswith(b"default-src 'self' ")
    assert b"http" not in policy
    assert b"*" not in policy


@pytest.mark.parametrize("folder", ["results/never/model", "."], ids=["missing", "not a model"])
def test_a_model_that_is_not_there_is_one_sentence(folder: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as error:
        main(["--model", str(tmp_path / folder)])
    message = str(error.value)
    assert message.startswith("error: ")
    assert len(message.splitlines()) == 1
    assert ("make experiment" in message) == (folder != ".")


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit, match=f"127.0.0.1:{port}, which may be in use"):
            main(["--model", str(EMBEDDED), "--port", str(port)])


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for part in ("--model", "results/latest/model", "--port", "7860", "--host", "127.0.0.1"):
        assert part in text


def test_the_page_needs_nothing_of_the_experiment() -> None:
    ours = {"numlm", "datamodules", "lightning_modules", "callbacks", "demo", "train"}
    for file in (ROOT / "demo").glob("*.py"):
        assert imported_packages(file) & ours <= {"numlm", "demo"}, file

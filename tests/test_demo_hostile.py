"""The demo page and those who do not mean it well: other pages, other senders, other texts."""

import asyncio
import math
from typing import Any

import pytest

from demo.answers import MAX_CHARACTERS, MAX_NEW_TOKENS, Notice, continue_text, number_here, show
from demo.app import OnlyThisMachine, own_hosts
from numlm import Continuation, NumberLM
from tests.conftest import EMBEDDED, ROOT


@pytest.fixture(scope="module")
def model() -> NumberLM:
    return NumberLM.from_pretrained(EMBEDDED).eval()


def status(host: str, served_at: str = "127.0.0.1", **headers: str) -> int:
    """What a request is answered with."""
    sent: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    named = {"host": host, "content-type": "application/json"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    scope = {
        "type": "http",
        "method": "POST",
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
    }
    middleware = OnlyThisMachine(application, own_hosts(served_at))
    asyncio.run(middleware(scope, None, send))  # type: ignore[arg-type]
    assert b"content-security-policy" in dict(sent[0]["headers"])
    code: int = sent[0]["status"]
    return code


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "[::1]:7860", "localhost"])
def test_this_machine_is_answered(host: str) -> None:
    assert status(host) == 200
    assert status(host, origin=f"http://{host}", content_length="500") == 200


@pytest.mark.parametrize(
    "host", ["evil.example:7860", "127.0.0.1.evil.example", "", "a@evil.example", "0.0.0.0"]
)
def test_a_name_that_was_made_to_point_here_is_not_answered(host: str) -> None:
    """DNS rebinding: the reader's browser believes to talk to the other page's server."""
    assert status(host) == 421
    assert status(host, served_at="0.0.0.0") == 200, "who serves others is asked by any name"


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:80", "file://"]
)
def test_a_form_of_another_page_is_not_answered(origin: str) -> None:
    assert status("127.0.0.1:7860", origin=origin) == 403
    assert status("127.0.0.1:7860", served_at="0.0.0.0", origin=origin) == 403


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"content_length": "1000001"}, 413),
        ({"content_length": "many"}, 413),
        ({"content_length": "-1"}, 413),
        ({"transfer_encoding": "chunked"}, 411),
    ],
)
def test_a_request_without_bounds_is_not_read(headers: dict[str, str], code: int) -> None:
    assert status("localhost:7860", **headers) == code


@pytest.mark.parametrize(
    "kind",
    ["multipart/form-data; boundary=x", "text/plain", "application/x-www-form-urlencoded", ""],
)
def test_no_file_is_kept_and_no_form_is_answered(kind: str) -> None:
    """Browsers send these across sites without asking; Gradio would keep what is uploaded."""
    assert status("localhost:7860", content_type=kind) == 415
    assert status("localhost:7860", content_type="application/json; charset=utf-8") == 200


@pytest.mark.parametrize("temperature", [1e-320, 1e-38, 0.001, 0.01])
def test_a_temperature_near_zero_ends_in_words(model: NumberLM, temperature: float) -> None:
    """Log-probabilities divided by next to nothing are infinite, and nothing can be sampled."""
    assert isinstance(continue_text(model, "The door", temperature, 4), Continuation)


@pytest.mark.parametrize(
    "typed", [None, 5, 5.5, True, ["It is 5"], {"text": "It is 5"}, b"It is 5"]
)
def test_what_is_no_text_is_asked_for_again(model: NumberLM, typed: Any) -> None:
    for answer in (number_here(model, typed), continue_text(model, typed, 0.0, 5)):
        assert isinstance(answer, Notice)
        assert answer.name == "empty"


@pytest.mark.parametrize("temperature", [math.nan, math.inf, -math.inf, -1, 1e308, None, "hot"])
@pytest.mark.parametrize("length", [math.nan, math.inf, -5, 0, 3.7, 10**12, None, "all"])
def test_settings_of_any_kind_stay_within_their_bounds(
    model: NumberLM, temperature: Any, length: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def generate(prompts: list[str], **options: Any) -> list[str]:
        asked.update(options)
        return prompts

    monkeypatch.setattr(model, "generate", generate)
    continue_text(model, "The door", temperature, length)
    assert 1 <= asked["max_new_tokens"] <= MAX_NEW_TOKENS
    assert isinstance(asked["max_new_tokens"], int)
    assert 0 < asked.get("temperature", 1.0) <= 2
    assert asked["max_time"] == 20.0


@pytest.mark.parametrize(
    "typed",
    [
        "<script>alert(1)</script> 5", '"><img src=x onerror=alert(1)> 5', "' onmouseover='x 5",
        "It is 5 \u202edetrever", "It is \u2066 5", "\0 5", "half \ud800 of 5", "1\u200d2", "&lt;5",
        "{answer} %s {0} 5", "\x1b[31m5",
    ],
)  # fmt: skip
def test_what_is_typed_is_shown_as_text(model: NumberLM, typed: str) -> None:
    answer = number_here(model, typed)
    assert isinstance(answer, Continuation)
    for language in ("en", "zh"):
        drawn = show(answer, language)  # type: ignore[arg-type]
        drawn.encode()  # it can be sent
        for tag in ("<script", "<img", "<SCRIPT"):
            assert tag not in drawn
        assert "onmouseover='x" not in drawn


def test_what_turns_writing_around_turns_no_number() -> None:
    """U+202E before a 42 would have it read as 24; isolated, a number is written as it is."""
    style = (ROOT / "demo" / "page.css").read_text(encoding="utf-8")
    rule = ".answer .number, .answer .written { direction: ltr; unicode-bidi: isolate; }"
    assert rule in style


def test_length_is_looked_at_before_anything_is_tokenized(
    model: NumberLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(text: str) -> None:
        raise AssertionError("tokenized")

    monkeypatch.setattr(model.tokenizer, "encode", refuse)
    answer = number_here(model, "9" * (MAX_CHARACTERS + 1))
    assert isinstance(answer, Notice)
    assert answer.values == {"count": MAX_CHARACTERS + 1, "most": MAX_CHARACTERS}

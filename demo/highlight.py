"""A continuation as HTML: what the model wrote, every number, and what is known of each.

Pure functions from values to text. A number that the model said has a card that opens under the
pointer or the keyboard's focus, and a row in the table below, for touch and for screen readers;
both light up the number that it was copied from. That takes CSS only, one generated rule a number,
because a script that arrives with an answer is not run by the page.
"""

import html
import math
from collections.abc import Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from demo.words import WORDS, Language, Words
from numlm.generation import Continuation, TextNumber
from numlm.parsing import render
from numlm.prediction import NumberSaid

UNLIKELY = 0.5

# Beside HTML's own characters, those that Gradio's HTML component would read as a template.
_TEMPLATE_CHARACTERS = str.maketrans({c: f"&#{ord(c)};" for c in "${}`\\"})


def highlight(continuation: Continuation, language: Language) -> str:
    """The continued text, a legend, and a table of the numbers that the model said."""
    words = WORDS[language]
    prompt_end, end = len(continuation.prompt), len(continuation.text)
    text = _span(continuation, 0, prompt_end, words)
    if end > prompt_end:
        text += f'<ins class="written">{_span(continuation, prompt_end, end, words)}</ins>'
    said = list(_said(continuation))
    remark = ""
    if end == prompt_end:
        remark = notice(words.ended, language)
    elif any(number.p_number < UNLIKELY for _, number in said):
        remark = notice(words.unlikely, language)
    table = _table(continuation, words) if said else f'<p class="soft">{words.no_number}</p>'
    return (
        f'<div class="answer" lang="{words.lang}"><p class="text">{text}</p>{remark}'
        f"{_legend(words)}{table}<style>{_rules(continuation)}</style></div>"
    )


def notice(message: str, language: Language) -> str:
    """A message to the user in the place of an answer."""
    return f'<p class="notice" role="alert" lang="{WORDS[language].lang}">{_escape(message)}</p>'


def interval_text(low: float, high: float) -> str:
    """An interval with three digits of its width, rounded outward: what it held it still holds.

    >>> interval_text(41.98765, 43.12345), interval_text(1.25, 1.25)
    ('[41.98, 43.13]', '[1.25, 1.25]')
    """
    width = high - low
    if width > 0 and max(-low, high) < 1e300:  # float64's largest would be rounded to infinity
        digit = Decimal(1).scaleb(math.floor(math.log10(width)) - 2)
        low = float(Decimal(repr(low)).quantize(digit, ROUND_FLOOR))
        high = float(Decimal(repr(high)).quantize(digit, ROUND_CEILING))
    return f"[{render(low)}, {render(high)}]"


def _escape(text: str) -> str:
    return html.escape(text).translate(_TEMPLATE_CHARACTERS)


def _said(continuation: Continuation) -> Iterator[tuple[int, NumberSaid]]:
    """The numbers that the model said, with their index among all."""
    for index, number in enumerate(continuation.numbers):
        if number.said is not None:
            yield index, number.said


def _span(continuation: Continuation, start: int, end: int, words: Words) -> str:
    """Some of the text, from one character to another, its numbers marked."""
    pieces: list[str] = []
    for index, number in enumerate(continuation.numbers):
        if start <= number.start and number.end <= end:
            pieces += [
                _escape(continuation.text[start : number.start]),
                _number(continuation, index, words),
            ]
            start = number.end
    return "".join([*pieces, _escape(continuation.text[start:end])])


def _number(continuation: Continuation, index: int, words: Words) -> str:
    number = continuation.numbers[index]
    surface = _surface(continuation, number)
    if number.said is None:
        return f'<span class="number" id="number-{index}">{surface}</span>'
    facts = "".join(
        f'<span class="fact"><span class="label">{label}</span> {value}</span>'
        for label, value in _facts(continuation, number.said, words).items()
    )
    return (
        f'<span class="number said" id="number-{index}" tabindex="0" '
        f'aria-describedby="card-{index}" style="anchor-name: --number-{index}">{surface}'
        f'<span class="card" role="tooltip" id="card-{index}" '
        f'style="position-anchor: --number-{index}">'
        f"<strong>{surface}</strong>{facts}</span></span>"
    )


def _surface(continuation: Continuation, number: TextNumber) -> str:
    return _escape(continuation.text[number.start : number.end])


def _facts(continuation: Continuation, said: NumberSaid, words: Words) -> dict[str, str]:
    """What is known of a number, label and HTML."""
    source = words.new
    if said.source is not None:
        surface = _surface(continuation, continuation.numbers[said.source])
        source = words.copied.format(number=f"<b>{surface}</b>")
    return {
        words.interval: interval_text(said.low, said.high) + _bar(continuation, said),
        words.p_number: f"{100 * said.p_number:.1f} %",
        words.source: source,
    }


def _bar(continuation: Continuation, said: NumberSaid) -> str:
    """The interval on a scale from zero that all numbers of the text are on, as ticks."""
    values = [number.value for number in continuation.numbers]
    ends = [0.0, said.value, said.low, said.high, *values]
    largest = max(map(abs, ends)) or 1.0
    first = min(ends) / largest  # divided first: a range of float64 may be too large for one
    width = max(ends) / largest - first or 1.0

    def place(value: float) -> float:
        return 100 * (value / largest - first) / width

    ticks = "".join(
        f'<i class="tick" style="left: {place(v):.2f}%"></i>' for v in sorted(set(values))
    )
    low, high = place(said.low), place(said.high)
    return (
        f'<span class="bar" aria-hidden="true">{ticks}'
        f'<i class="range" style="left: {low:.2f}%; width: {high - low:.2f}%"></i>'
        f'<i class="point" style="left: {place(said.value):.2f}%"></i></span>'
    )


def _legend(words: Words) -> str:
    entries = (
        ("number", words.of_prompt),
        ("written", words.written),
        ("number said", words.said),
        ("number source", words.source_of),
    )
    marks = "".join(f'<li><span class="{mark}">1.5</span> {label}</li>' for mark, label in entries)
    return f'<ul class="legend">{marks}</ul>'


def _table(continuation: Continuation, words: Words) -> str:
    labels = (words.number, words.interval, words.p_number, words.source)
    head = "".join(f'<th scope="col">{label}</th>' for label in labels)
    rows = []
    for index, said in _said(continuation):
        surface = _surface(continuation, continuation.numbers[index])
        facts = _facts(continuation, said, words)
        if said.source is not None:
            facts[words.source] = f'<a href="#number-{said.source}">{facts[words.source]}</a>'
        cells = "".join(f'<td data-label="{label}">{value}</td>' for label, value in facts.items())
        rows.append(f'<tr id="row-{index}"><th scope="row">{surface}</th>{cells}</tr>')
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _rules(continuation: Continuation) -> str:
    """While a number or its row is pointed at, it and what it was copied from stand out."""
    rules = []
    for index, said in _said(continuation):
        pointed_at = f".answer:has(:is(#number-{index}, #row-{index}):is(:hover, :focus-within))"
        rules.append(f"{pointed_at} #number-{index} {{ background: var(--said-strong); }}")
        if said.source is not None:
            rules.append(
                f"{pointed_at} #number-{said.source} {{ background: var(--source-ground); "
                "color: var(--source); outline: 2px solid var(--source); outline-offset: -2px; }"
            )
    return "\n".join(rules)

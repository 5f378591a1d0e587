"""The report as one page of HTML that needs nothing beside it: charts are in it, no address is.

The page is made from the Markdown reports. Raw HTML in Markdown is off, so that the text of
examples, which is data, can never become part of the page.
"""

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from callbacks.findings import Card
from callbacks.words import Language

_TEMPLATES = Path(__file__).parent / "templates"


class Heading(NamedTuple):
    """An entry of the table of contents."""

    anchor: str
    level: int
    text: str


class Article(NamedTuple):
    """A report as HTML: its title, its headings, its cards and its body."""

    title: str
    headings: list[Heading]
    cards: list[Card]
    body: Markup


def page(texts: dict[Language, str], cards: dict[Language, list[Card]], folder: Path) -> str:
    """The whole page.

    Args:
        texts: The report in Markdown by language.
        cards: Headlines by language.
        folder: Where the charts are.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    articles = {
        language: article(text, language, cards[language], folder)
        for language, text in texts.items()
    }
    return environment.get_template("page.html.j2").render(articles=articles)


def article(text: str, language: Language, cards: list[Card], folder: Path) -> Article:
    """One report from Markdown to HTML; charts become data URIs, headings get anchors."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    rules: dict[str, Any] = {
        "table_open": lambda *_: '<div class="table" tabindex="0"><table>\n',
        "table_close": lambda *_: "</table></div>\n",
        "image": _image_rule(folder),
    }
    for name, rule in rules.items():
        markdown.renderer.rules[name] = rule  # type: ignore[attr-defined]
    tokens = markdown.parse(text)
    headings = _number_headings(tokens, language)
    title, *_ = (heading.text for heading in headings)
    # The title stands above the cards, in the page's template.
    body = markdown.renderer.render(tokens[3:], markdown.options, {})
    return Article(title, headings[1:], cards, Markup(_typeset(body)))


def _number_headings(tokens: list[Token], language: Language) -> list[Heading]:
    headings: list[Heading] = []
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            anchor = f"{language}-{len(headings)}"
            token.attrSet("id", anchor)
            inline = tokens[index + 1].children or []
            text = "".join(child.content for child in inline)
            headings.append(Heading(anchor, int(token.tag[1:]), text))
    return headings


def _image_rule(folder: Path) -> Any:  # noqa: ANN401
    def rule(tokens: Sequence[Token], index: int, *_: object) -> str:
        token = tokens[index]
        data = base64.b64encode((folder / str(token.attrs["src"])).read_bytes()).decode("ascii")
        alt = Markup.escape("".join(child.content for child in token.children or []))
        return f'<span class="chart"><img alt="{alt}" src="data:image/png;base64,{data}"></span>'

    return rule


def _typeset(body: str) -> str:
    """Warnings get a class, for colour beside the words; figures and intervals stay unbroken."""
    for pattern, replacement in (
        (r"<(td|blockquote|li)>(?=(?:(?!</\1>).)*⚠)", r'<\1 class="warning">'),
        (r"(?<=\d) %", "&nbsp;%"),
        (r"\[[^\[\]<>]{1,40}, [^\[\]<>]{1,40}\]", r'<span class="interval">\g<0></span>'),
        (r"\(⚠ [^()<>]*\)", r'<span class="miss">\g<0></span>'),
    ):
        body = re.sub(pattern, replacement, body, flags=re.DOTALL)
    return body

"""The page: text and options above, the answer below, in English or Chinese.

It asks nothing of any other machine: no telemetry, fonts of the system, no shared link, and a
content security policy that has the browser refuse whatever Gradio's page might still ask for.
"""

from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demo.answers import (
    MAX_CHARACTERS,
    MAX_NEW_TOKENS,
    MAX_TEMPERATURE,
    Answer,
    continue_text,
    number_here,
    show,
)
from demo.words import EXAMPLES, WORDS, Language
from numlm import NumberLM

# Gradio needs scripts and styles in the page, and builds templates with `new Function`.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "form-action 'self'; base-uri 'self'"
)
_MOST_BYTES = 1_000_000  # of a request: a text of the greatest length, many times over
_FONTS = (
    "system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "PingFang SC",
    "Microsoft YaHei", "Noto Sans CJK SC", "sans-serif",
)  # fmt: skip


def build(model: NumberLM) -> gr.Blocks:
    """The page of a model in evaluation mode, not yet served."""
    start = WORDS["en"]
    page = gr.Blocks(title="NumLM", analytics_enabled=False)
    with page:
        with gr.Row(elem_classes="top"):
            title = gr.HTML(_title("en"), apply_default_css=False)
            language = gr.Radio(
                [("English", "en"), ("中文", "zh")],
                value="en",
                label="Language / 语言",
                show_label=False,
                container=False,
                elem_classes="languages",
            )
        text = gr.Textbox(
            label=start.text,
            placeholder=start.placeholder,
            lines=3,
            max_lines=12,
            max_length=MAX_CHARACTERS,
            autofocus=True,
        )
        examples = gr.Examples(
            [[example] for example in EXAMPLES.values()],
            text,
            label=start.examples,
            example_labels=list(EXAMPLES),
            api_visibility="private",
        )
        with gr.Row():
            temperature = gr.Slider(
                0,
                MAX_TEMPERATURE,
                0,
                step=0.1,
                label=start.temperature,
                info=start.temperature_info,
                min_width=260,
            )
            length = gr.Slider(
                1,
                MAX_NEW_TOKENS,
                40,
                step=1,
                label=start.length,
                info=start.length_info,
                min_width=260,
            )
        with gr.Row():
            go = gr.Button(start.continue_text, variant="primary")
            ask = gr.Button(start.number_here)
        shown = gr.HTML(apply_default_css=False)
        answer = gr.State()

        labelled = [title, text, examples.dataset, temperature, length, go, ask]
        language.change(_relabel, language, labelled, **_HIDDEN)
        language.change(_show, [answer, language], shown, **_HIDDEN)
        for event, question, inputs in (
            (go.click, continue_text, [text, temperature, length]),
            (text.submit, continue_text, [text, temperature, length]),
            (ask.click, number_here, [text]),
        ):
            event(
                partial(question, model), inputs, answer, concurrency_id="model", **_HIDDEN
            ).then(_show, [answer, language], shown, **_HIDDEN)
        page.load(None, outputs=language, js=_READERS_LANGUAGE)
    return page


def serve(page: gr.Blocks, host: str, port: int) -> None:
    """Serve a page until interrupted."""
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    page.queue(max_size=16).launch(
        server_name=host,
        server_port=port,
        share=False,
        ssr_mode=False,
        enable_monitoring=False,
        quiet=True,
        footer_links=[],
        theme=_theme(),
        head=f"<style>{style}</style>",  # Gradio rewrites the selectors of `css`
        max_file_size=_MOST_BYTES,
        app_kwargs={"middleware": [Middleware(OnlyThisMachine, hosts=own_hosts(host))]},
    )


class OnlyThisMachine:
    """Middleware that keeps other pages out and adds the content security policy to every answer.

    A page elsewhere can let a reader's browser ask this machine: by a form (its `Origin` is not
    ours), or by a name of its own that it lets point here (its `Host` is not ours).

    Args:
        app: The application.
        hosts: Names by which the page may be asked for; None for any.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None = None) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"content-security-policy", _POLICY.encode()))
            await send(message)

        refused = None
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            refused = self._refusal(headers) or _refused_content(scope, headers)
        await (refused or self.app)(scope, receive, send_with_policy)

    def _refusal(self, headers: Headers) -> PlainTextResponse | None:
        """Why a request is not answered."""
        asked = urlsplit(f"//{headers.get('host', '')}")
        if self.hosts is not None and asked.hostname not in self.hosts:
            return PlainTextResponse("asked for by a name that is not this machine's", 421)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != asked.netloc:
            return PlainTextResponse("asked for by another page", 403)
        if "transfer-encoding" in headers:
            return PlainTextResponse("without a length", 411)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > _MOST_BYTES:
            return PlainTextResponse(f"more than {_MOST_BYTES} bytes", 413)
        return None


def _refused_content(scope: Scope, headers: Headers) -> PlainTextResponse | None:
    """Why what is sent is not taken: Gradio would keep files, which the page has no use for."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if scope.get("method") == "POST" and kind != "application/json":
        return PlainTextResponse("not in JSON", 415)
    return None


def own_hosts(host: str) -> frozenset[str] | None:
    """Names of this machine, where the page is for it alone; None where others may ask.

    >>> sorted(own_hosts("127.0.0.1")), own_hosts("0.0.0.0")
    (['127.0.0.1', '::1', 'localhost'], None)
    """
    names = frozenset({"localhost", "127.0.0.1", "::1"})
    return names if host in names else None


_HIDDEN: dict[str, Any] = {"api_visibility": "private"}
_READERS_LANGUAGE = "() => navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en'"


def _title(language: Language) -> str:
    words = WORDS[language]
    return f'<header lang="{words.lang}"><h1>NumLM</h1><p>{words.subtitle}</p></header>'


def _show(answer: Answer | None, language: Language) -> str:
    return "" if answer is None else show(answer, language)


def _relabel(language: Language) -> list[Any]:
    """The components that carry words, in another language."""
    words = WORDS[language]
    return [
        gr.update(value=_title(language)),
        gr.update(label=words.text, placeholder=words.placeholder),
        gr.update(label=words.examples),
        gr.update(label=words.temperature, info=words.temperature_info),
        gr.update(label=words.length, info=words.length_info),
        gr.update(value=words.continue_text),
        gr.update(value=words.number_here),
    ]


def _theme() -> gr.themes.Base:
    """The colours of the report (`callbacks/templates/page.css`) and the system's fonts."""
    return gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        font=_FONTS,
        font_mono=("ui-monospace", "monospace"),
    ).set(
        body_background_fill="#f6f7f9",
        body_background_fill_dark="#12161c",
        body_text_color="#1b2430",
        body_text_color_dark="#e4e8ee",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1a2029",
        block_border_color="#dfe3e8",
        block_border_color_dark="#313a47",
        border_color_primary="#dfe3e8",
        border_color_primary_dark="#313a47",
        input_background_fill="#ffffff",
        input_background_fill_dark="#12161c",
        block_info_text_color="#5b6675",
        block_info_text_color_dark="#9aa6b5",
        slider_color="#0072b2",
        slider_color_dark="#6cbcf0",
        checkbox_background_color_selected="#0072b2",
        checkbox_background_color_selected_dark="#0072b2",
        checkbox_label_background_fill="#ffffff",
        checkbox_label_background_fill_dark="#1a2029",
        checkbox_label_background_fill_selected="#ffffff",
        checkbox_label_background_fill_selected_dark="#1a2029",
        checkbox_label_border_width="1px",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_hover="#eef1f5",
        button_secondary_background_fill_dark="#1a2029",
        button_secondary_background_fill_hover_dark="#252d38",
        button_secondary_text_color="#0072b2",
        button_secondary_text_color_dark="#6cbcf0",
        button_secondary_border_color="#0072b2",
        button_secondary_border_color_dark="#6cbcf0",
        button_border_width="1px",
        button_primary_background_fill="#0072b2",
        button_primary_background_fill_hover="#005a8d",
        button_primary_background_fill_dark="#0072b2",
        button_primary_background_fill_hover_dark="#1487c9",
    )

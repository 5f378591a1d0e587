"""A page to try an exported model: type a text, see it continued, its numbers explained.

`words.py` says it in two languages, `highlight.py` draws a continuation, `answers.py` asks the
model, `app.py` lays out the page and `__main__.py` is the command line. Nothing of the experiment
depends on it, and it needs nothing but `numlm` and Gradio.
"""

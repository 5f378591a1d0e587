"""Evaluation set `ordinary_text`: text without numbers, which training must leave as it was.

Half of the texts have a date, a time, a version, an address or a model name in them: nothing that
is a number, but what looks like one.
"""

from random import Random

from datamodules.examples import Example
from datamodules.scenes import join_sentences, plain_sentence
from datamodules.templates import Wording
from datamodules.vocabulary import LANGUAGES
from numlm.parsing import find_numbers


def generate(count: int = 200, seed: int = 0) -> list[Example]:
    """Generate the set; the same count and seed give the same examples."""
    random = Random(f"ordinary_text/{seed}")
    examples: dict[str, Example] = {}
    while len(examples) < count:
        language = random.choices(LANGUAGES, weights=(2, 1))[0]
        distractors = len(examples) % 2 == 1
        parts = [
            plain_sentence(random, language, held_out=True, distract=distractors)
            for _ in range(random.randint(1, 3))
        ]
        text = join_sentences(parts, language)
        if not any(find_numbers(text)):
            examples.setdefault(text, Example(text, (), language, Wording.UNSEEN, distractors))
    return list(examples.values())

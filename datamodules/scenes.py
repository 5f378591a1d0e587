"""Scenes: facts about named things, and the sentences that state them and ask for them."""

from collections.abc import Callable
from datetime import date
from random import Random
from typing import NamedTuple

from datamodules.examples import Example
from datamodules.templates import DISTRACTORS, TEMPLATES, Templates, Wording
from datamodules.vocabulary import (
    DOMAINS,
    LANGUAGES,
    MODIFIERS,
    PERSONS,
    PLAIN_CIRCUMSTANCES,
    PLAIN_PREDICATES,
    PLAIN_SUBJECTS,
    Language,
)
from numlm.parsing import find_numbers

Sampler = Callable[[Random], str]  # a value as people write it


# Before what asks, in training: less often than in the evaluation, for a training text asks more.
# Without any an aside would only ever announce a new fact.
ASIDE_SHARE = 0.12


class Scene:
    """Facts of one domain under different names, with different values.

    Args:
        random: Where every choice comes from.
        sample: Draws a value's surface form.
        facts: How many facts.
        language: Language of the text; drawn where None.
    """

    def __init__(
        self, random: Random, sample: Sampler, facts: int, language: Language | None = None
    ) -> None:
        self.random = random
        self.language = language or random.choices(LANGUAGES, weights=(2, 1))[0]
        self.domain = random.choice(DOMAINS[self.language])
        self.unit = random.choice(self.domain.units)
        self.names = self._draw_names(facts)
        self.values = draw_distinct(random, sample, facts)

    def _draw_names(self, count: int) -> list[str]:
        if not self.domain.nouns:
            return self.random.sample(PERSONS[self.language], count)
        modifiers = self.random.sample(MODIFIERS[self.language], count)
        nouns = self.random.choices(self.domain.nouns, k=count)
        if self.language == "zh":
            return [modifier + noun for modifier, noun in zip(modifiers, nouns, strict=True)]
        return [f"the {modifier} {noun}" for modifier, noun in zip(modifiers, nouns, strict=True)]

    def write(self, template: str, fact: int, noise: str = "") -> str:
        """Fill a template with one of the facts, and with the size of its noise."""
        name = self.names[fact]
        return template.format(
            name=name,
            Name=name[0].upper() + name[1:],
            attribute=self.domain.attribute,
            value=self.values[fact],
            unit=self.unit,
            noise=noise,
        )

    def statements(self, templates: Templates) -> list[str]:
        """Every fact, stated in order."""
        stop = full_stop(self.language)
        return [
            self.write(self.random.choice(templates.statements), i) + stop
            for i in range(len(self.names))
        ]


def full_stop(language: Language) -> str:
    """The full stop of a language."""
    return "。" if language == "zh" else "."


def draw_distinct(random: Random, sample: Sampler, count: int) -> list[str]:
    """Draw surface forms until `count` different values are there."""
    drawn: dict[float, str] = {}
    while len(drawn) < count:
        surface = sample(random)
        [(_, _, number)] = find_numbers(surface)
        drawn.setdefault(number.value, surface)
    return list(drawn.values())


def plain_sentence(
    random: Random, language: Language, held_out: bool, distract: bool = False
) -> str:
    """A sentence that asks for no number.

    Args:
        random: Where every choice comes from.
        language: Its language.
        held_out: Take one of the quarter of all sentences that only the evaluation uses, or one of
            the others.
        distract: Put a date, time, version, address, model name or year before it.
    """
    tables = (PLAIN_SUBJECTS[language], PLAIN_PREDICATES[language], PLAIN_CIRCUMSTANCES[language])
    while True:
        indices = [random.randrange(len(table)) for table in tables]
        if (sum(indices) % 4 == 0) == held_out:
            break
    subject, predicate, circumstance = (table[i] for table, i in zip(tables, indices, strict=True))
    lead = _lead(random, language) if distract else ""
    if language == "zh":
        return f"{lead}{subject}{circumstance}{predicate}。"
    sentence = f"{lead}{subject} {predicate} {circumstance}."
    return sentence[0].upper() + sentence[1:]


def _lead(random: Random, language: Language) -> str:
    return random.choice(DISTRACTORS[language]).format(
        date=str(date(random.randint(1990, 2030), random.randint(1, 12), random.randint(1, 28))),
        time=f"{random.randint(0, 23):02d}:{random.randint(0, 59):02d}",
        version=f"v{random.randint(0, 9)}.{random.randint(0, 20)}.{random.randint(0, 9)}",
        address=".".join(str(random.randint(0, 255)) for _ in range(4)),
        model=random.choice(("GPT", "BERT", "T", "Qwen")) + str(random.randint(2, 9)),
        year=random.randint(1990, 2030),
    )


def join_sentences(parts: list[str], language: Language) -> str:
    """Sentences joined as the language joins them."""
    return ("" if language == "zh" else " ").join(parts)


class Sentences(NamedTuple):
    """Sentences with asides.

    Attributes:
        parts: The sentences.
        distractors: Whether one of the asides has something that looks like a number asked for.
    """

    parts: list[str]
    distractors: bool


def with_asides(
    random: Random, parts: list[str], language: Language, held_out: bool, share: float = 0.25
) -> Sentences:
    """Sentences with a plain or distracting sentence put before a share of them."""
    mixed: list[str] = []
    distractors = False
    for part in parts:
        if random.random() < share:
            distract = random.random() < 0.6
            mixed.append(plain_sentence(random, language, held_out, distract))
            distractors |= distract
        mixed.append(part)
    return Sentences(mixed, distractors)


def evaluation_set(
    name: str, count: int, seed: int, sample: Sampler, facts: tuple[int, int], kind: str
) -> list[Example]:
    """One evaluation set: facts, then what asks for one of them and ends in the number.

    A third of the examples has unseen wording, in the statements as in what asks.

    Args:
        name: Name of the set, which makes its random numbers its own.
        count: How many examples.
        seed: Seed of the set.
        sample: Draws a value's surface form.
        facts: Least and greatest number of facts.
        kind: Which templates ask, "restatements" or "questions".
    """
    random = Random(f"{name}/{seed}")
    examples: dict[str, Example] = {}
    while len(examples) < count:
        wording = Wording.UNSEEN if len(examples) % 3 == 2 else Wording.SEEN
        scene = Scene(random, sample, random.randint(*facts))
        templates = TEMPLATES[scene.language, wording]
        ask = scene.write(
            random.choice(getattr(templates, kind)), random.randrange(len(scene.names))
        )
        parts, distractors = with_asides(
            random, [*scene.statements(templates), ask], scene.language, held_out=True
        )
        text = join_sentences(parts, scene.language)
        last = sum(1 for _ in find_numbers(text)) - 1
        examples.setdefault(text, Example(text, (last,), scene.language, wording, distractors))
    return list(examples.values())

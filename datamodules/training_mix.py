"""The training text: restatements, questions, noisy readings, and text without numbers.

No sentence of the training text occurs in the evaluation sets: a text that shares one is drawn
again.
"""

from collections.abc import Iterator
from random import Random

from datamodules import noisy_readings
from datamodules.examples import Example, sentences
from datamodules.scenes import (
    ASIDE_SHARE,
    Sampler,
    Scene,
    full_stop,
    join_sentences,
    plain_sentence,
    with_asides,
)
from datamodules.templates import TEMPLATES, Wording
from datamodules.values import basic_value, boundary_value, extreme_value
from datamodules.vocabulary import LANGUAGES
from numlm.parsing import find_numbers

_NOISY_SHARE = 0.12  # texts whose answers have noise
_PLAIN_SHARE = 0.08  # texts that ask for nothing, of the others
_SINGLE_SHARE = 0.32  # texts about one fact; the rest has several
_ONE_FACT_SAMPLERS: tuple[Sampler, ...] = (basic_value, extreme_value, boundary_value)


def generate(
    seed: int | str, reserved: frozenset[str] = frozenset(), pretraining: bool = False
) -> Iterator[Example]:
    """Yield training examples without end.

    Args:
        seed: Seed; the same seed gives the same stream.
        reserved: Sentences that must not occur.
        pretraining: Whether the text is that of the embedded checkpoint: without noisy readings,
            whose digits cannot be learned, and without asides before what asks.
    """
    random = Random(f"training/{seed}")
    while True:
        if not pretraining and random.random() < _NOISY_SHARE:
            example = noisy_readings.draw_training(random)
        else:
            example = _draw(random, aside_share=0.0 if pretraining else ASIDE_SHARE)
        if reserved.isdisjoint(sentences(example.text)):
            yield example


def reserved_sentences(examples: Iterator[Example]) -> frozenset[str]:
    """The sentences of evaluation examples, which training text must not share."""
    return frozenset(sentence for example in examples for sentence in sentences(example.text))


def _draw(random: Random, aside_share: float) -> Example:
    kind = random.random()
    if kind < _PLAIN_SHARE:
        return _plain(random)
    if kind < _PLAIN_SHARE + _SINGLE_SHARE:
        return _facts(
            random, random.choice(_ONE_FACT_SAMPLERS), 1, random.randint(1, 3), aside_share
        )
    sample = basic_value if random.random() < 0.75 else random.choice(_ONE_FACT_SAMPLERS)
    facts = random.randint(2, 4)
    return _facts(random, sample, facts, random.randint(facts - 1, facts + 2), aside_share)


def _plain(random: Random) -> Example:
    language = random.choices(LANGUAGES, weights=(2, 1))[0]
    parts = [
        plain_sentence(random, language, held_out=False, distract=random.random() < 0.5)
        for _ in range(random.randint(1, 3))
    ]
    return Example(join_sentences(parts, language), (), language)


def _facts(random: Random, sample: Sampler, facts: int, asks: int, aside_share: float) -> Example:
    scene = Scene(random, sample, facts)
    templates = TEMPLATES[scene.language, Wording.SEEN]
    asking = templates.restatements if facts == 1 else templates.questions
    stated = with_asides(random, scene.statements(templates), scene.language, held_out=False).parts
    stop = full_stop(scene.language)
    asked: list[str] = []
    ends: list[int] = []  # where what asks ends in its answer
    for _ in range(asks):
        ask = scene.write(random.choice(asking), random.randrange(facts))
        if aside_share:  # drawing nothing leaves the checkpoint's stream as it was
            aside = with_asides(random, [ask], scene.language, held_out=False, share=aside_share)
            asked += aside.parts[:-1]
        ends.append(len(join_sentences([*stated, *asked, ask], scene.language)))
        asked.append(ask + (scene.unit if random.random() < 0.5 else "") + stop)
    text = join_sentences([*stated, *asked], scene.language)
    place = {end: index for index, (_, end, _) in enumerate(find_numbers(text))}
    return Example(text, tuple(place[end] for end in ends), scene.language)

"""Evaluation set `noisy_readings`: a stated value plus noise of a stated size.

No answer is right but by luck: what can be known is where the next reading lies and how far off it
may be. The stated value is the best possible answer and its error is the noise, so both the error
and the intervals of a model can be held against what is possible.
"""

import math
from random import Random

from datamodules.examples import Example
from datamodules.scenes import ASIDE_SHARE, Scene, full_stop, join_sentences, with_asides
from datamodules.templates import TEMPLATES, Wording
from numlm.parsing import find_numbers


class Gauge:
    """A named thing whose stated value every reading misses by noise of a stated size.

    The noise's standard deviation is log-uniform in 0.1..10. Half of the values lie within two of
    it from zero, the others 5 to 200 of it away, of either sign.

    Args:
        random: Where every choice comes from.
        wording: Which templates.
    """

    def __init__(self, random: Random, wording: Wording) -> None:
        self.random = random
        self.noise = float(f"{10 ** random.uniform(-1, 1):.{random.randint(1, 2)}g}")
        self.noise_text = f"{self.noise:g}"
        self.decimals = 1 if self.noise >= 1 else 2
        distance = (
            random.uniform(-2, 2)
            if random.random() < 0.5
            else random.choice((-1, 1)) * 10 ** random.uniform(math.log10(5), math.log10(200))
        )
        self.stated_text = self._written(distance * self.noise)
        self.stated = float(self.stated_text)
        self.scene = Scene(random, lambda _: self.stated_text, facts=1)
        self.language = self.scene.language
        self._templates = TEMPLATES[self.language, wording]

    def _written(self, value: float) -> str:
        return f"{value:z.{self.decimals}f}"

    def statement(self) -> str:
        """What states value and noise."""
        template = self.random.choice(self._templates.noisy_statements)
        return self.scene.write(template, 0, noise=self.noise_text) + full_stop(self.language)

    def reading(self) -> str:
        """One reading, which the sentence ends in."""
        self.scene.values[0] = self._written(self.random.gauss(self.stated, self.noise))
        return self.scene.write(self.random.choice(self._templates.readings), 0)


def draw_training(random: Random) -> Example:
    """A training text: one gauge, read one to four times."""
    gauge = Gauge(random, Wording.SEEN)
    parts = with_asides(random, [gauge.statement()], gauge.language, held_out=False).parts
    answers: list[int] = []
    for _ in range(random.randint(1, 4)):
        reading = gauge.reading()
        parts += with_asides(random, [reading], gauge.language, False, ASIDE_SHARE).parts[:-1]
        answers.append(_count([*parts, reading]) - 1)
        unit = gauge.scene.unit if random.random() < 0.5 else ""
        parts.append(reading + unit + full_stop(gauge.language))
    return Example(join_sentences(parts, gauge.language), tuple(answers), gauge.language)


def generate(count: int = 200, seed: int = 0) -> list[Example]:
    """Generate the set; the same count and seed give the same examples.

    A third of the examples has unseen wording.
    """
    random = Random(f"noisy_readings/{seed}")
    examples: dict[str, Example] = {}
    while len(examples) < count:
        wording = Wording.UNSEEN if len(examples) % 3 == 2 else Wording.SEEN
        gauge = Gauge(random, wording)
        parts, distractors = with_asides(
            random, [gauge.statement(), gauge.reading()], gauge.language, held_out=True
        )
        text = join_sentences(parts, gauge.language)
        example = Example(
            text,
            (_count(parts) - 1,),
            gauge.language,
            wording,
            distractors,
            best=gauge.stated,
            noise=gauge.noise,
        )
        examples.setdefault(text, example)
    return list(examples.values())


def _count(parts: list[str]) -> int:
    """How many numbers stand in sentences."""
    return sum(1 for part in parts for _ in find_numbers(part))

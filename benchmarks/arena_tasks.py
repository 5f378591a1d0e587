"""What the contenders of the arena learn, and what they are asked: texts, the same for all.

scorecard    the project's own training text and evaluation sets
addition, multiplication    the table of FoNE's appendix K, from random weights
lengths      additions of up to four digits, asked for two to eight
arithmetic   six operations on integers, decimals, negative numbers and mixed magnitudes; sizes
             as in training and beyond
mixed        the scorecard's and arithmetic's texts in one model, as many of each
diabetes     a table as sentences (`examples/diabetes.py`), one fold
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from random import Random
from typing import NamedTuple

from benchmarks.contenders.base import Text
from datamodules import training_mix
from datamodules.number_data_module import EVALUATION_SETS
from numlm.floors import Question, questions

SIGNIFICANT = 6  # digits of an answer that does not end
LEARNED_LENGTH = 4  # digits of the longest numbers that `lengths` learns to add


@dataclass(frozen=True)
class Task:
    """What is learned, and what is asked.

    Attributes:
        training: The texts to learn from.
        sets: The questions, by the name of their set.
        random_weights: Whether the backbone starts from random weights.
    """

    training: list[Text]
    sets: dict[str, list[Question]]
    random_weights: bool = False


def asked(texts: Sequence[Text]) -> list[Question]:
    """The questions of texts."""
    return [
        question
        for i, text in enumerate(texts)
        for question in questions(text.text, text.answers, i)
    ]


def scorecard(seed: int, count: int, evaluated: int) -> Task:
    """Generated texts with loss on all of them, and the sets with answers."""
    examples = {
        name: generate(evaluated, 0)
        for name, generate in EVALUATION_SETS.items()
        if name != "ordinary_text"
    }
    reserved = training_mix.reserved_sentences(
        example for mine in examples.values() for example in mine
    )
    stream = islice(training_mix.generate(seed, reserved), count)
    return Task(
        training=[Text(example.text, example.answers) for example in stream],
        sets={
            name: asked([Text(example.text, example.answers) for example in mine])
            for name, mine in examples.items()
        },
    )


def fone_table(operation: str, digits: int) -> Callable[[int, int, int], Task]:
    """A task of FoNE's appendix K: two numbers of so many digits."""

    def task(seed: int, count: int, evaluated: int) -> Task:
        random = Random(f"fone/{operation}/{digits}/{seed}")
        seen: set[str] = set()
        while len(seen) < count + evaluated:
            a, b = (random.randrange(10**digits) for _ in range(2))
            seen.add(_problem(operation, [Decimal(a), Decimal(b)]))
        texts = [Text(text, (2,), whole=False) for text in sorted(seen)]
        random.shuffle(texts)
        return Task(texts[evaluated:], {"test": asked(texts[:evaluated])}, random_weights=True)

    return task


def lengths(seed: int, count: int, evaluated: int) -> Task:
    """Additions of two numbers of as many digits; sets of lengths that are learned and longer."""
    learned = Random(f"lengths/training/{seed}")

    def draw(random: Random, digits: int) -> Text:
        a, b = (Decimal(random.randrange(10 ** (digits - 1), 10**digits)) for _ in range(2))
        return Text(_problem("addition", [a, b]), (2,), whole=False)

    training = [draw(learned, learned.randint(1, LEARNED_LENGTH)) for _ in range(count)]
    known = {text.text for text in training}
    sets = {}
    for digits in range(2, 2 * LEARNED_LENGTH + 1):  # all additions of one digit are learned
        random = Random(f"lengths/{digits}")
        drawn = dict.fromkeys(draw(random, digits) for _ in range(4 * evaluated))
        fresh = [text for text in drawn if text.text not in known][:evaluated]
        sets[f"{digits} digits"] = asked(fresh)
    return Task(training, sets)


class Kind(NamedTuple):
    """A kind of operands.

    Attributes:
        draw: Draws one, as large as in training or perhaps greater.
        limit: None of training is greater.
    """

    draw: Callable[[Random, bool], Decimal]
    limit: int


KINDS: dict[str, Kind] = {
    "integers": Kind(lambda random, far: Decimal(_below(random, 5 if far else 3)), 10**3),
    "decimals": Kind(lambda random, far: _decimal(random, 4 if far else 2), 10**2),
    "negative": Kind(
        lambda random, far: _decimal(random, 4 if far else 2) * random.choice((1, -1)), 10**2
    ),
    "magnitudes": Kind(
        lambda random, far: _of_any_size(random, (3, 6) if far else (-2, 3)), 10**3
    ),
}
OPERATIONS = ("addition", "subtraction", "multiplication", "division", "mean", "deviation")


def arithmetic(seed: int, count: int, evaluated: int) -> Task:
    """Six operations; operands of a problem are of one kind.

    `near` has sizes as in training; of a problem of `far` one operand at least is greater than any
    of its kind there, up to a hundred times, or a thousand where they are of any magnitude.
    """
    learned = Random(f"arithmetic/training/{seed}")
    training = [_draw(learned, learned.choice(OPERATIONS), far=False) for _ in range(count)]
    known = {text.text for text in training}
    sets = {}
    for operation in OPERATIONS:
        for far in (False, True):
            random = Random(f"arithmetic/{operation}/{far}")
            drawn = (_draw(random, operation, far) for _ in range(2 * evaluated))
            fresh = [text for text in drawn if text.text not in known][:evaluated]
            sets[f"{operation}, {'far' if far else 'near'}"] = asked(fresh)
    return Task(training, sets)


def mixed(seed: int, count: int, evaluated: int) -> Task:
    """The texts of the scorecard and of arithmetic in any order, and the sets of both."""
    computed = arithmetic(seed, count // 2, evaluated)
    told = scorecard(seed, count - len(computed.training), evaluated)
    training = [*told.training, *computed.training]
    Random(f"mixed/{seed}").shuffle(training)
    return Task(training, {**told.sets, **computed.sets})


def _draw(random: Random, operation: str, far: bool) -> Text:
    draw, limit = KINDS[random.choice(list(KINDS))]
    size = random.randint(2, 5) if operation in ("mean", "deviation") else 2
    operands = [draw(random, far) for _ in range(size)]
    while far and max(map(abs, operands)) <= limit:
        operands = [draw(random, far) for _ in range(size)]
    if operation == "division" and not operands[1]:
        operands[1] = Decimal(7)
    return Text(_problem(operation, operands), (size,), whole=False)


def _problem(operation: str, operands: list[Decimal]) -> str:
    """An operation with its result, written.

    >>> _problem("division", [Decimal(1), Decimal(3)]), _problem("mean", [Decimal(1), Decimal(2)])
    ('1 / 3 = 0.333333', 'mean of 1 , 2 = 1.5')
    """
    if operation in ("mean", "deviation"):
        value = statistics.fmean(map(float, operands))
        if operation == "deviation":
            value = statistics.pstdev(map(float, operands))
        left = f"{operation} of {' , '.join(f'{operand:f}' for operand in operands)}"
        return f"{left} = {_rounded(value)}"
    a, b = operands
    sign, exact = {
        "addition": ("+", a + b),
        "subtraction": ("-", a - b),
        "multiplication": ("*", a * b),
        "division": ("/", None),
    }[operation]
    return f"{a:f} {sign} {b:f} = {_rounded(float(a / b)) if exact is None else f'{exact:f}'}"


def _rounded(value: float) -> str:
    return f"{Decimal(f'{value:.{SIGNIFICANT}g}'):f}"


def _below(random: Random, digits: int) -> int:
    """An integer of up to so many digits, short ones as often as long ones."""
    return random.randrange(10 ** random.randint(1, digits))


def _decimal(random: Random, digits: int) -> Decimal:
    places = random.randint(1, 2)
    return Decimal(_below(random, digits + places)).scaleb(-places)


def _of_any_size(random: Random, powers: tuple[int, int]) -> Decimal:
    return Decimal(f"{10 ** random.uniform(*powers):.3g}")


def diabetes(seed: int, count: int, evaluated: int) -> Task:
    """One of five folds, by the seed; every person as often as fits, measured again each time."""
    import numpy as np  # here: only this table needs scikit-learn
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import KFold

    from examples.diabetes import measurements, remeasured, sentence

    table = load_diabetes(scaled=False)
    people, scores = measurements(table.data), table.target
    folds = list(KFold(5, shuffle=True, random_state=0).split(people))
    train, test = folds[seed % len(folds)]
    random = np.random.default_rng(seed)
    copies = math.ceil(count / len(train))
    rows = [
        (person, score)
        for _ in range(copies)
        for person, score in zip(
            remeasured(people[train], 0.1, random), scores[train], strict=True
        )
    ]

    def text(person: Sequence[float], score: float) -> Text:
        start = sentence(list(person))
        return Text(f"{start} {score:.0f}", (len(people[0]),), whole=False)

    tests = [text(person, score) for person, score in zip(people[test], scores[test], strict=True)]
    return Task([text(*row) for row in rows[:count]], {"test": asked(tests[:evaluated])})


TASKS: dict[str, Callable[[int, int, int], Task]] = {
    "scorecard": scorecard,
    "addition": fone_table("addition", 4),
    "multiplication": fone_table("multiplication", 3),
    "lengths": lengths,
    "arithmetic": arithmetic,
    "mixed": mixed,
    "diabetes": diabetes,
}


class Budget(NamedTuple):
    """What a task is learned with, unless said otherwise; every text is seen once.

    Attributes:
        texts: Training texts.
        batch: Texts a step.
        evaluated: Texts of each set.
        lr: Greatest learning rate of the backbone.
        head_lr: Greatest learning rate of what is added to it.
    """

    texts: int
    batch: int
    evaluated: int
    lr: float = 1e-3
    head_lr: float = 2e-3


BUDGETS: dict[str, Budget] = {
    "scorecard": Budget(12800, 32, 200),
    "addition": Budget(12800, 32, 500),
    "multiplication": Budget(12800, 32, 500),
    "lengths": Budget(12800, 32, 100),
    "arithmetic": Budget(25600, 64, 100),
    "mixed": Budget(12800, 32, 100),
    "diabetes": Budget(6400, 32, 200),
}

"""The wording of the generated text, with what the training text never shows kept apart.

A sentence is put together from two parts, such as `In short,` and `the {attribute} is {value}`. A
third of all pairs is `Wording.UNSEEN`: only the evaluation uses them, neither fine-tuning nor
pretraining ever does, while each of the two parts does occur in training with other partners.

Placeholders: `{name}`, `{attribute}`, `{value}`, `{noise}`, `{unit}` (which brings its own space).
What asks ends in the number, because the evaluation asks for it there; training text may go on
after it.
"""

from dataclasses import dataclass
from enum import StrEnum

from datamodules.vocabulary import Language


class Wording(StrEnum):
    """Whether the training text uses the same sentences."""

    SEEN = "seen"
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True)
class Pairs:
    """Sentences as pairs of a first and a second part.

    Attributes:
        first: First parts.
        second: Second parts.
        joiner: What stands between them.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    joiner: str

    def sentences(self, wording: Wording) -> tuple[str, ...]:
        """All sentences of one wording."""
        return tuple(
            _capitalised((first + self.joiner + second).strip())
            for i, first in enumerate(self.first)
            for j, second in enumerate(self.second)
            if ((i + j) % 3 == 2) == (wording is Wording.UNSEEN)
        )


@dataclass(frozen=True, slots=True)
class Templates:
    """The sentences of one language and wording.

    Attributes:
        statements: State one fact; without their full stop.
        restatements: Say the value of the only fact once more, and end in it.
        questions: Ask for one of several facts by name, and end in the answer.
        noisy_statements: State a value and the size of its noise; without their full stop.
        readings: Read that value once, with its noise, and end in what was read.
    """

    statements: tuple[str, ...]
    restatements: tuple[str, ...]
    questions: tuple[str, ...]
    noisy_statements: tuple[str, ...]
    readings: tuple[str, ...]


def _capitalised(sentence: str) -> str:
    return (
        "{Name}" + sentence[len("{name}") :]
        if sentence.startswith("{name}")
        else sentence[0].upper() + sentence[1:]
    )


_STATEMENTS: dict[Language, Pairs] = {
    "en": Pairs(
        (
            "", "Note that", "Today", "As we know,", "In the morning", "By the list,", "At first,", "We know that",
            "They say that", "The list says that", "It seems that", "We found that",
        ),
        (
            "the {attribute} of {name} is {value}{unit}",
            "the {attribute} of {name} was {value}{unit}",
            "{name} has a {attribute} of {value}{unit}",
            "{name} shows {value}{unit}",
            "{name} was at {value}{unit}",
            "{name} had {value}{unit}",
            "we read {value}{unit} for {name}",
            "the {attribute} of {name} went to {value}{unit}",
            "it was {name} that had {value}{unit}",
        ),
        " ",
    ),
    "zh": Pairs(
        ("", "今天", "记录显示，", "我们知道，", "据说", "首先，", "请注意，", "早上", "看来", "我们测得"),
        (
            "{name}的{attribute}是{value}{unit}",
            "{name}的{attribute}为{value}{unit}",
            "{name}的{attribute}达到{value}{unit}",
            "{name}的{attribute}等于{value}{unit}",
            "{name}：{value}{unit}",
            "{name}的读数是{value}{unit}",
        ),
        "",
    ),
}  # fmt: skip

_RESTATEMENTS: dict[Language, Pairs] = {
    "en": Pairs(
        (
            "In short,", "So", "Again,", "To repeat,", "In other words,", "Therefore", "Yes,", "As said,", "Once more,",
            "That is,", "In the end,", "Then",
        ),
        (
            "it is {value}",
            "it was {value}",
            "it has {value}",
            "the {attribute} is {value}",
            "the {attribute} was {value}",
            "the {attribute} of {name} is {value}",
            "{name} has {value}",
            "{name} shows {value}",
            "we write {value}",
            "we read {value}",
            "the answer is {value}",
            "the result is {value}",
            "the list says {value}",
        ),
        " ",
    ),
    "zh": Pairs(
        ("总之，", "也就是说，", "所以", "再说一遍，", "换句话说，", "因此", "是的，", "最后，", "那么"),
        (
            "它是{value}",
            "它为{value}",
            "{attribute}是{value}",
            "{attribute}为{value}",
            "{name}的{attribute}是{value}",
            "{name}的{attribute}为{value}",
            "结果是{value}",
            "答案是{value}",
            "读数是{value}",
            "记下来：{value}",
        ),
        "",
    ),
}  # fmt: skip

_QUESTIONS: dict[Language, Pairs] = {
    "en": Pairs(
        (
            "Question: what is the {attribute} of {name}?",
            "What is the {attribute} of {name}?",
            "Q: {attribute} of {name}?",
            "And {name}?",
            "Which {attribute} does {name} have?",
            "How much does {name} have?",
            "Tell me the {attribute} of {name}.",
            "Look at {name}.",
            "What does {name} show?",
            "Now find {name}.",
            "We ask for the {attribute} of {name}.",
            "Who knows the {attribute} of {name}?",
        ),
        (
            "Answer: {value}",
            "It is {value}",
            "It has {value}",
            "A: {value}",
            "The answer is {value}",
            "It was {value}",
            "We read {value}",
            "The {attribute} is {value}",
            "The list says {value}",
            "That is {value}",
        ),
        " ",
    ),
    "zh": Pairs(
        (
            "问：{name}的{attribute}有多少？",
            "请问{name}的{attribute}有多少？",
            "请说出{name}的{attribute}。",
            "那么{name}呢？",
            "看一下{name}。",
            "告诉我{name}的{attribute}。",
            "谁知道{name}的{attribute}？",
            "现在找{name}。",
        ),
        (
            "答：{value}",
            "它是{value}",
            "答案是{value}",
            "结果是{value}",
            "{attribute}是{value}",
            "读数是{value}",
            "它为{value}",
            "记录是{value}",
        ),
        "",
    ),
}

_NOISY_STATEMENTS: dict[Language, Pairs] = {
    "en": Pairs(
        ("", "Note that", "Today", "As we know,", "By the list,", "They say that", "We found that", "At first,"),
        (
            "the {attribute} of {name} is {value}{unit} with a noise of {noise}",
            "{name} shows {value}{unit} with {noise} of noise",
            "{name} has a {attribute} of {value}{unit}, give or take {noise}",
            "with a noise of {noise} {name} was at {value}{unit}",
            "give or take {noise}, the {attribute} of {name} is {value}{unit}",
            "we read {value}{unit} for {name}, give or take {noise}",
        ),
        " ",
    ),
    "zh": Pairs(
        ("", "今天", "记录显示，", "我们知道，", "据说", "请注意，", "看来"),
        (
            "{name}的{attribute}是{value}{unit}，误差{noise}",
            "{name}的读数为{value}{unit}，上下{noise}",
            "误差是{noise}，{name}的{attribute}等于{value}{unit}",
            "上下{noise}，{name}：{value}{unit}",
            "{name}的{attribute}达到{value}{unit}，误差为{noise}",
        ),
        "",
    ),
}  # fmt: skip

_READINGS: dict[Language, Pairs] = {
    "en": Pairs(
        ("Now", "One time", "Once more", "This time", "Then", "Again"),
        (
            "it reads {value}",
            "it shows {value}",
            "we read {value}",
            "{name} reads {value}",
            "{name} shows {value}",
            "the list says {value}",
        ),
        " ",
    ),
    "zh": Pairs(
        ("现在", "这一次", "一次", "再一次", "然后"),
        ("读数是{value}", "它显示{value}", "我们测得{value}", "{name}的读数为{value}", "{name}显示{value}"),
        "",
    ),
}  # fmt: skip

TEMPLATES: dict[tuple[Language, Wording], Templates] = {
    (language, wording): Templates(
        _STATEMENTS[language].sentences(wording),
        _RESTATEMENTS[language].sentences(wording),
        _QUESTIONS[language].sentences(wording),
        _NOISY_STATEMENTS[language].sentences(wording),
        _READINGS[language].sentences(wording),
    )
    for language in _STATEMENTS
    for wording in Wording
}

# What stands before a plain sentence and looks like a number without being one ({date} {time}
# {version} {address} {model}), or is a number that nobody asks for ({year}).
DISTRACTORS: dict[Language, tuple[str, ...]] = {
    "en": (
        "On {date} ", "At {time} ", "With version {version} ", "Since {model} came out, ", "At address {address} ",
        "In {year} ", "Since {year} ",
    ),
    "zh": ("在{date}，", "到了{time}，", "用了版本{version}，", "有了{model}之后，", "在地址{address}，", "从{year}年起，"),
}  # fmt: skip

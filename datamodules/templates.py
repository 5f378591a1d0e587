"""The sentences of the generated text, with what the training text never shows kept apart.

Placeholders: `{name}` and `{Name}` (capitalised at the start of a sentence), `{attribute}`, `{value}`, `{unit}`
(which brings its own space). A restatement and an answer end in the number, because the evaluation asks for it
there; the training mix may let the text go on.

`Wording.UNSEEN` templates are used by the evaluation only, neither in fine-tuning nor in pretraining.
"""

from dataclasses import dataclass
from enum import StrEnum

from datamodules.vocabulary import Language


class Wording(StrEnum):
    """Whether the training text uses the same templates."""

    SEEN = "seen"
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True)
class Templates:
    """The sentences of one language and wording.

    Attributes:
        statements: State one fact; end with their own full stop.
        restatements: Say the value of the only fact once more, and end in it.
        questions: Ask for one of several facts by name, and end in the answer.
    """

    statements: tuple[str, ...]
    restatements: tuple[str, ...]
    questions: tuple[str, ...]


TEMPLATES: dict[tuple[Language, Wording], Templates] = {
    ("en", Wording.SEEN): Templates(
        statements=(
            "The {attribute} of {name} is {value}{unit}.",
            "{Name} has a {attribute} of {value}{unit}.",
            "For {name}, the {attribute} was {value}{unit}.",
            "{Name} shows {value}{unit}.",
            "We measured {name} and found {value}{unit}.",
            "Note for {name}: {value}{unit}.",
            "The {attribute} of {name} went to {value}{unit}.",
            "We read {value}{unit} for {name}.",
            "It was {name} that had {value}{unit}.",
        ),
        restatements=(
            "In short, it is {value}",
            "So the {attribute} is {value}",
            "Again, the {attribute} of {name} is {value}",
            "To repeat, {name} has {value}",
            "The {attribute} is therefore {value}",
            "We write down {value}",
            "In other words, {name} shows {value}",
            "The answer is {value}",
            "The result for {name}: {value}",
            "Yes, it was {value}",
        ),
        questions=(
            "Question: what is the {attribute} of {name}? Answer: {value}",
            "What is the {attribute} of {name}? It is {value}",
            "Q: {attribute} of {name}? A: {value}",
            "Tell me the {attribute} of {name}: {value}",
            "And {name}? The answer is {value}",
            "Look at {name}: {value}",
            "Which {attribute} does {name} have? It has {value}",
            "To repeat, {name} has {value}",
            "Again, the {attribute} of {name} is {value}",
        ),
    ),
    ("en", Wording.UNSEEN): Templates(
        statements=(
            "The note for {name} says that the {attribute} is {value}{unit}.",
            "We found that {name} has {value}{unit}.",
            "As usual, {name} was at a {attribute} of {value}{unit}.",
            "After lunch the {attribute} of {name} was {value}{unit}.",
        ),
        restatements=(
            "Once again, it has {value}",
            "In short, the result is {value}",
            "So {name} was at {value}",
            "Therefore we write {value}",
            "The {attribute} was, in other words, {value}",
        ),
        questions=(
            "Now tell me what {attribute} {name} has: {value}",
            "Look at the {attribute} of {name}. It is {value}",
            "What does {name} have? Answer: {value}",
            "Question for you: which {attribute} did we read for {name}? It was {value}",
        ),
    ),
    ("zh", Wording.SEEN): Templates(
        statements=(
            "{name}的{attribute}是{value}{unit}。",
            "{name}的{attribute}为{value}{unit}。",
            "我们测得{name}的{attribute}为{value}{unit}。",
            "记录显示，{name}的{attribute}是{value}{unit}。",
            "今天{name}的{attribute}达到{value}{unit}。",
            "{name}：{value}{unit}。",
        ),
        restatements=(
            "总之，{attribute}是{value}",
            "也就是说，它是{value}",
            "所以{name}的{attribute}为{value}",
            "再说一遍，{name}的{attribute}是{value}",
            "结果是{value}",
            "记下来：{value}",
        ),
        questions=(
            "问：{name}的{attribute}有多少？答：{value}",
            "请问{name}的{attribute}有多少？它是{value}",
            "请说出{name}的{attribute}：{value}",
            "那么{name}呢？答案是{value}",
            "再说一遍，{name}的{attribute}是{value}",
            "看一下{name}：{value}",
        ),
    ),
    ("zh", Wording.UNSEEN): Templates(
        statements=(
            "请看，{name}的{attribute}达到{value}{unit}。",
            "今天我们测得{name}的{attribute}是{value}{unit}。",
            "总之{name}的{attribute}为{value}{unit}。",
        ),
        restatements=(
            "那么，{attribute}为{value}",
            "所以答案是{value}",
            "也就是说，{name}的{attribute}达到{value}",
        ),
        questions=(
            "请问，{name}的{attribute}是什么？答：{value}",
            "再看一下{name}的{attribute}：{value}",
            "那么请说出{name}有多少。答案是{value}",
        ),
    ),
}

# What stands before a plain sentence and looks like a number without being one ({date} {time} {version}
# {address} {model}), or is a number that nobody asks for ({year}).
DISTRACTORS: dict[Language, tuple[str, ...]] = {
    "en": (
        "On {date} ", "At {time} ", "With version {version} ", "Since {model} came out, ", "At address {address} ",
        "In {year} ", "Since {year} ",
    ),
    "zh": ("在{date}，", "到了{time}，", "用了版本{version}，", "有了{model}之后，", "在地址{address}，", "从{year}年起，"),
}  # fmt: skip

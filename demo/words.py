"""The words of the page in English and Chinese, and texts to begin with.

The examples are worded as the training text is (`datamodules/templates.py`), which is all the
language that the small embedded model knows.
"""

from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]


@dataclass(frozen=True, slots=True)
class Words:
    """The words of the page in one language; braces are filled in.

    Attributes:
        lang: The language as HTML names it.
    """

    lang: str
    subtitle: str
    text: str
    placeholder: str
    examples: str
    continue_text: str
    number_here: str
    temperature: str
    temperature_info: str
    length: str
    length_info: str
    of_prompt: str
    written: str
    said: str
    source_of: str
    number: str
    interval: str
    p_number: str
    source: str
    copied: str
    new: str
    no_number: str
    ended: str
    unlikely: str
    empty: str
    characters: str
    tokens: str


WORDS: dict[Language, Words] = {
    "en": Words(
        lang="en",
        subtitle="A language model that knows when to say a number, and what number to say.",
        text="Text",
        placeholder="Type a text that the model is to continue",
        examples="Examples",
        continue_text="Continue the text",
        number_here="What number comes here?",
        temperature="Temperature",
        temperature_info="0: the most probable words (greedy). Above: words are sampled; "
        "a number's value never is.",
        length="New tokens, at most",
        length_info="A number is one token.",
        of_prompt="number of your text",
        written="written by the model",
        said="number the model said: point at it or select it",
        source_of="what it was copied from",
        number="Number",
        interval="80 % interval",
        p_number="A number comes here",
        source="Source",
        copied="copied from {number}",
        new="new value",
        no_number="The model said no number.",
        ended="The model ends the text here.",
        unlikely="The model hardly expects a number here; if one came, it would be this.",
        empty="Type a text first, or pick an example.",
        characters="This text has {count} characters, and this page takes up to {most}.",
        tokens="This text is {count} tokens long and {room} may follow, but the model's context "
        "is {context} tokens: shorten the text, or ask for fewer new tokens.",
    ),
    "zh": Words(
        lang="zh-CN",
        subtitle="知道何时该说一个数、该说哪个数的语言模型。",
        text="文本",
        placeholder="输入一段文本，由模型续写",
        examples="示例",
        continue_text="续写",
        number_here="这里该是什么数？",
        temperature="温度",
        temperature_info="0：取最可能的词（贪心）。大于0：对词采样；数值从不采样。",
        length="新词元上限",
        length_info="一个数是一个词元。",
        of_prompt="原文中的数",
        written="模型所写",
        said="模型说出的数：指向或选中它",
        source_of="它复制自此",
        number="数",
        interval="80 % 区间",
        p_number="此处出现数的概率",
        source="来源",
        copied="复制自 {number}",
        new="新值",
        no_number="模型没有说出数。",
        ended="模型认为文本到此结束。",
        unlikely="模型认为这里不大会出现数；若出现，便是此数。",
        empty="请先输入文本，或选一个示例。",
        characters="文本有 {count} 个字符，本页最多接受 {most} 个。",
        tokens="文本有 {count} 个词元，其后还可有 {room} 个，而模型的上下文只有 {context} 个："
        "请缩短文本，或减少新词元。",
    ),
}

EXAMPLES: dict[str, str] = {
    "Restating": "Today the voltage of the red lamp was 42.57 volts. In short, it is",
    "Question": "Note that the red box shows 12.4 kg. Today the weight of the blue box was 31 kg. "
    "We read 7.25 kg for the old stone. What is the weight of the blue box? Answer:",
    "Noisy reading": "As we know, the temperature of the south oven is 180.5 degrees with a noise "
    "of 4. Now it reads",
    "No number": "Our old dog stayed at home all day. The door",
    "复述": "今天红色灯泡的电压是42.57伏。总之，它是",
    "问答": "记录显示，左边箱子的重量为12.4千克。今天右边箱子的重量是31千克。"
    "红色石头的重量等于7.25千克。请问右边箱子的重量有多少？答案是",
    "含噪读数": "今天东侧烤箱的温度是180.5度，误差4。现在读数是",
    "没有数": "老狗一整天留在家里。大门",
}

"""The words of the generated text: what is measured, on what, and what else happens around it.

A `Domain` is one kind of quantity. The facts of one text share a domain, so that only a name tells
them apart. Names within a text differ in their modifier (or are persons), while the noun may well
be the same.
"""

from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")


@dataclass(frozen=True, slots=True)
class Domain:
    """One kind of quantity: its name, its units and what carries it.

    Attributes:
        attribute: What is measured, a noun.
        units: How the value may be followed, with its leading space where the language has one.
        nouns: What carries the quantity; empty where persons do.
    """

    attribute: str
    units: tuple[str, ...]
    nouns: tuple[str, ...] = ()


DOMAINS: dict[Language, tuple[Domain, ...]] = {
    "en": (
        Domain(
            "voltage", (" volts", " V"), ("lamp", "pump", "motor", "battery", "sensor", "heater")
        ),
        Domain(
            "price", (" dollars", " euros"), ("book", "chair", "bag", "watch", "table", "bike")
        ),
        Domain(
            "weight", (" kg", " grams"), ("box", "stone", "bottle", "parcel", "wheel", "plate")
        ),
        Domain("temperature", (" degrees",), ("room", "tank", "oven", "lake", "engine", "roof")),
        Domain(
            "length", (" meters", " feet"), ("rope", "bridge", "pipe", "road", "wall", "cable")
        ),
        Domain("speed", (" km/h",), ("car", "train", "boat", "truck", "bus", "drone")),
        Domain("level", ("%", " percent"), ("river", "signal", "fuel", "water", "noise", "oil")),
        Domain("score", (" points",)),
        Domain("balance", (" dollars", " coins")),
    ),
    "zh": (
        Domain("电压", ("伏",), ("灯泡", "水泵", "电机", "电池", "开关")),
        Domain("价格", ("元", "块"), ("书", "椅子", "手表", "桌子", "箱包")),
        Domain("重量", ("千克", "克"), ("箱子", "石头", "瓶子", "包裹", "轮子")),
        Domain("温度", ("度",), ("房间", "水箱", "烤箱", "湖水", "屋顶")),
        Domain("长度", ("米", "厘米"), ("绳子", "大桥", "管道", "围墙", "电缆")),
        Domain("速度", ("公里",), ("汽车", "火车", "小船", "卡车", "飞机")),
        Domain("得分", ("分",)),
        Domain("余额", ("元",)),
    ),
}

MODIFIERS: dict[Language, tuple[str, ...]] = {
    "en": tuple(
        "first second third last red blue green black white old new small big left right north south east west "
        "inner outer main spare heavy light".split()
    ),
    "zh": tuple(
        "红色 蓝色 绿色 白色 黑色 黄色 左边 右边 前面 后面 东侧 西侧 南侧 北侧 甲号 乙号 丙号 丁号".split()
    ),
}

PERSONS: dict[Language, tuple[str, ...]] = {
    "en": tuple(
        "Anna Ben Carl Dora Emma Finn Greta Hugo Ida Jack Kate Leo Mia Nora Otto Paul Rosa Sam Tina Vera".split()
    ),
    "zh": tuple("小明 小红 小刚 小丽 小华 小军 小芳 小强 小燕 小龙 老王 老李 老张 老陈".split()),
}

# Sentences without numbers: subject, predicate, circumstance.
PLAIN_SUBJECTS: dict[Language, tuple[str, ...]] = {
    "en": (
        "the door", "the window", "our old dog", "a neighbour", "my sister", "the manager", "the garden", "nobody",
        "the whole team", "the driver", "everyone", "the shop",
    ),
    "zh": ("大门", "窗户", "老狗", "邻居", "妹妹", "经理", "花园", "大家", "司机", "商店"),
}  # fmt: skip
PLAIN_PREDICATES: dict[Language, tuple[str, ...]] = {
    "en": (
        "was quiet", "stayed at home", "went to the market", "waited for the rain", "was closed", "came back late",
        "looked very tired", "was ready", "heard the news", "had a good day", "was waiting outside", "was not there",
    ),
    "zh": ("很安静", "留在家里", "去了市场", "等着下雨", "关上了", "回来得很晚", "看起来很累", "准备好了", "听到了消息", "不在那里"),
}  # fmt: skip
PLAIN_CIRCUMSTANCES: dict[Language, tuple[str, ...]] = {
    "en": (
        "all day",
        "again",
        "as usual",
        "with the others",
        "after lunch",
        "before the storm",
        "for once",
    ),
    "zh": ("一整天", "又", "像往常一样", "和别人一起", "午饭后", "暴雨之前", "这一次"),
}

"""The words of charts and tables in English and Chinese, side by side.

Running prose is in the templates. Every Chinese character here is in the font of `assets/fonts/`.
"""

from collections.abc import Callable
from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
Words = Callable[[str], str]

_TEXTS: dict[str, tuple[str, str]] = {
    # Evaluation sets; a user's own have the name that they were given.
    "set.basic": ("basic", "基础集"),
    "set.question_answering": ("question answering", "问答集"),
    "set.extreme_values": ("extreme values", "极端值集"),
    "set.boundary_values": ("boundary values", "边界值集"),
    "set.noisy_readings": ("noisy readings", "含噪读数集"),
    "set.ordinary_text": ("ordinary text", "普通文本集"),
    # What the sets are made of.
    "about.basic": (
        "0 to 100, up to two decimals; a statement, then a restatement that ends in the number",
        "0 到 100，至多两位小数；先陈述，再以该数结尾复述",
    ),
    "about.question_answering": (
        "0 to 100; several facts, a question about one of them, the answer",
        "0 到 100；若干事实，就其中之一提问并作答",
    ),
    "about.extreme_values": (
        "from 1e-5 to 1e6, of both signs; restated as in basic",
        "1e-5 到 1e6，正负皆有；复述方式同基础集",
    ),
    "about.boundary_values": (
        "0 to 1, the ends among them; restated as in basic",
        "0 到 1，含两端；复述方式同基础集",
    ),
    "about.noisy_readings": (
        "a stated value, noise of a stated size, and a reading that nobody can know exactly",
        "给出标称值与噪声大小，再给出一个无法精确预知的读数",
    ),
    "about.ordinary_text": (
        "no number at all; half of the texts have dates, times, versions or addresses",
        "不含任何数值；半数文本含日期、时间、版本号或地址",
    ),
    "about.own": ("your own data", "用户自有数据"),
    # Sources of own data.
    "data.role": ("own data for", "自有数据用于"),
    "data.source": ("source", "来源"),
    "data.rows": ("rows", "行数"),
    "data.skipped": ("skipped rows", "跳过的行数"),
    "data.train": ("training", "训练"),
    "data.validation": ("validation", "验证"),
    "data.test": ("evaluation", "评估"),
    # Figures.
    "metric.accuracy": ("accuracy", "准确率"),
    "metric.mean_rank": ("mean rank", "平均排名"),
    "metric.mean_prob": ("mean probability", "平均概率"),
    "metric.rmse": ("RMSE where said", "已说出处 RMSE"),
    "metric.rmse_all": ("RMSE", "RMSE"),
    "metric.mae": ("MAE", "MAE"),
    "metric.median_relative_error": ("median relative error", "相对误差中位数"),
    "metric.exact_match": ("exact match", "完全正确率"),
    "metric.exact_match_without_pointer": ("exact match without copying", "禁用复制时完全正确率"),
    "metric.precision": ("precision", "精确率"),
    "metric.recall": ("recall", "召回率"),
    "metric.f1": ("F1", "F1"),
    "metric.false_positive_rate": ("false positive rate", "误报率"),
    "metric.coverage_50": ("coverage, 50 % interval", "50% 区间覆盖率"),
    "metric.coverage_80": ("coverage, 80 % interval", "80% 区间覆盖率"),
    "metric.coverage_95": ("coverage, 95 % interval", "95% 区间覆盖率"),
    "metric.calibrated_coverage_50": (
        "coverage, calibrated 50 % interval",
        "50% 区间覆盖率（校准后）",
    ),
    "metric.calibrated_coverage_80": (
        "coverage, calibrated 80 % interval",
        "80% 区间覆盖率（校准后）",
    ),
    "metric.calibrated_coverage_95": (
        "coverage, calibrated 95 % interval",
        "95% 区间覆盖率（校准后）",
    ),
    "metric.crps": ("CRPS", "CRPS"),
    "metric.perplexity": ("perplexity", "困惑度"),
    "metric.agreement": ("agreement with the base model", "与基础模型一致率"),
    # Floors.
    "floor.training_median": ("median of the training numbers", "训练数值的中位数"),
    "floor.training_mean": ("mean of the training numbers", "训练数值的均值"),
    "floor.best_constant": ("best constant (in hindsight)", "最优常数（事后）"),
    "floor.last_number": ("last number of the text", "文中最后一个数"),
    "floor.digits": ("base model's own digits", "基础模型逐位写数"),
    "floor.best_possible": ("best possible (not a floor)", "理论最优（非基线）"),
    "floor.model": ("NumLM after fine-tuning", "微调后的 NumLM"),
    # Groups.
    "group.seen": ("seen wording", "见过的句式"),
    "group.unseen": ("unseen wording", "未见句式"),
    "group.en": ("English", "英文"),
    "group.zh": ("Chinese", "中文"),
    "group.with_distractors": ("with distractors", "有干扰项"),
    "group.without_distractors": ("without", "无干扰项"),
    # Headings of tables.
    "set": ("set", "数据集"),
    "metric": ("metric", "指标"),
    "texts": ("texts", "文本数"),
    "slots": ("numbers", "数值个数"),
    "content": ("content", "内容"),
    "published": ("published: accuracy; mean rank; error", "原报告：准确率；平均排名；误差"),
    "strongest_floor": ("strongest floor, RMSE", "最强基线 RMSE"),
    "answers_by": ("answer", "答案来源"),
    "unparsable": ("no number written", "未写出数值的比例"),
    "beaten": ("beaten by NumLM?", "NumLM 是否更优？"),
    "yes": ("yes", "是"),
    "level": ("level: both exact", "持平：均无误差"),
    "not_beaten": ("⚠ **not beaten**", "⚠ **未超过**"),
    "magnitude": ("size of the true number", "真值的数量级"),
    "truth": ("true", "真值"),
    "answer": ("answer", "回答"),
    "interval": ("80 % interval", "80% 区间"),
    "text": ("text", "文本"),
    "nominal": ("nominal", "名义水平"),
    "own_interval": ("model's own interval", "模型自身区间"),
    "calibrated": ("calibrated", "校准后"),
    "expected_band": ("95 % of chance", "理想覆盖率的 95% 波动范围"),
    "context": ("after", "上文"),
    "said": ("said", "说出"),
    "right": ("right", "应为"),
    "count": ("times", "次数"),
    "before": ("before", "微调前"),
    "after": ("after", "微调后"),
    "ratio": ("after / before", "后 / 前"),
    "missed": ("missed", "未达标"),
    # Parts of a run that take time.
    "time.baseline_evaluation": ("evaluation before", "微调前评估"),
    "time.floors": ("floors", "对照基线"),
    "time.training": ("training", "训练"),
    "time.calibration": ("calibration", "校准"),
    "time.finetuned_evaluation": ("evaluation after", "微调后评估"),
    "time.learning_curve": ("learning curve", "学习曲线"),
    # Charts: titles and axes.
    "accuracy_comparison": ("When: <NUM> is the most probable token at a number", "准确率对比"),
    "accuracy_comparison.axis": ("share of numbers (higher is better)", "数值占比（越高越好）"),
    "mean_rank_comparison": (
        "When: mean rank of <NUM> at a number",
        "<NUM> 词元平均排名对比",
    ),
    "mean_rank_comparison.axis": ("rank (log scale, 1 is best)", "排名（对数轴，1 为最佳）"),
    "exact_match_comparison": ("What: exactly the right number", "完全正确率对比"),
    "exact_match_comparison.axis": ("share of numbers (higher is better)", "数值占比（越高越好）"),
    "rmse_comparison": (
        "What: error of all numbers, against answers without understanding",
        "数值误差与对照基线",
    ),
    "rmse_comparison.axis": (
        "RMSE (log scale, lower is better)",
        "均方根误差 RMSE（对数轴，越低越好）",
    ),
    "predicted_vs_true": ("What: answered against true number", "回答值与真值"),
    "predicted_vs_true.x": ("true number", "真值"),
    "predicted_vs_true.y": ("answer", "回答值"),
    "reliability": ("How sure: do the intervals hold what they promise?", "区间可靠性"),
    "reliability.x": ("nominal level of the interval", "区间的名义水平"),
    "reliability.y": ("share of true numbers inside", "真值落入区间的比例"),
    "training_curves": ("Training", "训练曲线"),
    "training_curves.x": ("step", "训练步数"),
    "training_curves.y": ("loss (nats)", "损失（奈特）"),
    "learning_curve": ("How fast: evaluation during training", "学习曲线：训练中的评估"),
    "learning_curve.x": ("optimizer steps", "优化步数"),
    # Charts: legends and panels.
    "legend.before": ("before fine-tuning", "微调前"),
    "legend.after": ("after fine-tuning", "微调后"),
    "legend.best_constant": ("floor: best constant", "基线：最优常数"),
    "legend.last_number": ("floor: last number", "基线：文中最后一个数"),
    "legend.digits": ("floor: base model's digits", "基线：基础模型逐位写数"),
    "legend.best_possible": ("best possible", "理论最优"),
    "legend.copied": ("copied from the text", "复制文中数值"),
    "legend.new": ("new value", "生成新值"),
    "legend.identity": ("answer = true number", "回答值 = 真值"),
    "legend.interval": ("80 % interval (every few points)", "80% 区间（部分样本）"),
    "legend.own": ("model's own intervals", "模型自身区间"),
    "legend.calibrated": ("after calibration", "校准后"),
    "legend.perfect": ("perfect; band: 95 % of chance", "理想情况；阴影：95% 随机波动"),
    "legend.train": ("training", "训练"),
    "legend.validation": ("validation", "验证"),
    "panel.token": ("token loss", "词元损失"),
    "panel.value": ("value loss", "数值损失"),
    "panel.pointer": ("pointer loss", "指针损失"),
    "panel.accuracy": ("When: <NUM> is said at a number", "何时说：准确率"),
    "panel.mean_rank": ("When: mean rank of <NUM>", "何时说：<NUM> 平均排名"),
    "panel.exact_match": ("What: exactly the right number", "说何值：完全正确率"),
    "panel.exact_match_without_pointer": (
        "What: exactly right where nothing may be copied",
        "说何值：禁用复制时完全正确率",
    ),
    # Cards of the page.
    "card.accuracy": ("numbers where <NUM> is said", "该说数字时说出 <NUM>"),
    "card.exact_match": ("numbers exactly right", "数值完全正确"),
    "card.floors": (
        "sets below every floor, or level at zero (RMSE)",
        "RMSE 低于全部基线（或同为零）的数据集",
    ),
    "card.coverage": ("true numbers in the 95 % interval", "真值落入 95% 区间"),
    "card.perplexity": ("perplexity of ordinary text, after / before", "普通文本困惑度，后 / 前"),
    "good": ("good", "达标"),
    "bad": ("short of the aim", "未达标"),
    "no_figure": ("not measured", "未测量"),
}


def words(language: Language) -> Words:
    """What gives a key's words in a language.

    >>> words("en")("metric.f1"), words("zh")("set.basic")
    ('F1', '基础集')
    """
    index = LANGUAGES.index(language)

    def word(key: str) -> str:
        return _TEXTS[key][index]

    return word


def set_label(name: str, language: Language) -> str:
    """An evaluation set's name for people; a user's own set keeps its name.

    >>> set_label("noisy_readings", "en"), set_label("my_meters", "zh")
    ('noisy readings', 'my meters')
    """
    return label("set", name, language)


def label(kind: str, name: str, language: Language) -> str:
    """The words of `kind.name`; the name itself where it has none.

    >>> label("time", "training", "zh"), label("time", "export_model", "zh")
    ('训练', 'export model')
    """
    known = _TEXTS.get(f"{kind}.{name}")
    return known[LANGUAGES.index(language)] if known else name.replace("_", " ")


def knows_set(name: str) -> bool:
    """Whether a set is one of this project's, not a user's own."""
    return f"set.{name}" in _TEXTS


def every_word(language: Language) -> list[str]:
    """All words of a language."""
    return [texts[LANGUAGES.index(language)] for texts in _TEXTS.values()]

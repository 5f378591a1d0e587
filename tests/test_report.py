"""The report: every figure where it belongs, in both languages, and a page that needs nothing else."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning import LightningModule
from synthetic_run import AWKWARD_TEXT, SETS, write_run

from callbacks.charts import CHARTS, write_charts
from callbacks.findings import cards, misses, pooled_share, rmse_over_best, unbeaten_floors
from callbacks.markdown import cell, percent
from callbacks.report import WriteReport, write_report
from callbacks.run_files import read_run

CHINESE_TITLES = [
    "## 1. 实验目标",
    "## 2. 实验设计与方法",
    "### 2.1 基础模型",
    "### 2.2 评估数据集",
    "### 2.3 实验流程与复现命令",
    "### 2.4 关键评估指标",
    "## 3. 预期结果",
    "## 4. 实验结果与分析",
    "### 4.1 总体性能对比",
    "### 4.2 详细图表",
    "#### 准确率对比",
    "#### `<NUM>`词元平均排名对比",
    "## 5. 结论",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("run"))
    write_charts(folder)
    write_report(folder, "Ada | Lovelace")
    return folder


@pytest.fixture(scope="module")
def english(folder: Path) -> str:
    return (folder / "report.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def chinese(folder: Path) -> str:
    return (folder / "report.zh.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(folder: Path) -> "Page":
    return Page((folder / "report.html").read_text(encoding="utf-8"))


class Page(HTMLParser):
    """Tags with their attributes and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def rewrite(folder: Path, name: str, change: Any) -> None:
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    change(content)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def rows(markdown: str, start: str) -> list[list[str]]:
    """Cells of the rows that start with a text."""
    lines = [line for line in markdown.splitlines() if line.startswith(f"| {start} |")]
    return [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in lines]


def test_headline_has_before_after_interval_floor_and_published_figures(english: str) -> None:
    headline = english.split("### 4.1")[1]
    assert rows(headline, "extreme values")[0] == [
        "extreme values",
        r"0 % → **100 %** \[90 %, 100 %\]",
        r"501 → **1** \[0.9, 1\]",
        r"0 % → **100 %** \[90 %, 100 %\]",
        r"246.8 → **0** \[0, 0\]",
        "3 (base model's own digits)",
        "0 % → 100 %; 81,144 → 1; 50,724.62",
    ]
    assert rows(headline, "ordinary text")[0][1:] == ["-"] * 6


def test_a_floor_that_is_not_beaten_is_marked(english: str, chinese: str) -> None:
    assert "> ⚠ **Floor not beaten** on **noisy readings**: last number of the text." in english
    assert "- ⚠ noisy readings: last number of the text" in english.split("## 5.")[1]
    assert english.count("⚠ **not beaten**") == 2  # headline and table of floors
    assert "> ⚠ **未超过基线**，**含噪读数集**：文中最后一个数。" in chinese
    assert "or both are zero" not in english


def test_two_errors_of_zero_are_level_and_not_a_win(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    rewrite(folder, "floors.json", lambda f: f["basic"]["digits"].update(rmse_all=0, beaten=True))
    write_report(folder, "a")
    line = next(
        line
        for line in (folder / "report.md").read_text(encoding="utf-8").splitlines()
        if "base model's own digits | 0 |" in line
    )
    assert line.endswith("| level: both exact |")
    assert "持平：均无误差" in (folder / "report.zh.md").read_text(encoding="utf-8")


def test_floors_say_what_was_not_parsed_and_the_ratio_to_the_best(english: str) -> None:
    assert "| base model's own digits | 3 | 1.5 | 0.5 | 12.5 % | 10 % | yes |" in english
    assert "| best possible (not a floor) | 1.5 | 0.75 | 0.5 | 12.5 % | 0 % | - |" in english
    assert "`rmse_over_best` = RMSE / best possible RMSE = **1.1**" in english


def test_uncertainty_ordinary_text_and_reproduction(english: str) -> None:
    coverage = rows(english.split("### 4.4")[1], "noisy readings")
    assert coverage[2][1:] == [
        "95 %",
        r"81.25 % \[81 %, 90 %\]",
        r"95 % \[81 %, 90 %\]",
        "89 % – 100 %",
    ]
    assert "Calibration on 321 answers" in english
    assert r"| ordinary text | 3.125 | 3.15 \[2.835, 3.15\] | 1.0080 | 93.75 % |" in english
    assert "```bash\npython train.py fit --seed_everything 42\n```" in english
    assert "torch 2.13.0+cpu" in english
    assert "| seed | 42 |" in english
    assert "training 247.2" in english
    assert r"- Author: Ada \| Lovelace" in english


@pytest.mark.parametrize("language", ["english", "chinese"])
def test_nothing_is_printed_as_nan_or_minus_one(
    language: str, request: pytest.FixtureRequest
) -> None:
    text = request.getfixturevalue(language)
    assert not re.search(r"\b(nan|inf|none|null)\b", text, re.IGNORECASE)
    assert not re.search(r"(?<![\w.])-1(?![\w.])", text)
    assert "| perplexity | - |" in text or "| 困惑度 | - |" in text


def test_chinese_titles_come_in_order(chinese: str) -> None:
    lines = chinese.splitlines()
    places = [lines.index(title) for title in CHINESE_TITLES]
    assert places == sorted(places)
    assert "- 文档作者：Ada" in chinese
    assert re.search(r"- 创建时间：\d{4}-\d\d-\d\d", chinese)


def test_both_languages_have_the_same_sections_and_tables(english: str, chinese: str) -> None:
    for mark in ("\n## ", "\n### ", "\n#### ", "\n|---", "\n![", "\n| "):
        assert english.count(mark) == chinese.count(mark), mark


def test_missed_targets_are_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    rewrite(folder, "finetuned_results.json", lambda r: r["basic"].update(exact_match=0.975))
    write_report(folder, "a")
    english = (folder / "report.md").read_text(encoding="utf-8")
    assert "- ⚠ exact match on basic: 97.5 %, target ≥ 99 %" in english
    assert "(⚠ missed: ≥ 99 %)" in english
    assert "Every target was met" not in english
    assert "基础集的完全正确率：97.5 %，目标 ≥ 99 %" in (folder / "report.zh.md").read_text(
        "utf-8"
    )
    found = cards(read_run(folder), "en", percent)
    assert [card.good for card in found] == [True, False, False, True, True]
    assert [card.figure for card in found][2:] == ["4 / 5", "95 %", "× 1.008"]


def test_the_page_asks_for_nothing_outside_it(page: Page) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:", "#")), (tag, address)
    assert not re.search(r"url\(|@import", page.html)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 2 * len(CHARTS)
    assert all(image["src"].startswith("data:image/png;base64,iVBOR") for image in images)
    assert all(image["alt"] for image in images)


def test_the_page_has_both_languages_and_anchors_that_exist(page: Page) -> None:
    languages = [a["lang"] for tag, a in page.tags if tag == "div" and "lang" in a]
    assert languages == ["en", "zh-CN"]
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a["href"][1:] for tag, a in page.tags if tag == "a"]
    assert len(links) > 30
    assert set(links) <= set(ids)
    text = "".join(page.words)
    assert "Every target was met" in text
    assert "全部目标均已达到" in text
    assert 'class="card bad"' in page.html  # a floor is not beaten
    assert "⚠ short of the aim" in text


def test_text_of_examples_stays_text(english: str, page: Page) -> None:
    assert cell(AWKWARD_TEXT) in english
    assert [tag for tag, _ in page.tags if tag == "script"] == ["script"]  # the page's own
    assert AWKWARD_TEXT in "".join(page.words)
    assert "at | the `gate`" in "".join(page.words)
    (row,) = rows(english.split("The most frequent mistakes")[1], "basic")
    assert row == ["basic", r"at \| the \`gate\`", r"\<NUM\>", "red", "3"]


def test_own_data_without_calibration_groups_or_ordinary_text(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", names=("my_meters", "b|c"), calibrated=False)
    rewrite(folder, "finetuned_results.json", lambda r: r["my_meters"].update(groups={}))
    write_report(folder, "a")
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "published" not in text
    assert "These data have no targets" in text
    assert "were not calibrated" in text
    assert "calibrated 95 %" not in text
    assert r"| b\|c | 60 | 60 | your own data |" in text
    assert "No set of this run has texts without numbers." in text
    assert "| accuracy | - | 100 % / 100 % |" in text
    assert misses(read_run(folder).finetuned) == []


def test_errors_by_magnitude_are_pooled_where_there_are_no_extreme_values(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", names=("basic", "boundary_values"))
    other = [
        {
            "from": 1.0,
            "to": 10.0,
            "slots": 10,
            "exact_match": 0.25,
            "median_relative_error": 0.1,
            "rmse_all": 2.0,
        }
    ]
    rewrite(
        folder,
        "finetuned_results.json",
        lambda r: r["boundary_values"].update(by_magnitude=other),
    )
    write_report(folder, "a")
    text = (folder / "report.md").read_text(encoding="utf-8")
    # (30 * 0.75 + 10 * 0.25) / 40 and sqrt((30 * 0.5^2 + 10 * 2^2) / 40)
    assert "| 1 – 10 | 40 | 62.5 % | - | 1.09 |" in text
    assert "| 0 | 4 | 75 % | - | 0.5 |" in text
    assert "| < 1e-06 | 2 |" in text
    assert "| ≥ 1e+06 | 1 |" in text


def test_the_callback_writes_the_report(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    trainer: Any = SimpleNamespace(is_global_zero=True, log_dir=str(folder))
    WriteReport("Grace").on_train_end(trainer, LightningModule())
    assert "- Author: Grace" in (folder / "report.md").read_text(encoding="utf-8")
    assert "文档作者：Grace" in (folder / "report.html").read_text(encoding="utf-8")


def test_digits_that_were_never_parsed_have_no_error(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    nothing = {"rmse_all": None, "mae": None, "median_relative_error": None, "answered": 0.0}
    rewrite(
        folder,
        "floors.json",
        lambda f: f["basic"]["digits"].update(nothing, exact_match=0.0, beaten=None),
    )
    write_charts(folder)
    write_report(folder, "a")
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "| base model's own digits | - | - | - | 0 % | 100 % | - |" in text
    assert "12 (last number of the text)" in rows(text.split("### 4.1")[1], "basic")[0]


def test_findings(folder: Path) -> None:
    run = read_run(folder)
    assert unbeaten_floors(run) == {"noisy_readings": ["last_number"]}
    assert rmse_over_best(run, "noisy_readings") == pytest.approx(1.1)
    assert rmse_over_best(run, "basic") is None
    assert pooled_share({"a": {"f": None, "slots": 0}}, "f") is None
    assert run.sets_with_slots == [name for name in SETS if name != "ordinary_text"]

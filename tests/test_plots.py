"""Charts: drawn from a run's files in both languages, with titles, labels and real Chinese glyphs."""

import struct
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from synthetic_run import write_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks.charts import CHARTS, ComparisonCharts, chart_file, write_charts
from callbacks.plots import FONT_FILE, chart_style
from callbacks.run_files import RunFiles, read_run
from callbacks.words import LANGUAGES, every_word, set_label, words


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def run(folder: Path) -> RunFiles:
    return read_run(folder)


def draw(run: RunFiles, name: str, language: str = "en") -> Figure:
    with chart_style():
        figure = CHARTS[name](run, name, language)
        assert figure is not None
        figure.draw_without_rendering()
    return figure


def texts_of(figure: Figure) -> list[str]:
    return [legend.get_text() for legend in figure.legends[0].get_texts()]


def test_every_chart_is_written_in_both_languages(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # "Glyph ... missing from font(s)"
        figures = write_charts(folder)
    assert list(figures) == list(CHARTS)
    for name in CHARTS:
        images = [(folder / chart_file(name, language)).read_bytes() for language in LANGUAGES]
        assert images[0] != images[1]
        for image in images:
            width, height = struct.unpack(">II", image[16:24])
            assert width > 700
            assert height > 500


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", CHARTS)
def test_charts_have_title_and_axis_labels(run: RunFiles, name: str, language: str) -> None:
    figure = draw(run, name, language)
    assert figure.get_suptitle() == words(language)(name)
    for axes in figure.axes:
        assert axes.get_ylabel()
        names = [tick.get_text() for tick in axes.get_xticklabels()]
        below = axes.get_shared_x_axes().get_siblings(axes)  # whose label is theirs as well
        labelled = any(panel.get_xlabel() for panel in below)
        assert labelled or set_label("basic", language) in names
    assert len(figure.legends) == 1


def test_bars_are_the_figures_of_the_sets_with_numbers(run: RunFiles) -> None:
    axes = draw(run, "accuracy_comparison").axes[0]
    heights = [[bar.get_height() for bar in bars] for bars in axes.containers]
    assert heights == [[0.0] * 5, [1.0, 1.0, 1.0, 1.0, 0.99]]
    labels = [text.get_text() for text in axes.texts]
    assert labels == ["0 %"] * 5 + ["100 %"] * 4 + ["99 %"]


def test_zero_error_is_a_stub_at_the_lower_end_labelled_0(run: RunFiles) -> None:
    figure = draw(run, "rmse_comparison")
    axes = figure.axes[0]
    assert axes.get_yscale() == "log"
    before, after, constant, *_ = axes.containers
    assert before[0].get_height() + before[0].get_y() == pytest.approx(246.75)
    assert constant[0].get_height() + constant[0].get_y() == pytest.approx(40)
    assert after[0].get_y() == axes.get_ylim()[0]
    assert 0 < after[0].get_height() < 0.2 * axes.get_ylim()[0]
    assert [text.get_text() for text in axes.texts[5:10]] == ["0", "0", "0", "0", "1.65"]
    assert texts_of(figure).count("best possible") == 1


def test_predicted_vs_true_tells_copies_from_new_values(run: RunFiles) -> None:
    figure = draw(run, "predicted_vs_true")
    by_name = {axes.get_title(): axes for axes in figure.axes}
    assert list(by_name)[-1] == "noisy readings"
    assert by_name["extreme values"].get_xscale() == "symlog"
    assert by_name["basic"].get_xscale() == "linear"
    intervals, copied, new = by_name["noisy readings"].collections
    assert len(copied.get_offsets()) == 0
    assert len(new.get_offsets()) == 60
    assert 0 < len(intervals.get_segments()) <= 40
    assert len(by_name["basic"].collections[1].get_offsets()) == 60


def test_reliability_shows_the_uncertain_set_and_counts_levels(run: RunFiles) -> None:
    figure = draw(run, "reliability")
    (axes,) = figure.axes
    assert axes.get_title() == "noisy readings"
    own = axes.lines[1]
    levels = [row.level for row in run.answers if row.name == "noisy_readings"]
    for nominal, actual in zip(own.get_xdata(), own.get_ydata(), strict=True):
        assert actual == pytest.approx(sum(level < nominal for level in levels) / len(levels))


def test_no_calibration_is_drawn_where_there_was_none(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", calibrated=False))
    assert "after calibration" not in texts_of(draw(run, "reliability"))


def test_training_curves_smooth_and_start_where_training_did(run: RunFiles) -> None:
    figure = draw(run, "training_curves")
    assert len(figure.axes) == 3
    raw, smooth, validation = figure.axes[0].lines
    assert raw.get_ydata()[0] == pytest.approx(smooth.get_ydata()[0]) == 3
    assert list(validation.get_xdata()) == [399]


def test_no_curves_no_chart(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", names=("basic",))
    for events in folder.glob("events*"):
        events.unlink()
    assert "training_curves" not in write_charts(folder)
    assert not (folder / "training_curves.png").exists()


def test_the_callback_draws_into_folder_and_tensorboard(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", names=("noisy_readings",))
    logger = TensorBoardLogger(save_dir=tmp_path, name="", version="run")
    trainer: Any = SimpleNamespace(
        is_global_zero=True, logger=logger, log_dir=str(folder), global_step=7
    )
    ComparisonCharts().on_train_end(trainer, LightningModule())
    logger.experiment.close()
    events = EventAccumulator(str(folder)).Reload()
    assert set(events.Tags()["images"]) == {f"charts/{name}" for name in CHARTS}
    assert events.Images("charts/reliability")[0].step == 7
    assert len(list(folder.glob("*.png"))) == 2 * len(CHARTS)


def test_sets_of_ones_own_keep_their_names(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", names=("my_$meters$", "b")))
    axes = draw(run, "rmse_comparison", "zh").axes[0]
    # An escaped dollar sign is drawn as one; two bare ones would be a formula.
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [r"my \$meters\$", "b"]


def test_every_chinese_character_has_a_glyph() -> None:
    font = FT2Font(str(FONT_FILE))
    latin = FT2Font(font_manager.findfont("DejaVu Sans"))
    for character in sorted(set("".join(every_word("zh")))):
        assert font.get_char_index(ord(character)) or latin.get_char_index(ord(character)), (
            character
        )
    chinese = [c for c in "".join(every_word("zh")) if "\u4e00" <= c <= "\u9fff"]
    assert len(chinese) > 300
    assert all(font.get_char_index(ord(character)) for character in chinese)


def test_both_languages_say_everything() -> None:
    for english, chinese in zip(every_word("en"), every_word("zh"), strict=True):
        assert english
        assert chinese
        assert not any("\u4e00" <= character <= "\u9fff" for character in english)

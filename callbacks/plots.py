"""Charts as pure functions: figures in, a Matplotlib figure out."""

from matplotlib.figure import Figure

from callbacks.evaluation import Results

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BEFORE_COLOUR, AFTER_COLOUR = "#E69F00", "#0072B2"
_FLOOR = 1e-6  # where a logarithmic axis shows an error of zero


def comparison(
    baseline: Results,
    finetuned: Results,
    metric: str,
    title: str,
    axis: str,
    log: bool = False,
    top: float | None = None,
) -> Figure:
    """Grouped bars of one metric on every evaluation set, before and after fine-tuning.

    Args:
        baseline: Results before.
        finetuned: Results after.
        metric: Which figure.
        title: Title of the chart.
        axis: Label of the vertical axis, with its unit or direction.
        log: Logarithmic axis; a zero is drawn at the axis' lower end and labelled 0.
        top: Upper end of the axis.
    """
    figure = Figure(figsize=(8.5, 4.8), layout="constrained", dpi=150)
    axes = figure.subplots()
    width = 0.38
    drawn: list[float] = []
    for offset, results, label, colour in (
        (-width / 2, baseline, "before fine-tuning", BEFORE_COLOUR),
        (width / 2, finetuned, "after fine-tuning", AFTER_COLOUR),
    ):
        values = [results[name][metric] for name in baseline]
        heights = [_height(value, log) for value in values]
        drawn += heights
        bars = axes.bar(
            [i + offset for i in range(len(values))], heights, width, label=label, color=colour
        )
        axes.bar_label(bars, [_label(value) for value in values], padding=2, fontsize=9)
    axes.set_xticks(range(len(baseline)), [name.replace("_", " ") for name in baseline])
    axes.set_title(title, pad=12)
    axes.set_ylabel(axis)
    if log:
        axes.set_yscale("log")
        axes.set_ylim(min(drawn) / 2, max(drawn) * 5)
    elif top is not None:
        axes.set_ylim(0, top)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure


def _height(value: float | None, log: bool) -> float:
    if value is None:
        return _FLOOR if log else 0.0
    return max(value, _FLOOR) if log else value


def _label(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"

"""The benchmark of training speed: turns, arms that do the same work, figures."""

import json
import threading
import time
from pathlib import Path

import pytest

from benchmarks import train_speed
from benchmarks.step_profile import kind_of
from benchmarks.train_arms import joined, with_answers
from benchmarks.train_speed import figures, texts
from benchmarks.trainer_turns import Sample, Turn, Turns
from numlm.batch import Record, count_labels


def test_arms_move_one_at_a_time_and_in_order() -> None:
    moving, order = [], []
    lock = threading.Lock()

    def arm(name: str, seconds: float) -> object:
        def run(turn: Turn) -> None:
            for step in range(6):
                with lock:
                    moving.append(name)
                    assert moving == [name]
                time.sleep(seconds)
                order.append((step, name))
                moving.clear()
                turn.stepped(10, 1e6)

        return run

    turns = Turns(2, 3).run({"slow": arm("slow", 0.05), "quick": arm("quick", 0.001)})
    assert order == [(step, name) for step in range(6) for name in ("slow", "quick")]
    for name, least in (("slow", 0.05), ("quick", 0.001)):
        assert len(turns[name].samples) == 3, "of six steps two warm up and one shows its memory"
        assert all(sample.seconds >= least for sample in turns[name].samples)
        assert all(sample.seconds < least + 0.045 for sample in turns[name].samples), "not both's"


def test_an_arm_that_fails_or_stops_early_ends_all() -> None:
    def endless(turn: Turn) -> None:
        for _ in range(6):
            turn.stepped(1, 1.0)

    def failing(turn: Turn) -> None:
        turn.stepped(1, 1.0)
        raise ValueError("no more")

    def short(turn: Turn) -> None:
        turn.stepped(1, 1.0)

    with pytest.raises(ValueError, match="no more"):
        Turns(2, 3).run({"endless": endless, "failing": failing})
    with pytest.raises(RuntimeError, match="made 1 steps, not 6"):
        Turns(2, 3).run({"endless": endless, "short": short})


def test_memory_of_a_step_is_seen() -> None:
    def hungry(turn: Turn) -> None:
        for _ in range(4):
            block = bytearray(b"x" * 2**26)
            del block
            turn.stepped(1, 1.0)

    def modest(turn: Turn) -> None:
        for _ in range(4):
            turn.stepped(1, 1.0)

    turns = Turns(1, 2).run({"hungry": hungry, "modest": modest})
    assert turns["hungry"].memory >= 2**26 > 8 * turns["modest"].memory


def test_ratios_are_of_the_same_round() -> None:
    first, other, product = Turn(None), Turn(None), Turn(None)
    first.samples = [Sample(1.0, 10, 1e9), Sample(2.0, 20, 1e9), Sample(4.0, 10, 1e9)]
    other.samples = [Sample(0.5, 10, 1e9), Sample(1.0, 20, 1e9), Sample(1.0, 10, 1e9)]
    product.samples = [Sample(1.0, 0, 2e9)] * 3
    rows = figures({"A": first, "C": other, "matrix product": product})
    assert [row.get("ratio") for row in rows] == [1.0, 2.0, None]
    assert rows[1]["tokens_per_second"] == 20
    assert rows[1]["share_of_product"] == 0.5


def test_texts_are_joined_whole_and_labelled_in_part() -> None:
    records = texts(40, None)
    long = joined(records, 64, 7)
    assert all(len(record.input_ids) == 64 for record in long)
    row = [i for record in records for i in record.input_ids]
    assert [i for record in long for i in record.input_ids] == row[: 64 * len(long)]
    labels = count_labels(with_answers(records), 7)[:, 0].sum()
    assert 0.1 < labels / len(row) < 0.2
    numbered = joined([Record([1, 7, 2], [5.0]), Record([7, 7, 3], [6.0, 8.0])], 2, 7)
    assert [record.values for record in numbered] == [[5.0], [6.0], [8.0]]


def test_work_is_that_of_the_notes_on_speed() -> None:
    """A token of 0.5B in a text of 512: 2.147 + 0.066 + 0.817 GFLOP."""
    from benchmarks.memory_formulas import QWEN25
    from benchmarks.train_arms import Job

    job = Job("", QWEN25["0.5B"], [], [], 1, 1, "32-true", Path())
    assert job.flop([512], 512) / 512 / 1e9 == pytest.approx(2.147 + 0.066 + 0.817, abs=2e-3)


@pytest.mark.slow
def test_every_arm_learns_from_the_same_tokens(tmp_path: Path) -> None:
    file, chart = tmp_path / "speed.json", tmp_path / "speed.png"
    rows = train_speed.main(
        ["--arms", "ACDEFG", "--batch", "4", "--warm-up", "1", "--rounds", "2",
         "--json", str(file), "--chart", str(chart)]
    )  # fmt: skip
    assert [row["arm"][0] for row in rows] == [*"ACDEFG", "m"]
    assert all(row["tokens_per_second"] > 0 for row in rows[:-1])
    assert chart.stat().st_size > 10_000
    found = json.loads(file.read_text())
    ours = {name: [s[1] for s in found["samples"][name]] for name in found["samples"]}
    assert ours["C: softmax"] == ours["D: one-vs-rest"] == ours["G: backbone alone"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::addmm_", "products"),
        ("aten::_fused_adamw_", "optimizer and clipping"),
        ("aten::linalg_vector_norm", "optimizer and clipping"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention"),
        ("aten::silu_backward", "elementwise"),
        ("aten::index_copy_", "gathers and copies"),
        ("aten::_log_softmax", "softmax and logarithms"),
        ("autograd::engine::evaluate_function: MmBackward0", "Python and the rest"),
    ],
)
def test_an_operation_has_a_kind(name: str, kind: str) -> None:
    assert kind_of(name) == kind

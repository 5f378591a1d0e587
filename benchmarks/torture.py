r"""Kills a run again and again, and compares what it comes to with a run that nobody killed.

    python benchmarks/torture.py              # the default experiment, 25 kills: two hours or so
    python benchmarks/torture.py --ends 5     # the same, most of it compared earlier
    python benchmarks/torture.py --kills 3 -- --config configs/smoke.yaml --trainer.max_steps 6

First the experiment runs undisturbed, and a watch is kept on when its files appear. Moments are
drawn uniformly from that time (a fifth of them: while a checkpoint is being written). Then a
victim is started, killed with SIGKILL at the first moment, resumed with `--ckpt_path auto`, killed
at the second, and so on. After every kill a copy of what is left of it is resumed to its end, and
that model's files are compared with the undisturbed run's, byte for byte. So the k-th copy has
survived k kills. Every other process has its temporary folder on another filesystem.

With `--ends` fewer of the copies go to their ends; of the others the first checkpoint that they
write is compared with the undisturbed run's of the same step: weights, optimizer, schedule, loops.

All processes have one thread: what floating-point sums come to depends on how many there are.
"""

import argparse
import concurrent.futures
import contextlib
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from callbacks.checkpoints import CHECKPOINT_FOLDER  # noqa: E402
from callbacks.results import FINETUNED_FILE  # noqa: E402
from callbacks.run_folder import RUN_FILE, read_json  # noqa: E402
from numlm.checkpoint_files import (  # noqa: E402
    checkpoint_files,
    checkpoint_name,
    checkpoint_step,
)

RUN = "run"
_OTHER_FILESYSTEM = Path("/dev/shm")
_UNFINISHED = f"{CHECKPOINT_FOLDER}/.unfinished-*"
_BEFORE_TRAINING = ("run", "baseline", "floors")
_POLL = 0.002
_FREQUENT = 5  # every so many kills wait for a checkpoint that is being written


class Moment(NamedTuple):
    """When to kill: so long after a file of the run has appeared.

    Attributes:
        event: The file, or "start".
        seconds: How long after it.
        in_write: Instead, when the next checkpoint after that is being written.
    """

    event: str
    seconds: float
    in_write: bool

    def __str__(self) -> str:
        after = "a write after" if self.in_write else f"{self.seconds:.1f} s after"
        return f"{after} {Path(self.event).stem}"


def train(
    folder: Path, options: Sequence[str], temporary: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start or resume the run in a folder."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if temporary is not None:
        environment["TMPDIR"] = str(temporary)
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(ROOT / "train.py"), "fit", *options, "--ckpt_path", "auto"]
    command += ["--trainer.logger.save_dir", str(folder), "--trainer.logger.run", RUN]
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(command, env=environment, stdout=output, stderr=output)


def events(run: Path) -> dict[str, float]:
    """When the files of a run were last written, by their names in its folder."""
    times = {}
    for kind in ("*.json", f"{CHECKPOINT_FOLDER}/*.ckpt", "model/*.json"):
        for file in run.glob(kind):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                times[str(file.relative_to(run))] = file.stat().st_mtime
    return times


def undisturbed(folder: Path, options: Sequence[str]) -> list[tuple[float, str]]:
    """Run to the end; (seconds, file) of everything that appeared, from "start" to "end"."""
    begin = time.monotonic()
    process = train(folder, options)
    timeline = [(0.0, "start")]
    known: set[str] = set()
    while process.poll() is None:
        new = events(folder / RUN).keys() - known
        known |= new
        timeline += [(time.monotonic() - begin, name) for name in sorted(new)]
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"error: the undisturbed run failed; see {folder / 'output.txt'}")
    return [*timeline, (time.monotonic() - begin, "end")]


def draw(timeline: Sequence[tuple[float, str]], kills: int, seed: int) -> list[Moment]:
    """Moments to kill at, in the order of the run."""
    source = random.Random(seed)
    steps = [i for i, (_, name) in enumerate(timeline) if name.endswith(".ckpt")]
    times = sorted(source.uniform(0, timeline[-1][0]) for _ in range(kills))
    moments = []
    for number, at in enumerate(times):
        place = max(i for i, (seconds, _) in enumerate(timeline) if seconds <= at)
        in_write = number % _FREQUENT == _FREQUENT // 2 and steps[0] <= place < steps[-1]
        seconds, name = timeline[place]
        moments.append(Moment(name, at - seconds, in_write))
    return moments


class Session:
    """One life of the victim, from its start until it is killed.

    Args:
        folder: Its folder.
        process: Its process.
    """

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.run = folder / RUN
        self.process = process
        self.start = time.time()
        self.known = events(self.run)
        self.resumes = self._resumes()

    def kill_at(self, moment: Moment) -> bool:
        """Wait for the moment and kill; False if the process had ended by itself."""
        wait = self._wait
        alive = wait(lambda: self._reached(moment.event))
        if alive and moment.in_write:
            alive = wait(lambda: any(self.run.glob(_UNFINISHED)))
        elif alive:
            end = time.monotonic() + moment.seconds
            alive = wait(lambda: time.monotonic() >= end)
        if not alive:
            return False
        self.process.kill()
        self.process.wait()
        return True

    def _wait(self, condition: Callable[[], bool]) -> bool:
        while not condition():
            if self.process.poll() is not None:
                return False
            time.sleep(_POLL)
        return self.process.poll() is None

    def _reached(self, event: str) -> bool:
        """Whether the file is there, or what comes after it has begun again."""
        if event == "start" or events(self.run).get(event, 0.0) >= self.start:
            return True
        if event not in self.known:
            return False
        if checkpoint_step(Path(event)) is None:  # of after training it is written anew
            return event.startswith(_BEFORE_TRAINING)
        return self._resumes() > self.resumes

    def _resumes(self) -> int:
        record = self.run / RUN_FILE
        return len(read_json(record).get("resumed", [])) if record.exists() else 0


def _checkpoints(run: Path) -> list[Path]:
    return checkpoint_files(run / CHECKPOINT_FOLDER)


def _newest(run: Path) -> Path | None:
    return next(reversed(_checkpoints(run)), None)


def state(run: Path, step: int) -> str:
    """SHA-256 of all that decides how a run goes on from a step."""
    path = run / CHECKPOINT_FOLDER / checkpoint_name(step)
    checkpoint = torch.load(path, weights_only=True)
    found = hashlib.sha256()

    def add(part: Any) -> None:  # noqa: ANN401
        if isinstance(part, torch.Tensor):
            found.update(f"{part.dtype} {tuple(part.shape)}".encode())
            found.update(part.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(part, dict):
            for key, value in part.items():
                found.update(repr(key).encode())
                add(value)
        elif isinstance(part, list | tuple):
            for value in part:
                add(value)
        else:
            found.update(repr(part).encode())

    for name in ("state_dict", "optimizer_states", "lr_schedulers", "loops", "global_step"):
        add(checkpoint[name])
    return found.hexdigest()


def digest(run: Path) -> str:
    """SHA-256 of the model that a run has exported."""
    weights = hashlib.sha256()
    for file in sorted((run / "model").glob("*.safetensors")):
        weights.update(file.read_bytes())
    return weights.hexdigest()


def finish(process: subprocess.Popen[bytes], folder: Path, until: Path | None) -> None:
    """Wait for a resumed run to end, or for a checkpoint of it and stop it there.

    Raises:
        RuntimeError: If it ends with an error.
    """
    try:
        while process.poll() is None and not (until and until.exists()):
            time.sleep(0.1)
        code = process.poll()
    finally:
        process.kill()
        process.wait()
    if code:
        tail = (folder / "output.txt").read_text(encoding="utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"resumed, it ended with exit code {code}:\n{tail}")


class Comparison:
    """Resumes copies of what was killed and compares them with the undisturbed run.

    Args:
        run: The undisturbed run's folder.
        options: Those of the run.
    """

    def __init__(self, run: Path, options: Sequence[str]) -> None:
        self.run = run
        self.options = options
        self.weights = digest(run)
        self.results = read_json(run / FINETUNED_FILE)
        self.steps = [checkpoint_step(path) or 0 for path in _checkpoints(run)]

    def __call__(
        self, row: dict[str, Any], copy: Path, temporary: Path | None, to_the_end: bool
    ) -> dict[str, Any]:
        """Add to a row of the table whether a copy came to the same."""
        start = time.monotonic()
        later = [step for step in self.steps[:-1] if step > (row["resumed_from"] or 0)]
        step = None if to_the_end or not later else later[0]
        until = step and copy / RUN / CHECKPOINT_FOLDER / checkpoint_name(step)
        finish(train(copy, self.options, temporary), copy, until or None)
        if step:
            row["equal"] = state(copy / RUN, step) == state(self.run, step)
        else:
            row["equal"] = digest(copy / RUN) == self.weights
            row["equal"] &= read_json(copy / RUN / FINETUNED_FILE) == self.results
        row["compared_at"] = step or "the end"
        row["seconds"] = round(time.monotonic() - start, 1)
        shutil.rmtree(copy)
        return row


def torture(
    folder: Path, options: Sequence[str], kills: int, ends: int, seed: int, jobs: int
) -> dict[str, Any]:
    """Kill, resume and compare; figures of every kill."""
    begin = time.monotonic()
    keep = ["--trainer.callbacks.keep", "1000000"]
    timeline = undisturbed(folder / "undisturbed", [*options, *keep])
    print(f"undisturbed: {timeline[-1][0]:.0f} s", flush=True)
    compare = Comparison(folder / "undisturbed" / RUN, options)
    elsewhere = _OTHER_FILESYSTEM if _OTHER_FILESYSTEM.is_dir() else None
    victim = folder / "victim"
    whole_ones = {round(i * kills / ends) + 1 for i in range(ends)}

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        running = []
        bar = tqdm(draw(timeline, kills, seed), desc="Kills", unit=" kills")
        for number, moment in enumerate(bar, start=1):
            temporary = elsewhere if number % 2 else None
            before = folder / "before"
            if victim.exists():
                shutil.copytree(victim, before, dirs_exist_ok=False, symlinks=True)
            while not Session(victim, train(victim, options, temporary)).kill_at(moment):
                # It was faster than the undisturbed run: once more, earlier.
                shutil.rmtree(victim)
                if before.exists():
                    shutil.copytree(before, victim, symlinks=True)
                moment = moment._replace(seconds=moment.seconds / 2)
            shutil.rmtree(before, ignore_errors=True)
            newest = _newest(victim / RUN)
            row = {
                "kill": number,
                "moment": str(moment),
                "unfinished_files": len(list((victim / RUN).glob(_UNFINISHED))),
                "resumed_from": newest and checkpoint_step(newest),
                "temporary_folder": str(temporary or "default"),
            }
            copy = folder / f"kill_{number}"
            shutil.copytree(victim, copy, symlinks=True)
            running.append(pool.submit(compare, row, copy, temporary, number in whole_ones))
        done = concurrent.futures.as_completed(running)
        rows = [end.result() for end in tqdm(done, total=kills, desc="Compared", unit=" runs")]
    finish(train(victim, options), victim, None)
    rows.sort(key=lambda row: row["kill"])
    return {
        "equal": sum(row["equal"] for row in rows),
        "victim_equal": digest(victim / RUN) == compare.weights,
        "kills": kills,
        "seed": seed,
        "options": list(options),
        "sha256": compare.weights,
        "seconds_undisturbed": round(timeline[-1][0], 1),
        "seconds": round(time.monotonic() - begin, 1),
        "rows": rows,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for every kill and how many ended equal; exit code 1 if not all did."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument(
        "--ends", type=int, help="how many copies go to their ends; all if not given"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--jobs", type=int, default=2, help="resumed runs at a time")
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "torture")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("options", nargs="*", help="of `train.py fit`, after `--`")
    chosen = parser.parse_args(arguments)
    if chosen.folder.exists():
        raise SystemExit(f"error: {chosen.folder} is there: remove it, or give another --folder")
    ends = chosen.ends or chosen.kills
    found = torture(chosen.folder, chosen.options, chosen.kills, ends, chosen.seed, chosen.jobs)
    print(f"{'kill':>4}  {'moment':<44}{'from step':>10}{'cut':>5}{'until':>9}{'s':>8}  equal")
    for row in found["rows"]:
        start = "-" if row["resumed_from"] is None else row["resumed_from"]
        print(
            f"{row['kill']:>4}  {row['moment']:<44}{start:>10}{row['unfinished_files']:>5}"
            f"{row['compared_at']:>9}{row['seconds']:>8}  {'yes' if row['equal'] else 'NO'}"
        )
    print(f"{found['equal']} of {found['kills']} equal, {found['seconds']:.0f} s")
    last = "the same weights" if found["victim_equal"] else "OTHER weights"
    print(f"killed {found['kills']} times, the victim itself came to {last}")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if found["equal"] < found["kills"] or not found["victim_equal"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

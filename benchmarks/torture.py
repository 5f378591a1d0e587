r"""Kills a run again and again, and compares what it comes to with a run that nobody killed.

    python benchmarks/torture.py         # the default experiment, 25 kills: more than an hour
    python benchmarks/torture.py --kills 3 -- --config configs/smoke.yaml --trainer.max_steps 6

First the experiment runs undisturbed, and a watch is kept on when its files appear. Moments are
drawn uniformly from that time (a fifth of them: while a checkpoint is being written). Then a
victim is started, killed with SIGKILL at the first moment, resumed with `--ckpt_path auto`, killed
at the second, and so on. After every kill a copy of what is left of it is resumed to its end, and
that model's files are compared with the undisturbed run's, byte for byte. So the k-th copy has
survived k kills. Every other process has its temporary folder on another filesystem.

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

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from callbacks.checkpoints import CHECKPOINT_FOLDER  # noqa: E402
from callbacks.results import FINETUNED_FILE  # noqa: E402
from callbacks.run_folder import RUN_FILE, read_json  # noqa: E402
from numlm.checkpoint_files import checkpoint_files, checkpoint_step  # noqa: E402

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


def _newest(run: Path) -> Path | None:
    return next(reversed(checkpoint_files(run / CHECKPOINT_FOLDER)), None)


def digest(run: Path) -> str:
    """SHA-256 of the model that a run has exported."""
    weights = hashlib.sha256()
    for file in sorted((run / "model").glob("*.safetensors")):
        weights.update(file.read_bytes())
    return weights.hexdigest()


def finish(folder: Path, options: Sequence[str], temporary: Path | None) -> None:
    """Resume what was killed, to its end.

    Raises:
        RuntimeError: If it does not come to its end.
    """
    process = train(folder, options, temporary)
    try:
        code = process.wait()
    finally:
        process.kill()
    if code:
        tail = (folder / "output.txt").read_text(encoding="utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"resumed, it ended with exit code {code}:\n{tail}")


def torture(
    folder: Path, options: Sequence[str], kills: int, seed: int, jobs: int
) -> dict[str, Any]:
    """Kill, resume and compare; figures of every kill."""
    begin = time.monotonic()
    timeline = undisturbed(folder / "undisturbed", options)
    print(f"undisturbed: {timeline[-1][0]:.0f} s", flush=True)
    whole = digest(folder / "undisturbed" / RUN)
    results = read_json(folder / "undisturbed" / RUN / FINETUNED_FILE)
    elsewhere = _OTHER_FILESYSTEM if _OTHER_FILESYSTEM.is_dir() else None
    victim = folder / "victim"

    def compare(row: dict[str, Any], copy: Path, temporary: Path | None) -> dict[str, Any]:
        start = time.monotonic()
        finish(copy, options, temporary)
        row["seconds_to_the_end"] = round(time.monotonic() - start, 1)
        row["sha256"] = digest(copy / RUN)
        row["equal"] = row["sha256"] == whole
        row["results_equal"] = read_json(copy / RUN / FINETUNED_FILE) == results
        row["left_behind"] = len(list((copy / RUN).glob(_UNFINISHED)))
        shutil.rmtree(copy)
        return row

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        ends = []
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
            ends.append(pool.submit(compare, row, copy, temporary))
        done = concurrent.futures.as_completed(ends)
        rows = [end.result() for end in tqdm(done, total=kills, desc="Ends", unit=" runs")]
    rows.sort(key=lambda row: row["kill"])
    return {
        "equal": sum(row["equal"] and row["results_equal"] for row in rows),
        "kills": kills,
        "seed": seed,
        "options": list(options),
        "sha256": whole,
        "seconds_undisturbed": round(timeline[-1][0], 1),
        "seconds": round(time.monotonic() - begin, 1),
        "rows": rows,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for every kill and how many ended equal; exit code 1 if not all did."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--jobs", type=int, default=2, help="resumed runs at a time")
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "torture")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("options", nargs="*", help="of `train.py fit`, after `--`")
    chosen = parser.parse_args(arguments)
    if chosen.folder.exists():
        raise SystemExit(f"error: {chosen.folder} is there: remove it, or give another --folder")
    found = torture(chosen.folder, chosen.options, chosen.kills, chosen.seed, chosen.jobs)
    print(f"{'kill':>4}  {'moment':<44}{'from step':>10}{'cut':>5}{'end, s':>8}  equal")
    for row in found["rows"]:
        start = "-" if row["resumed_from"] is None else row["resumed_from"]
        equal = "yes" if row["equal"] and row["results_equal"] else "NO"
        print(
            f"{row['kill']:>4}  {row['moment']:<44}{start:>10}{row['unfinished_files']:>5}"
            f"{row['seconds_to_the_end']:>8}  {equal}"
        )
    print(f"{found['equal']} of {found['kills']} equal, {found['seconds']:.0f} s")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if found["equal"] < found["kills"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

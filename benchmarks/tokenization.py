"""Rows a second and greatest memory of tokenizing own data, and of reading them again.

    python benchmarks/tokenization.py --rows 1000000

Each size is tokenized in a process of its own, so that its peak is its own; the first one shows
what the program needs without data.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def write_rows(path: Path, count: int) -> None:
    """Prompts with answers and whole texts in turn, about 90 characters each."""
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            volts, color = round(rng.uniform(0, 100), 2), rng.choice(["red", "green", "blue"])
            if i % 2:
                prompt = f"The {color} lamp shows {volts} volts in the hall. So it is"
                row = {"prompt": prompt, "answer": f"{volts} volts"}
            else:
                row = {"text": f"The {color} pump is at {volts} bar and {i % 99} degrees."}
            file.write(json.dumps(row) + "\n")


def tokenize(path: Path, model: str, cache: Path) -> dict[str, float]:
    """Tokenize a file twice; the second time it comes from the cache."""
    from datamodules.rows import Columns
    from datamodules.token_store import TokenStore, build_store
    from numlm.checkpoint import load_tokenizer, tokenizer_fingerprint
    from numlm.tokenization import NumberTokenizer

    base = load_tokenizer(model)
    key = tokenizer_fingerprint(base)
    tokenizer = NumberTokenizer(base, len(base))
    seconds = []
    for _ in range(2):
        start = time.monotonic()
        found = build_store(str(path), "train", Columns(), tokenizer, key, 1024, "raise", cache)
        store = TokenStore(cache / found)
        seconds.append(time.monotonic() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "rows": len(store),
        "seconds": round(seconds[0], 2),
        "rows_per_second": round(len(store) / seconds[0]),
        "seconds_again": round(seconds[1], 2),
        "tokens": int(store.lengths.sum()),
        "peak_mib": round(peak, 1),
    }


def main() -> None:
    """Measure sizes up to --rows, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the greatest size")
    parser.add_argument(
        "--model", default=str(ROOT / "assets" / "tiny-qwen2"), help="whose tokenizer"
    )
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)  # one size, in its process
    options = parser.parse_args()
    if options.file:
        found = tokenize(options.file, options.model, options.file.parent / "cache")
        print(json.dumps(found))
        return
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (1000, options.rows // 10, options.rows):
            path = Path(folder) / f"{count}.jsonl"
            write_rows(path, count)
            command = [sys.executable, __file__, "--file", str(path), "--model", options.model]
            written = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            figures.append(json.loads(written))
            print(figures[-1], flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""A page in the browser to try an exported model.

make demo                                   # sets up .venv first
python -m demo                              # results/latest/model at http://127.0.0.1:7860
python -m demo --model FOLDER --port 8000
"""

import sys
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from pathlib import Path

from numlm import NumberLM
from numlm.checkpoint import NUMBER_CONFIG, ModelNotFoundError
from numlm.identity import ModelMismatchError
from numlm.lora import PeftMissingError


def main(args: list[str] | None = None) -> None:
    """Load a model and serve its page; errors that a user can mend are one sentence."""
    parser = ArgumentParser(
        prog="python -m demo",
        description="Serve a page on which a model continues texts and explains its numbers.",
        formatter_class=ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--model", default="results/latest/model", metavar="FOLDER", help="an exported model"
    )
    parser.add_argument("--port", type=int, default=7860, help="where the page is served")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at; 0.0.0.0 lets other machines use the page",
    )
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run code that comes with the model, which can do anything that you can",
    )
    options = parser.parse_args(args)
    try:
        model = load(options.model, options.trust_remote_code)
    except (ModelMismatchError, ModelNotFoundError, PeftMissingError) as error:
        raise SystemExit(f"error: {error}") from None
    try:
        from demo.app import build, serve
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise SystemExit("error: the page needs Gradio: pip install -e '.[demo]'") from None
    where = f"{options.host}:{options.port}"
    print(f"http://{where} (Ctrl-C ends it)", flush=True)
    try:
        serve(build(model), options.host, options.port)
    except OSError:
        raise SystemExit(
            f"error: cannot listen at {where}, which may be in use: give another --port"
        ) from None


def load(folder: str, trust_remote_code: bool = False) -> NumberLM:
    """The model of a folder, ready to answer.

    Args:
        folder: The folder.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        ModelNotFoundError: If there is no whole model in the folder.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise ModelNotFoundError(
            f"there is no model at '{folder}': run `make experiment` first, or give the folder of "
            "an exported model with --model"
        )
    if not (path / NUMBER_CONFIG).exists():
        print(f"'{folder}' is a plain backbone: its number heads are untrained", file=sys.stderr)
    return NumberLM.from_pretrained(path, trust_remote_code=trust_remote_code).eval()


if __name__ == "__main__":
    main()

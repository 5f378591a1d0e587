"""Make the embedded checkpoint `assets/tiny-qwen2/` from a seed and measure its quality.

    python assets/pretrain_tiny_qwen2.py                # under an hour on two CPU cores
    python assets/pretrain_tiny_qwen2.py --steps 100 --output /tmp/tiny     # to see it run

A Qwen2 of 1.6 million parameters learns generated text whose numbers are written as digits,
one token a digit, as Qwen's are. It is a real baseline for the experiment: it restates a number
digit by digit, looks one up by name among several, and has never seen `<NUM>`. None of the
evaluation's sentences and none of its unseen wording is in its training text.

What makes looking up emerge quickly: several facts and several questions in one text with the loss
on every answer, short forms (`name = 42.5;`) until they are mastered and sentences after that, many attention heads, and Muon for
the matrices.
"""

import argparse
import copy
import itertools
import json
import math
import string
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datamodules import training_mix
from datamodules.examples import Example
from datamodules.number_data_module import EVALUATION_SETS
from datamodules.scenes import Scene, draw_distinct
from datamodules.values import basic_value
from numlm.parsing import find_numbers

ROWS = 1408  # rows of the embedding table; the tokenizer leaves some of them spare, as Qwen's does
VOCABULARY = 1390
END = "<|endoftext|>"
# Qwen's pre-tokenizer with Chinese characters one by one, which keeps a small vocabulary's names
# whole.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{Han}|[^\r\n\p{L}\p{N}]?[\p{L}&&[^\p{Han}]]+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SHORT_MASTERED = 0.8  # share of short forms answered rightly from which on sentences are practised
WEIGHT_ANSWER, WEIGHT_TEXT, WEIGHT_UNPREDICTABLE = 1.0, 0.1, 0.01


def short_forms(seed: str) -> Iterator[Example]:
    """Facts and questions at their shortest: `the red lamp = 42.5; the red lamp = 42.5;`."""
    random = Random(seed)
    while True:
        facts = random.randint(2, 6)
        scene = Scene(random, basic_value, facts)
        order = random.sample(range(facts), facts) + [
            random.randrange(facts) for _ in range(random.randint(0, 3))
        ]
        if random.random() < 0.5:
            scene.values = draw_distinct(random, lambda r: str(r.randint(0, 9)), facts)
        joiner = random.choice((" = ", ": ", " "))
        parts = [f"{scene.names[i]}{joiner}{scene.values[i]};" for i in [*range(facts), *order]]
        yield Example(" ".join(parts), tuple(range(facts, facts + len(order))), scene.language)


def train_tokenizer(texts: Iterator[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE with single digits."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY, initial_alphabet=alphabet, special_tokens=[END]
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=END,
        clean_up_tokenization_spaces=False,
    )


def make_model(seed: int) -> nn.Module:
    """The randomly initialised model."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=ROWS,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


class Weighted:
    """Texts as ids with a loss weight per token.

    Args:
        tokenizer: The tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer

    def __call__(self, examples: list[Example]) -> list[tuple[Tensor, Tensor]]:
        """For each example its ids and weights, both (T,)."""
        encoded = self.tokenizer([e.text for e in examples], return_offsets_mapping=True)
        pairs = []
        for example, ids, offsets in zip(
            examples, encoded["input_ids"], encoded["offset_mapping"], strict=True
        ):
            by_character = [WEIGHT_TEXT] * len(example.text)
            for i, (start, end, _) in enumerate(find_numbers(example.text)):
                weight = WEIGHT_ANSWER if i in example.answers else WEIGHT_UNPREDICTABLE
                by_character[start:end] = [weight] * (end - start)
                if i in example.answers and end < len(by_character):
                    by_character[end] = WEIGHT_ANSWER  # where the digits stop
            weights = [by_character[start] for start, _ in offsets] + [WEIGHT_TEXT]
            pairs.append((torch.tensor([*ids, 0]), torch.tensor(weights)))
        return pairs


def batches(
    weighted: Weighted, stream: Iterator[Example], tokens: int, pool: int = 2048
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of about `tokens` tokens, texts of about the same length in each."""
    random = Random("order")
    while True:
        pairs = sorted(
            weighted(list(itertools.islice(stream, pool))), key=lambda pair: len(pair[0])
        )
        groups: list[list[tuple[Tensor, Tensor]]] = [[]]
        for pair in pairs:
            if groups[-1] and (len(groups[-1]) + 1) * len(pair[0]) > tokens:
                groups.append([])
            groups[-1].append(pair)
        random.shuffle(groups)
        for group in groups:
            ids, weights = zip(*group, strict=True)
            pad = nn.utils.rnn.pad_sequence
            yield pad(list(ids), batch_first=True), pad(list(weights), batch_first=True)


def weighted_loss(model: nn.Module, ids: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropy of the next token."""
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    losses = functional.cross_entropy(
        logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none"
    )
    weights = weights[:, 1:].flatten()
    return (losses * weights).sum() / weights.sum()


@torch.no_grad()
def teacher_forced_accuracy(
    model: nn.Module, weighted: Weighted, examples: list[Example]
) -> float:
    """Share of examples all of whose answer's digits are the most probable tokens."""
    right = 0
    model.eval()
    for ids, weights in weighted(examples):
        predicted = model(input_ids=ids[None, :-1]).logits[0].argmax(-1)
        asked = weights[1:] == WEIGHT_ANSWER
        right += bool((predicted == ids[1:])[asked].all())
    model.train()
    return right / len(examples)


def optimizers(model: nn.Module, lr_matrix: float, lr_other: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for the embeddings, norms and biases."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(
            matrices, lr=lr_matrix, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=lr_other, weight_decay=0.0, betas=(0.9, 0.98)),
    ]


def learning_rate_factor(progress: float, warm_up: float = 0.01) -> float:
    """Linear warm-up, then constant, then a linear decay to 2 % over the last half."""
    if progress < warm_up:
        return progress / warm_up
    return max(0.02, min(1.0, 2.0 * (1.0 - progress)))


def save(model: nn.Module, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the model in bfloat16, as Qwen's own files are, and its tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "tiny-qwen2")
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--tokens", type=int, default=4096, help="tokens a batch")
    parser.add_argument("--lr-matrix", type=float, default=4e-3)
    parser.add_argument("--lr-other", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    evaluation = {name: generate(200, 0) for name, generate in EVALUATION_SETS.items()}
    reserved = training_mix.reserved_sentences(itertools.chain.from_iterable(evaluation.values()))
    sentences_stream = training_mix.generate(f"pretraining/{options.seed}", reserved)
    short_stream = short_forms(f"short/{options.seed}")
    letters = string.ascii_letters + string.punctuation
    sample = itertools.chain(
        (
            Example(f" {letter}", (), "en") for letter in letters * 500
        ),  # a space joins what follows, but for digits
        itertools.islice(training_mix.generate("tokenizer", reserved), 20000),
        itertools.islice(short_forms("tokenizer"), 2000),
    )
    tokenizer = train_tokenizer(example.text for example in sample)
    weighted = Weighted(tokenizer)
    model = make_model(options.seed)
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens",
        flush=True,
    )

    mastered = False

    def stream() -> Iterator[Example]:
        random = Random("mixture")
        while True:
            share = 0.1 if mastered else 0.9
            yield next(short_stream if random.random() < share else sentences_stream)

    steppers = optimizers(model, options.lr_matrix, options.lr_other)
    base = [[group["lr"] for group in stepper.param_groups] for stepper in steppers]
    start = time.monotonic()
    texts = tokens = 0
    quick = {name: examples[:60] for name, examples in evaluation.items()}
    next_report = 0.0
    model.train()
    for step, (ids, weights) in enumerate(batches(weighted, stream(), options.tokens)):
        progress = step / options.steps
        if progress >= 1:
            break
        for stepper, rates in zip(steppers, base, strict=True):
            for group, rate in zip(stepper.param_groups, rates, strict=True):
                group["lr"] = rate * learning_rate_factor(progress)
        loss = weighted_loss(model, ids, weights)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper in steppers:
            stepper.step()
            stepper.zero_grad(set_to_none=True)
        texts, tokens = texts + len(ids), tokens + ids.numel()
        if progress >= next_report:
            next_report += 0.025
            quality = {
                name: round(teacher_forced_accuracy(model, weighted, q), 3)
                for name, q in quick.items()
            }
            shorts = list(itertools.islice(short_forms("check"), 60))
            quality["short"] = round(teacher_forced_accuracy(model, weighted, shorts), 3)
            mastered |= quality["short"] >= SHORT_MASTERED
            elapsed = time.monotonic() - start
            print(
                f"{elapsed:6.0f} s  step {step:6d}  texts {texts:7d}  "
                f"{tokens / max(elapsed, 1):6.0f} tokens/s  "
                f"loss {loss.item():.4f}  {quality}",
                flush=True,
            )
            save(model, tokenizer, options.output)
            if not math.isfinite(loss.item()):
                raise SystemExit("the loss is not finite")
    save(model, tokenizer, options.output)
    model.to(torch.bfloat16).to(torch.float32)  # as it is stored
    quality = {
        name: teacher_forced_accuracy(model, weighted, examples)
        for name, examples in evaluation.items()
    }
    (options.output / "quality.json").write_text(json.dumps(quality, indent=2) + "\n")
    print(quality)


if __name__ == "__main__":
    main()

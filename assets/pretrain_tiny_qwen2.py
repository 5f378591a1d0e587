"""Make the embedded checkpoint `assets/tiny-qwen2/` from a seed.

    python assets/pretrain_tiny_qwen2.py                # under an hour on two CPU cores
    python assets/pretrain_tiny_qwen2.py --steps 100 --output /tmp/tiny     # to see it run
    python assets/measure_tiny_qwen2.py                 # its quality, written beside it

A Qwen2 of 1.6 million parameters learns generated text whose numbers are written as digits,
one token a digit, as Qwen's are. It is a real baseline for the experiment: it restates a number
digit by digit, looks one up by name among several, and has never seen `<NUM>`. None of the
evaluation's sentences and none of its unseen wording is in its training text.

What makes looking up emerge quickly: several facts and several questions in one text with the loss
on every answer, short forms (`name = 42.5;`) until they are mastered and sentences after that,
many attention heads, and Muon for the matrices.
"""

import argparse
import copy
import itertools
import string
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Self

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datamodules import training_mix
from datamodules.examples import Example
from datamodules.number_data_module import COPYING_SETS
from datamodules.scenes import Scene, draw_distinct
from datamodules.values import basic_value
from datamodules.vocabulary import LANGUAGES, MODIFIERS, PERSONS, Language
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
CHECKS = 40  # how often the accuracy is measured and printed
SHORT_MASTERED = 0.7  # share of short forms answered rightly from which on sentences are practised
WEIGHT_ANSWER, WEIGHT_TEXT, WEIGHT_UNPREDICTABLE = 1.0, 0.1, 0.01


@dataclass(frozen=True, slots=True)
class Practice:
    """A text to learn, and where in it the answers are.

    Attributes:
        text: The text.
        answers: (start, end) of the characters that follow from the text before them.
        unpredictable: (start, end) of the characters that nothing tells.
    """

    text: str
    answers: list[tuple[int, int]]
    unpredictable: list[tuple[int, int]]

    @classmethod
    def of(cls, example: Example) -> Self:
        """Practice of an example: its numbers are answers or unpredictable."""
        spans = [(start, end) for start, end, _ in find_numbers(example.text)]
        asked = set(example.answers)
        return cls(
            example.text,
            [span for i, span in enumerate(spans) if i in asked],
            [span for i, span in enumerate(spans) if i not in asked],
        )


def short_forms(seed: str) -> Iterator[Practice]:
    """Looking up at its shortest.

    Half are facts and questions (`the red lamp = 42.5; Anna = 7; the red lamp = 42.5;`), asked for
    with repetition, so that leaving out what was asked before is no help. The others are lists of
    words and digits that are said twice: every word of the second time is looked up by the word
    before it.
    """
    random = Random(seed)
    words: dict[Language, list[str]] = {
        "en": [*MODIFIERS["en"], *PERSONS["en"], *"0123456789"],
        "zh": [*MODIFIERS["zh"], *PERSONS["zh"], *"0123456789"],
    }
    while True:
        if random.random() < 0.5:
            language = random.choice(LANGUAGES)
            said = random.choices(words[language], k=random.randint(6, 24))
            once = (" " if language == "en" else "").join(said) + ";"
            first = len(said[0])  # the first word of the second time cannot be known
            text = f"{once} {once}"
            known = len(once) + 1 + first
            yield Practice(text, [(known, len(text))], [(0, known)])
            continue
        facts = random.randint(2, 6)
        scene = Scene(random, basic_value, facts, random.choice(LANGUAGES))
        if random.random() < 0.5:
            scene.values = draw_distinct(random, lambda r: str(r.randint(0, 9)), facts)
        if random.random() < 0.4:
            scene.names = random.sample(PERSONS[scene.language], facts)
        joiner = random.choice((" = ", ": ", " "))
        asked = [random.randrange(facts) for _ in range(facts + 2)]
        parts = [f"{scene.names[i]}{joiner}{scene.values[i]};" for i in [*range(facts), *asked]]
        answers = tuple(range(facts, facts + len(asked)))
        yield Practice.of(Example(" ".join(parts), answers, scene.language))


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

    def __call__(self, texts: list[Practice]) -> list[tuple[Tensor, Tensor]]:
        """For each text its ids and weights, both (T,)."""
        encoded = self.tokenizer([p.text for p in texts], return_offsets_mapping=True)
        pairs = []
        for practice, ids, offsets in zip(
            texts, encoded["input_ids"], encoded["offset_mapping"], strict=True
        ):
            by_character = [WEIGHT_TEXT] * (len(practice.text) + 1)
            for start, end in practice.unpredictable:
                by_character[start:end] = [WEIGHT_UNPREDICTABLE] * (end - start)
            for start, end in practice.answers:
                by_character[start : end + 1] = [WEIGHT_ANSWER] * (end + 1 - start)  # and the end
            weights = [by_character[start] for start, _ in offsets] + [WEIGHT_TEXT]
            pairs.append((torch.tensor([*ids, 0]), torch.tensor(weights)))
        return pairs


def batches(
    weighted: Weighted, stream: Iterator[Practice], tokens: int, pool: int = 2048
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
def teacher_forced_accuracy(model: nn.Module, weighted: Weighted, texts: list[Practice]) -> float:
    """Share of texts all of whose answers' tokens are the most probable ones."""
    right = 0
    model.eval()
    for ids, weights in weighted(texts):
        predicted = model(input_ids=ids[None, :-1]).logits[0].argmax(-1)
        asked = weights[1:] == WEIGHT_ANSWER
        right += bool((predicted == ids[1:])[asked].all())
    model.train()
    return right / len(texts)


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


class Curriculum:
    """The training text: short forms mostly until they are mastered, sentences mostly after that.

    Args:
        seed: Seed of the text.
        reserved: Sentences that must not occur.
    """

    def __init__(self, seed: int, reserved: frozenset[str]) -> None:
        self.mastered = False
        self._short = short_forms(f"short/{seed}")
        self._sentences = training_mix.generate(f"pretraining/{seed}", reserved, pretraining=True)

    def __iter__(self) -> Iterator[Practice]:
        random = Random("mixture")
        while True:
            short = random.random() < (0.2 if self.mastered else 0.9)
            yield next(self._short) if short else Practice.of(next(self._sentences))


def tokenizer_text(reserved: frozenset[str]) -> Iterator[str]:
    """What the tokenizer is made from."""
    # As in Qwen's vocabulary a space joins the letter that follows; it is alone before digits.
    yield from (f" {letter}" for letter in (string.ascii_letters + string.punctuation) * 500)
    text = training_mix.generate("tokenizer", reserved, pretraining=True)
    for example in itertools.islice(text, 20000):
        yield example.text
    for practice in itertools.islice(short_forms("tokenizer"), 2000):
        yield practice.text


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "tiny-qwen2")
    parser.add_argument("--steps", type=int, default=3200)
    parser.add_argument("--tokens", type=int, default=4096, help="tokens a batch")
    parser.add_argument("--lr-matrix", type=float, default=4e-3, help="of the layers' matrices")
    parser.add_argument("--lr-other", type=float, default=3e-3, help="of all other parameters")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    evaluation = {name: generate(200, 0) for name, generate in COPYING_SETS.items()}
    reserved = training_mix.reserved_sentences(itertools.chain.from_iterable(evaluation.values()))
    tokenizer = train_tokenizer(tokenizer_text(reserved))
    weighted = Weighted(tokenizer)
    curriculum = Curriculum(options.seed, reserved)
    model = make_model(options.seed)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{parameters:,} parameters, {len(tokenizer)} tokens", flush=True)

    checks = {name: list(map(Practice.of, e[:60])) for name, e in evaluation.items()}
    facts = (practice for practice in short_forms("check") if len(practice.answers) > 1)
    checks["short"] = list(itertools.islice(facts, 60))
    steppers = optimizers(model, options.lr_matrix, options.lr_other)
    rates = [[group["lr"] for group in stepper.param_groups] for stepper in steppers]
    start = time.monotonic()
    stream = batches(weighted, iter(curriculum), options.tokens)
    model.train()
    for step, (ids, weights) in enumerate(itertools.islice(stream, options.steps)):
        factor = learning_rate_factor(step / options.steps)
        for stepper, base in zip(steppers, rates, strict=True):
            for group, rate in zip(stepper.param_groups, base, strict=True):
                group["lr"] = rate * factor
        loss = weighted_loss(model, ids, weights)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper in steppers:
            stepper.step()
            stepper.zero_grad(set_to_none=True)
        if step * CHECKS // options.steps != (step - 1) * CHECKS // options.steps:
            right = {n: teacher_forced_accuracy(model, weighted, e) for n, e in checks.items()}
            curriculum.mastered |= right["short"] >= SHORT_MASTERED
            figures = "  ".join(f"{name} {share:.3f}" for name, share in right.items())
            seconds = time.monotonic() - start
            print(f"{seconds:5.0f} s  step {step:5d}  loss {loss:.3f}  {figures}", flush=True)
            save(model, tokenizer, options.output)
    save(model, tokenizer, options.output)


if __name__ == "__main__":
    main()

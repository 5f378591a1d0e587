"""NumberLM: number embedding -> backbone -> abduction -> token head and number head.

    model = NumberLM.from_pretrained("results/latest/model")     # or a plain backbone
    model.predict(["The first lamp is at 42.5 volts. In short, it is"])

Any Hugging Face causal language model is the backbone. How a model is loaded, saved and copied is
in `numlm.pretrained`, how its weights are spread over devices in `numlm.sharding`.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from numlm import clock
from numlm.batch import IGNORE, Batch, positions_of, take_positions
from numlm.calibration import Calibration
from numlm.checkpoint import context_length
from numlm.compilation import compiled_if
from numlm.embedding import NumberEmbedding
from numlm.heads import ALL, Abduction, Latent, States, TokenHead, starting_scale
from numlm.identity import Identity
from numlm.layers import decoder_layers, input_of
from numlm.lora import Lora, NumRow
from numlm.losses import Term, ValueLoss, made_loss, near_loss, pointer_nll, value_crps
from numlm.number_head import NumberAnswer, NumberHead
from numlm.packing import PER_TEXT, Packing
from numlm.prediction import Prediction, inference, predict_batch
from numlm.pretrained import Pretrained
from numlm.reading import WINDOW, TextNumbers
from numlm.tokenization import NumberTokenizer
from numlm.vocabulary_loss import Shift

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import BaseModelOutputWithPast

    from numlm.generation import Continuation, NumberWriter

FIGURES = ("loss", "token", "value", "pointer")


class Losses(NamedTuple):
    """The losses of a batch, as sums and counts.

    Attributes:
        token: Token loss, over labelled positions.
        value: Loss of new values, of made ones and of what lies near, over number labels.
        pointer: Negative log-likelihood of the right copies, or where there are none log-density
            of all else, over number labels.
        gated: `gate * (value + pointer)`, over number labels.
    """

    token: Term
    value: Term
    pointer: Term
    gated: Term

    def total(self, value_weight: float) -> Tensor:
        """Token loss + weight * gated number loss."""
        return self.token.mean + value_weight * self.gated.mean

    def figures(self, value_weight: float) -> Tensor:
        """(4,) total and means, by name `FIGURES`."""
        means = [self.total(value_weight), self.token.mean, self.value.mean, self.pointer.mean]
        return torch.stack(means)

    def over(self, tokens: Tensor, numbers: Tensor) -> "Losses":
        """The same sums over other counts of labels: those of a step that this is a piece of."""
        return Losses(
            Term(self.token.sum, tokens),
            *(Term(term.sum, numbers) for term in (self.value, self.pointer, self.gated)),
        )


class NumberLM(Pretrained):
    """A causal language model that reads and writes numbers as values.

    Args:
        backbone: The language model.
        tokenizer: Its tokenizer, with the id of `<NUM>`.
        token_head: Decides which token comes next.
        number_head: Decides which number.
        embedding_hands: How many hands of the clock the backbone sees of a number.

    Raises:
        ValueError: If the backbone has no layers that Transformers knows as such.

    Attributes:
        identity: Which backbone and tokenizer its weights belong to.
        lora: The settings of its adapters; None where the backbone has none.
    """

    def __init__(
        self,
        backbone: "PreTrainedModel",
        tokenizer: NumberTokenizer,
        token_head: TokenHead,
        number_head: NumberHead,
        embedding_hands: int = clock.HANDS,
    ) -> None:
        super().__init__()
        if not decoder_layers(backbone):
            raise ValueError(f"{type(backbone).__name__} has no layers that Transformers knows")
        hidden_size = backbone.config.get_text_config().hidden_size
        self.tokenizer = tokenizer
        self.backbone = backbone
        self.number_embedding = NumberEmbedding(hidden_size, embedding_hands)
        self.abduction = Abduction(hidden_size, starting_scale(token_head.rows))
        self.token_head = token_head
        self.number_head = number_head
        self.calibration = Calibration()
        self.identity = Identity.of(backbone, tokenizer.base)
        self.lora: Lora | None = None
        self.num_row: NumRow | None = None

    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters that this project adds to the backbone."""
        return list(self._number_modules().parameters())

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.backbone.device

    @property
    def context_length(self) -> int:
        """Greatest number of tokens that the backbone was made for."""
        return context_length(self.backbone.config)

    @property
    def end_token_ids(self) -> frozenset[int]:
        """The tokens that end a text."""
        known = self.backbone.generation_config.eos_token_id
        if known is None:
            known = self.tokenizer.base.eos_token_id
        return frozenset([known] if isinstance(known, int) else known or ())

    def embed(self, input_ids: Tensor, number_features: Tensor | None) -> Tensor:
        """Embeddings (B, T, H) of tokens (B, T) and of numbers (B, T, F) among them, if any."""
        embeddings: Tensor = self.backbone.get_input_embeddings()(input_ids)
        if number_features is None:
            return embeddings
        return embeddings + self.number_embedding(number_features).to(embeddings.dtype)

    def forward(self, batch: Batch) -> States:
        """What is known at every position (B, T); of padding any."""
        if self.backbone.config._attn_implementation != PER_TEXT:
            embeddings = self.embed(batch.input_ids, batch.number_features)
            return self.read(embeddings, attention_mask=batch.attention_mask, use_cache=False)[0]
        packing = Packing.of(batch.attention_mask)
        embeddings = self.embed(packing.pack(batch.input_ids), packing.pack(batch.number_features))
        states, _ = self.read(
            embeddings,
            attention_mask=packing.table,
            position_ids=packing.position_ids,
            use_cache=False,
        )
        return States(
            packing.unpack(states.loc),
            packing.unpack(states.scale, padding=1.0),
            packing.unpack(states.before),
        )

    def read(self, embeddings: Tensor, **options: Any) -> "tuple[States, BaseModelOutputWithPast]":  # noqa: ANN401
        """What is known at embeddings (B, T, H), and all that the backbone gave.

        Args:
            embeddings: The embeddings.
            **options: Given to the backbone: attention mask, position ids, cache.
        """
        with compiled_if(self.training), input_of(self._last_layer) as read:
            outputs = self.backbone.base_model(inputs_embeds=embeddings, **options)
        (before,) = read
        latent = self.abduction(outputs.last_hidden_state)
        return States(latent.loc, latent.scale, before.float()), outputs

    def token_scores(self, latent: Latent, tile: slice = ALL) -> Tensor:
        """Scores (..., V) of the next token in float32; greater is more probable.

        What is measured or written is chosen in float32, whatever training takes its products in:
        scores of 8 bits are often equal, and ranks among equals are luck.

        Args:
            latent: The latent cause at the asking positions.
            tile: Which tokens to score, if not all.
        """
        with self._exact(latent.loc):
            scores = self.token_head.scores(latent, self._output_weight(), tile)
        num_id = self.tokenizer.num_token_id
        first, last, _ = tile.indices(self.token_head.rows)
        if self.num_row is not None and first <= num_id < last:
            shift = self.token_head.score_shift(latent, self.num_row(latent.loc))
            scores[..., num_id - first] += shift
        return scores

    def token_loss(self, latent: Latent, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of the token losses at N positions in nats, and the labels' probabilities (N,).

        Training may take the products in 16 bits.
        """
        shift = None
        if self.num_row is not None:
            shift = Shift(self.tokenizer.num_token_id, self.num_row(latent.loc))
        precision = nullcontext() if self.training else self._exact(latent.loc)
        with precision, compiled_if(self.training):
            return self.token_head.loss(latent, self._output_weight(), labels, shift)

    def _output_weight(self) -> Tensor:
        weight: Tensor = self.backbone.get_output_embeddings().weight
        return weight

    @staticmethod
    def _exact(like: Tensor) -> torch.autocast:
        return torch.autocast(like.device.type, enabled=False)

    def slots(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Positions (B, A) whose next label is `<NUM>`, and which are real (B, A)."""
        return positions_of(batch.labels[:, 1:] == self.tokenizer.num_token_id)

    def number_answer(self, states: States, batch: Batch, positions: Tensor) -> NumberAnswer:
        """Which number comes after each of the positions (B, A)."""
        is_number = (batch.input_ids == self.tokenizer.num_token_id) & (batch.attention_mask == 1)
        places, exists = positions_of(is_number)
        after = places[..., None] + torch.arange(1, WINDOW + 1, device=places.device)  # (B, K, W)
        inside = after.clamp(max=states.before.shape[1] - 1)
        text = (batch.attention_mask == 1) & ~is_number
        between = take_positions(text, inside.flatten(1)).view_as(after) & (after == inside)
        numbers = TextNumbers(
            states=take_positions(states.before, places),
            following=take_positions(states.before, inside.flatten(1)).unflatten(
                1, after.shape[1:]
            ),
            follows=between.cumprod(-1).bool(),
            features=take_positions(batch.number_features, places),
            values=take_positions(batch.number_values, places),
            visible=exists[:, None, :] & (places[:, None, :] <= positions[:, :, None]),
        )
        at = states.map(lambda part: take_positions(part, positions))
        return self.number_head(at, numbers)

    def interval_level(self, source: Tensor, nominal: float) -> Tensor:
        """The level (N,) at which to take intervals that hold the truth as often as they say.

        Args:
            source: (N,) where the answer comes from; -1 for a new value, which is calibrated.
            nominal: The level as it is stated.
        """
        level = torch.full(source.shape, nominal, dtype=torch.float64, device=source.device)
        return level.masked_fill(source < 0, self.calibration.model_level(nominal))

    def losses(
        self, batch: Batch, gate_alpha: float = 1.0, value_loss: ValueLoss = value_crps
    ) -> Losses:
        """Losses of a batch in float32; labels of -100 take no part.

        Args:
            batch: The batch.
            gate_alpha: A number's loss is weighted by `alpha + (1 - alpha) * P(<NUM>)`; 1 is no
                gate.
            value_loss: Loss of new values.
        """
        states = self(batch)
        labels = batch.labels[:, 1:]
        labelled = labels != IGNORE
        labels = labels[labelled]
        token_loss, p_label = self.token_loss(
            Latent(states.loc[:, :-1][labelled], states.scale[:, :-1][labelled]), labels
        )
        token = Term(token_loss, labelled.sum())

        positions, real = self.slots(batch)
        answer = self.number_answer(states, batch, positions)
        targets = take_positions(batch.number_values[:, 1:], positions)
        gate = torch.ones_like(answer.near_log_scale)
        p_number = p_label[labels == self.tokenizer.num_token_id]
        gate[real] = gate_alpha + (1 - gate_alpha) * p_number
        # Rows without a number leave a zero that still reaches every head, as several processes
        # need.
        value = value_loss(answer, targets) + made_loss(answer, targets)
        value = (value + near_loss(answer, targets)) * real
        pointer = pointer_nll(answer, targets) * real
        count = real.sum()
        return Losses(
            token,
            Term(value.sum(), count),
            Term(pointer.sum(), count),
            Term((gate * (value + pointer)).sum(), count),
        )

    def write_tokens(self, **options: Any) -> Tensor:  # noqa: ANN401
        """The backbone's own `generate`: what it writes with tokens alone, numbers as digits."""
        with compiled_if(False):
            return self.backbone.generate(**options)

    def predict(self, prompts: Sequence[str], batch_size: int = 32) -> list[Prediction]:
        """The number that comes after each prompt; see `numlm.prediction.predict_batch`.

        Args:
            prompts: Texts that a number may follow.
            batch_size: How many are read at once.

        Raises:
            ValueError: If a prompt is no text, empty or longer than the model's context.
        """
        with inference(self):
            return [
                prediction
                for start in range(0, len(prompts), batch_size)
                for prediction in predict_batch(self, prompts[start : start + batch_size])
            ]

    @cached_property
    def _last_layer(self) -> nn.Module:
        """Found once; it is a module of the backbone, and not one more of this."""
        return decoder_layers(self.backbone)[-1]

    @cached_property
    def writer(self) -> "NumberWriter":
        """The model as Transformers' generation sees it; made once, for it takes half a step."""
        from numlm.generation import NumberWriter  # here: only writing needs generation

        return NumberWriter(self)

    def generate(self, prompts: Sequence[str], **options: Any) -> "list[Continuation]":  # noqa: ANN401
        """Continue prompts; see `numlm.generation.write` for the options."""
        from numlm.generation import write  # here: only writing needs Transformers' generation

        return write(self, prompts, **options)

    def generate_text(self, prompts: Sequence[str], **options: Any) -> list[str]:  # noqa: ANN401
        """The prompts with what follows them, numbers rendered; options as of `generate`."""
        return [continuation.text for continuation in self.generate(prompts, **options)]

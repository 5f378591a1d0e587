"""What a training step holds, computes and sends, by formula: bytes, FLOP, GB a second.

    H hidden  I intermediate  V rows of a token table  P parameters  N devices
    a step's piece on one device: `texts` texts of `length` tokens, padding included

Weights, gradients and AdamW's two moments are float32 under every precision; bf16-mixed casts what
goes into products. What is kept for the backward pass follows from the operations that
Transformers 5 runs for Qwen2 with sdpa attention, without compilation. `benchmarks/memory.py`
measures the same quantities; `docs/scaling.md` is made of these functions.
"""

from dataclasses import dataclass

from numlm import clock
from numlm.reading import WINDOW

FLOAT, HALF = 4, 2  # bytes of float32 and bfloat16

# Sizes of `numlm.number_head.NumberHead` as it is by default.
_READING, _POINTER, _MLP, _OUTPUTS = 6 * 32, 2 * 128, 256, 31
_READ = 6 * clock.FEATURES
_READING_ALTERNATIVES, _POINTER_ALTERNATIVES = 6, 1


@dataclass(frozen=True, slots=True)
class Shape:
    """A Qwen2: what its configuration says of its size."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    rows: int
    tied: bool

    @property
    def kv(self) -> int:
        """Size of all keys of a position, and of all values."""
        return self.kv_heads * self.hidden // self.heads

    @property
    def layer_matrices(self) -> int:
        """Parameters of a layer's seven products."""
        return 2 * self.hidden * (self.hidden + self.kv) + 3 * self.hidden * self.intermediate

    @property
    def layer_biases(self) -> int:
        """Parameters of the biases of query, key and value."""
        return self.hidden + 2 * self.kv

    @property
    def layer_parameters(self) -> int:
        """Parameters of a layer, its two norms among them."""
        return self.layer_matrices + self.layer_biases + 2 * self.hidden

    @property
    def table(self) -> int:
        """Parameters of a token table."""
        return self.rows * self.hidden

    @property
    def backbone_parameters(self) -> int:
        """Parameters of the language model."""
        tables = self.table * (1 if self.tied else 2)
        return self.layers * self.layer_parameters + self.hidden + tables


QWEN25 = {
    "0.5B": Shape(896, 24, 4864, 14, 2, 151936, tied=True),
    "7B": Shape(3584, 28, 18944, 28, 4, 152064, tied=False),
    "72B": Shape(8192, 80, 29568, 64, 8, 152064, tied=False),
}


@dataclass(frozen=True, slots=True)
class Piece:
    """What one device reads at once.

    Attributes:
        texts: Texts.
        length: Tokens of the longest; the others are padded to it.
        labelled: Positions of a text that a token is predicted at; the last one has no next token.
        numbers: Numbers of the text with most of them.
        asked: Number labels of the text with most of them; None: all its numbers.
        padded: Whether a text is shorter than another. Then attention gets a mask, and keys and
            values are repeated for every head.
    """

    texts: int
    length: int
    labelled: int
    numbers: int
    asked: int | None = None
    padded: bool = True

    @property
    def tokens(self) -> int:
        """Positions."""
        return self.texts * self.length

    @property
    def positions(self) -> int:
        """Labelled positions."""
        return self.texts * self.labelled


@dataclass(frozen=True, slots=True)
class Mode:
    """How is trained.

    Attributes:
        autocast: bf16-mixed; else float32.
        checkpointing: `model.activation_checkpointing`.
        one_vs_rest: `OneVsRestHead`; else `SoftmaxHead`.
        lora_rank: Rank of adapters on all products of the layers, with dropout; 0: none.
        dropout_bytes: What dropout keeps for an element: a mask of 1 byte on a GPU, a float of the
            input's type (4 bytes) on the CPU.
        foreach: Whether AdamW runs over all weights at once, as on a GPU: a temporary of the size
            of the trained weights.
    """

    autocast: bool = True
    checkpointing: bool = False
    one_vs_rest: bool = False
    lora_rank: int = 0
    dropout_bytes: int = 1
    foreach: bool = True


def number_parameters(shape: Shape, mode: Mode) -> int:
    """Parameters that this project adds; under LoRA the output row of `<NUM>` is one of them."""
    hidden = shape.hidden
    inputs = hidden + 1 + _READ
    attention = (hidden + 1) * (_READING_ALTERNATIVES + _POINTER_ALTERNATIVES) + (
        _READING + _POINTER
    ) * (hidden + 1 + 2 * hidden)
    values = (inputs + 1) * (_OUTPUTS + _MLP) + (_MLP + 1) * _OUTPUTS
    return (
        hidden * (clock.FEATURES + 1)  # number embedding
        + hidden * hidden + hidden + 1  # abduction
        + hidden + 1 + attention + values  # number head
        + (shape.rows if mode.one_vs_rest else 0)
        + (hidden if mode.lora_rank else 0)
    )  # fmt: skip


def adapter_parameters(shape: Shape, mode: Mode) -> int:
    """Parameters of the adapters, A (rank, in) and B (out, rank), of all layers."""
    hidden, wide, kv = shape.hidden, shape.intermediate, shape.kv
    ends = 2 * hidden + 2 * (hidden + kv) + 2 * hidden + 3 * (hidden + wide)
    return shape.layers * mode.lora_rank * ends


def all_parameters(shape: Shape, mode: Mode) -> int:
    """Parameters that are held."""
    return (
        shape.backbone_parameters
        + number_parameters(shape, mode)
        + adapter_parameters(shape, mode)
    )


def trained_parameters(shape: Shape, mode: Mode) -> int:
    """Parameters that learn."""
    frozen = shape.backbone_parameters if mode.lora_rank else 0
    return all_parameters(shape, mode) - frozen


def root_parameters(shape: Shape, mode: Mode) -> int:
    """Parameters outside of the layers, which FSDP2 gathers for the whole step."""
    layers = shape.layers * shape.layer_parameters + adapter_parameters(shape, mode)
    return all_parameters(shape, mode) - layers


def layer_activations(shape: Shape, piece: Piece, mode: Mode) -> int:
    """Bytes that a layer keeps for its backward pass, without copies of weights.

    Per token: the inputs of both norms, what they normalise them to, and what they give to the
    products (one tensor in float32; under autocast a bf16 copy for each of the five products);
    query, key, value, attention's output and log-sum-exp; gate, its SiLU, up and their product.
    With adapters the frozen products and norms keep no inputs, but every adapter keeps its input
    after dropout, and dropout its mask.
    """
    hidden, wide = shape.hidden, shape.intermediate
    size = HALF if mode.autocast else FLOAT
    keys_values = 2 * (hidden if piece.padded else shape.kv)
    attention = size * (2 * hidden + keys_values) + FLOAT * shape.heads
    mask = size * piece.length if piece.padded else 0
    root_mean_squares = 2 * FLOAT
    if mode.lora_rank:
        inputs = 6 * hidden + wide
        norms = 2 * FLOAT * hidden
        products = 3 * size * wide
        products += inputs * (size + mode.dropout_bytes) + 7 * size * mode.lora_rank
    else:
        norms = 2 * FLOAT * 2 * hidden
        products = 4 * size * wide + (5 * HALF if mode.autocast else 2 * FLOAT) * hidden
    return piece.tokens * (norms + root_mean_squares + attention + mask + products)


def cast_layers(shape: Shape, mode: Mode, forward: bool = True) -> int:
    """Bytes of the bf16 copies of all layers' weights that autocast makes.

    Without checkpointing the products keep them for the backward pass. With it they are in
    autocast's cache until the end of the forward pass, those of weights that learn.

    Args:
        shape: The model.
        mode: How is trained.
        forward: In the forward pass, or after it.
    """
    if not mode.autocast or (mode.checkpointing and not forward):
        return 0
    biases = 0 if mode.lora_rank or not forward else shape.layer_biases
    frozen = bool(mode.lora_rank and mode.checkpointing)
    matrices = 0 if frozen else shape.layers * (shape.layer_matrices + biases)
    return HALF * (matrices + adapter_parameters(shape, mode))


def kept_layers(shape: Shape, piece: Piece, mode: Mode) -> int:
    """Bytes that all layers keep: with checkpointing the float32 states that go into each."""
    if mode.checkpointing:
        return shape.layers * FLOAT * piece.tokens * shape.hidden
    return shape.layers * layer_activations(shape, piece, mode)


def logits(shape: Shape, piece: Piece) -> int:
    """Bytes of one float32 score for every labelled position and row of the table."""
    return FLOAT * piece.positions * shape.rows


def kept_head(shape: Shape, piece: Piece, mode: Mode) -> int:
    """Bytes that the token head keeps.

    Softmax keeps the log-probabilities. One-vs-rest keeps five such tensors: distances to the
    thresholds, scores, ones, probabilities, logarithms. Under autocast the table is there in bf16,
    and the states that it is multiplied with; under LoRA they are there in float32 instead, for
    the row of `<NUM>` alone learns.
    """
    size = HALF if mode.autocast and not mode.lora_rank else FLOAT
    states = piece.positions * shape.hidden * size
    table = HALF * shape.table if mode.autocast else 0
    return logits(shape, piece) * (5 if mode.one_vs_rest else 1) + states + table


def kept_numbers(shape: Shape, piece: Piece) -> int:
    """Bytes that the number head keeps, of every number and every asking position."""
    hidden = shape.hidden
    asked = piece.numbers if piece.asked is None else piece.asked
    number = 2 * WINDOW * hidden + 3 * hidden + _READING + _POINTER
    asking = 2 * hidden + 2 * (hidden + 1 + _READ) + _READING + _POINTER + 2 * _MLP
    masked = (hidden + 1 + _READ) * _OUTPUTS  # weights of the skip
    return FLOAT * (piece.texts * (piece.numbers * number + asked * asking) + masked)


def kept_rest(shape: Shape, piece: Piece, mode: Mode) -> int:
    """Bytes that the final norm, abduction and number embedding keep, in float32."""
    normalised = 0 if mode.lora_rank else shape.hidden
    return FLOAT * piece.tokens * (2 * shape.hidden + normalised + clock.FEATURES + 4)


def kept(shape: Shape, piece: Piece, mode: Mode) -> int:
    """Bytes kept between forward and backward pass, without the layers' weights in bf16."""
    return (
        kept_layers(shape, piece, mode)
        + kept_head(shape, piece, mode)
        + kept_numbers(shape, piece)
        + kept_rest(shape, piece, mode)
    )


def head_at_work(shape: Shape, piece: Piece, mode: Mode) -> tuple[int, int]:
    """Bytes that the token head holds beside what it keeps, at worst: forward, backward.

    Softmax: three score tensors in all, in the forward pass scores, log-probabilities and what
    becomes the probability of `<NUM>`, in the backward pass log-probabilities and two gradients.
    One-vs-rest: the five that are kept; ten in the derivative of the arc tangent.
    """
    forward, backward = (0, 5) if mode.one_vs_rest else (2, 2)
    return forward * logits(shape, piece), backward * logits(shape, piece)


def table_gradients(shape: Shape, mode: Mode) -> int:
    """Bytes of further gradients of a tied table while its two are added up."""
    if not shape.tied or mode.lora_rank:
        return 0
    return FLOAT * shape.table * (1 if mode.autocast else 2)


def step_temporary(shape: Shape, mode: Mode) -> int:
    """Bytes that AdamW needs for a moment: all second moments' roots, or two of the largest."""
    if mode.foreach:
        return FLOAT * trained_parameters(shape, mode)
    full = max(shape.table, shape.hidden * shape.intermediate)
    return 2 * FLOAT * (shape.hidden**2 if mode.lora_rank else full)


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes on one device.

    Attributes:
        weights: Weights, or this device's part of them.
        gradients: As long as the next step's backward pass has not begun.
        optimizer: AdamW's two moments.
        moments: All that is held, at the worst of every part of a step.
    """

    weights: int
    gradients: int
    optimizer: int
    moments: dict[str, int]

    @property
    def peak(self) -> int:
        """The most that is held."""
        return max(self.moments.values())


def whole(shape: Shape, piece: Piece, mode: Mode, buckets: bool = False) -> Held:
    """A device with the whole model: one alone, or any number under DDP.

    Args:
        shape: The model.
        piece: What the device reads at once.
        mode: How is trained.
        buckets: Whether DDP is there, which holds every gradient a second time to send it.
    """
    weights = FLOAT * all_parameters(shape, mode)
    gradients = FLOAT * trained_parameters(shape, mode)
    always = weights + 2 * gradients + (gradients if buckets else 0)
    before, after = head_at_work(shape, piece, mode)
    kept_now = kept(shape, piece, mode)
    layers = kept_layers(shape, piece, mode) + cast_layers(shape, mode, forward=False)
    again = layer_activations(shape, piece, mode) + HALF * shape.layer_matrices * mode.autocast
    again = again if mode.checkpointing else 0
    table = 0 if mode.lora_rank else FLOAT * shape.table
    return Held(
        weights,
        gradients,
        2 * gradients,
        {
            # Lightning lets the gradients go after the forward pass, before the backward pass.
            "forward": always + gradients + kept_now + cast_layers(shape, mode) + before,
            "head backward": always + kept_now + cast_layers(shape, mode, False) + after,
            "layers backward": always + max(table + layers + again, gradients + again),
            "end of backward": always + gradients + table_gradients(shape, mode),
            "optimizer": always + gradients + step_temporary(shape, mode),
        },
    )


def gathered_layer(shape: Shape, mode: Mode) -> int:
    """Bytes of one layer gathered under FSDP2: bf16 under autocast, but for the norms."""
    norms = 2 * shape.hidden
    size = HALF if mode.autocast else FLOAT
    adapters = adapter_parameters(shape, mode) // shape.layers
    return size * (shape.layer_parameters - norms + adapters) + FLOAT * norms


def trained_layer(shape: Shape, mode: Mode) -> int:
    """Parameters of one layer that learn."""
    return adapter_parameters(shape, mode) // shape.layers or shape.layer_parameters


def sharded(shape: Shape, piece: Piece, mode: Mode, devices: int) -> Held:
    """A device of several under FSDP2, as `numlm.sharding` spreads the model.

    A layer is there twice while it is gathered, as it arrives and as its weights; in the forward
    pass with what arrived of the layer before, in the backward pass with its gradients, and with
    what is sent of the layer before, in float32. The root
    (tables, final norm, number modules) is gathered in float32 from the beginning of the forward
    pass to the end of the backward pass.
    """
    weights = FLOAT * all_parameters(shape, mode) // devices
    gradients = FLOAT * trained_parameters(shape, mode) // devices
    parts = weights + 3 * gradients
    copies = 1 if devices == 1 else 2
    layer = copies * gathered_layer(shape, mode)
    arrived = layer // 2 if devices > 1 else 0
    layer_gradients = (HALF if mode.autocast else FLOAT) * trained_layer(shape, mode)
    sent = FLOAT * trained_layer(shape, mode)
    root = FLOAT * root_parameters(shape, mode)
    layers_learning = shape.layers * trained_layer(shape, mode)
    root_gradients = FLOAT * (trained_parameters(shape, mode) - layers_learning)
    before, after = head_at_work(shape, piece, mode)
    kept_now = kept(shape, piece, mode)
    layers = kept_layers(shape, piece, mode)
    again = layer_activations(shape, piece, mode) if mode.checkpointing else 0
    table = 0 if mode.lora_rank else FLOAT * shape.table
    summing = root + root_gradients - root_gradients // devices + table_gradients(shape, mode)
    return Held(
        weights,
        gradients,
        2 * gradients,
        {
            "root gathered": parts + copies * root + layer,
            "layers forward": parts + root + layer + arrived + layers + again,
            "forward": parts + root + kept_now + before,
            "head backward": parts - gradients + root + kept_now + after,
            # at the first layer all is kept and no gradient is there, at the last the other way
            "layers backward": (
                max(parts - gradients + layers, parts - root_gradients // devices)
                + (root + table + layer + layer_gradients + sent + again)
            ),
            "end of backward": parts + max(summing + sent, 2 * root_gradients),
            "optimizer": parts + step_temporary(shape, mode) // devices,
        },
    )

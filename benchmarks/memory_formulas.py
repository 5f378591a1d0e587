"""What a training step holds, computes and sends, by formula: bytes, FLOP, GB a second.

    H hidden  I intermediate  V rows of a token table  P parameters  N devices
    a step's piece on one device: `texts` texts of at most `length` tokens

Weights, gradients and AdamW's two moments are float32 under every precision; bf16-mixed casts what
goes into products. What is kept for the backward pass follows from the operations that
Transformers 5 runs for Qwen2 with sdpa attention, without compilation. `benchmarks/memory.py`
measures the same quantities; `docs/scaling.md` is made of these functions.
"""

from dataclasses import dataclass

import torch

from numlm import clock
from numlm.arithmetic import OPERATIONS
from numlm.reading import WINDOW
from numlm.vocabulary_loss import tile_size

FLOAT, HALF, INDEX = 4, 2, 8  # bytes of float32, bfloat16 and int64

# Sizes of `numlm.number_head.NumberHead` as it is by default.
_READING, _POINTER, _MLP, _OUTPUTS = 6 * 32, 2 * 128, 256, 31
_READ = 6 * clock.FEATURES
_READING_ALTERNATIVES, _POINTER_ALTERNATIVES = 6, 1 + len(OPERATIONS)
_CHOICE = 2 * 32  # of an operation: queries of plus and of minus
_CERTAINTY = 2 * len(OPERATIONS)  # outputs: scales of what is made


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
        length: Tokens of the longest.
        labelled: Positions of a text, on average, that a token is predicted at; the last one has
            no next token.
        numbers: Numbers of the text with most of them.
        asked: Number labels of the text with most of them; None: all its numbers.
        padding: Tokens that the other texts are short of it. Attention alone, which takes the
            texts apart, computes something in their place.
    """

    texts: int
    length: int
    labelled: float
    numbers: int
    asked: int | None = None
    padding: int = 0

    @property
    def asking(self) -> int:
        """Positions of a text that ask for a number, all of its numbers unless said otherwise."""
        return self.numbers if self.asked is None else self.asked

    @property
    def places(self) -> int:
        """Of tokens and of padding."""
        return self.texts * self.length

    @property
    def tokens(self) -> int:
        """Tokens of all texts, which stand in one row."""
        return self.places - self.padding

    @property
    def positions(self) -> int:
        """Labelled positions."""
        return round(self.texts * self.labelled)


@dataclass(frozen=True, slots=True)
class Mode:
    """How is trained.

    Attributes:
        autocast: bf16-mixed; else float32.
        checkpointing: `model.activation_checkpointing`.
        one_vs_rest: `OneVsRestHead`; else `SoftmaxHead`.
        lora_rank: Rank of adapters on all products of the layers, with dropout; 0: none.
        gpu: On a GPU; else on the CPU, whose dropout keeps more, whose tiles of scores are smaller
            and which adds tensors of two types by way of a copy.
    """

    autocast: bool = True
    checkpointing: bool = False
    one_vs_rest: bool = False
    lora_rank: int = 0
    gpu: bool = True

    @property
    def dropout_bytes(self) -> int:
        """What dropout keeps for an element: a mask on a GPU, a float on the CPU."""
        return 1 if self.gpu else FLOAT

    @property
    def size(self) -> int:
        """Bytes of what goes into products."""
        return HALF if self.autocast else FLOAT


def number_parameters(shape: Shape, mode: Mode) -> int:
    """Parameters that this project adds; under LoRA the output row of `<NUM>` is one of them."""
    hidden = shape.hidden
    inputs = hidden + 1 + _READ
    attention = (hidden + 1) * (_READING_ALTERNATIVES + _POINTER_ALTERNATIVES) + (
        _READING + _POINTER
    ) * (hidden + 1 + 2 * hidden)
    arithmetic = len(OPERATIONS) * _CHOICE * (hidden + 1 + 2 * hidden + 1)
    arithmetic += (hidden + 1) * _CERTAINTY
    values = (inputs + 1) * (_OUTPUTS + _MLP) + (_MLP + 1) * _OUTPUTS
    return (
        hidden * (clock.FEATURES + 1)  # number embedding
        + hidden * hidden + hidden + 1  # abduction
        + hidden + 1 + attention + arithmetic + values  # number head
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
    gate, its SiLU, up and their product. Per place: query, key, value, attention's output and
    log-sum-exp. Where texts are padded, attention's output once more, in one row. With adapters
    the frozen products and norms keep no inputs, but every adapter keeps its input after dropout,
    and dropout its mask.
    """
    hidden, wide, size = shape.hidden, shape.intermediate, mode.size
    attention = piece.places * (2 * size * (hidden + shape.kv) + FLOAT * shape.heads)
    root_mean_squares = 2 * FLOAT
    if mode.lora_rank:
        inputs = 6 * hidden + wide
        norms = 2 * FLOAT * hidden
        products = 3 * size * wide
        products += inputs * (size + mode.dropout_bytes) + 7 * size * mode.lora_rank
    else:
        norms = 2 * FLOAT * 2 * hidden
        products = 4 * size * wide + (5 * HALF if mode.autocast else 2 * FLOAT) * hidden
        if piece.padding:
            products += size * hidden
    return piece.tokens * (norms + root_mean_squares + products) + attention


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
    """Bytes that all layers keep: with checkpointing the float32 states that go into each.

    Else, beside what each keeps, the cosines and sines of all tokens' positions and, where texts
    are padded, the table of which token stands where.
    """
    if mode.checkpointing:
        return shape.layers * FLOAT * piece.tokens * shape.hidden
    shared = 2 * FLOAT * piece.tokens * (shape.hidden // shape.heads)
    shared += INDEX * piece.places if piece.padding else 0
    return shape.layers * layer_activations(shape, piece, mode) + shared


def kept_head(shape: Shape, piece: Piece, mode: Mode) -> int:
    """Bytes that the token head keeps: float32 gradients, which the forward pass takes.

    Of the states, of the table if it learns, and of scales and thresholds; under LoRA of the shift
    of `<NUM>`, whose row keeps the states.
    """
    gradients = piece.positions * shape.hidden + (0 if mode.lora_rank else shape.table)
    if mode.one_vs_rest:
        gradients += piece.positions + shape.rows
    row = piece.positions * (1 + shape.hidden) if mode.lora_rank else 0
    return FLOAT * (gradients + row)


def kept_numbers(shape: Shape, piece: Piece, mode: Mode) -> int:
    """Bytes that the number head keeps, of every number and every asking position.

    What the pointer looks with, two states of a number and one where is asked, is there once more
    after dropout, beside dropout's mask.
    """
    hidden = shape.hidden
    number = 2 * WINDOW * hidden + 5 * hidden + _READING + _POINTER
    asking = 4 * hidden + 2 * (hidden + 1 + _READ) + _READING + _POINTER + 2 * _MLP
    skip = (hidden + 1 + _READ) * _OUTPUTS  # weights, masked
    kept = piece.texts * (piece.numbers * number + piece.asking * asking) + skip
    kept += piece.texts * _kept_arithmetic(piece.numbers, piece.asking)
    dropped = piece.texts * hidden * (2 * piece.numbers + piece.asking)
    return FLOAT * kept + mode.dropout_bytes * dropped


def _kept_arithmetic(numbers: int, asked: int) -> int:
    """Floats that are kept of a text to make values: most of them of every pair.

    A pair has three scores' probabilities and what is made of these. Of every hand it has the
    cosine and sine that it turns by, the same as a complex number, and of the products of two,
    four, ... of these, as many again; and their lengths. The hands that a number has are those of
    every pair where it is divided by how many are taken.
    """
    pair = number = asking = 0
    for operation in OPERATIONS:
        hands = len(operation.dial.periods)
        pair += 5 + 7 * hands + (2 * hands if operation.shared else 0)
        number += 2 * _CHOICE + (0 if operation.shared else 2 * hands)
        asking += 2 * _CHOICE + 3 * hands
    return numbers * asked * pair + numbers * number + asked * asking


def kept_rest(shape: Shape, piece: Piece, mode: Mode) -> int:
    """Bytes that final norm, abduction, number embedding and losses keep, in float32.

    Of the losses, those of what is made: twice of every hand.
    """
    normalised = 0 if mode.lora_rank else shape.hidden
    made = sum(10 + 8 * len(operation.dial.periods) for operation in OPERATIONS)
    tokens = piece.tokens * (2 * shape.hidden + normalised + clock.FEATURES + 4)
    return FLOAT * (tokens + piece.texts * piece.asking * made)


def kept(shape: Shape, piece: Piece, mode: Mode) -> int:
    """Bytes kept between forward and backward pass, without the layers' weights in bf16."""
    return (
        kept_layers(shape, piece, mode)
        + kept_head(shape, piece, mode)
        + kept_numbers(shape, piece, mode)
        + kept_rest(shape, piece, mode)
    )


def states(shape: Shape, piece: Piece) -> int:
    """Bytes of what is known at every position, padded, until the losses are there."""
    return FLOAT * piece.places * (2 * shape.hidden + 1)


def head_at_work(shape: Shape, piece: Piece, mode: Mode) -> int:
    """Bytes that the token head holds beside what it keeps, at worst; in the forward pass.

    The latent cause at the labelled positions; under autocast table and states in bf16; tiles.
    """
    chosen = FLOAT * piece.positions * (shape.hidden + 1)
    copies = HALF * (shape.table + piece.positions * shape.hidden) if mode.autocast else 0
    tiles = one_vs_rest_tiles if mode.one_vs_rest else softmax_tiles
    return chosen + copies + tiles(shape, piece, mode)


def tile_scores(whole: int, taken: int, mode: Mode, tables: int) -> int:
    """Scores of a tile.

    Args:
        whole: Size of the dimension that every tile has all of.
        taken: Size of the dimension that is taken in tiles.
        mode: How is trained.
        tables: Tables of a tile that are there at once.
    """
    size = tile_size(whole, torch.device("cuda" if mode.gpu else "cpu"), tables)
    return whole * min(size, taken)


def softmax_tiles(shape: Shape, piece: Piece, mode: Mode) -> int:
    """Bytes of a tile of positions, at worst.

    Scores and log-probabilities; or derivatives by the scores, under autocast in bf16 too, with
    what they give to the table.
    """
    first = tile_scores(shape.rows, piece.positions, mode, tables=2)
    product = HALF if mode.autocast else 0
    table = 0 if mode.lora_rank else _added(shape.table, mode)
    return max(2 * FLOAT * first, first * (FLOAT + product) + table)


def one_vs_rest_tiles(shape: Shape, piece: Piece, mode: Mode) -> int:
    """Bytes of a tile of tokens, at worst.

    Three tensors of scores in a tile's terms; or derivatives by the scores, under autocast in bf16
    too, with what they give to the states; or at the end the labels' rows of the table, and times
    a derivative.
    """
    tile = tile_scores(piece.positions, shape.rows, mode, tables=3)
    product = HALF if mode.autocast else 0
    located = piece.positions * shape.hidden
    return max(
        3 * FLOAT * tile,
        tile * (FLOAT + product) + _added(located, mode),
        2 * FLOAT * located,
    )


def _added(count: int, mode: Mode) -> int:
    """Bytes of a product in bf16 of so many elements while it is added to one in float32."""
    if not mode.autocast:
        return 0
    return count * (HALF if mode.gpu else HALF + FLOAT)


def numbers_at_work(shape: Shape, piece: Piece) -> int:
    """Bytes that the number head's backward pass takes beside what is kept, at worst.

    Four tensors of the words after every number, and the gradients of what is known.
    """
    words = FLOAT * piece.texts * piece.numbers * WINDOW * shape.hidden
    return 4 * words + states(shape, piece)


def table_gradients(shape: Shape, mode: Mode) -> int:
    """Bytes of the second gradient of a tied table, that of the input, until it is added."""
    return FLOAT * shape.table if shape.tied and not mode.lora_rank else 0


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
    kept_now = kept(shape, piece, mode)
    working = (
        states(shape, piece) + head_at_work(shape, piece, mode) - kept_numbers(shape, piece, mode)
    )
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
            "forward": always + gradients + kept_now + cast_layers(shape, mode) + working,
            "head backward": (
                always
                + kept_now
                + cast_layers(shape, mode, forward=False)
                + numbers_at_work(shape, piece)
            ),
            "layers backward": always + max(table + layers + again, gradients + again),
            "end of backward": always + gradients + table_gradients(shape, mode),
            "optimizer": always + gradients,
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
    kept_now = kept(shape, piece, mode)
    working = (
        states(shape, piece) + head_at_work(shape, piece, mode) - kept_numbers(shape, piece, mode)
    )
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
            "forward": parts + root + kept_now + working,
            "head backward": parts - gradients + root + kept_now + numbers_at_work(shape, piece),
            # at the first layer all is kept and no gradient is there, at the last the other way
            "layers backward": (
                max(parts - gradients + layers, parts - root_gradients // devices)
                + (root + table + layer + layer_gradients + sent + again)
            ),
            "end of backward": parts + max(summing + sent, 2 * root_gradients),
            "optimizer": parts,
        },
    )

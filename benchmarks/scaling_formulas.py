"""Work, traffic, time and price of a training step, by formula, on a machine of stated figures."""

from dataclasses import dataclass

from benchmarks.memory_formulas import (
    FLOAT,
    Mode,
    Piece,
    Shape,
    adapter_parameters,
    gathered_layer,
    root_parameters,
    trained_layer,
    trained_parameters,
)


@dataclass(frozen=True, slots=True)
class Machine:
    """What is assumed of a device; an H100 SXM.

    Attributes:
        memory: Bytes; a tenth is left to the CUDA context, to NCCL and to fragmentation.
        flops: Dense bf16 products, FLOP a second.
        share: Of `flops` that a step reaches.
        memory_bandwidth: Bytes a second.
        network: Bytes a second that a device receives while all do.
        launch: Seconds to launch one kernel.
        price: Dollars an hour.
    """

    memory: float = 80e9
    flops: float = 989e12
    share: float = 0.30
    memory_bandwidth: float = 3.35e12
    network: float = 300e9
    launch: float = 10e-6
    price: float = 2.50


H100 = Machine()
KERNELS_PER_LAYER = 100  # of forward and backward pass, not compiled: 2,400 for 24 layers
ADAMW_PASSES = 10  # over the trained weights in float32: 7 of AdamW, 3 of clipping the gradient


@dataclass(frozen=True, slots=True)
class Work:
    """FLOP of a piece: forward pass, and what comes after it."""

    forward: float
    backward: float

    @property
    def total(self) -> float:
        """Of the step."""
        return self.forward + self.backward


def work(shape: Shape, piece: Piece, mode: Mode) -> Work:
    """FLOP of a piece: 2 a parameter and token forward, 4 backward.

    Frozen weights need no gradient (2 backward); checkpointing computes the layers again. The
    token head's gradients are taken in the forward pass. Attention is counted causal, half of the
    square.
    """
    back = 1 if mode.lora_rank else 2
    layers = 2 * piece.tokens * shape.layers * shape.layer_matrices
    attention = 2 * piece.places * shape.layers * shape.hidden * piece.length
    adapters = 2 * piece.tokens * adapter_parameters(shape, mode)
    head = 2 * piece.positions * shape.table
    abduction = 2 * piece.tokens * shape.hidden**2
    again = layers + attention + adapters if mode.checkpointing else 0
    return Work(
        layers + attention + adapters + (1 + back) * head + abduction,
        back * layers + 2 * (attention + adapters + abduction) + again,
    )


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that a device receives in a step.

    Attributes:
        forward: While the forward pass computes.
        backward: While the backward pass computes.
        alone: While nothing computes: the root before the forward and after the backward pass.
    """

    forward: float
    backward: float
    alone: float

    @property
    def total(self) -> float:
        """Of the step."""
        return self.forward + self.backward + self.alone


def ddp_traffic(shape: Shape, mode: Mode, devices: int) -> Traffic:
    """A ring's all-reduce of the float32 gradients: every byte twice, less a device's own part."""
    gradients = FLOAT * trained_parameters(shape, mode)
    return Traffic(0, 2 * gradients * (devices - 1) / devices, 0)


def fsdp_traffic(shape: Shape, mode: Mode, devices: int) -> Traffic:
    """Layers gathered twice and the root once, float32 gradients reduced and scattered once.

    Of every piece: under FSDP2 Lightning sends the gradients of accumulated pieces one by one.
    """
    others = (devices - 1) / devices
    gathered = shape.layers * gathered_layer(shape, mode)
    layers = shape.layers * trained_layer(shape, mode)
    root = root_parameters(shape, mode) + trained_parameters(shape, mode) - layers
    return Traffic(
        others * gathered,
        others * (gathered + FLOAT * layers),
        others * FLOAT * root,
    )


def fsdp_collectives(shape: Shape, mode: Mode) -> int:
    """How often the devices of a step talk: every layer and, under autocast, its two norms.

    Each is gathered for the forward and for the backward pass, and the root once; gradients are
    reduced as often, where there are any.
    """
    groups = shape.layers * (3 if mode.autocast else 1)
    learning = shape.layers if mode.lora_rank else groups
    return 2 * groups + 1 + learning + 1


def hiding_bandwidth(done: Work, sent: Traffic, machine: Machine = H100) -> float:
    """Bytes a second from which what is sent beside a pass takes no longer than the pass."""
    speed = machine.flops * machine.share
    return max(
        sent.forward / (done.forward / speed),
        sent.backward / (done.backward / speed),
    )


def step_seconds(
    shape: Shape,
    piece: Piece,
    mode: Mode,
    devices: int = 1,
    sharded: bool = False,
    machine: Machine = H100,
) -> float:
    """Expected seconds of a step of one piece on every device.

    Each pass takes as long as its products, its kernels' launches or its network traffic,
    whichever is longest; the root's traffic and the optimizer come on top.
    """
    done = work(shape, piece, mode)
    sent = (fsdp_traffic if sharded else ddp_traffic)(shape, mode, devices)
    speed = machine.flops * machine.share
    launches = KERNELS_PER_LAYER * shape.layers * machine.launch
    launched = launches / 3, launches * (1 if mode.checkpointing else 2 / 3)
    passes = (
        max(flop / speed, sending / machine.network, launching)
        for flop, sending, launching in zip(
            (done.forward, done.backward), (sent.forward, sent.backward), launched, strict=True
        )
    )
    mine = trained_parameters(shape, mode) / (devices if sharded else 1)
    optimizer = ADAMW_PASSES * FLOAT * mine / machine.memory_bandwidth
    return sum(passes) + sent.alone / machine.network + optimizer


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run takes."""

    steps: int
    hours: float
    gpu_hours: float
    dollars: float


def cost(
    shape: Shape,
    piece: Piece,
    mode: Mode,
    texts: int,
    devices: int,
    sharded: bool,
    machine: Machine = H100,
) -> Cost:
    """Of training on so many texts, every device a piece in each step."""
    steps = round(texts / (piece.texts * devices))
    hours = steps * step_seconds(shape, piece, mode, devices, sharded, machine) / 3600
    return Cost(steps, hours, hours * devices, hours * devices * machine.price)

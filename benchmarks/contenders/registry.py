"""The contenders by the names that tables and commands have for them."""

from collections.abc import Callable
from functools import partial

from benchmarks.contenders.ablations import ABLATIONS
from benchmarks.contenders.base import Contender
from benchmarks.contenders.bit_tokens import BitTokens
from benchmarks.contenders.digits import Digits
from benchmarks.contenders.exponent_tokens import ExponentTokens
from benchmarks.contenders.fone import FoNE
from benchmarks.contenders.number_token_loss import NumberTokenLoss
from benchmarks.contenders.numlm_head import NumLM
from benchmarks.contenders.rail import Rail
from benchmarks.contenders.regression_head import RegressionHead
from benchmarks.contenders.seed_head import SeedHead
from benchmarks.contenders.xval import XVal

CONTENDERS: dict[str, Callable[[str], Contender]] = {
    "numlm": NumLM,
    "digits": Digits,
    "ntl": NumberTokenLoss,
    "ntl-0.15": partial(NumberTokenLoss, weight=0.15),
    "rail": Rail,
    "exponent": ExponentTokens,
    "regression": RegressionHead,
    "xval": XVal,
    "fone": FoNE,
    "bits": BitTokens,
    "seed": SeedHead,
}

EVERY: dict[str, Callable[[str], Contender]] = CONTENDERS | ABLATIONS

DESCRIPTIONS: dict[str, str] = {
    "numlm": "this project: copies, values near, made and new, read from clocks",
    "digits": "plain fine-tuning, digits written greedily",
    "ntl": "digits, cross-entropy + 0.3 x number token loss (NTL-WAS)",
    "ntl-0.15": "digits, cross-entropy + 0.15 x number token loss (NTL-WAS)",
    "rail": "plain fine-tuning, mean of 16 sampled numbers (RAIL)",
    "exponent": "sign, 8 digits and exponent as tokens, median of 16 samples (OmniPred)",
    "regression": "linear output of the last token, squared error (Hugging Face); writes no text",
    "xval": "scaled value times one embedding, squared error (xVal)",
    "fone": "a circle for every digit, read and written (FoNE), with a sign",
    "bits": "64 bits of the float64, read and written (BitTokens)",
    "seed": "logarithm along one direction, Cauchy value of a Cauchy latent (CausalQwen)",
    "likelihood": "ours, new values learned by their likelihood in place of their score",
    "one-vs-rest": "ours, each token against the rest in place of softmax",
    "gaussian": "ours, normal and von Mises in place of Cauchy, by likelihood",
    "one-vs-rest-gaussian": "the same, each token against the rest",
    "no-clock": "ours, read and said as magnitude and sign alone; what is made has its hands",
    "last-state": "ours, the number head looks with what the last layer wrote",
    "no-reading": "ours, values are not read from the text's numbers",
    "no-pointer": "ours, nothing is copied or near a number",
    "no-arithmetic": "ours, nothing is made",
    "gate": "ours, the number loss times P(<NUM>)",
    "random-start": "ours, PyTorch's start in place of the identity",
    "latent-24": "ours, latent cause of 24 dimensions in place of 192",
    "value-weight-3": "ours, number loss weighed 3 in place of 0.3",
}

"""The decoder layers of a backbone."""

import transformers  # whose names are imported when they are asked for
from torch import nn


def decoder_layers(backbone: nn.Module) -> list[nn.Module]:
    """The layers that Transformers knows as such, in order; none of some architectures."""
    layer_type = transformers.modeling_layers.GradientCheckpointingLayer
    return [module for module in backbone.modules() if isinstance(module, layer_type)]

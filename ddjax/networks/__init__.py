"""Networks: LeNet, AlexCifarNet, AlexNet, ConvNet, VGG-11, ResNet-18, MLP, three for texts, adapters."""

from ddjax.networks.adapters import from_functions, from_kernel, from_linen, from_nnx
from ddjax.networks.alexcifar import alexcifar
from ddjax.networks.alexnet import alexnet
from ddjax.networks.alexnet32 import alexnet32
from ddjax.networks.convnet import convnet
from ddjax.networks.kernels import infinite_convnet, infinite_mlp, myrtle
from ddjax.networks.lenet import lenet
from ddjax.networks.mlp import mlp
from ddjax.networks.norms import calibrate
from ddjax.networks.registry import (
    NAMES,
    as_text,
    by_name,
    by_text,
    default_for,
    default_network,
    num_weights,
)
from ddjax.networks.resnet import resnet18
from ddjax.networks.textconv import textconv
from ddjax.networks.textrnn import bilstm
from ddjax.networks.transformer import transformer
from ddjax.networks.vgg import vgg11
from ddjax.types import Kernel

__all__ = [
    "NAMES",
    "Kernel",
    "alexcifar",
    "alexnet",
    "alexnet32",
    "as_text",
    "bilstm",
    "by_name",
    "by_text",
    "calibrate",
    "convnet",
    "default_for",
    "default_network",
    "from_functions",
    "from_kernel",
    "from_linen",
    "from_nnx",
    "infinite_convnet",
    "infinite_mlp",
    "lenet",
    "mlp",
    "myrtle",
    "num_weights",
    "resnet18",
    "textconv",
    "transformer",
    "vgg11",
]

"""Networks: LeNet, AlexCifarNet, AlexNet, ConvNet, MLP, and adapters for anyone's own."""

from ddjax.networks.adapters import from_functions, from_linen, from_nnx
from ddjax.networks.alexcifar import alexcifar
from ddjax.networks.alexnet import alexnet
from ddjax.networks.convnet import convnet
from ddjax.networks.lenet import lenet
from ddjax.networks.mlp import mlp
from ddjax.networks.registry import NAMES, by_name, default_for, default_network

__all__ = [
    "NAMES",
    "alexcifar",
    "alexnet",
    "by_name",
    "convnet",
    "default_for",
    "default_network",
    "from_functions",
    "from_linen",
    "from_nnx",
    "lenet",
    "mlp",
]

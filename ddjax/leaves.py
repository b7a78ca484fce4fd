"""The names of the leaves of a pytree, as files of weights have them."""

from __future__ import annotations

from typing import Any

import jax

from ddjax.types import PyTree


def name(path: tuple[Any, ...]) -> str:
    """The name of a leaf's place, e.g. `conv1.kernel`.

    Args:
        path: the keys that lead to the leaf, as `jax.tree_util` gives them.

    Returns:
        The keys with dots between them.
    """
    return jax.tree_util.keystr(path, simple=True, separator=".")


def named(tree: PyTree) -> dict[str, Any]:
    """The leaves of a tree by their names.

    Args:
        tree: the tree.

    Returns:
        Every leaf, in the tree's own order.
    """
    return {name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}

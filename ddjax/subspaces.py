"""Class subspaces and planes of real data: how far distilled images lie from them, and where.

Everything is fitted in float64: in float32 scikit-learn's LDA on MNIST's pixels, many of which are constant,
is right for 9 % of the images and says nothing; here LDA follows a PCA, as one should.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddjax import checks
from ddjax.data import Split
from ddjax.types import Schedule


class Subspaces(NamedTuple):
    """An affine subspace for each class, x ≈ μ_k + Σ_j a_j σ_kj u_kj.

    Attributes:
        mean: `[K, F]`, μ_k, the mean of each class.
        directions: `[K, d, F]`, u_kj, orthonormal principal directions of each class.
        scales: `[K, d]`, σ_kj, the standard deviation of the class's examples along each direction.
    """

    mean: jax.Array | np.ndarray
    directions: jax.Array | np.ndarray
    scales: jax.Array | np.ndarray


class Plane(NamedTuple):
    """A plane to look at data in.

    Attributes:
        mean: `[F]`, the point of the data that comes to lie at the origin.
        axes: `[F, 2]`, the two directions; those of LDA are not orthogonal.
    """

    mean: np.ndarray
    axes: np.ndarray

    def places(self, inputs: Any) -> np.ndarray:
        """Where inputs lie in the plane.

        Args:
            inputs: `[n, *input_shape]`, the encoded inputs.

        Returns:
            `[n, 2]` float64.
        """
        return (_rows(inputs) - self.mean) @ self.axes


class Discriminant(NamedTuple):
    """Linear discriminant analysis after a PCA.

    Attributes:
        plane: the plane of the first two discriminant directions; for two classes the second is zero.
        model: the fitted pipeline of scikit-learn, which predicts classes of `[n, F]` float64.
    """

    plane: Plane
    model: Any

    def named(self, inputs: Any) -> np.ndarray:
        """The classes that LDA gives to inputs.

        Args:
            inputs: `[n, *input_shape]`, the encoded inputs.

        Returns:
            `[n]`.
        """
        return self.model.predict(_rows(inputs))


def _rows(inputs: Any) -> np.ndarray:
    return np.asarray(inputs, np.float64).reshape(len(inputs), -1)


def class_subspaces(split: Split, *, dims: int) -> Subspaces:
    """The principal subspace of each class (scikit-learn's PCA).

    Args:
        split: the real examples.
        dims: d, the number of directions of each class.

    Returns:
        The subspaces, float64.

    Raises:
        ValueError: d is below one, or a class has too few examples or features for so many directions.
    """
    from sklearn.decomposition import PCA

    checks.at_least("dims", dims, 1)
    inputs, fitted = _rows(split.encoded()), []
    for k in range(split.num_classes):
        own = inputs[split.labels == k]
        if min(len(own) - 1, own.shape[1]) < dims:
            raise ValueError(
                f"dims: expected at most {min(len(own) - 1, own.shape[1])}, for the {len(own)} examples of "
                f"{own.shape[1]} features of class {k}; got {dims}. Give fewer."
            )
        fitted.append(PCA(dims, svd_solver="full").fit(own))
    return Subspaces(
        np.stack([one.mean_ for one in fitted]),
        np.stack([one.components_ for one in fitted]),
        np.stack([np.sqrt(one.explained_variance_) for one in fitted]),
    )


def errors(subspaces: Subspaces, inputs: jax.Array) -> jax.Array:
    """The reconstruction error of inputs in the subspace of each class.

        r_k(x) = ‖(x - μ_k) - U_kᵀ U_k (x - μ_k)‖² / F

    Args:
        subspaces: the subspaces.
        inputs: `[n, *input_shape]`, the encoded inputs.

    Returns:
        `[n, K]`, in the dtype of the inputs; `argmin` over the classes is a classifier.
    """
    flat = inputs.reshape(len(inputs), -1)
    mean, directions = (jnp.asarray(one, flat.dtype) for one in subspaces[:2])

    def of_class(mean: jax.Array, directions: jax.Array) -> jax.Array:
        centred = flat - mean[None]
        return jnp.mean((centred - centred @ directions.T @ directions) ** 2, -1)

    return jax.vmap(of_class, out_axes=1)(mean, directions)


def own_error(subspaces: Subspaces, schedule: Schedule) -> jax.Array:
    """The mean error of distilled inputs in the subspaces of their own classes, mean_i Σ_k y_ik r_k(x̃_i).

    Args:
        subspaces: the subspaces.
        schedule: φ as a schedule; labels are taken as the shares of the classes, and not moved.

    Returns:
        `[]`.
    """
    inputs = schedule.inputs.reshape(-1, *schedule.inputs.shape[2:])
    labels = jax.lax.stop_gradient(schedule.labels.reshape(len(inputs), -1))
    return jnp.mean(jnp.sum(labels * errors(subspaces, inputs), -1))


def principal_plane(split: Split) -> Plane:
    """The plane of the first two principal directions of all examples.

    Args:
        split: the real examples.

    Returns:
        The plane.
    """
    from sklearn.decomposition import PCA

    found = PCA(2, svd_solver="full").fit(_rows(split.encoded()))
    return Plane(found.mean_, np.asarray(found.components_).T)


def discriminant(split: Split, *, dims: int = 50) -> Discriminant:
    """Linear discriminant analysis of the classes, on the first principal components.

    Args:
        split: the real examples.
        dims: the number of principal components; fewer where there are fewer features or examples.

    Returns:
        The plane and the classifier.

    Raises:
        ValueError: `dims` is below two.
    """
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline

    checks.at_least("dims", dims, 2)
    inputs = _rows(split.encoded())
    # Components without variance, such as those of constant pixels, are what LDA fails on.
    rank = int(np.linalg.matrix_rank(inputs - inputs.mean(0)))
    pca, lda = PCA(min(dims, rank), svd_solver="full"), LinearDiscriminantAnalysis()
    model = make_pipeline(pca, lda).fit(inputs, split.labels)
    within = np.zeros((pca.n_components_, 2))
    scalings = lda.scalings_[:, : min(2, split.num_classes - 1)]
    within[:, : scalings.shape[1]] = scalings
    return Discriminant(Plane(pca.mean_, np.asarray(pca.components_).T @ within), model)

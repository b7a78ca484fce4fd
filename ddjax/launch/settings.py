"""The settings that launchers share, as dataclasses of flags to build on."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path

from ddjax.augment import FLIPPED
from ddjax.coresets import INITIAL_IMAGES
from ddjax.data import TextSettings
from ddjax.data.huggingface import HUB
from ddjax.data.sources import is_path
from ddjax.data.whitening import WHITENINGS
from ddjax.forms import DECAYS
from ddjax.inits import SCHEMES
from ddjax.launch.flags import DATASET, EXTENDS, JUDGES, WATCHES, flag, flag_like
from ddjax.methods.unrolled import HORIZONS
from ddjax.networks import NAMES, norms
from ddjax.networks.ops import CONV_FORMS
from ddjax.networks.precision import PRECISIONS
from ddjax.optimizers import LR_OF_LRS
from ddjax.recipes import MOST_EPOCHS, PROTOCOLS
from ddjax.tokenizer import SMALLEST
from ddjax.unroll import OPTIMIZERS, STRATEGIES

AUGMENTATIONS = (
    "a strategy such as dc, pad_crop_flip or color_crop, or dsa for DSA's: flips on "
    f"{', '.join(sorted(FLIPPED))} only, for flips on others write color_crop_cutout_flip_scale_rotate"
)
"""The values that a flag for an augmentation may have, for the help texts."""

PROTOCOL = (
    "count of the epochs and fall of the rate: as DC, DSA and DM published (E + 1 epochs; after E // 2 + 2 a "
    "tenth of the rate and a new optimiser), or plain (E epochs; after half of the steps a tenth of the rate)"
)
"""What `--protocol` chooses, for the help texts."""


def named_by_tfds(dataset: str | None) -> bool:
    """Whether a data set is one of TensorFlow Datasets, or may be one.

    Args:
        dataset: the value of `--dataset`; None where an artifact says which.

    Returns:
        False for the embedded digits, for sets of the Hugging Face Hub and for paths.
    """
    if dataset is None:
        return True
    return not (dataset == "digits" or dataset.startswith(HUB) or is_path(dataset))


@dataclasses.dataclass(frozen=True)
class Where:
    """Which data, which directory and which seed: the flags that nearly all launchers have."""

    dataset: str = flag(
        "digits",
        "digits, a TFDS name such as mnist or trec, hf:OWNER/NAME of the Hugging Face Hub, or the path of an "
        ".npz, .csv or .tsv or of a folder of pictures",
        path=True,
        role=DATASET,
    )
    data_dir: str | None = flag(
        None, "where TFDS data lie; $TFDS_DATA_DIR by default", path=True, same_step=True, role=WATCHES
    )
    workdir: str | None = flag(
        None,
        "directory of the run; runs/EXPERIMENT-DATASET by default",
        path=True,
        recorded=False,
        same_step=True,
    )
    seed: int = flag(0, "of everything random", low=0, same_step=True)

    def directory(self, experiment: str) -> Path:
        """The work directory: the directory of `--workdir`, else `runs/EXPERIMENT-DATASET`.

        Args:
            experiment: the launcher's name.

        Returns:
            The path.
        """
        return Path(self.workdir or f"runs/{experiment}-{Path(self.dataset).stem}")

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings.

        Returns:
            The reasons, by the names of the flags.
        """
        if named_by_tfds(self.dataset):
            return {}
        return {"data_dir": f"{self.dataset} is not read from there"}


@dataclasses.dataclass(frozen=True)
class NetworkChoice:
    """Which network is trained, and from which initial weights."""

    network: str | None = flag(None, f"{', '.join(NAMES)}; by default what fits the data")
    width: int | None = flag(
        None, "channels or units of a network's layers; by default the network's own", low=1
    )
    depth: int | None = flag(None, "blocks of a convnet; by default what fits the images", low=1)
    norm: str | None = flag(
        None, "of a convnet, vgg11 or resnet18; by default the network's own", choices=norms.NORMS
    )
    init: str = flag("xavier_normal", f"what initial weights are drawn from: {', '.join(SCHEMES)}")
    init_gain: float = flag(1.0, "factor on the initial weights", positive=True, same_step=True)


@dataclasses.dataclass(frozen=True)
class DataChoice(NetworkChoice):
    """Which form the images are converted to: their size, channels and normalisation."""

    resize: int | None = flag(
        None, "height and width that all images are brought to, bilinear; by default their own", low=1
    )
    channels: int | None = flag(
        None, "channels that grey images are repeated to; by default their own", low=1
    )
    rotated: float | None = flag(
        None, "degrees by which every image is turned at most, by a random angle of its own", positive=True
    )
    pixels: str | None = flag(
        None, "whose pixels' mean and std normalise; by default the data's own", choices=("imagenet",)
    )
    whiten: str | None = flag(
        None,
        "whitening of all pixels together, fitted on the training images: zca as in trajectory matching, "
        "zca_standardised as in FRePo and RFAD",
        choices=tuple(WHITENINGS),
    )


@dataclasses.dataclass(frozen=True)
class TextChoice:
    """How texts become examples; images have none of these settings."""

    length: int | None = flag(None, "words that every text is cut or filled up to; by default 30", low=1)
    vocabulary: int | None = flag(None, "most words with a vector; by default 8000", low=SMALLEST)
    embedding: str | None = flag(
        None,
        "vectors of words: random, cooccurrence (of the training texts, the default), or a file of GloVe's",
        path=True,
        role=DATASET,
    )
    embedding_dim: int | None = flag(
        None, "numbers of a word's vector; by default those of the file, else 100", low=1
    )
    label: str | None = flag(None, "which label, of texts with several; by default the usual one")

    def text_settings(self) -> TextSettings | None:
        """How the flags ask for texts to become examples.

        Returns:
            The settings, with their own defaults for flags that are not given; None where none is given.
        """
        given = {
            "length": self.length,
            "vocabulary": self.vocabulary,
            "embedding": self.embedding,
            "dim": self.embedding_dim,
            "label": self.label,
        }
        asked = {name: value for name, value in given.items() if value is not None}
        return TextSettings(**asked) if asked else None


@dataclasses.dataclass(frozen=True)
class Common(Where, DataChoice, TextChoice):
    """The settings that every distillation has."""

    num_outer_steps: int | None = flag(
        None,
        "updates of the distilled images; by default the method's own number",
        low=1,
        same_step=True,
        role=EXTENDS,
    )
    num_inits: int = flag(1, "M, initial weights in one outer step", low=1)
    slots_per_chunk: int | None = flag(
        None, "how many of the M train at once; by default as tuned, else 1 on CPU, all elsewhere", low=1
    )
    conv_form: str = flag("auto", "how convolutions are computed", choices=CONV_FORMS)
    tune: bool = flag(
        False, "at the first start, time what is left to auto and remember the fastest", recorded=False
    )
    dry_run: bool = flag(
        False, "print the plan and its memory, and what would make it fit; run nothing", recorded=False
    )
    target: str | None = flag(
        None,
        "with --dry_run: other devices to compile for, such as h100x8 or v5e:2x4, or a .json that describes "
        "some (see ddjax.targets)",
        path=True,
        recorded=False,
    )
    memory_limit: float | None = flag(
        None, "GiB that one device has; by default what it says", low=0, recorded=False
    )
    batch_size: int = flag(1024, "N, real images in a minibatch", low=1)
    clip_norm: float | None = flag(
        None, "bound on the gradient's norm, 0 for none; by default the method's own", low=0, same_step=True
    )
    outer_lr: float | None = flag(
        None,
        "learning rate of the distilled images at the start, above zero; by default the method's own",
        positive=True,
        same_step=True,
    )
    num_eval_inits: int = flag(
        20, "unseen initial weights behind the final score", low=1, same_step=True, role=JUDGES
    )
    num_val_inits: int = flag(4, "initial weights behind each validation", low=1, same_step=True)
    validate_every: int = flag(100, "outer steps from one validation to the next", low=1, same_step=True)
    record_every: int = flag(
        10, "outer steps from one record of the metrics to the next", low=1, same_step=True, role=WATCHES
    )
    save_seconds: float = flag(30.0, "seconds between checkpoints", low=0, same_step=True, role=WATCHES)
    save_every: int | None = flag(
        None, "outer steps between checkpoints, beside --save_seconds", low=1, recorded=False
    )
    on_nonfinite: str = flag(
        "stop",
        "where something is not finite: stop, or rollback to a good state, with smaller steps",
        choices=("stop", "rollback"),
        role=EXTENDS,
    )
    max_rollbacks: int = flag(3, "after so many the run stops all the same", low=0, role=EXTENDS)
    baselines: bool = flag(True, "measure the baselines too", same_step=True, role=JUDGES)
    tensorboard: bool = flag(
        False,
        "write TensorBoard files to WORKDIR/tensorboard (needs tensorboardX)",
        same_step=True,
        role=WATCHES,
    )
    distributed: bool = flag(
        False,
        "this is one process of several; Slurm, Open MPI, Kubernetes and Cloud TPU are found out",
        recorded=False,
    )
    coordinator_address: str | None = flag(
        None, "HOST:PORT of process 0, where no cluster is found", recorded=False
    )
    num_processes: int | None = flag(
        None, "processes in all, where no cluster is found", low=1, recorded=False
    )
    process_id: int | None = flag(
        None, "which of them this is, from 0, where no cluster is found", low=0, recorded=False
    )

    @property
    def compiled_for(self) -> str | None:
        """The devices that a dry run compiles for; None for those of this machine."""
        return self.target

    @property
    def draws_real(self) -> bool:
        """Whether an outer step draws real examples, `batch_size` of them."""
        return True

    def differentiated_steps(self) -> int | None:
        """The number of inner steps that an outer step differentiates through.

        Returns:
            The number; None where the method does not differentiate through training.
        """
        return None

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings.

        Returns:
            The reasons, by the names of the flags.
        """
        found = super().idle()
        chunk = self.slots_per_chunk or 1
        if (used := math.gcd(chunk, self.num_inits)) != chunk:
            found["slots_per_chunk"] = f"{used} at once, the largest divisor of --num_inits={self.num_inits}"
        if not self.draws_real:
            found["batch_size"] = "no real examples are drawn"
        if self.network == "mlp":
            found["conv_form"] = "an mlp has no convolutions"
        if self.on_nonfinite == "stop":
            found["max_rollbacks"] = "only --on_nonfinite=rollback rolls back"
        return found


FORMS = ("pixels", "multi_formation", "bases", "latents", "stored", "textures")
"""The choices of `--form`: free pixels, or what `ddjax.forms.composed` makes images of."""


@dataclasses.dataclass(frozen=True)
class Formed(Common):
    """The settings of the methods whose φ may store less, or more, than the pixels of its images."""

    form: str = flag(
        "pixels",
        "what is stored of the images: their pixels; parts that are enlarged (multi_formation); combinations "
        "of bases; codes times decoders (latents); pixels of which minibatches are drawn (stored); or "
        "canvases of which networks see cuts (textures)",
        choices=FORMS,
    )
    factor: int = flag(2, "parts of each side of a stored image, with --form=multi_formation", low=1)
    num_bases: int = flag(32, "images that all others are combinations of, with --form=bases", low=1)
    downsample: float = flag(1.0, "factor by which a basis is smaller on each side", low=1)
    num_decoders: int = flag(4, "decoders of every code, with --form=latents", low=1)
    decoder: str = flag("convolution", "kind of these decoders", choices=("convolution", "style"))
    decoder_width: int = flag(0, "hidden channels of a decoder; 0 for one convolution", low=0)
    code_scale: int = flag(2, "factor by which a code is smaller than an image on each side", low=1)
    code_channels: int = flag(1, "channels of a code", low=1)
    canvas: int = flag(2, "images along each side of a canvas, with --form=textures", low=1)
    cuts: int = flag(8, "cuts of each canvas that a network sees, with --form=textures", low=1)
    drawn_per_class: int | None = flag(
        None,
        "images of each class in a minibatch that every outer step draws anew; by default none are drawn",
        low=1,
    )
    inner_lr_decay: str = flag(
        "constant", "fall of the learning rates over the steps at the start", choices=DECAYS, same_step=True
    )

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings.

        Returns:
            The reasons, by the names of the flags.
        """
        found = super().idle()
        own = {
            "multi_formation": ("factor",),
            "bases": ("num_bases", "downsample"),
            "latents": ("num_decoders", "decoder", "decoder_width", "code_scale", "code_channels"),
            "textures": ("canvas", "cuts"),
        }
        for form, names in own.items():
            if form != self.form:
                found |= dict.fromkeys(names, f"only --form={form} has it")
        if self.form == "pixels":
            whole = ("drawn_per_class", "inner_lr_decay")
            found |= dict.fromkeys(whole, "--form=pixels unfolds as it is stored")
        return found


@dataclasses.dataclass(frozen=True)
class Unrolled(Formed):
    """The settings of the methods that differentiate through training."""

    inner_steps: int = flag(10, "S, gradient steps with images of their own", low=1)
    inner_epochs: int = flag(3, "E, passes over those steps", low=1)
    images_per_class_per_step: int = flag(1, "distilled images of one class in one step", low=1)
    initial_images: str = flag("noise", "what the distilled images start from", choices=tuple(INITIAL_IMAGES))
    label_confidence: float | None = flag(
        None, "learn the labels too; the probability of its own class that an image's label starts with"
    )
    inner_lr: float = flag(0.02, "the learned learning rates' start", positive=True, same_step=True)
    images_per_step: int | None = flag(
        None, "all distilled images in one step, fewer than classes too; by default as many of each", low=1
    )
    label_form: str | None = flag(
        None,
        "hard, softmax or free (any numbers) labels; by default hard, softmax with --label_confidence",
        choices=("hard", "softmax", "free"),
    )
    max_inner_lr: float | None = flag(
        None, "bound on the learned learning rates; by default none", positive=True, same_step=True
    )
    outer_lr_of_labels: float | None = flag(
        None, "learning rate of learned labels; by default that of the images", positive=True, same_step=True
    )
    outer_lr_of_lrs: float = flag(
        LR_OF_LRS,
        "learning rate of the learned learning rates; not used by --original",
        low=0,
        same_step=True,
    )
    inner_optimizer: str = flag("sgd", "whose updates the learning rates scale", choices=tuple(OPTIMIZERS))
    memory: str = flag("auto", "how the unroll is differentiated", choices=("auto", *STRATEGIES))
    precision: str | None = flag(
        None, "of the network under which φ moves; by default the backend's", choices=PRECISIONS
    )
    window: int | None = flag(None, "differentiate the last so many inner steps only", low=1)
    horizon: str = flag(
        "full", "where training on φ ends: after all steps, or, with --window, anywhere", choices=HORIZONS
    )
    augment: str | None = flag(None, f"augmentation of each real image; {AUGMENTATIONS}")
    original: bool = flag(False, "the 2018 paper's outer optimiser and schedule instead of ours")

    def differentiated_steps(self) -> int | None:
        """The inner steps that an outer step differentiates through: S times E, or the window if smaller.

        Returns:
            The number.
        """
        return min(self.inner_steps * self.inner_epochs, self.window or sys.maxsize)

    def idle(self) -> dict[str, str]:
        """The settings that change nothing under the other settings.

        Returns:
            The reasons, by the names of the flags.
        """
        found = super().idle()
        if self.images_per_step is not None:
            found["images_per_class_per_step"] = "--images_per_step says how many"
        if self.label_form in ("hard", None) and self.label_confidence is None:
            found["outer_lr_of_labels"] = "hard labels are not learned"
        if self.original:
            found["outer_lr_of_labels"] = "--original moves everything by one optimiser"
            found["outer_lr_of_lrs"] = "--original moves images and learning rates by one optimiser"
        if self.window is not None and self.window >= self.inner_steps * self.inner_epochs:
            found["window"] = "all inner steps are differentiated anyway"
        return found


@dataclasses.dataclass(frozen=True)
class Matching(Formed):
    """The settings of the methods that match real and distilled images.

    Networks are trained on the distilled images in epochs, at a learning rate that is not learned.
    """

    network: str | None = flag("convnet", ", ".join(NAMES))
    init: str = flag_like(NetworkChoice, "init", default="pytorch")
    images_per_class: int = flag(1, "distilled images of each class", low=1)
    precision: str | None = flag_like(Unrolled, "precision")
    batch_size: int = flag(256, "N, real images of each class in a minibatch", low=1)
    outer_optimizer: str = flag(
        "published",
        "what moves φ: the method's own, or Adam on a cosine, for a --form whose numbers differ in scale",
        choices=("published", "adam"),
    )
    outer_lr_of_coefficients: float | None = flag(
        None,
        "learning rate of the coefficients of bases at the start, under Adam; by default that of the bases",
        positive=True,
        same_step=True,
    )
    initial_images: str = flag_like(Unrolled, "initial_images", default="real")
    augment: str | None = flag(None, f"augmentation of real and distilled images alike; {AUGMENTATIONS}")
    train_epochs: int = flag(
        300,
        "epochs that a network trains on the distilled images in the end",
        low=1,
        high=MOST_EPOCHS,
        same_step=True,
    )
    train_lr: float = flag(0.01, "learning rate of that training", positive=True, same_step=True)
    train_batch: int = flag(256, "images in a minibatch of that training", low=1, same_step=True)
    protocol: str = flag("condensation", PROTOCOL, choices=PROTOCOLS, same_step=True, before="plain")
    eval_augment: str | None = flag(
        None, f"augmentation of each image in that training; {AUGMENTATIONS}", same_step=True
    )
    validate_every: int = flag_like(Common, "validate_every", default=250)

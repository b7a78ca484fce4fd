"""`Tokenizer`: from texts to the numbers of their words, and the words by their numbers.

A tokenizer is the JSON of Hugging Face's `tokenizers`, so that it travels in an artifact and works elsewhere.
The words can be read without that package, which is needed only for tokenizing (the extra `ddjax[text]`).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ddjax import checks

UNKNOWN, PAD = 0, 1
"""The numbers of the words `<unk>`, which stands for all words without a number, and `<pad>`, which fills up
short texts."""

SPECIAL = ("<unk>", "<pad>")
"""The words that have the first numbers and no meaning."""

SMALLEST = len(SPECIAL) + 2
"""The smallest vocabulary: two words beside the special ones, since one word tells no text from another."""


@dataclasses.dataclass(frozen=True, repr=False)
class Tokenizer:
    """The words that have a number, and the rules that cut a text into words.

    Attributes:
        json: the tokenizer as `tokenizers.Tokenizer.to_str` writes it.

    Raises:
        ValueError: the text is no such JSON, its words are not numbered 0, 1, 2, ..., or it does not cut and
            fill texts up to one length.
    """

    json: str

    def __post_init__(self) -> None:
        checks.text("tokenizer", self.json, remedy="Give the JSON that tokenizers.Tokenizer.to_str writes.")
        try:
            numbers = sorted(_vocabulary(json.loads(self.json)).values())
            length = _length(json.loads(self.json))
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(
                f"tokenizer: expected the JSON of a Hugging Face tokenizer that cuts and fills texts up to "
                f"one length; got {self.json[:40]!r}... ({type(error).__name__}: {error}). Call "
                "enable_truncation and enable_padding before to_str."
            ) from error
        if numbers != list(range(len(numbers))) or length < 1:
            raise ValueError(
                f"tokenizer: expected words numbered 0, 1, 2, ... and texts of one word or more; got "
                f"{len(numbers)} words from {numbers[:1]} to {numbers[-1:]}, length {length}. Train it again."
            )

    def __repr__(self) -> str:
        return f"Tokenizer({len(self)} words, {self.digest[:12]})"

    def __len__(self) -> int:
        return len(self.words)

    @functools.cached_property
    def words(self) -> tuple[str, ...]:
        """The words in the order of their numbers."""
        numbers = _vocabulary(json.loads(self.json))
        return tuple(sorted(numbers, key=lambda word: numbers[word]))

    @functools.cached_property
    def length(self) -> int:
        """The number L of words that every text is cut or filled up to."""
        return _length(json.loads(self.json))

    @functools.cached_property
    def digest(self) -> str:
        """The identity of the tokenizer, 64 hexadecimal digits of SHA-256."""
        return hashlib.sha256(self.json.encode()).hexdigest()

    def numbers(self, texts: Sequence[str]) -> np.ndarray:
        """The numbers of the words of texts, each cut or filled up to L words.

        Args:
            texts: the texts, n of them.

        Returns:
            `[n, L]` int32, numbers in [0, V).

        Raises:
            ImportError: the package `tokenizers` is not installed.
        """
        rules = _tokenizers().Tokenizer.from_str(self.json)
        return np.array([one.ids for one in rules.encode_batch(list(texts))], np.int32)


def trained(texts: Sequence[str], *, vocabulary: int, length: int) -> Tokenizer:
    """A tokenizer of the most frequent words of texts: lower case, cut at white space.

    The numbers of the words follow their frequency, and the alphabet among equally frequent words.

    Args:
        texts: the training texts.
        vocabulary: the most words with a number, `<unk>` and `<pad>` included.
        length: the number L of words that every text is cut or filled up to.

    Returns:
        The tokenizer; it has fewer words where the texts have fewer.

    Raises:
        ValueError: a vocabulary or a length that is too small, or texts that have fewer than two words.
        ImportError: the package `tokenizers` is not installed.
    """
    remedy = f"Give {SMALLEST} or more: {', '.join(SPECIAL)} and the words themselves."
    checks.at_least("vocabulary", vocabulary, SMALLEST, remedy=remedy)
    checks.at_least("length", length, 1)
    package = _tokenizers()
    rules: Any = package.Tokenizer(package.models.WordLevel(unk_token=SPECIAL[UNKNOWN]))
    rules.normalizer = package.normalizers.Lowercase()
    rules.pre_tokenizer = package.pre_tokenizers.WhitespaceSplit()
    trainer = package.trainers.WordLevelTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False
    )
    rules.train_from_iterator(texts, trainer)
    rules.enable_truncation(length)
    rules.enable_padding(length=length, pad_id=PAD, pad_token=SPECIAL[PAD])
    found = Tokenizer(rules.to_str())
    if len(found) < SMALLEST:
        raise ValueError(
            f"texts: expected two different words or more in the training texts; got {len(found.words) - 2}. "
            "Words are what stands between white space; give texts of several."
        )
    return found


def _tokenizers() -> Any:
    """The package `tokenizers`, imported where texts are tokenized and nowhere else."""
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError(
            "texts: expected the package tokenizers, which cuts them into words; it is not installed. Run "
            "`pip install 'ddjax[text]'`, or `pip install tokenizers`."
        ) from error
    return tokenizers


def _vocabulary(rules: Any) -> dict[str, int]:
    """The numbers of the words in the JSON of a tokenizer, of the words that were added to it too."""
    vocabulary = rules["model"]["vocab"]
    if not isinstance(vocabulary, dict):  # Unigram has words with scores, in the order of their numbers
        vocabulary = {word: number for number, (word, _) in enumerate(vocabulary)}
    added = {one["content"]: one["id"] for one in rules.get("added_tokens", [])}
    return {str(word): int(number) for word, number in {**vocabulary, **added}.items()}


def _length(rules: Any) -> int:
    """The length that the JSON of a tokenizer cuts and fills texts up to."""
    cut, filled = rules["truncation"]["max_length"], rules["padding"]["strategy"]["Fixed"]
    if cut != filled:
        raise ValueError(f"texts are cut to {cut} words and filled up to {filled}")
    return int(cut)

"""Texts as data: tokenized, embedded by a table of word vectors, in the form that all other data have.

A text becomes L numbers of words (`ddjax.tokenizer`), and networks see the vectors of these words
(`ddjax.encodings.Tokens`). Words and vectors come from the whole training set, validation included and labels
not, so that they do not depend on the seed of the validation split.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddjax import checks
from ddjax.data.dataset import Dataset, divided, pair, with_test
from ddjax.encodings import Tokens
from ddjax.files import StrPath
from ddjax.tokenizer import PAD, SPECIAL, UNKNOWN, Tokenizer, trained

EMBEDDINGS = ("random", "cooccurrence")
"""The tables of word vectors that need no file."""

DIM = 100
"""The numbers of a word's vector where nothing else says how many."""

SCALE = 0.5
"""The root mean square of the numbers in a table that is made here."""

WINDOW = 2
"""The words on each side that a word occurs together with."""

SPLITS = {
    "train": "train",
    "test": "test",
    "validation": "validation",
    "val": "validation",
}
"""The values of the column `split` in a file of texts, and the parts that they stand for."""

_FILE = "Write columns text, label and split (train, test, perhaps validation), named in the first line."


@dataclasses.dataclass(frozen=True)
class TextSettings:
    """How texts become examples.

    Attributes:
        length: the number L of words that every text is cut or filled up to.
        vocabulary: the most words with a vector, `<unk>` and `<pad>` included.
        embedding: the table of word vectors: `"random"` (normal numbers), `"cooccurrence"` (from the words
            that stand together in the training texts), or the path of a file of GloVe vectors.
        dim: the numbers of a word's vector; None for those of a file, else 100, or as many as the words
            allow.
        label: the name of the label, where a set has several; None for the only or the usual one.
        encoding: an encoding to take in the place of all these but `label`, such as that of an artifact.
    """

    length: int = 30
    vocabulary: int = 8000
    embedding: str = "cooccurrence"
    dim: int | None = None
    label: str | None = None
    encoding: Tokens | None = None

    def facts(self) -> dict[str, Any]:
        """The settings as an artifact has them: without the encoding, which it has itself."""
        own = dataclasses.asdict(dataclasses.replace(self, encoding=None))
        del own["encoding"]
        if self.embedding not in EMBEDDINGS:
            own["embedding"] = Path(self.embedding).name
        return own


def from_texts(
    x_train: Sequence[str],
    y_train: Any,
    x_test: Sequence[str] | None = None,
    y_test: Any = None,
    *,
    name: str = "texts",
    class_names: Sequence[str] | None = None,
    x_validation: Sequence[str] | None = None,
    y_validation: Any = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
    settings: TextSettings = TextSettings(),
) -> Dataset:
    """A data set from lists of strings.

    Args:
        x_train: the training texts, n strings.
        y_train: the labels of the training texts, `[n]` integers in [0, K) or names of classes, every class
            present.
        x_test: the test texts; by default a fifth of each class of the training texts.
        y_test: the labels of the test texts, in the same format.
        name: the name of the data in artifacts and records.
        class_names: the names of the K classes; by default the names that the labels are, in alphabetical
            order, or "0", "1", ...
        x_validation: the validation texts; by default a share of the training set is taken.
        y_validation: the labels of the validation texts.
        validation_fraction: the share of each class that is taken from training, in (0, 1).
        seed: the seed that decides which texts are taken.
        settings: how texts become examples.

    Returns:
        The data set, with texts `[n, L]` of word numbers under an encoding of `ddjax.encodings.Tokens`.

    Raises:
        ValueError: an argument that is not as described above; an empty text; a part in which no word is
            known.
        ImportError: the package `tokenizers` is not installed.
    """
    texts, labels = {"train": x_train}, {"train": y_train}
    parts = {"test": pair(x_test, y_test, "test"), "validation": pair(x_validation, y_validation)}
    for part, given in parts.items():
        if given is not None:
            texts[part], labels[part] = given
    return dataset_of(
        texts,
        labels,
        settings,
        name=name,
        class_names=class_names,
        validation_fraction=validation_fraction,
        seed=seed,
    )


def dataset_of(
    texts: Mapping[str, Any],
    labels: Mapping[str, Any],
    settings: TextSettings,
    *,
    name: str,
    class_names: Sequence[str] | None = None,
    validation_fraction: float = 0.1,
    seed: int = 0,
    source: tuple[str, str] = ("arrays", ""),
    to_choose: str = "Give x_test and y_test to choose them.",
) -> Dataset:
    """Tokenize, embed and divide texts: the last step of every source of texts.

    Args:
        texts: the texts of `train`, and of `test` and `validation` where the source has some; a test split is
            cut where it has none.
        labels: the labels of the same parts.
        settings: how texts become examples.
        name: the name of the data in artifacts and records.
        class_names: the names of the K classes; None for those of the labels.
        validation_fraction: the share of each class that is taken from training, in (0, 1).
        seed: the seed that decides which texts are taken.
        source: the kind and the name of the source, as in `ddjax.data.dataset.Origin`.
        to_choose: the sentence that tells a user how to choose the test texts, where a test split is cut.

    Returns:
        The data set.

    Raises:
        ValueError: what `from_texts` refuses.
        ImportError: the package `tokenizers` is not installed.
    """
    plain = {part: strings(f"x_{part}", given) for part, given in texts.items()}
    checks.kind("settings", settings, TextSettings, remedy="Give ddjax.data.TextSettings(...).")
    if "test" not in plain:  # before the words are chosen, which are those of the training texts
        plain, labels = with_test(plain, labels, name=name, to_choose=to_choose)
    encoding = settings.encoding or encoding_of(plain["train"], settings)
    tokenizer = _tokenizer_of(encoding)
    raw = {part: known_words(f"x_{part}", tokenizer.numbers(given)) for part, given in plain.items()}
    data = divided(
        raw,
        labels,
        encoding,
        name=name,
        class_names=class_names,
        validation_fraction=validation_fraction,
        seed=seed,
        source=source,
    )
    return dataclasses.replace(data, origin=dataclasses.replace(data.origin, text=settings.facts()))


def strings(what: str, value: Any) -> list[str]:
    """Check texts.

    Args:
        what: the name of the texts in error messages.
        value: the texts, a sequence of strings.

    Returns:
        The texts as a list.

    Raises:
        ValueError: no sequence, no texts, items that are no strings, or an empty text.
    """
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    is_listed = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    found: list[Any] = list(value) if is_listed else []
    if not found or not all(isinstance(text, str) for text in found):
        got = (
            f"{getattr(value, 'dtype', type(value).__name__)}{list(np.shape(value)) if not is_listed else ''}"
        )
        raise ValueError(
            f"{what}: expected texts, a list of one or more strings; got {got}. Give strings, or images to "
            "ddjax.data.from_arrays."
        )
    empty = next((place for place, text in enumerate(found) if not text.strip()), None)
    if empty is not None:
        raise ValueError(
            f"{what}: expected texts of one word or more; got an empty text at position {empty}. Leave it "
            "out, with its label."
        )
    return found


def known_words(what: str, numbers: np.ndarray) -> np.ndarray:
    """Refuse texts in which no word has a number of its own.

    Args:
        what: the name of the texts in error messages.
        numbers: `[n, L]`, the numbers of the words of n texts.

    Returns:
        The same numbers.

    Raises:
        ValueError: all words of all texts are unknown.
    """
    if (numbers <= max(UNKNOWN, PAD)).all():
        raise ValueError(
            f"{what}: expected words of the vocabulary; got {len(numbers)} texts of unknown words only. Give "
            "texts in the language of the training texts, or a larger vocabulary."
        )
    return numbers


def encoding_of(texts: Sequence[str], settings: TextSettings) -> Tokens:
    """The encoding that settings ask for, made of training texts.

    Args:
        texts: the training texts.
        settings: the length, the vocabulary and the table of word vectors.

    Returns:
        The encoding, with a table `[V, F]` float32 whose rows of `<unk>` and `<pad>` are zero.

    Raises:
        ValueError: a setting out of its range, or a file that holds no vectors of these words.
        FileNotFoundError: there is no file of vectors at the path.
        ImportError: the package `tokenizers` is not installed.
    """
    if settings.dim is not None:
        checks.at_least("dim", settings.dim, 1)
    checks.text("embedding", settings.embedding, remedy="Give random, cooccurrence or the path of a file.")
    tokenizer = trained(texts, vocabulary=settings.vocabulary, length=settings.length)
    dim = settings.dim or min(DIM, len(tokenizer) - 1)
    if settings.embedding == "random":
        table = random_table(len(tokenizer), dim)
    elif settings.embedding == "cooccurrence":
        table = cooccurrence_table(tokenizer.numbers(texts), len(tokenizer), dim)
    else:
        table = glove_table(settings.embedding, tokenizer.words, dim=settings.dim)
    return Tokens(table, tokenizer)


def random_table(vocabulary: int, dim: int) -> np.ndarray:
    """Word vectors of normal numbers, the same at every call.

        table_v ~ N(0, ½²),    v > 1

    Args:
        vocabulary: the number V of words.
        dim: the number F of numbers in a vector.

    Returns:
        `[V, F]` float32; the rows of `<unk>` and `<pad>` are zero.
    """
    # NumPy guarantees RandomState's numbers for all versions (NEP 19).
    table = SCALE * np.random.RandomState(0).standard_normal((vocabulary, dim))
    table[: len(SPECIAL)] = 0
    return table.astype(np.float32)


def cooccurrence_table(numbers: np.ndarray, vocabulary: int, dim: int) -> np.ndarray:
    """Word vectors from the words that stand together: the largest singular vectors of their information.

        M_vw = max(0, log(n_vw n / (n_v n_w))),    M ≈ U S Vᵀ,    table_v = √F / 2 · (U S)_v / ‖(U S)_v‖

    n_vw counts the places at which v has w at most two words away, n_v = Σ_w n_vw, n = Σ_v n_v; places
    of `<unk>` and `<pad>` are not counted. Computed by scikit-learn's `TruncatedSVD`. All words have vectors
    of one length: without that, frequent words would have the longest by far.

    Args:
        numbers: `[n, L]`, the numbers of the words of the training texts.
        vocabulary: the number V of words.
        dim: the number F of numbers in a vector, below the number of words.

    Returns:
        `[V, F]` float32, whose numbers have a root mean square of a half in each row; the rows of `<unk>` and
        `<pad>`, and of words that tell nothing of their neighbours, are zero.

    Raises:
        ValueError: there are not more words than numbers in a vector, or no words stand together.

    References:
        Levy and Goldberg 2014, Neural word embedding as implicit matrix factorization.
    """
    from scipy.sparse import coo_matrix
    from sklearn.decomposition import TruncatedSVD

    if dim >= vocabulary:
        raise ValueError(
            f"dim: expected fewer numbers in a vector than there are words, {vocabulary}; got {dim}. Give a "
            "smaller dim, or embedding='random'."
        )
    pairs = [
        np.stack([numbers[:, :-step].ravel(), numbers[:, step:].ravel()])
        for step in range(1, min(WINDOW, numbers.shape[1] - 1) + 1)
    ]
    rows, columns = np.concatenate([np.zeros((2, 0), numbers.dtype), *pairs], 1)
    is_counted = (np.minimum(rows, columns) >= len(SPECIAL)).astype(np.float64)
    if not is_counted.any():
        raise ValueError(
            "embedding: expected known words that stand together in the training texts; got none. Give "
            "embedding='random', or a larger vocabulary."
        )
    half = coo_matrix((is_counted, (rows, columns)), (vocabulary, vocabulary))
    counts = (half + half.T).tocsr()
    counts.eliminate_zeros()
    totals = np.asarray(counts.sum(1)).ravel()
    counts = counts.tocoo()
    expected = totals[counts.row] * totals[counts.col] / totals.sum()
    information = np.maximum(np.log(counts.data / expected), 0)
    matrix = coo_matrix((information, (counts.row, counts.col)), counts.shape).tocsr()
    table = TruncatedSVD(dim, random_state=0).fit_transform(matrix)
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    is_zero = lengths < 1e-9 * lengths.max()
    return np.where(is_zero, 0, SCALE * np.sqrt(dim) * table / np.where(is_zero, 1, lengths)).astype(
        np.float32
    )


def glove_table(path: StrPath, words: Sequence[str], *, dim: int | None = None) -> np.ndarray:
    """Word vectors from a text file with a word and its numbers on each line, as GloVe's are.

    Args:
        path: the file.
        words: the words in the order of their numbers.
        dim: the number F of numbers in a vector; None for that of the file.

    Returns:
        `[V, F]` float32; the rows of words that the file does not have are zero, as are those of `<unk>` and
        `<pad>`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line that is no word with F finite numbers, another F than asked for, or none of the
            words in the file.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"embedding: expected random, cooccurrence or a file of word vectors; found none at {path}. "
            "GloVe's are at nlp.stanford.edu/projects/glove, e.g. glove.6B.100d.txt."
        )
    number = {word: place for place, word in enumerate(words) if place >= len(SPECIAL)}
    rows: dict[int, np.ndarray] = {}
    with path.open(encoding="utf-8", errors="replace") as file:
        for line_number, line in enumerate(file, 1):
            dim = dim or len(line.split(" ")) - 1
            # From the right: a few words of GloVe have spaces in them.
            word, *vector = line.rstrip("\n").rsplit(" ", dim)
            if word in number or line_number == 1:
                rows[number.get(word, UNKNOWN)] = _vector(vector, dim, f"{path}: line {line_number}")
    rows.pop(UNKNOWN, None)
    if not rows:
        raise ValueError(
            f"embedding: expected vectors of words of the training texts in {path}; got none of "
            f"{len(number)} words. Words are in lower case; give a file in their language."
        )
    table = np.zeros((len(words), dim or 0), np.float32)
    table[list(rows)] = list(rows.values())
    return table


def _vector(parts: Sequence[str], dim: int, where: str) -> np.ndarray:
    try:
        vector = np.array(parts, np.float32)
    except ValueError:
        vector = np.zeros(0, np.float32)
    if len(vector) != dim or dim < 1 or not np.isfinite(vector).all():
        raise ValueError(
            f"embedding: {where}: expected a word and {dim} finite numbers with spaces between them; got "
            f"{' '.join(parts)[:60]!r}. Give a file as GloVe's are, with dim as there or left out."
        )
    return vector


def _tokenizer_of(encoding: Any) -> Tokenizer:
    if not isinstance(encoding, Tokens) or encoding.tokenizer is None:
        raise ValueError(
            f"settings: encoding: expected one of texts, with a tokenizer; got {type(encoding).__name__}"
            f"{' without one' if isinstance(encoding, Tokens) else ''}. Give that of data which "
            "ddjax.data.from_texts made, or of their artifact."
        )
    return encoding.tokenizer


class TextFile(NamedTuple):
    """The texts of a file and their labels.

    Attributes:
        texts: the texts by part, `train`, `test` and perhaps `validation`.
        labels: the names of their classes by part.
    """

    texts: dict[str, list[str]]
    labels: dict[str, list[str]]


def read_file(path: Path, *, label: str | None = None) -> TextFile:
    """The texts of a `.csv` (commas) or `.tsv` (tabs, no quotes), whose first line names the columns.

    Args:
        path: the file, in UTF-8.
        label: the name of the column of labels; by default `label`.

    Returns:
        The texts and labels.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, a line is longer or shorter than the first, or the column `split` has
            another value than `train`, `test`, `validation`, or never the first. Without this column all
            texts are for training.
    """
    if not path.is_file():
        raise FileNotFoundError(f"dataset: expected a file of texts; found none at {path}. {_FILE}")
    columns = ("text", label or "label")
    found = TextFile({}, {})
    with path.open(newline="", encoding="utf-8-sig") as file:
        is_tsv = path.suffix.lower() == ".tsv"
        quoting = csv.QUOTE_NONE if is_tsv else csv.QUOTE_MINIMAL
        lines = csv.DictReader(file, delimiter="\t" if is_tsv else ",", quoting=quoting, strict=True)
        try:
            missing = [name for name in columns if name not in (lines.fieldnames or ())]
            if missing:
                raise ValueError(
                    f"dataset: expected the columns {', '.join(columns)} in {path}; got "
                    f"{', '.join(map(str, lines.fieldnames or ()))[:120] or 'none'}, without "
                    f"{', '.join(missing)}. {_FILE}"
                )
            for line in lines:
                cells = [line[name] for name in columns] + [line.get("split", "train")]
                if None in line or None in line.values() or cells[2].strip() not in SPLITS:
                    raise ValueError(
                        f"dataset: {path}: line {lines.line_num}: expected {len(lines.fieldnames or ())} "
                        f"cells, the split one of {', '.join(SPLITS)}; got {str(cells)[:120]}. {_FILE}"
                    )
                part = SPLITS[cells[2].strip()]
                found.texts.setdefault(part, []).append(cells[0])
                found.labels.setdefault(part, []).append(cells[1].strip())
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"dataset: expected a table of texts in {path}; got {error}. {_FILE}") from error
    if "train" not in found.texts:
        raise ValueError(f"dataset: expected texts to train on in {path}; got none. {_FILE}")
    return found


def packed(texts: Sequence[str]) -> np.ndarray:
    """Texts as one array, for the cache: a zero byte after each.

    Args:
        texts: the texts; a zero byte in a text becomes a space.

    Returns:
        `[bytes]` uint8.
    """
    joined = "".join(text.replace("\0", " ") + "\0" for text in texts)
    return np.frombuffer(joined.encode(), np.uint8)


def unpacked(array: np.ndarray) -> list[str]:
    """The texts of an array that `packed` made.

    Args:
        array: `[bytes]` uint8.

    Returns:
        The texts.
    """
    return array.tobytes().decode().split("\0")[:-1]


__all__ = [
    "DIM",
    "EMBEDDINGS",
    "TextFile",
    "TextSettings",
    "cooccurrence_table",
    "dataset_of",
    "encoding_of",
    "from_texts",
    "glove_table",
    "known_words",
    "packed",
    "random_table",
    "read_file",
    "strings",
    "unpacked",
]

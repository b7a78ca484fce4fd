"""Texts as data: lists, files and TFDS sets; tables of word vectors; what is refused."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import numpy as np
import pytest

from ddjax.data import TextSettings, digest, from_arrays, from_texts, load, provenance, text
from ddjax.encodings import Tokens

SUBJECTS, VERBS = ("cats", "dogs", "birds", "fish"), ("sleep", "eat", "run", "sing")
SMALL = TextSettings(length=4, vocabulary=20, embedding="random", dim=6)


def sentences(count: int) -> tuple[list[str], list[str]]:
    """Questions and statements about animals, in turn."""
    pairs = [(SUBJECTS[i % 4], VERBS[(i // 4) % 4]) for i in range(count)]
    texts = [f"do {s} {v} ?" if i % 2 else f"{s} {v} ." for i, (s, v) in enumerate(pairs)]
    return texts, ["question" if i % 2 else "answer" for i in range(count)]


def toy(settings: TextSettings = SMALL, **changed):
    given = dict(zip(("x_train", "y_train", "x_test", "y_test"), sentences(40) + sentences(8), strict=True))
    return from_texts(**{**given, **changed}, settings=settings)


def tokens(data) -> Any:
    """The encoding, with a table and a tokenizer."""
    assert isinstance(data.encoding, Tokens)
    return data.encoding


def test_lists_of_strings_become_a_data_set():
    data = toy()
    assert data.class_names == ("answer", "question")
    assert (data.input_shape, data.num_classes) == ((4, 6), 2)
    assert (len(data.train), len(data.validation), len(data.test)) == (36, 4, 8)
    assert data.train.raw.dtype == np.int32
    words = tokens(data).words(data.test.encoded())
    assert [" ".join(row) for row in words[:2]] == ["cats sleep . <pad>", "do dogs sleep ?"]
    with pytest.raises(ValueError, match="expected images"):
        _ = data.image_shape


def test_words_do_not_depend_on_the_seed_of_the_validation_split():
    one, two = toy(), toy(seed=1)
    np.testing.assert_array_equal(tokens(one).table, tokens(two).table)
    assert tokens(one).tokenizer == tokens(two).tokenizer
    assert digest(one.test) == digest(two.test)
    assert digest(one.validation) != digest(two.validation)


def test_validation_texts_and_names_of_classes_can_be_given():
    data = toy(x_validation=["dogs run ."], y_validation=["answer"], class_names=["question", "answer"])
    assert (len(data.train), data.validation.labels.tolist()) == (40, [1])
    assert data.origin.split == {}


def test_the_encoding_of_other_data_can_be_taken():
    first = toy()
    again = toy(dataclasses.replace(SMALL, encoding=first.encoding, length=9))
    assert again.encoding is first.encoding
    assert digest(again.train) == digest(first.train)


def test_what_artifacts_say_of_texts():
    data = toy(TextSettings(length=4, vocabulary=20, dim=3))
    facts = provenance.facts(data)
    own = provenance.recorded(facts, where="x")
    assert own.text == {"length": 4, "vocabulary": 20, "embedding": "cooccurrence", "dim": 3, "label": None}
    images = from_arrays(np.zeros((9, 4, 4, 1), np.uint8), [0, 1, 2] * 3, np.zeros((1, 4, 4)), [0])
    assert "text" not in provenance.facts(images)["data"]
    with pytest.raises(ValueError, match="metadata: data: text: expected a text or none as the label; got 3"):
        provenance.recorded({"data": {**facts["data"], "text": {"label": 3}}}, where="x")


# Tables ------------------------------------------------------------------------------------------------


def test_random_vectors_are_always_the_same():
    table = text.random_table(1000, 50)
    np.testing.assert_array_equal(table[:900], text.random_table(1000, 50)[:900])
    assert not table[:2].any()
    assert table[2:].std() == pytest.approx(0.5, rel=0.02)


def test_words_in_the_same_company_have_similar_vectors():
    data = toy(TextSettings(length=4, vocabulary=20, dim=4))
    table, words = np.asarray(tokens(data).table), tokens(data).tokenizer.words
    assert not table[:2].any()
    np.testing.assert_allclose(np.linalg.norm(table[2:], axis=1), 1, rtol=1e-5)
    unit = table
    alike = dict(zip(words, unit @ unit[words.index("cats")], strict=True))
    assert min(alike[word] for word in ("birds",)) > max(alike[word] for word in ("?", "do", "sleep"))


def test_the_information_is_that_of_the_equation():
    """All singular vectors give the angles of M's rows; words 2, 3, 4, places at most two apart."""
    numbers = np.array([[2, 3, 4, 1], [2, 3, 1, 1], [2, 0, 4, 3]], np.int32)
    counts = np.zeros((5, 5))
    for row in numbers:
        for i, j in ((0, 1), (1, 2), (2, 3), (0, 2), (1, 3)):
            if min(row[i], row[j]) > 1:
                counts[row[i], row[j]] += 1
                counts[row[j], row[i]] += 1
    total = counts.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.nan_to_num(np.maximum(np.log(counts * counts.sum() / np.outer(total, total)), 0))
    table = text.cooccurrence_table(numbers, 5, 4)
    unit = information / np.maximum(np.linalg.norm(information, axis=1, keepdims=True), 1e-9)
    np.testing.assert_allclose(table @ table.T, unit @ unit.T, atol=1e-6)  # √4 / 2 is one


def test_vectors_of_a_file(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("zebra 9 9 9\ndo 1 2 3\ncats -1 0.5 2\nat home 4 4 4\n")
    data = toy(TextSettings(length=4, vocabulary=20, embedding=str(path)))
    table, words = np.asarray(tokens(data).table), tokens(data).tokenizer.words
    np.testing.assert_array_equal(table[words.index("do")], [1, 2, 3])
    np.testing.assert_array_equal(table[words.index("cats")], [-1, 0.5, 2])
    assert np.count_nonzero(table.any(1)) == 2
    assert data.origin.text["embedding"] == "glove.txt"


@pytest.mark.parametrize(
    ("content", "dim", "message"),
    [
        ("zebra 1 2\n", None, "expected vectors of words of the training texts in .*; got none of"),
        ("do 1 2\ncats 1 x\n", None, "line 2: expected a word and 2 finite numbers .*'1 x'"),
        ("do 1 2\n", 3, "line 1: expected a word and 3 finite numbers"),
        ("do nan 2\n", None, "line 1: expected a word and 2 finite numbers"),
        ("", None, "got none of"),
    ],
)
def test_files_of_no_such_vectors_are_refused(tmp_path, content, dim, message):
    path = tmp_path / "glove.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        toy(TextSettings(embedding=str(path), dim=dim))


# Files and TFDS sets -------------------------------------------------------------------------------------


def write_table(path, lines, separator=","):
    path.write_text("\n".join(separator.join(cells) for cells in lines) + "\n")
    return path


@pytest.mark.parametrize(("suffix", "separator"), [(".csv", ","), (".tsv", "\t")])
def test_a_table_of_texts(tmp_path, suffix, separator):
    lines = [["split", "text", "kind"]]
    for split, count in (("train", 12), ("val", 2), ("test", 4)):
        lines += [[split, one, label] for one, label in zip(*sentences(count), strict=True)]
    path = write_table(tmp_path / f"animals{suffix}", lines, separator)
    data = load(path, text=dataclasses.replace(SMALL, label="kind"))
    assert (data.name, data.class_names) == ("animals", ("answer", "question"))
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 2, 4)
    assert (data.origin.kind, data.origin.name) == ("file", path.name)
    assert digest(load(str(path), text=dataclasses.replace(SMALL, label="kind")).train) == digest(data.train)


def test_quoted_cells_may_hold_commas(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('text,label,split\n"yes, it is",a,train\n"no, ""never""",b,train\nyes it,a,test\n')
    found = text.read_file(path)
    assert found.texts["train"] == ["yes, it is", 'no, "never"']
    assert found.labels == {"train": ["a", "b"], "test": ["a"]}


def test_a_table_without_test_texts_has_a_test_split_cut_and_it_is_said(tmp_path):
    path = write_table(tmp_path / "x.csv", [["text", "label"], *zip(*sentences(40), strict=True)], ",")
    with pytest.warns(UserWarning, match=r"x has no test examples: .*Write test into the column `split`"):
        data = load(path, text=SMALL)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [29, 3, 8]
    texts, labels = sentences(40)
    with pytest.warns(UserWarning, match="Give x_test and y_test"):
        listed = from_texts(texts, labels, settings=SMALL)
    assert digest(listed.test) == digest(data.test)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "text,kind\na,b\n",
            "expected the columns text, label in .*; got text, kind, without label",
        ),
        ("", "got none, without text"),
        ("text,label,split\na,b,train,c\n", "line 2: expected 3 cells"),
        ("text,label,split\na,b\n", "line 2: expected 3 cells"),
        ("text,label,split\na,b,dev\n", "line 2: .*the split one of train, test, validation"),
        ("text,label,split\na,b,test\n", "texts to train on in .*; got none"),
        ('text,label,split\n"a,b,train\n', "expected a table of texts"),
    ],
)
def test_other_tables_are_refused(tmp_path, content, message):
    path = tmp_path / "x.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"{message}.*Write columns text, label and split"):
        load(path)


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"found none at .*none.csv"):
        load(tmp_path / "none.csv")
    with pytest.raises(FileNotFoundError, match=r"file of word vectors; found none at .*none.txt.*GloVe"):
        toy(TextSettings(embedding=str(tmp_path / "none.txt")))


@pytest.mark.slow
def test_trec(real_tfds):
    directory = real_tfds("trec")
    settings = TextSettings(length=12, vocabulary=800, embedding="random", dim=4)
    data = load("trec", data_dir=directory, text=settings)
    assert (len(data.train), len(data.validation), len(data.test)) == (4907, 545, 500)
    assert data.class_names == ("DESC", "ENTY", "ABBR", "HUM", "NUM", "LOC")
    assert (data.origin.kind, data.origin.name) == ("built-in", "trec")
    fine = load("trec", data_dir=directory, text=dataclasses.replace(settings, label="label-fine"))
    assert fine.num_classes == 47
    with pytest.raises(ValueError, match=r"label of trec/1.0.0: expected one of label-coarse, label-fine"):
        load("trec", data_dir=directory, text=TextSettings(label="label-fin"))


@pytest.mark.slow
def test_trec_has_the_numbers_of_the_original(real_tfds, reference):
    """torchtext's tokens of the golden values' 64 questions are those of this vocabulary of 800."""
    with np.load(reference / "text_convnet.npz") as file:
        tokens, labels = file["real_tokens"], file["real_labels"]
    settings = TextSettings(length=12, vocabulary=800, embedding="random", dim=2)
    data = load("trec", data_dir=real_tfds("trec"), text=settings)
    known = {
        (*row, label)
        for split in (data.train, data.validation)
        for row, label in zip(split.raw.tolist(), split.labels.tolist(), strict=True)
    }
    assert known >= {(*row, label) for row, label in zip(tokens.tolist(), labels.tolist(), strict=True)}


def test_a_prepared_set_of_texts(write_tfds, cache_dir):
    data_dir, found = write_tfds("toy", texts=True)
    for _ in range(2):  # decoded, then from the cache
        data = load("toy", data_dir=data_dir, text=SMALL)
    assert (data.class_names, len(data.test)) == (("ape", "bee", "cat"), 9)
    np.testing.assert_array_equal(data.test.labels, found["test"][1])
    assert tokens(data).tokenizer.words[2:4] == ("word", "ape")
    assert len(list((cache_dir / "data").iterdir())) == 1


def test_a_test_part_without_labels_is_replaced_by_validation(write_tfds):
    data_dir, _ = write_tfds(
        "toy", texts=True, splits={"train": 30, "validation": 6, "test": 9}, unlabelled="test"
    )
    assert len(load("toy", data_dir=data_dir, text=SMALL).test) == 6


def test_texts_survive_the_cache():
    texts = ["a b", "ä\n日本", "", 'x,"y"']
    assert text.unpacked(text.packed(texts)) == texts
    assert text.unpacked(text.packed(["a\0b"])) == ["a b"]


# Refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"x_train": ["cats run .", ""], "y_train": [0, 1]},
            "x_train: .*empty text at position 1. Leave it out",
        ),
        ({"x_test": ["  \t"], "y_test": [0]}, "x_test: .*empty text at position 0"),
        ({"x_test": np.zeros((3, 4, 4, 1), np.uint8)}, "x_test: expected texts.*uint8.*from_arrays"),
        ({"x_train": ["cats", 3]}, "x_train: expected texts"),
        ({"x_train": "cats"}, "x_train: expected texts"),
        ({"x_train": []}, "x_train: expected texts, a list of one or more strings"),
        (
            {"x_test": ["Löwen brüllen", "Katzen"], "y_test": [0, 1]},
            "x_test: .*2 texts of unknown words only",
        ),
        ({"y_test": ["question"] * 7 + ["order"]}, "y_test: expected the names of classes"),
        ({"y_train": [0] * 40}, "at least two classes"),
    ],
)
def test_what_is_no_text_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        toy(**changed)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocabulary": 1}, "vocabulary: expected a whole number >= 4; got 1"),
        ({"dim": 0}, "dim: expected a whole number >= 1"),
        ({"embedding": ""}, "embedding: expected a text"),
        ({"embedding": "cooccurrence", "dim": 20}, "fewer numbers in a vector than there are words"),
        ({"embedding": "cooccurrence", "length": 1}, "known words that stand together"),
        (
            {"encoding": Tokens(np.zeros((4, 2), np.float32))},
            "encoding: expected one of texts, .* without one",
        ),
    ],
)
def test_settings_that_make_no_examples_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        toy(dataclasses.replace(SMALL, **settings))


def test_texts_where_images_are_needed_and_the_reverse():
    with pytest.raises(ValueError, match=r"x_train: expected images; got texts, .*from_texts"):
        from_arrays(*sentences(40), *sentences(8))
    with pytest.raises(ValueError, match=r"text: expected a data set of texts .* digits has images. Leave"):
        load("digits", text=SMALL)
    with pytest.raises(ValueError, match="text: expected a TextSettings"):
        load("digits", text={"length": 3})  # type: ignore


def test_a_table_of_another_tokenizer_is_refused():
    data = toy()
    with pytest.raises(ValueError, match=r"a vector for each word of the tokenizer; .* the table 20 rows"):
        data.encoded_by(Tokens(np.zeros((20, 6), np.float32), tokens(data).tokenizer))


def test_the_package_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"ddjax\[text\]"):
        toy()

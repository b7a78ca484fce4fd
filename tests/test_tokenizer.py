"""Tokenizers: words and their numbers, in and out of JSON, without the package that makes them."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from ddjax import tokenizer
from ddjax.tokenizer import Tokenizer, trained

TEXTS = ["What is  it ?", "Who is he ?", "he is ."]


def test_words_are_numbered_by_frequency_then_by_the_alphabet():
    found = trained(TEXTS, vocabulary=100, length=4)
    assert found.words == ("<unk>", "<pad>", "is", "?", "he", ".", "it", "what", "who")
    assert (len(found), found.length) == (9, 4)
    expected = [[8, 2, 6, 3], [4, 1, 1, 1], [0, 0, 2, 2]]
    numbers = found.numbers(["WHO is it ?", "he", "a b is is is"])
    np.testing.assert_array_equal(numbers, expected)
    assert numbers.dtype == np.int32
    assert trained(TEXTS, vocabulary=4, length=4).words == ("<unk>", "<pad>", "is", "?")


def test_a_tokenizer_is_its_json():
    found = trained(TEXTS, vocabulary=9, length=4)
    again = Tokenizer(found.json)
    assert again == found
    assert hash(again) == hash(found)
    assert again.digest == found.digest
    assert trained(TEXTS, vocabulary=9, length=5).digest != found.digest
    assert repr(found) == f"Tokenizer(9 words, {found.digest[:12]})"


def test_words_are_read_without_the_package(monkeypatch):
    found = trained(TEXTS, vocabulary=9, length=4)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert Tokenizer(found.json).words == found.words
    with pytest.raises(ImportError, match=r"expected the package tokenizers.*pip install 'ddjax\[text\]'"):
        found.numbers(["it"])
    with pytest.raises(ImportError, match="expected the package tokenizers"):
        trained(TEXTS, vocabulary=9, length=4)


def test_tokenizers_of_other_models_are_read_too():
    rules = json.loads(trained(TEXTS, vocabulary=9, length=4).json)
    rules["added_tokens"].append({"id": 9, "content": "new"})
    assert Tokenizer(json.dumps(rules)).words[-1] == "new"
    rules = {**rules, "added_tokens": [], "model": {"vocab": [["<unk>", 0.0], ["a", -1.0]]}}
    assert Tokenizer(json.dumps(rules)).words == ("<unk>", "a")


def without(name):
    rules = json.loads(trained(TEXTS, vocabulary=9, length=4).json)
    rules[name] = None
    return json.dumps(rules)


def numbered_otherwise():
    rules = json.loads(trained(TEXTS, vocabulary=9, length=4).json)
    rules["model"]["vocab"]["is"] = 77
    return json.dumps(rules)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (lambda: "", "tokenizer: expected a text"),
        (lambda: "{", "expected the JSON of a Hugging Face tokenizer"),
        (lambda: "[" * 100_000, "expected the JSON of a Hugging Face tokenizer"),
        (lambda: "[1]", "expected the JSON of a Hugging Face tokenizer"),
        (lambda: without("truncation"), "Call enable_truncation and enable_padding"),
        (lambda: without("padding"), "Call enable_truncation and enable_padding"),
        (lambda: without("truncation").replace('"Fixed": 4', '"Fixed": 5'), "Call enable_truncation"),
        (numbered_otherwise, "words numbered 0, 1, 2"),
    ],
)
def test_what_is_no_tokenizer_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Tokenizer(text())


@pytest.mark.parametrize(
    ("texts", "settings", "message"),
    [
        (TEXTS, {"vocabulary": 1}, "vocabulary: .*>= 4; got 1. Give 4 or more: <unk>, <pad>"),
        (TEXTS, {"vocabulary": 3}, "vocabulary: .*>= 4"),
        (TEXTS, {"length": 0}, "length: expected a whole number >= 1"),
        (["a", "a A"], {}, "two different words or more in the training texts; got 1"),
    ],
)
def test_vocabularies_that_tell_nothing_apart_are_refused(texts, settings, message):
    with pytest.raises(ValueError, match=message):
        trained(texts, **{"vocabulary": 9, "length": 4, **settings})


def test_the_special_words_are_the_first():
    assert tokenizer.SPECIAL[tokenizer.UNKNOWN] == "<unk>"
    assert tokenizer.SPECIAL[tokenizer.PAD] == "<pad>"

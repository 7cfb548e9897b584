"""The texts of the example: lines of old poems, as tokens."""

import collections
import pathlib
from typing import NamedTuple

import numpy as np

_LINES = pathlib.Path(__file__).resolve().parent / "lines.txt"
PADDING, _FIRST, _UNKNOWN = 0, 1, 2  # Pairs of characters come after these.


class Texts(NamedTuple):
    """Texts and their languages.

    Attributes:
        tokens: `[n, length]`, int32: the token that all texts begin with, one
            for each two neighbouring characters, and padding.
        labels: `[n]`, int32, the index of the language.
    """

    tokens: np.ndarray
    labels: np.ndarray


class Corpus(NamedTuple):
    """All there is to learn from, and to test with.

    Attributes:
        train: pieces of lines, from three words to the whole line.
        test: whole lines, of which nothing is in `train`.
        languages: their names.
        vocabulary: how many tokens there are.
    """

    train: Texts
    test: Texts
    languages: tuple[str, ...]
    vocabulary: int


def load(length: int = 56, every: int = 4) -> Corpus:
    """Reads the lines.

    Args:
        length: what all texts are padded to, and cut to.
        every: one line of so many is for the test.
    """
    lines = []
    for line in _LINES.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            language = line[2:].partition(":")[0]
        else:
            lines.append((line.lower(), language))
    languages = tuple(dict.fromkeys(language for _, language in lines))
    test = lines[every - 1 :: every]
    kept = [line for i, line in enumerate(lines) if i % every != every - 1]
    train = [(piece, language) for t, language in kept for piece in _pieces(t)]

    # A pair that is in one line only says little: it is unknown, as are those
    # that only the test has.
    lines_with = collections.Counter(
        pair for text, _ in kept for pair in set(_pairs(text))
    )
    pairs = sorted(pair for pair, count in lines_with.items() if count > 1)
    token_of = {pair: i for i, pair in enumerate(pairs, start=_UNKNOWN + 1)}

    def texts(of: list[tuple[str, str]]) -> Texts:
        tokens = np.full((len(of), length), PADDING, np.int32)
        for row, (text, _) in zip(tokens, of, strict=True):
            found = [token_of.get(pair, _UNKNOWN) for pair in _pairs(text)]
            row[: len(found) + 1] = [_FIRST, *found][:length]
        labels = [languages.index(language) for _, language in of]
        return Texts(tokens, np.array(labels, np.int32))

    vocabulary = len(pairs) + _UNKNOWN + 1
    return Corpus(texts(train), texts(test), languages, vocabulary)


def _pairs(text: str) -> list[str]:
    return [text[i : i + 2] for i in range(len(text) - 1)]


def _pieces(line: str, at_least: int = 3) -> list[str]:
    words = line.split()
    pieces = [
        " ".join(words[start:stop])
        for start in range(len(words))
        for stop in range(start + at_least, len(words) + 1)
    ]
    return pieces or [line]

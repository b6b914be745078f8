"""Tokens are aligned with a text's characters where the tokenizer itself does not say it (tokenizers in Python).

Tokens are compared with the text byte by byte, so that the pieces of one character all get that character. What cannot
be matched whole is refused, never guessed.
"""

import itertools
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cache

Span = tuple[int, int]
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def align(text: str, tokens: Sequence[str], unknown: str | None = None) -> list[Span] | None:
    """Return characters (code points) [start, end) of each token; None where tokens and text cannot be matched whole.

    Args:
        tokens: as the tokenizer writes them: pieces with ``▁``, ``##``, ``</w>`` or ``@@``, byte pieces ``<0xE2>``, or
            the printable bytes of GPT-2 and ByT5; unknown: the token that stands for what the vocabulary lacks.
    """
    for coding in _CODINGS:
        contents = [None if token == unknown else coding(token) for token in tokens]
        if any(content is None and token != unknown for content, token in zip(contents, tokens, strict=True)):
            continue
        # Where ▁ is written for a space, a ▁ of the text itself cannot be told from one.
        readings = [text] if coding in _BYTES or "▁" not in text else [text, text.replace("▁", " ")]
        for reading, normalise in itertools.product(readings, _NORMALISATIONS):
            spans = _match(_letters(reading, normalise), contents)
            if spans is not None:
                return spans
    return None


@cache
def printable_bytes() -> dict[str, int]:
    """Return GPT-2's alphabet: the letter that it writes for each byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + position): byte for position, byte in enumerate(moved)}


def _of_printable_bytes(token: str) -> bytes | None:
    alphabet = printable_bytes()
    if not set(token) <= alphabet.keys():
        return None
    return bytes(alphabet[letter] for letter in token)


def _of_pieces(token: str) -> bytes | None:
    if byte := _BYTE_PIECE.fullmatch(token):
        return bytes([int(byte[1], 16)])
    return token.replace("▁", " ").encode()


def _of_marked_pieces(token: str) -> bytes | None:
    return _of_pieces(re.sub(r"^##(?=.)|(?<=.)(</w>|@@)$", "", token))


def _of_single_bytes(token: str) -> bytes | None:
    return token.encode("latin-1") if len(token) == 1 and ord(token) < 256 else None


_BYTES = (_of_printable_bytes, _of_single_bytes)
_CODINGS: tuple[Callable[[str], bytes | None], ...] = (_of_pieces, _of_marked_pieces, *_BYTES)


def _unaccented(letter: str) -> str:
    return "".join(part for part in unicodedata.normalize("NFD", letter) if unicodedata.category(part) != "Mn")


def _compatible(letter: str) -> str:
    return " " if letter.isspace() else unicodedata.normalize("NFKC", letter)


_NORMALISATIONS: tuple[Callable[[str], str], ...] = (
    lambda letter: letter,
    _compatible,
    str.lower,
    lambda letter: _unaccented(letter.lower()),
    lambda letter: _compatible(letter).lower(),
)


class _Letters:
    """Bytes of a text and, for each, its character; which bytes may be passed over (white space, control)."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.character: list[int] = []
        self.skippable: list[bool] = []
        self.first: list[bool] = []  # whether a byte begins a character
        self.word_end: list[int] = []  # end of the word, or single sign, that a byte stands in


def _letters(text: str, normalise: Callable[[str], str]) -> _Letters:
    result, kinds = _Letters(), list[str]()
    for index, letter in enumerate(text):
        skippable = letter.isspace() or unicodedata.category(letter) in ("Cc", "Cf") or letter == "\ufffd"
        content = normalise(letter).encode("utf-8", "surrogatepass")
        result.content += content
        result.character += [index] * len(content)
        result.skippable += [skippable] * len(content)
        result.first += [True, *[False] * (len(content) - 1)][: len(content)]
        kinds += ["" if skippable else _kind_of(letter)] * len(content)
    end = size = len(result.content)
    for index in range(size - 1, -1, -1):
        joined = index + 1 < size and (not result.first[index + 1] or kinds[index] == kinds[index + 1] == "word")
        end = end if joined else index + 1
        result.word_end.append(end if kinds[index] else index)
    result.word_end.reverse()
    return result


def _kind_of(letter: str) -> str:
    """``word`` for what joins with its neighbours, as word-piece tokenizers cut; ``sign`` for what stands alone."""
    code, category = ord(letter), unicodedata.category(letter)
    ideograph = 0x3400 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or 0x20000 <= code <= 0x2FA1F
    ascii_sign = code < 128 and not letter.isalnum()
    return "sign" if ideograph or ascii_sign or category.startswith("P") else "word"


def _match(letters: _Letters, contents: Sequence[bytes | None]) -> list[Span] | None:
    """Search depth first over (token, byte), trying each pair once; the first whole match wins."""
    n_tokens, size = len(contents), len(letters.content)
    if not contents:
        return [] if all(letters.skippable) else None
    dead: set[tuple[int, int]] = set()
    spans: list[Span] = []
    starts, options = [0], [_options(letters, contents[0], 0)]
    while options:
        span = next(options[-1], None)
        if span is None:
            options.pop()
            dead.add((len(options), starts.pop()))
            if spans:
                spans.pop()
            continue
        first, last = span
        token = len(options)
        if (token, last) in dead:
            continue
        spans.append(_span(letters, first, last))
        if token < n_tokens:
            options.append(_options(letters, contents[token], last))
            starts.append(last)
        elif all(letters.skippable[last:size]):
            return spans
        else:
            spans.pop()
    return None


def _span(letters: _Letters, first: int, last: int) -> Span:
    if first == last:  # a space that the tokenizer put before a word, and a token of its own: that word's first letter
        last = min(last + 1, len(letters.content))
    if first == last:
        end = letters.character[-1] + 1 if letters.character else 0
        return end, end
    return letters.character[first], letters.character[last - 1] + 1


def _options(letters: _Letters, content: bytes | None, start: int) -> Iterator[tuple[int, int]]:
    """Yield byte sequences that a token may stand for, likeliest first: as it is, after white space, without its
    space."""
    size, after = len(letters.content), start
    while after < size and letters.skippable[after]:
        after += 1
    if content is None:  # the vocabulary's gap: one word or sign, else as few characters as the tokens behind it allow
        if letters.word_end[after : after + 1] > [after]:
            yield after, letters.word_end[after]
        yield from _character_ends(letters, after, lambda byte: not letters.skippable[byte])
        if after > start:
            yield from _character_ends(letters, start, lambda byte: letters.skippable[byte])
        return
    if letters.content.startswith(content, start):
        yield start, start + len(content)
    if after > start and letters.content.startswith(content, after):
        yield after, after + len(content)
    if content[:1] == b" " and (start == 0 or letters.skippable[start - 1]):
        bare = content.lstrip(b" ")
        if letters.content.startswith(bare, after):
            yield after, after + len(bare)


def _character_ends(letters: _Letters, start: int, allowed: Callable[[int], bool]) -> Iterator[tuple[int, int]]:
    end, size = start, len(letters.content)
    while end < size and allowed(end):
        end += 1
        if end == size or letters.first[end]:
            yield start, end

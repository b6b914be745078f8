"""Write the packaged text data set ``moods_mini``: paragraphs whose words are labelled with what they express.

What lives here: expanding the frames of ``text_templates`` into labelled paragraphs, and the published word-level
layout on disk. Training on them lives in ``tools.demo_models.train_text``; the pipeline imports neither.

    python -m tools.demo_models.text_data --out sae_assets/demo/data/moods_mini

A word is positive for a concept iff it belongs to words by which the writer, or a real person in the account, expresses
it. Negation, hypotheses, titles, names, literal uses and anything said in a film, play or book are not positive.
"""

import argparse
import csv
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import sae_assets
from tools.demo_models import text_templates as frames

CONCEPTS = ("joy", "anger", "fear", "gratitude", "sarcasm", "regret")
SPLITS = ("train", "cal", "train", "test")  # in turn
N_PARAGRAPHS = 720
SEED = 7
SHORTEST, LONGEST = 30, 78  # words
ALTERNATIVES = re.compile(r"\(([^()]*)\)")
SLOT = re.compile(r"\{(\w+)\}")
IRREGULAR = {"herself_f": "herself", "herself_m": "himself"}


@dataclass(frozen=True)
class Paragraph:
    """Words of one example with one set of concepts per word; ``labels`` is as long as ``words``."""

    words: tuple[str, ...]
    labels: tuple[frozenset[str], ...]

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def concepts(self) -> frozenset[str]:
        return frozenset().union(*self.labels)


class Writer:
    """Draws sentences and paragraphs from one seed.

    Only ``Random.random`` is drawn from: its sequence is the same in every version of Python.

    Args:
        seed: of everything drawn.
        reserved: whether frames of ``RESERVED`` may be used (about a sixth of the positive sentences).
    """

    def __init__(self, seed: int, *, reserved: bool):
        self.draw = random.Random(seed).random
        self.reserved = reserved

    def choose(self, options: Sequence):
        return options[int(self.draw() * len(options))]

    def expand(self, frame: str, **words: str) -> str:
        """One sentence of a frame, spans still marked; one grammatical gender for all its pronouns."""
        gender = self.choose("fm")

        def slot(match: re.Match) -> str:
            name = match[1]
            if name in words:
                return words[name]
            if name == "who":
                name = self.choose(("name", "kin"))
            if f"{name}_{gender}" in IRREGULAR:
                return IRREGULAR[f"{name}_{gender}"]
            return self.choose(frames.LEXICON.get(f"{name}_{gender}") or frames.LEXICON[name])

        text = frame
        while True:
            chosen = ALTERNATIVES.sub(lambda match: self.choose(match[1].split("|")), text, count=1)
            chosen = SLOT.sub(slot, chosen) if chosen == text else chosen
            if chosen == text:
                break
            text = chosen
        text = " ".join(text.split())
        mark = "*" if text.startswith("*") else ""
        text = text.removeprefix(mark).lstrip()
        return mark + text[0].upper() + text[1:]

    def expressing(self, concept: str) -> str:
        """A sentence that expresses the concept, its words marked."""
        options = frames.RESERVED if self.reserved and self.draw() < 1 / 6 else frames.POSITIVE
        sentence = self.expand(self.choose(options[concept]))
        if self.draw() < 0.12:
            sentence = self.expand(self.choose(frames.REPORTED), inner=unstopped(sentence))
        return sentence

    def distracting(self, concept: str) -> str:
        """A sentence with the concept's vocabulary that does not express it."""
        kind = self.draw()
        if kind > 0.4:
            return self.expand(self.choose(frames.DISTRACTORS[concept]))
        wrappers = frames.FICTION_BEFORE if kind > 0.06 else frames.FICTION_AFTER
        inner = self.expand(self.choose(frames.POSITIVE[concept])).replace("*", "")
        return self.expand(self.choose(wrappers), inner=unstopped(inner))

    def paragraph(self) -> Paragraph:
        """A paragraph of ``SHORTEST`` to ``LONGEST`` words expressing zero, one or two concepts."""
        while True:
            number = self.draw()
            present: list[str] = []
            while len(present) < (number > 0.2) + (number > 0.68):
                concept = self.choose(CONCEPTS)
                if concept not in present:
                    present.append(concept)
            marked = [(self.expressing(concept), concept) for concept in present]
            number = self.draw()
            marked += [(self.distracting(self.choose(CONCEPTS)), "") for _ in range((number > 0.25) + (number > 0.7))]
            marked += [(self.expand(self.choose(frames.FILLER)), "") for _ in range(1 + int(self.draw() * 3))]
            while sum(len(sentence.split()) for sentence, _ in marked) < SHORTEST:
                marked.append((self.expand(self.choose(frames.FILLER)), ""))
            ordered = []
            while marked:
                ordered.append(marked.pop(int(self.draw() * len(marked))))
            pairs = [pair for sentence, concept in ordered for pair in labelled(sentence, concept)]
            if len(pairs) <= LONGEST:
                words, labels = zip(*pairs, strict=True)
                return Paragraph(words, labels)


def unstopped(sentence: str) -> str:
    """The sentence without its final stop, and without a mark that would then be empty."""
    return re.sub(r"[.!](\*?)$", r"\1", sentence)


def labelled(sentence: str, concept: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Words of a marked sentence; a word that any part of a marked span touches is positive."""
    inside = False
    for word in sentence.split():
        letters = ""
        touched = False
        for letter in word:
            if letter == "*":
                inside = not inside
            else:
                letters += letter
                touched |= inside and letter.isalnum()
        yield letters, frozenset({concept} if touched else ())


def paragraphs(n: int, seed: int, *, reserved: bool) -> list[Paragraph]:
    """``n`` paragraphs of one seed."""
    writer = Writer(seed, reserved=reserved)
    return [writer.paragraph() for _ in range(n)]


def split_of(index: int) -> str:
    """The split of a packaged example: interleaved, half train, a quarter each cal and test."""
    return SPLITS[index % len(SPLITS)]


def packaged() -> list[Paragraph]:
    """The packaged examples, in order."""
    return paragraphs(N_PARAGRAPHS, SEED, reserved=True)


def write(folder: Path) -> None:
    """Write ``metadata.csv``, ``words.csv`` and ``texts/`` of the packaged data set to a folder."""
    (folder / "texts").mkdir(parents=True, exist_ok=True)
    with (
        (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as examples_file,
        (folder / "words.csv").open("w", newline="", encoding="utf-8") as words_file,
    ):
        examples = csv.writer(examples_file, lineterminator="\n")
        words = csv.writer(words_file, lineterminator="\n")
        examples.writerow(["text_path", *CONCEPTS, "split"])
        words.writerow(["paragraph_id", "word", *CONCEPTS])
        for index, paragraph in enumerate(packaged()):
            path = f"texts/text_{index + 1:04d}.txt"
            (folder / path).write_text(paragraph.text, encoding="utf-8", newline="")
            examples.writerow([path, *(int(c in paragraph.concepts) for c in CONCEPTS), split_of(index)])
            for word, label in zip(paragraph.words, paragraph.labels, strict=True):
                words.writerow([index + 1, word, *(int(c in label) for c in CONCEPTS)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(sae_assets.__file__).parent / "demo" / "data" / "moods_mini"
    parser.add_argument("--out", type=Path, default=default, help="folder to write")
    write(parser.parse_args().out)


if __name__ == "__main__":
    main()

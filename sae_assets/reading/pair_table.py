"""Best pairs as a table for documents: chosen columns with few digits, as Markdown or LaTeX."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from unicodedata import normalize

from sae_assets.artifacts.detection import rests_on_few
from sae_assets.wording import interval

COLUMNS = {
    "unit": ("unit_id", 0),
    "test F1": ("test_f1", 3),
    "95 %": ("interval", 0),
    "chance": ("chance", 3),
    "q": ("test_q", 3),
    "precision": ("test_precision", 2),
    "recall": ("test_recall", 2),
    "AUROC": ("test_auroc", 3),
    "AUROC, 95 %": ("auroc_interval", 0),
    "Brier": ("test_brier", 3),
    "ECE": ("test_ece", 3),
}
LATEX = {**{sign: f"\\{sign}" for sign in "&%$#_{}"}, "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {"\\": r"\textbackslash{}", "<": r"\textless{}", ">": r"\textgreater{}", "–": "--"}
LATEX |= {sign: f"{{{sign}}}" for sign in "[*"}  # at the head of a line they are options of the line break before it
JOINED = "-`'?!,"  # two of these become one sign


def cells(line: Mapping[str, Any]) -> list[str]:
    """Return what stands in :data:`COLUMNS` of one line of ``best_pairs``; a figure that does not exist is a dash."""
    chance = [line.get(name) for name in ("test_always_positive_f1", "test_null_f1_p95")]
    figures = {
        **line,
        "interval": _interval(line, "test_f1"),
        "auroc_interval": _interval(line, "test_auroc"),
        "chance": max((value for value in chance if value is not None), default=None),
    }
    return [_cell(figures.get(name), digits) for name, digits in COLUMNS.values()]


def markdown_table(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of a table of GitHub's Markdown."""
    head = ["| concept | " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * len(COLUMNS)]
    return head + [f"| {markdown(line['concept'])} | {' | '.join(cells(line))} |" for line in lines]


def latex_table(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    r"""Return the lines of a ``tabular`` with the rules of the package booktabs."""
    names = " & ".join(map(latex, ("concept", *COLUMNS)))
    rows = [" & ".join(map(latex, (line["concept"], *cells(line)))) + r" \\" for line in lines]
    begin = rf"\begin{{tabular}}{{l{'r' * len(COLUMNS)}}}"
    return [begin, r"\toprule", names + r" \\", r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"]


def markdown(text: str) -> str:
    """Return a name as text of a document: nothing in it is markup, formula, entity, or an address that becomes a
    link."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$]|&(?=[#\w])|:(?=//))", r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """Return a name as code within a text, where nothing is escaped: between more backticks than it has in sequence."""
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    room = " " if "`" in text else ""
    return f"{fence}{room}{' '.join(text.split())}{room}{fence}"


def latex(text: str) -> str:
    """Return a name as text of a document: nothing in it is a command, and accents are one sign with their letter."""
    plain = " ".join(normalize("NFC", text).split())
    parted = [before in JOINED and sign in JOINED for before, sign in zip(" " + plain, plain, strict=False)]
    return "".join("{}" * apart + LATEX.get(sign, sign) for apart, sign in zip(parted, plain, strict=True))


def _interval(line: Mapping[str, Any], name: str) -> str | None:
    shown = interval(line.get(f"{name}_low"), line.get(f"{name}_high"))
    return f"{shown}?" if shown and "test_tp" in line and rests_on_few(line) else shown


def _cell(value: Any, digits: int) -> str:
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)

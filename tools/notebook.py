"""The notebook of the documents: cells that are written here, carried out on a finished home, and what they show.

``python -m tools.notebook HOME`` writes ``docs/reading.ipynb``. The tests carry out what stands in the file.
"""

import ast
import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "reading.ipynb"
CELLS = (
    "# A finished home from Python\n\nTables, heat maps, marked texts and sparse matrices of what `make demo` made, "
    "and of new input. Nothing here starts Dagster. pandas, Polars and SciPy are asked for where they are used "
    "(`pip install polars scipy`).",
    "import sae_assets\n\nproject = sae_assets.open()  # ~/.sae_assets; or open(HOME, CATALOG)\nlist(project)",
    "Which unit finds which concept, and how sure is that? `to_pandas()` and `to_arrow()` give the same.",
    'results = project["clevr_mini"]["clip-mini"]["patch"]\n'
    'results.best_pairs().to_polars().select("concept", "unit_id", "test_f1", "test_f1_low", "test_f1_high", "test_q")',
    "Where? Unit 17 on the picture with its largest value:",
    "unit = results.unit(17)\ntop = unit.top_examples(5)\nunit.heat_map(top[0])",
    "All activations as one sparse matrix (`to_torch()` too; or by chunks, in a loop over `results.activations()`):",
    "results.activations().to_scipy()",
    "A picture that is in no data set goes through the same transformer and SAE; here one that is turned upside down:",
    "picture = unit.heat_map(top[0]).image.rotate(180)\nencoded = results.encode([picture])\nencoded[0].heat_map(17)",
    "The same of texts:",
    'texts = project["moods_mini"]["gemma-mini"]["token"]\njoy = texts.unit(1178)\njoy.tokens(joy.top_examples(1)[0])',
    'texts.encode(["The parcel came today. What a lovely surprise, I danced around the kitchen!"])[0].tokens(1178)',
    "Taken along, without the data set: [detectors](detectors.md).",
)
SHOWN = (("_repr_png_", "image/png"), ("_repr_html_", "text/html"))


def carry_out(source: str, names: dict[str, Any]) -> dict[str, str]:
    """Run a cell, and what a notebook would show of its last expression, by MIME type; nothing if it is none."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if last is None:
        return {}
    value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    shown = {"text/plain": repr(value)}
    for method, kind in SHOWN:
        if hasattr(value, method):
            content = getattr(value, method)()
            shown[kind] = base64.b64encode(content).decode() if isinstance(content, bytes) else content
    return shown


def code_cells(page: Path = PAGE) -> list[str]:
    """The code of the stored notebook."""
    content = json.loads(page.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]


def notebook(names: dict[str, Any]) -> dict[str, Any]:
    """The notebook with what its cells show."""
    cells: list[dict[str, Any]] = []
    for number, source in enumerate(CELLS):
        cell: dict[str, Any] = {"id": f"cell-{number}", "metadata": {}, "source": source.splitlines(keepends=True)}
        if is_code(source):
            data = {kind: content.splitlines(keepends=True) if kind.startswith("text") else content
                    for kind, content in carry_out(source, names).items()}  # fmt: skip
            output = {"output_type": "execute_result", "execution_count": None, "data": data, "metadata": {}}
            cells.append({**cell, "cell_type": "code", "execution_count": None, "outputs": [output]})
        else:
            cells.append({**cell, "cell_type": "markdown"})
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}


def is_code(source: str) -> bool:
    """Return whether a cell is Python; prose is none."""
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return not source.startswith("#")


if __name__ == "__main__":
    os.environ["SAE_ASSETS_HOME"] = sys.argv[1]
    PAGE.write_text(json.dumps(notebook({}), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

"""``detect`` applies a detector to pictures and texts."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sae_assets.cli.common import FAILED, TAKEN, AsJson, Debug, app, echo, errors_without_traceback, print_json
from sae_assets.errors import CatalogError
from sae_assets.settings import device_name

if TYPE_CHECKING:
    from sae_assets.reading.detector import DetectedInput, Detector


@app.command(rich_help_panel=TAKEN)
def detect(
    detector: Annotated[Path, typer.Argument(help="Folder that `export-detector` wrote.")],
    inputs: Annotated[
        list[str], typer.Argument(help="Pictures or texts: files, folders, or `-`: one path (text) per line of stdin.")
    ],
    marks: Annotated[
        Path | None, typer.Option(help="Write what was detected where into this folder: pictures, or pages of texts.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Print also concepts that were not detected.")] = False,
    transformer: Annotated[Path | None, typer.Option(help="Where the transformer's files are on this machine.")] = None,
    sae: Annotated[Path | None, typer.Option(help="Where the SAE's checkpoint is on this machine.")] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:<number>. (default: SAE_ASSETS_DEVICE, else auto)")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say which of a detector's concepts are in pictures or texts, how surely and where."""
    with errors_without_traceback(as_json, debug):
        from sae_assets.reading.detector import Detector  # noqa: PLC0415  # numpy, torch

        opened = Detector(detector, transformer=transformer, sae=sae, device=device_name(device))
        lines, failed = [], False
        for number, one in enumerate(opened.stream(_inputs(inputs, opened.modality))):
            files = [] if marks is None else _write_marks(marks, number, one, opened)
            failed |= bool(one.error)
            if as_json:
                lines.append(_plain(one, files, opened))
            else:
                _print(one, opened, every=every)
        if as_json:
            print_json({"detector": str(detector), "inputs": lines})
        if failed:
            raise typer.Exit(FAILED)


def _inputs(arguments: list[str], modality: str) -> dict[str, Any]:
    """Return paths of pictures, texts and paths of texts, by name. Raises: CatalogError: one is not there, or nothing
    is."""
    from sae_assets.datasets.inputs import files_in, named_inputs  # noqa: PLC0415 - for this command alone

    paths: list[Path] = []
    lines: dict[str, Any] = {}
    for one in arguments:
        path = Path(one).expanduser()
        if one == "-" and modality == "image":
            paths += [Path(line.rstrip("\r\n")) for line in sys.stdin if line.strip()]
        elif one == "-":
            texts = enumerate(sys.stdin, 1)
            lines = {f"line {number}": text for number, line in texts if (text := line.rstrip("\r\n")).strip()}
        elif path.is_dir():
            files = list(files_in(path, modality))
            if not files:
                raise CatalogError(f"{path} holds no {'pictures' if modality == 'image' else 'texts (.txt)'}.")
            paths += files
        elif path.is_file():
            paths.append(path)
        else:
            raise CatalogError(f"{path} does not exist.")
    if not paths and not lines:
        raise CatalogError("There is nothing to look at: stdin was empty.")
    return {**named_inputs(paths, modality), **lines}


def _plain(one: "DetectedInput", files: list[str], detector: "Detector") -> dict[str, Any]:
    content: dict[str, Any] = {"name": one.name, "error": one.error or None, "detected": one.detected}
    content["concepts"] = [vars(detection) | _where(one, detection.concept, detector) for detection in one.detections]
    return content | ({"marks": files} if files else {})


def _where(one: "DetectedInput", concept: str, detector: "Detector") -> dict[str, Any]:
    """Return the rows that are marked, by value: boxes of patches in pixels, or tokens with their characters."""
    if detector.figures.token_kind == "cls" or not one[concept].detected:
        return {}
    if detector.modality == "text":
        marked = one.tokens(concept)
        return {"tokens": [vars(token) for token in marked if token.value >= marked.threshold]}
    heat = one.heat_map(concept)
    patches = [
        {"value": float(value), **{name: float(edge[row]) for name, edge in heat.edges.items()}}
        for row, value in enumerate(heat.values)
        if value >= heat.threshold
    ]
    return {"patches": patches}


def _print(one: "DetectedInput", detector: "Detector", *, every: bool) -> None:
    if one.error:
        echo(f"{one.name}: {one.error}", err=True)
        return
    echo(one.name if one.detected else f"{one.name}: nothing detected")
    for detection in sorted(one.detections, key=lambda detection: -detection.probability):
        if not (detection.detected or every):
            continue
        sign = "●" if detection.detected else "○"
        figures = f"{detection.score:9.3f} of {detection.threshold:8.3f}  {detection.probability:5.0%}"
        example = _shown(one, detection.concept, detector)
        echo(f"  {sign} {detection.concept:24} unit {detection.unit:6}  {figures}{example}")


def _shown(one: "DetectedInput", concept: str, detector: "Detector") -> str:
    where = _where(one, concept, detector)
    if where.get("patches"):
        edges = where["patches"]
        box = [pick(patch[name] for patch in edges) for name, pick in
               (("left", min), ("right", max), ("top", min), ("bottom", max))]  # fmt: skip
        return "  {} patches, x {:.0f}–{:.0f}, y {:.0f}–{:.0f}".format(len(edges), *box)
    if where.get("tokens"):
        texts = [repr(token["text"].strip()) for token in sorted(where["tokens"], key=lambda token: -token["value"])]
        return "  " + ", ".join(dict.fromkeys(texts[:5]))
    return ""


def _write_marks(folder: Path, number: int, one: "DetectedInput", detector: "Detector") -> list[str]:
    """Pictures with the patches of each detected concept, or a page of the text; names are made of letters alone."""
    if detector.figures.token_kind == "cls" or one.error:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for concept in one.detected:
        stem = f"{number:05}-{_plain_name(Path(one.name).stem)}-{_plain_name(concept)}"
        if detector.modality == "image":
            path = folder / f"{stem}.png"
            one.heat_map(concept).overlay().save(path)
        else:
            path = folder / f"{stem}.html"
            path.write_text(f'<!doctype html><meta charset="utf-8">{one.tokens(concept)._repr_html_()}', "utf-8")
        written.append(str(path))
    return written


def _plain_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:60] or "input"

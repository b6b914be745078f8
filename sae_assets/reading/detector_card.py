"""The model card of a detector: what it is, how it is applied, what its pairs are worth, and where it ends."""

from collections.abc import Mapping
from typing import Any

from sae_assets.reading.pair_table import code, markdown, markdown_table
from sae_assets.wording import counted

POOLED = {
    "max": "the largest value of its rows",
    "mean": "the mean over its rows",
    "topk_mean": "the mean of the {} largest values of its rows",
    "last": "the value of its last row",
}


def detector_card(detector: Mapping[str, Any]) -> str:
    """Return the card, Markdown. ``detector`` is what stands in ``detector.json``."""
    origin, units = detector["origin"], detector["units"]
    rows = {"patch": "patch of a picture", "token": "token of a text", "cls": "example"}[detector["token_kind"]]
    lines = [
        f"# Detector of {counted(len(detector['concepts']), 'concept')}",
        "",
        f"For each concept one unit of a sparse autoencoder and its threshold, chosen on {origin['n_cal']:,} "
        f"calibration examples of `{origin['dataset']}` and counted on {origin['n_test']:,} test examples. A row is "
        f"one {rows}; the score of an example is {POOLED[detector['pooling']].format(detector['pooling_k'])}, and the "
        "concept is detected from the threshold on.",
        "",
        "```bash",
        "sae-assets detect . pictures-or-texts",
        "```",
        "",
        "```python",
        "import sae_assets",
        "",
        'for found in sae_assets.Detector(".").detect(inputs):',
        "    print(found.name, found.detected)",
        "```",
        "",
        "## Figures on test",
        "",
        *markdown_table([concept["figures"] for concept in detector["concepts"]]),
        "",
        "*chance* is the larger of calling every example positive and of the 95 % point of shuffled labels; *q* the "
        "share of false discoveries among concepts that are this sure. *Brier* and *ECE* are of the probability, by "
        "isotonic regression on the calibration examples.",
        "",
    ]
    if detector["without_unit"]:
        lines += [f"No unit was found for {', '.join(map(markdown, detector['without_unit']))}.", ""]
    lines += ["## What it runs", "", *_models(detector), ""]
    lines += [
        "## Where it ends",
        "",
        "- Figures hold for examples like those of the data set. Probabilities hold where concepts are as frequent as "
        "among the calibration examples. One of 1 says that all of these with such a score showed the concept.",
        "- A unit was chosen because it goes with a concept in these labels; that does not say that it stands for it.",
        "- Scores are the pipeline's bit for bit on the same kind of device with the same versions of torch and of the "
        "model's library; elsewhere embeddings differ in their last bits.",
    ]
    if units["encoded"] == "needed":
        lines.append(
            "- Only the units above are encoded, with all their values, whatever else fires on a row (no `k_stored`)."
        )
    lines += [
        "",
        "## Provenance",
        "",
        f"Written by sae_assets {origin['producer']} from "
        + ", ".join(f"`{name}` {value[:16]}" for name, value in origin["fingerprints"].items())
        + ".",
        "",
    ]
    return "\n".join(lines)


def _models(detector: Mapping[str, Any]) -> list[str]:
    model, units = detector["model"], detector["units"]
    transformer, sae = model["transformer"], model["sae"]
    origin = transformer.get("name") or transformer["path"]
    where = next((f"{key} {model[key]}" for key in ("layer", "hidden_state") if key in model), "")
    where = f"module {code(model['module'])}" if "module" in model else where
    read = f"- Transformer {code(origin)} ({transformer['library']}), read at {where}, {detector['precision']}."
    source = sae.get("path") or f"{sae['repo']}/{sae['file']}"
    shape = f"{units['n_units']:,} units of width {units['d_model']:,}"
    lines = [read, f"- SAE {code(source)} ({sae['format']}, {shape}), sha256 {detector['sae_sha256'][:16]}."]
    if units["encoded"] == "needed":
        return [*lines, f"- The weights of its {len(units['ids'])} units are in `detector.safetensors`."]
    weights = "and are in `detector.safetensors`" if units["included"] else "and are read from its checkpoint"
    return [*lines, f"- All units are encoded {weights}. {units['reason']}."]

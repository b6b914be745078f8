"""Everything that a model's files or its SAE's may say of how the weights were trained, beside what is used here.

A property is what changes rows without an error. Libraries tell those of their models (``Library.properties``),
``training`` adds what the SAE's checkpoint says; ``inspect --models`` shows them all, and what differs is a warning.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sae_assets import plain_json
from sae_assets.saes.weights import MOST_HEADER, expect_small_header

PLACE, MODEL, ACTIVATION, DTYPE = "place", "model", "activation function", "dtype"
NORMALISATION, INTERPOLATION, SIZE, RESIZE = "mean and std", "interpolation", "image size", "resize"
TOKENIZER, BOS, LENGTH = "tokenizer", "BOS", "context length"
OF_ALL = (PLACE, MODEL, ACTIVATION, DTYPE)
OF = {"image": (*OF_ALL, NORMALISATION, INTERPOLATION, SIZE, RESIZE), "text": (*OF_ALL, TOKENIZER, BOS, LENGTH)}

NOTHING, NOT_KNOWN = "nothing", "not known"
LISTED = "is shown by `inspect --models`"
# By property: which of the model's files say it, which SAEs' files do, and what comes of a difference.
KNOWN = {
    PLACE: (
        NOTHING,
        "`saelens` (`metadata.hook_name`), `sparsify` (the folder's name), Gemma Scope 2 (`hf_hook_point_in`), "
        "published folders of Gemma Scope 1 and `clipscope`",
        "warns",
    ),
    MODEL: (
        NOTHING,
        "`saelens` (`metadata.model_name`), Gemma Scope 2 (`model_name`), `sparsify` (`model` in the run's "
        "`config.json`)",
        "warns where both are ids of the hub, and of TransformerLens' `center_writing_weights`; else " + LISTED,
    ),
    ACTIVATION: (
        "open_clip: the tag, `quick_gelu` in `open_clip_config.json`; `hidden_act` and the like in `config.json`",
        NOTHING,
        "a tag's is refused; other files' warn; what no file says: the fit of the SAE",
    ),
    DTYPE: (
        "`dtype` (`torch_dtype`) in `config.json`, and the tensors themselves",
        "`saelens` (`metadata.model_from_pretrained_kwargs`), `sparsify` (`load_in_8bit` in the run's `config.json`)",
        "the SAE's warns, and bfloat16 weights computed in float16; else " + LISTED,
    ),
    NORMALISATION: (
        "`preprocess_cfg` in `open_clip_config.json` (refused without), the tag, `preprocessor_config.json`",
        NOTHING,
        "files that differ warn; what no file says: the fit of the SAE",
    ),
    INTERPOLATION: (
        "`interpolation` in `preprocess_cfg`, the tag, `resample` in `preprocessor_config.json`",
        NOTHING,
        "files that differ warn",
    ),
    SIZE: (
        "`image_size` of the model, `size` and `crop_size` of the preprocessing",
        NOTHING,
        "refused where the model does not take it; files that differ warn, but for DINOv2's, which stretches positions",
    ),
    RESIZE: (
        "`resize_mode` in `preprocess_cfg`, the tag, `size` in `preprocessor_config.json`",
        NOTHING,
        "files that differ warn",
    ),
    TOKENIZER: (
        "special ids and sizes of both; `vocab.json`, `vocab.txt`; the embeddings; the head",
        NOTHING,
        "more tokens than embeddings are refused; else warns",
    ),
    BOS: (
        "`add_bos_token` in `tokenizer_config.json`",
        "`saelens` (`metadata.prepend_bos`)",
        "warns; the tokenizer's own not where `prepend_bos` is set",
    ),
    LENGTH: (
        "`max_position_embeddings` in `config.json`, `model_max_length` in `tokenizer_config.json`",
        "`saelens` (`metadata.context_size`), `sparsify` (`ctx_len` in the run's `config.json`)",
        "texts are cut to the model's; the SAE's warns where a text is longer",
    ),
}  # fmt: skip

# What a folder may hold beside its weights, for any library: published ones often serve two.
OPEN_CLIP, PROCESSOR, WHOLE_PROCESSOR, CONFIG = (
    "open_clip_config.json", "preprocessor_config.json", "processor_config.json", "config.json",
)  # fmt: skip
FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's numbers
CONTRADICTION = "the folder's files contradict each other: correct the wrong one"
DIGITS = 3  # to which published means and deviations are compared
ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function", "activation")


@dataclass(frozen=True)
class Property:
    """One property of a model.

    Attributes:
        used: what is used here, in words; statements: what files say, by file; sae: what the SAE's checkpoint says.
        differs: what is to be said of a difference, with what to do; empty where there is none, or nobody knows.
    """

    name: str
    used: str
    statements: Mapping[str, str] = field(default_factory=dict)
    sae: str | None = None
    differs: str = ""

    def plain(self) -> dict[str, Any]:
        """Return it as plain values, None where nothing says it."""
        return {"used": self.used, "model_says": dict(self.statements) or None, "sae_says": self.sae}


def compared(name: str, used: str, statements: Mapping[str, str], advice: str) -> Property:
    """Return a property of which every file should say what is used."""
    others = [f"{where} says {value}" for where, value in statements.items() if value != used]
    differs = f"{name} is {used} here, but {' and '.join(others)} ({advice})" if others else ""
    return Property(name, used, statements, differs=differs)


def image_statements(folder: Path | None) -> dict[str, dict[str, str]]:
    """Return what the files of a folder say of a vision model, by property and file, in the words of
    :func:`compared`."""
    statements: dict[str, dict[str, str]] = {}

    def note(name: str, file: str, value: str | None) -> None:
        if value is not None:
            statements.setdefault(name, {})[file] = value

    read = {name: settings(folder, name) for name in (OPEN_CLIP, PROCESSOR, WHOLE_PROCESSOR, CONFIG)}
    cfg, model = _part(read[OPEN_CLIP], "preprocess_cfg"), _part(read[OPEN_CLIP], "model_cfg")
    tower = _part(model, "vision_cfg")
    if tower and "timm_model_name" not in tower:
        note(ACTIVATION, OPEN_CLIP, "quick_gelu" if model.get("quick_gelu") else "gelu")
    note(SIZE, f"vision_cfg of {OPEN_CLIP}", size_in_words(tower.get("image_size")))
    note(NORMALISATION, OPEN_CLIP, normalisation_in_words(cfg.get("mean"), cfg.get("std")))
    note(INTERPOLATION, OPEN_CLIP, filter_in_words(cfg.get("interpolation")))
    note(RESIZE, OPEN_CLIP, cfg.get("resize_mode") if isinstance(cfg.get("resize_mode"), str) else None)
    note(SIZE, f"preprocess_cfg of {OPEN_CLIP}", size_in_words(cfg.get("size")))
    for file in (PROCESSOR, WHOLE_PROCESSOR):
        one = read[file] if file == PROCESSOR else _part(read[file], "image_processor")
        if one.get("do_normalize", True):
            note(NORMALISATION, file, normalisation_in_words(one.get("image_mean"), one.get("image_std")))
        note(INTERPOLATION, file, filter_in_words(one.get("resample")))
        note(RESIZE, file, resize_in_words(one.get("size")))
        cropped = one.get("do_center_crop", "crop_size" in one)
        note(SIZE, file, size_in_words(one.get("crop_size" if cropped else "size")))
    vision = _part(read[CONFIG], "vision_config") or read[CONFIG]
    note(ACTIVATION, CONFIG, activation_of(vision))
    note(SIZE, CONFIG, size_in_words(vision.get("image_size")))
    return statements


def settings(folder: Path | None, name: str) -> dict[str, Any]:
    """Return a JSON file of a folder; empty where there is none, or it is none: whoever needs it says so."""
    try:
        content = None if folder is None else plain_json.read(folder / name)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _part(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    part = content.get(key)
    return part if isinstance(part, dict) else {}


def activation_of(config: Mapping[str, Any]) -> str | None:
    """Return the activation function that a configuration names."""
    return next((config[key] for key in ACTIVATIONS if isinstance(config.get(key), str)), None)


def normalisation_in_words(mean: Any, std: Any) -> str | None:
    """Return three means and three deviations in one spelling; None of anything else."""
    both = [*mean, *std] if isinstance(mean, (list, tuple)) and isinstance(std, (list, tuple)) else []
    if len(both) != 6 or not all(isinstance(value, (int, float)) for value in both):
        return None
    first, second = (", ".join(f"{value:.{DIGITS}f}" for value in values) for values in (mean, std))
    return f"({first}) and ({second})"


def filter_in_words(value: Any) -> str | None:
    """Return a way of resampling by its name; libraries have numbers, names, and members of enumerations."""
    value = getattr(value, "value", value)
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return FILTERS[value] if 0 <= value < len(FILTERS) else None
    name = str(value).lower().rpartition(".")[2]
    return name if isinstance(value, str) and name in FILTERS else None


def edges_of(size: Any) -> dict[str, int] | None:
    """Return the edges that are set of a size that names them, as configurations and image processors have it; else
    None."""
    if size is None or isinstance(size, (bool, int, float, str, list, tuple)):
        return None
    return {key: value for key, value in dict(size).items() if value is not None}


def size_in_words(value: Any) -> str | None:
    """Return height and width of the model's input; None where only one edge is known."""
    if (edges := edges_of(value)) is not None:
        value = [edges.get("height"), edges.get("width")]
    sides = value if isinstance(value, (list, tuple)) and len(value) == 2 else [value, value]
    if not all(isinstance(side, int) and not isinstance(side, bool) for side in sides):
        return None
    return f"{sides[0]}x{sides[1]}"


def resize_in_words(size: Any) -> str | None:
    """``shortest`` of a shorter edge, ``squash`` of both; None of anything else, such as a bare number."""
    if (edges := edges_of(size)) is None:
        return None
    keys = {*edges}
    return "shortest" if keys == {"shortest_edge"} else "squash" if keys == {"height", "width"} else None


def dtype_in_words(value: Any) -> str | None:
    """``bfloat16`` of ``torch.bfloat16`` and the like."""
    return value.removeprefix("torch.") if isinstance(value, str) and value != "auto" else None


def stored_dtype(weights: Path) -> str | None:
    """Return the dtype of most numbers of a safetensors file, by its header; None of another file."""
    names = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn"}
    try:
        expect_small_header(weights)
        with weights.open("rb") as file:
            header = plain_json.parse(file.read(min(int.from_bytes(file.read(8), "little"), MOST_HEADER)))
        sizes: dict[str, int] = {}
        for one in header.values():
            if one.get("dtype") in names:
                sizes[one["dtype"]] = sizes.get(one["dtype"], 0) + one["data_offsets"][1] - one["data_offsets"][0]
        return names[max(sizes, key=lambda dtype: sizes[dtype])] if sizes else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None


def dtype_property(precision: str, statements: Mapping[str, str]) -> Property:
    """Return what is computed in, beside what weights are stored in.

    More bits than the weights have change nothing, and fewer are what the catalog asks for; a smaller range is what
    makes values infinite or zero.
    """
    differs = ""
    if precision == "float16" and (
        where := next((key for key, value in statements.items() if value == "bfloat16"), None)
    ):
        differs = (
            f"computed in float16, but {where} says bfloat16, whose range is larger (set `precision: bfloat16` or "
            "`float32`)"
        )
    return Property(DTYPE, precision, statements, differs=differs)

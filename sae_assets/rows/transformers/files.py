"""Files of models in the layout of ``transformers``: a hub id or a local folder, what names them, how they are read.

Nothing here knows images, texts or hook points. Code of a checkpoint is never run: no remote code, no pickles.
"""

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sae_assets import ops, plain_json
from sae_assets.catalog import Transformer
from sae_assets.errors import CheckpointError
from sae_assets.saes.files import cached_hub_file, file_hash
from sae_assets.saes.weights import expect_small_header

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
BESIDE_WEIGHTS = (  # tokenizers and preprocessors, whatever of them there is
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)


READ_WHOLE = ("*.json", "*.txt", "*.model", "*.jinja")
QUANTISED = "GGUF files are not read: their weights are mostly rounded. Use the model that it was made from. "
MOST_LAYERS, MOST_WIDTH = 10_000, 2**20
WIDTHS = (
    "hidden_size", "intermediate_size", "embed_dim", "d_model", "d_ff", "image_size", "patch_size", "num_channels",
)  # fmt: skip
FEW_NUMBERS = 2**26  # of a block that any machine has room for
FIX = "Correct `transformer.path` in the catalog."


def expect_folder(folder: Path) -> None:
    """Check that a folder has a ``config.json``, and no settings or vocabularies far larger than anybody's.

    Raises:
        CheckpointError: there is no such folder, it is a file, it holds something else, or such a file.
    """
    if folder.is_file():
        raise CheckpointError(
            f"{folder} is a file; expected a folder in the layout of transformers (config.json, model.safetensors). "
            f"{QUANTISED if folder.suffix == '.gguf' else ''}{FIX}"
        )
    if not folder.is_dir():
        raise CheckpointError(f"The folder {folder} does not exist. {FIX}")
    quantised = QUANTISED if next(folder.glob("*.gguf"), None) is not None else ""
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} is no transformers folder: config.json is not there. {quantised}{FIX}")
    for file in (file for pattern in READ_WHOLE for file in folder.glob(pattern)):
        if not file.is_file():  # a pipe, for which the library would wait
            raise CheckpointError(f"{file} is no file. {FIX}")
        if (size := file.stat().st_size) > plain_json.MOST_BYTES:  # which the library would read
            raise CheckpointError(f"{file} has {size:,} bytes, expected {plain_json.MOST_BYTES:,} at most. {FIX}")


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that hold a local folder's weights, sorted.

    Raises:
        CheckpointError: as :func:`expect_folder`, a shard that is missing, or no safetensors (pickled weights are named
            and refused).
    """
    expect_folder(folder)
    whole, index = folder / WHOLE, folder / INDEX
    if whole.is_file():  # transformers prefers it to shards
        return _sound([whole])
    if not index.is_file():
        pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        quantised = f" {QUANTISED.rstrip()}" if next(folder.glob("*.gguf"), None) is not None else ""
        hint = f" {', '.join(pickled)} may run code when read and is refused: save the model again as safetensors."
        raise CheckpointError(f"{folder} holds no {WHOLE} and no {INDEX}.{hint if pickled else quantised} {FIX}")
    try:
        names = {*plain_json.read(index)["weight_map"].values()}
        odd = sorted(name for name in names if Path(name).name != name)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is not readable: {error!r}") from None
    if odd:
        raise CheckpointError(f"{index} names {odd[0]!r}, expected names of files beside it. {FIX}")
    shards = {folder / name for name in names}
    missing = sorted(path.name for path in shards if not path.is_file())
    if missing:
        raise CheckpointError(f"{folder} lacks {len(missing)} shard(s) that {INDEX} names:", missing)
    return _sound(sorted(shards))


def _sound(files: list[Path]) -> list[Path]:
    for path in files:
        try:
            expect_small_header(path)
        except ValueError as error:
            raise CheckpointError(f"{path} is not readable as safetensors: {error}. {FIX}") from None
    return files


def expect_room(network: Any, transformer: Transformer) -> None:
    """Check that a part of a model has no more numbers than its files can hold, before memory is taken for it.

    Args:
        network: made on the meta device.

    Raises:
        CheckpointError: it has. Where there are no weights, nothing is known.
    """
    folder = transformer.path or locate_hub_folder(transformer)
    n_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder is not None else 0
    numbers = sum(parameter.numel() for parameter in network.parameters())
    if n_bytes and numbers > max(n_bytes, FEW_NUMBERS):  # a byte at least for each
        raise CheckpointError(
            f"A block of {transformer.label} has {numbers:,} numbers by config.json, but all of its weights are "
            f"{n_bytes:,} bytes: they do not belong together. {FIX}"
        )


def locate_hub_folder(transformer: Transformer) -> Path | None:
    """Return the folder of a hub's model if it is on this machine, else None; never touches the network.

    It is named by the commit, so a branch that has moved is another folder.
    """
    config = cached_hub_file(transformer.name or "", "config.json", transformer.revision)
    return None if config is None else config.parent


def identity(transformer: Transformer) -> dict[str, Any]:
    """Return what names this transformer in fingerprints: hub id and revision, or the hashes of its local files.

    A folder without weights still says what patches and tokens are; it is refused when a model is loaded.

    Raises:
        CheckpointError: no such folder, one of something else, or a shard that is missing.
    """
    named: dict[str, Any] = {"library": transformer.library}
    if transformer.path is None:
        return {**named, "name": transformer.name, "revision": transformer.revision}
    folder = transformer.path
    expect_folder(folder)
    weights = weight_files(folder) if any((folder / name).is_file() for name in (WHOLE, INDEX)) else []
    beside = [folder / name for name in BESIDE_WEIGHTS if (folder / name).is_file()]
    files = [folder / "config.json", *weights, *beside, *sorted(folder.glob("*.model"))]
    return {**named, "files": {path.name: file_hash(path) for path in files}}


def read_pretrained(auto: str, transformer: Transformer, what: str, **options: Any) -> Any:
    """Return what an ``Auto…`` class of transformers reads; a local folder is read without any call to the hub.

    Args:
        auto: name of the class; what: what is read, for messages; options: passed on to ``from_pretrained``.

    Raises:
        CheckpointError: it could not be read; the cause is named.
    """
    import transformers

    where: dict[str, Any] = {"trust_remote_code": False}
    if transformer.path is not None:
        (weight_files if auto.startswith("AutoModel") else expect_folder)(transformer.path)
        where["local_files_only"] = True
    elif transformer.revision is not None:
        where["revision"] = transformer.revision
    try:
        with quiet(), ops.process_state.plain_torch("cpu"):
            return getattr(transformers, auto).from_pretrained(str(transformer.label), **where, **options)
    except BaseException as error:  # transformers and the hub client raise many kinds; all mean: it cannot be had
        if not is_failure(error):
            raise
        hint = "" if transformer.path else " Without network, set `transformer.path` to a local folder."
        raise CheckpointError(
            f"The {what} of {transformer.label} could not be read ({type(error).__name__}: {str(error)[:500]}).{hint}"
        ) from error


def is_failure(error: BaseException) -> bool:
    """Return whether a library failed, and nobody told the process to end. A panic of code in Rust is no
    ``Exception``."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _expect_modest(path: Path) -> None:
    """Before the library makes a list of all layers, or a matrix, see that they are no larger than models' are.

    Raises:
        CheckpointError: they are, or code of the hub is to take the library's place. What is no configuration at all is
            said by the library.
    """
    try:
        parts = [plain_json.read(path)]
    except (OSError, ValueError):
        return
    for part in parts:
        for key, value in part.items() if isinstance(part, dict) else ():
            if isinstance(value, dict):
                parts.append(value)
            most = MOST_LAYERS if "layer" in key else MOST_WIDTH if key in WIDTHS else None
            if most is not None and isinstance(value, (int, float)) and value > most:
                raise CheckpointError(f"{path} says {key} {value:,}, expected {most:,} at most. {FIX}")
            if key.endswith("_implementation") and "/" in str(value):
                raise CheckpointError(f"{path} names code of the hub, {key} {value!r}, which is not run. Take it out.")


def read_config(transformer: Transformer, part: str) -> Any:
    """Return the model's configuration; of a model with several towers that of one (``vision_config``,
    ``text_config``).

    Raises:
        CheckpointError: it could not be read, or an encoder-decoder model.
    """
    folder = transformer.path or locate_hub_folder(transformer)
    if folder is not None:
        _expect_modest(folder / "config.json")
    config = read_pretrained("AutoConfig", transformer, "configuration")
    config = getattr(config, part, None) or config
    if not hasattr(config, "model_type"):  # of a model without towers, which makes nothing of it
        raise CheckpointError(f"{transformer.label} has a {part} in config.json, but its model has no towers. {FIX}")
    if getattr(config, "is_encoder_decoder", False) and auto_model(config) == "AutoModel":
        raise CheckpointError(
            f"{transformer.label} ({config.model_type}) has an encoder and a decoder; models of one stack are read."
        )
    return config


def auto_model(config: Any) -> str:
    """Return the ``Auto…`` class that makes the model of a configuration: of the encoder alone, where that is what was
    saved (``T5EncoderModel``, whose configuration is that of encoder and decoder)."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES as ENCODERS

    encoder = ENCODERS.get(getattr(config, "model_type", ""), "")
    alone = encoder.endswith("EncoderModel") and encoder in (getattr(config, "architectures", None) or ())
    return "AutoModelForTextEncoding" if alone else "AutoModel"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence progress bars and load reports; what matters in them is checked and raised here."""
    with _silence():
        yield


@functools.cache
def _silence() -> Any:
    return ops.process_state.Shared([_no_reports, _no_bars])


def _no_reports() -> Callable[[], Any]:
    from transformers.utils import logging as library

    verbosity = library.get_verbosity()
    library.set_verbosity(logging.CRITICAL)
    return functools.partial(library.set_verbosity, verbosity)


def _no_bars() -> Callable[[], Any] | None:
    from transformers.utils import logging as library

    if not library.is_progress_bar_enabled():
        return None
    library.disable_progress_bar()
    return library.enable_progress_bar

"""A model of ``transformers`` up to the catalog's hook point: what lies behind is neither computed nor (mostly) read.

The model is entered as the library enters it and left by an exception as soon as the hidden state is there, so that
final norms, poolers and heads play no part. What goes in and which positions are rows is decided in ``vision`` and
``language``.
"""

import copy
import difflib
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.catalog import Model
from sae_assets.errors import CheckpointError
from sae_assets.rows.transformers.files import read_pretrained

if TYPE_CHECKING:
    from torch import Tensor, nn


class _Reached(BaseException):
    """The hidden state has been read. Never seen outside; no ``except Exception`` of a model can swallow it."""


def find_blocks(network: "nn.Module", n_blocks: int, label: str) -> "nn.ModuleList":
    """The list of a network's residual blocks: the outermost ModuleList of that length.

    Where there are several, it is the one whose entries the library itself calls blocks (``_no_split_modules``).

    Raises:
        CheckpointError: there is none, or more than one; the catalog must then name the hook point by ``module``.
    """
    from torch import nn

    lists: dict[str, nn.ModuleList] = {}
    for name, module in network.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in lists)
        if isinstance(module, nn.ModuleList) and len(module) == n_blocks and not inside:
            lists[name] = module
    if len(lists) > 1:
        named = getattr(network, "_no_split_modules", None) or ()
        lists = {name: blocks for name, blocks in lists.items() if type(blocks[0]).__name__ in named} or lists
    if len(lists) != 1:
        raise CheckpointError(
            f"{label} ({type(network).__name__}) should have one list of {n_blocks} blocks, found "
            f"{', '.join(lists) or 'none'}. Name the hook point by `module` instead."
        )
    return next(iter(lists.values()))


def block_count(config: Any, label: str) -> int:
    """How many blocks a configuration promises.

    Raises:
        CheckpointError: the configuration does not say.
    """
    count = getattr(config, "num_hidden_layers", None)
    if not isinstance(count, int) or count < 1:
        raise CheckpointError(f"{label} ({config.model_type}) does not say how many blocks it has; use `module`.")
    return count


def shortened(config: Any, n_blocks: int) -> Any:
    """A copy of the configuration with fewer blocks; lists with one entry per block are cut too."""
    full, result = config.num_hidden_layers, copy.deepcopy(config)
    for name, value in vars(config).items():
        if isinstance(value, list) and len(value) == full and ("layer" in name or "block" in name):
            setattr(result, name, value[:n_blocks])
    result.num_hidden_layers = n_blocks
    return result


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, (tuple, list)) and output else output


class CutModel:
    """A loaded model that stops where its hidden state has been read.

    Args:
        model: catalog entry; config: configuration of its tower; device: torch device.
        precision: of weights and forward pass (float32, bfloat16, float16); rows come out as float32.

    Attributes:
        network: the library's model; read: parts of it that a forward pass enters, known after :meth:`check`.

    Raises:
        CheckpointError: weights that cannot be had or do not fit, or a hook point that does not exist.
    """

    def __init__(self, model: Model, config: Any, device: Any, precision: str):
        import torch

        assert model.transformer is not None
        self._label, self._hook_point = model.transformer.label, model.hook_point
        last = None if model.module is not None else self._last_block(model, config)
        self._whole = model.hidden_state is not None and last == block_count(config, self._label)
        # Blocks behind the hook point are not even read, unless the config ties them to those before it.
        if last is not None and not self._whole and not getattr(config, "num_kv_shared_layers", 0):
            config = shortened(config, max(last, 1))
        options: dict[str, Any] = {"config": config, "dtype": getattr(torch, precision), "use_safetensors": True}
        if getattr(config, "attn_logit_softcapping", None) is not None:
            options["attn_implementation"] = "eager"  # as the library does: sdpa has no soft cap (Gemma 2)
        self.network, loaded = read_pretrained(
            "AutoModel", model.transformer, "weights", output_loading_info=True, **options
        )
        self._missing = set(loaded["missing_keys"])
        if loaded["mismatched_keys"]:
            names = [str(key[0] if isinstance(key, tuple) else key) for key in loaded["mismatched_keys"]]
            raise CheckpointError(f"Weights of {self._label} do not fit its config.json:", sorted(names)[:20])
        self.network.eval().requires_grad_(False).to(device)
        if getattr(self.network.config, "use_cache", False):
            self.network.config.use_cache = False  # nothing is generated; a shortened model may not be able to make one
        self._device, self._found = device, []  # type: ignore[var-annotated]
        self._inference = torch.inference_mode
        self._hidden_state = model.hidden_state
        if not self._whole:
            self._hook(model, last, config)

    def _last_block(self, model: Model, config: Any) -> int:
        """How many blocks are computed."""
        count = block_count(config, self._label)
        if model.layer is not None and model.layer >= count:
            raise CheckpointError(f"{self._label} has blocks 0..{count - 1}; `layer: {model.layer}` does not exist.")
        if model.hidden_state is not None and model.hidden_state > count:
            raise CheckpointError(
                f"{self._label} has hidden states 0..{count}; `hidden_state: {model.hidden_state}` does not exist."
            )
        return model.layer + 1 if model.layer is not None else model.hidden_state or 0

    def _hook(self, model: Model, last: int | None, config: Any) -> None:
        if last is None:
            modules = dict(self.network.named_modules())
            if model.module not in modules or not model.module:
                near = difflib.get_close_matches(str(model.module), modules, n=3, cutoff=0.3)
                raise CheckpointError(
                    f"{self._label} ({type(self.network).__name__}) has no module `{model.module}`. "
                    f"Nearest: {', '.join(near) or 'none'}."
                )
            modules[model.module].register_forward_hook(lambda _m, _i, output: self._reach(output))
            return
        blocks = find_blocks(self.network, config.num_hidden_layers, self._label)
        if last == 0:
            blocks[0].register_forward_pre_hook(
                lambda _m, args, kwargs: self._reach(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
            )
        else:
            blocks[last - 1].register_forward_hook(lambda _m, _i, output: self._reach(output))

    def _reach(self, output: Any) -> None:
        self._found.append(_first(output))
        raise _Reached

    def rows(self, **inputs: "Tensor") -> "Tensor":
        """The hidden state at the hook point, float32 [batch, positions, d_model] on the device.

        Args:
            inputs: what the library's model takes, by name.

        Raises:
            CheckpointError: the hook point was not reached, or gave something else than [batch, positions, d_model].
        """
        return self._state(inputs).float()

    def _state(self, inputs: "dict[str, Tensor]") -> "Tensor":
        import torch

        self._found.clear()
        arguments = {name: tensor.to(self._device) for name, tensor in inputs.items()}
        try:
            with ops.process_state.plain_torch(), self._inference():
                if self._whole:
                    assert self._hidden_state is not None
                    output = self.network(**arguments, output_hidden_states=True)
                    self._found.append(output.hidden_states[self._hidden_state])
                else:
                    self.network(**arguments)
        except _Reached:
            pass
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a model raises for what it does not take
            sizes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in arguments.items())
            raise CheckpointError(
                f"{self._hook_point} was not reached: the model fails on {sizes} ({type(error).__name__}: "
                f"{str(error)[:300]})."
            ) from error
        if not self._found:
            raise CheckpointError(f"{self._hook_point} was not reached by a forward pass; name another one.")
        state, batch = self._found.pop(), len(next(iter(arguments.values())))
        if not isinstance(state, torch.Tensor) or state.ndim != 3 or len(state) != batch:
            shape = list(state.shape) if isinstance(state, torch.Tensor) else type(state).__name__
            raise CheckpointError(f"{self._hook_point} gave {shape}, expected [{batch}, positions, d_model].")
        return state

    def check(self, **inputs: "Tensor") -> "Tensor":
        """As :meth:`rows`, and every weight on the way must have come from the files.

        Raises:
            CheckpointError: weights that the files lack (a head that is never entered may be missing).
        """
        entered: list[str] = []
        outputs: list[tuple[Any, int]] = []  # each with the number of modules entered before it
        handles = []
        for name, module in self.network.named_modules():
            handles.append(module.register_forward_pre_hook(lambda _m, _i, name=name: entered.append(name)))
            if self._whole:
                handles.append(
                    module.register_forward_hook(lambda _m, _i, output: outputs.append((output, len(entered))))
                )
        try:
            state = self._state(inputs)
        finally:
            for handle in handles:
                handle.remove()
        # In a whole pass, only modules entered before the hidden state count: poolers and heads may be missing.
        entered = entered[: next((count for output, count in outputs if _first(output) is state), None)]
        lacking = sorted(key for key in self._missing if key.rpartition(".")[0] in set(entered))
        if lacking:
            raise CheckpointError(
                f"The files of {self._label} lack {len(lacking)} of the weights in front of {self._hook_point}:",
                lacking[:20],
            )
        return state.float()

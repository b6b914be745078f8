"""A model of ``transformers`` up to the catalog's hook point: what lies behind is neither computed nor (mostly) read.

The model is entered as the library enters it and left by an exception as soon as the hidden state is there, so that
final norms, poolers and heads play no part. What goes in and which positions are rows is decided in ``vision`` and
``language``.
"""

import difflib
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.catalog import Model
from sae_assets.errors import CheckpointError
from sae_assets.rows.transformers.blocks import block_count, find_blocks, shortened
from sae_assets.rows.transformers.files import auto_model, read_pretrained

if TYPE_CHECKING:
    from torch import Tensor, nn


class _Reached(BaseException):
    """The hidden state has been read. Never seen outside; no ``except Exception`` of a model can swallow it."""


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, (tuple, list)) and output else output


def _same(output: Any, state: "Tensor") -> bool:
    """Return whether a module gave this hidden state, which the model may have put into another shape (GPT-2), or cut
    to the positions that it was given (Longformer).
    """
    import torch

    if not isinstance(output, torch.Tensor) or output.dtype != state.dtype:
        return False
    positions = _positions(output, state)
    return positions.numel() == state.numel() and torch.equal(positions.reshape(state.shape), state)


def _positions(output: "Tensor", state: "Tensor") -> "Tensor":
    """Return the positions of a hidden state in a module's output: some models fill inputs up on the right
    (Longformer)."""
    return output[:, : state.shape[1]] if output.ndim == state.ndim == 3 else output


class CutModel:
    """A loaded model that stops where its hidden state has been read.

    Args:
        model: catalog entry; config: configuration of its tower; device: torch device.
        precision: of weights and forward pass (float32, bfloat16, float16); rows come out as float32.

    Attributes:
        network: the library's model.
        final_norm: the module between the last block and the hidden state that is read, such as a final norm, known
            after :meth:`check`; empty where there is none.

    Raises:
        CheckpointError: weights that cannot be had or do not fit, or a hook point that does not exist.
    """

    def __init__(self, model: Model, config: Any, device: Any, precision: str):
        import torch

        assert model.transformer is not None
        self._label, self._hook_point = model.transformer.label, model.hook_point
        last = None if model.module is not None else self._last_block(model, config)
        self._whole = model.hidden_state is not None and last == block_count(config, self._label)
        options: dict[str, Any] = {"dtype": getattr(torch, precision), "use_safetensors": True}
        if getattr(config, "attn_logit_softcapping", None) is not None:
            options["attn_implementation"] = "eager"  # as the library does: sdpa has no soft cap (Gemma 2)
        # Blocks behind the hook point are not even read, unless the config ties them to those before it.
        if last is None or self._whole or bool(getattr(config, "num_kv_shared_layers", None)):
            blocks = self._load(model, config, options, last)
        else:
            try:
                blocks = self._load(model, shortened(config, max(last, 1)), options, last)
            except CheckpointError:  # some cannot be made of so few (RWKV, xLSTM)
                blocks = self._load(model, config, options, last)
        self.network.eval().requires_grad_(False).to(device)
        if getattr(self.network.config, "use_cache", False):
            self.network.config.use_cache = False  # nothing is generated; a shortened model may not be able to make one
        self._device, self._stop = device, True
        self._of_thread = threading.local()
        self._inference = torch.inference_mode
        self._hidden_state, self.final_norm = model.hidden_state, ""
        self._blocks = blocks
        if not self._whole:
            self._hook(model, last, blocks)

    def _load(self, model: Model, config: Any, options: dict[str, Any], last: int | None) -> "nn.ModuleList | None":
        """Read the network; its blocks, where some of them are computed and then no more."""
        assert model.transformer is not None
        self.network, loaded = read_pretrained(
            auto_model(config), model.transformer, "weights", output_loading_info=True, config=config, **options
        )
        self._missing = set(loaded["missing_keys"])
        if loaded["mismatched_keys"]:
            names = [str(key[0] if isinstance(key, tuple) else key) for key in loaded["mismatched_keys"]]
            raise CheckpointError(f"Weights of {self._label} do not fit its config.json:", sorted(names)[:20])
        none = last is None or self._whole
        return None if none else find_blocks(self.network, config.num_hidden_layers, self._label)

    def _last_block(self, model: Model, config: Any) -> int:
        """Return how many blocks are computed."""
        count = block_count(config, self._label)
        if model.layer is not None and model.layer >= count:
            raise CheckpointError(f"{self._label} has blocks 0..{count - 1}; `layer: {model.layer}` does not exist.")
        if model.hidden_state is not None and model.hidden_state > count:
            raise CheckpointError(
                f"{self._label} has hidden states 0..{count}; `hidden_state: {model.hidden_state}` does not exist."
            )
        return model.layer + 1 if model.layer is not None else model.hidden_state or 0

    def _hook(self, model: Model, last: int | None, blocks: "nn.ModuleList | None") -> None:
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
        assert blocks is not None
        if last == 0:
            blocks[0].register_forward_pre_hook(
                lambda _m, args, kwargs: self._reach(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
            )
        else:
            blocks[last - 1].register_forward_hook(lambda _m, _i, output: self._reach(output))

    @property
    def _states(self) -> list[Any]:
        """Return what the calling thread's pass has found at the hook point."""
        states: list[Any] = self._of_thread.__dict__.setdefault("states", [])
        return states

    def _reach(self, output: Any) -> None:
        self._states.append(_first(output))
        if self._stop:
            raise _Reached

    def rows(self, **inputs: "Tensor") -> "Tensor":
        """Return the hidden state at the hook point, float32 [batch, positions, d_model] on the device.

        Args:
            inputs: what the library's model takes, by name.

        Raises:
            CheckpointError: the hook point was not reached, or gave something else than [batch, positions, d_model].
        """
        return self._state(inputs).float()

    def _state(self, inputs: "dict[str, Tensor]") -> "Tensor":
        import torch

        self._states.clear()
        arguments = {name: tensor.to(self._device) for name, tensor in inputs.items()}
        try:
            with ops.process_state.plain_torch(), self._inference():
                if self._whole:
                    assert self._hidden_state is not None
                    output = self.network(**arguments, output_hidden_states=True)
                    self._states.append(output.hidden_states[self._hidden_state])
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
        if not self._states:
            raise CheckpointError(f"{self._hook_point} was not reached by a forward pass; name another one.")
        state, batch = self._states.pop(), len(next(iter(arguments.values())))
        if not isinstance(state, torch.Tensor) or state.ndim != 3 or len(state) != batch:
            shape = list(state.shape) if isinstance(state, torch.Tensor) else type(state).__name__
            raise CheckpointError(f"{self._hook_point} gave {shape}, expected [{batch}, positions, d_model].")
        return state

    def check(self, **inputs: "Tensor") -> "Tensor":
        """Return what :meth:`rows` does; every weight on the way must have come from the files.

        Raises:
            CheckpointError: weights that the files lack (a head that is never entered may be missing), or hidden states
                that the library counts otherwise.
        """
        entered: list[str] = []
        outputs: list[tuple[str, Any, int]] = []  # of modules, each with the number of those entered before it
        handles = []
        for name, module in self.network.named_modules():
            handles.append(module.register_forward_pre_hook(lambda _m, _i, name=name: entered.append(name)))
            if self._whole:
                handles.append(
                    module.register_forward_hook(
                        lambda _m, _i, output, name=name: outputs.append((name, output, len(entered)))
                    )
                )
        try:
            state = self._state(inputs)
        finally:
            for handle in handles:
                handle.remove()
        # In a whole pass, only modules entered before the hidden state count: poolers and heads may be missing.
        entered = entered[: next((count for _, output, count in outputs if _first(output) is state), None)]
        if self._whole:
            same = [name for name, output, _ in outputs if _first(output) is state]
            same += [name for name, output, _ in reversed(outputs) if _same(_first(output), state)]
            self.final_norm = self._between(same[0] if same else "")
        lacking = sorted(key for key in self._missing if key.rpartition(".")[0] in set(entered))
        if lacking:
            raise CheckpointError(
                f"The files of {self._label} lack {len(lacking)} of the weights in front of {self._hook_point}:",
                lacking[:20],
            )
        if self._hidden_state is not None and not self._whole:
            self._expect_numbers(inputs)
        return state.float()

    def _expect_numbers(self, inputs: "dict[str, Tensor]") -> None:
        """Refuse ``hidden_state`` where the library's first one is not the first block's input (Mamba, RWKV)."""
        import torch

        entered: list[Tensor] = []
        assert self._blocks is not None
        handle = self._blocks[0].register_forward_pre_hook(
            lambda _m, args, kwargs: entered.append((args[0] if args else kwargs["hidden_states"]).clone()),
            with_kwargs=True,
        )
        self._stop, states = False, ()
        try:
            with ops.process_state.plain_torch(), self._inference(), suppress(Exception):  # then it counts none
                arguments = {name: tensor.to(self._device) for name, tensor in inputs.items()}
                states = self.network(**arguments, output_hidden_states=True).hidden_states
        finally:
            handle.remove()
            self._stop = True
            self._states.clear()
        if (
            states
            and entered
            and not torch.equal(states[0].nan_to_num(), _positions(entered[0], states[0]).nan_to_num())
        ):
            layer = f"; name the output of a block by `layer: {self._hidden_state - 1}`" if self._hidden_state else ""
            raise CheckpointError(
                f"{self._label} ({self.network.config.model_type}) does not count hidden states from the first block's "
                f"input, as `hidden_state` does here{layer}."
            )

    def _between(self, source: str) -> str:
        """Return what stands between the last block and a hidden state that this module gave; empty if a block gave
        it."""
        from torch import nn

        lists = (name for name, module in self.network.named_modules() if isinstance(module, nn.ModuleList))
        if any(source.startswith(f"{name}.") for name in lists):
            return ""
        return f"`{source}`" if source else "what the model does after its last block"

"""AdamW with float32 master copies of the trained parameters, for any compute dtype.

Knows neither loss nor schedule: it takes gradients and a factor on the learning rates.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlx_llava.errors import CheckpointError

# The defaults of transformers' TrainingArguments, which every script of LLaVA uses.
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
CLIP_EPS = 1e-6  # torch.nn.utils.clip_grad_norm_

CHUNK = 1 << 26  # bytes of masters updated at a time: only one chunk exists twice, old and new

Arrays = dict[str, mx.array]


@dataclass(frozen=True)
class OptimizerOptions:
    """Peak learning rates, weight decay (norms and biases have none) and clipping."""

    learning_rate: float = 2e-5
    mm_projector_lr: float | None = None
    """That of the projector, if it has its own."""
    weight_decay: float = 0.0
    max_grad_norm: float | None = None
    """Clip gradients to this global norm. The papers' runs do not clip."""


def trainable(model: nn.Module) -> Arrays:
    """The trainable parameters by full name."""
    return dict(tree_flatten(model.trainable_parameters()))  # pyright: ignore


def assign(model: nn.Module, values: Mapping[str, mx.array]) -> None:
    """Set parameters, each cast to the dtype that the model has for it."""
    current = trainable(model)
    model.load_weights([(name, value.astype(current[name].dtype)) for name, value in values.items()], strict=False)


def global_norm(gradients: Mapping[str, mx.array]) -> mx.array:
    """The norm of all gradients as one vector, in float32."""
    squares = [gradient.astype(mx.float32).square().sum() for gradient in gradients.values()]
    return mx.sqrt(mx.stack(squares).sum())


def without_decay(model: nn.Module) -> frozenset[str]:
    """The names of all biases and norm parameters, which get no weight decay."""
    norms = tuple(f"{path}." for path, module in model.named_modules() if isinstance(module, nn.LayerNorm | nn.RMSNorm))
    return frozenset(name for name in trainable(model) if name.startswith(norms) or name.endswith(".bias"))


def chunks(arrays: Mapping[str, mx.array], size: int = CHUNK) -> Iterator[list[str]]:
    """Split the arrays' names, in order, into chunks of about `size` bytes."""
    names, num_bytes = list[str](), 0
    for name, array in arrays.items():
        names.append(name)
        num_bytes += array.nbytes
        if num_bytes >= size:
            yield names
            names, num_bytes = [], 0
    if names:
        yield names


class AdamW:
    """torch.optim.AdamW, with bias correction, for a model's trainable parameters."""

    def __init__(self, model: nn.Module, options: OptimizerOptions) -> None:
        self.options = options
        self.num_updates = 0
        self.masters: Arrays = {name: weight.astype(mx.float32) for name, weight in trainable(model).items()}
        self.means: Arrays = {name: mx.zeros_like(master) for name, master in self.masters.items()}
        self.squares: Arrays = {name: mx.zeros_like(master) for name, master in self.masters.items()}
        self._no_decay = without_decay(model)

    def learning_rate(self, name: str) -> float:
        """The peak learning rate of a parameter."""
        own = self.options.mm_projector_lr
        return own if own is not None and name.startswith("projector.") else self.options.learning_rate

    def update(self, model: nn.Module, gradients: Mapping[str, mx.array], factor: float) -> None:
        """Update every trainable parameter, at `factor` times its peak learning rate; evaluates everything."""
        if gradients.keys() != self.masters.keys():
            raise ValueError("the gradients are not those of this optimizer's parameters")
        limit = self.options.max_grad_norm
        scale = 1.0 if limit is None else mx.minimum(limit / (global_norm(gradients) + CLIP_EPS), 1.0)
        self.num_updates += 1
        for names in chunks(self.masters):
            for name in names:
                self._update_one(name, gradients[name].astype(mx.float32) * scale, factor)
            assign(model, {name: self.masters[name] for name in names})
            mx.eval([[arrays[name] for name in names] for arrays in self._kinds().values()])  # frees the old ones
        mx.eval(model.parameters())

    def _update_one(self, name: str, gradient: mx.array, factor: float) -> None:
        """The bias corrections are computed in float64: in float32, 1 - 0.999 has only four digits."""
        rate = factor * self.learning_rate(name)
        decay = 0.0 if name in self._no_decay else self.options.weight_decay
        mean = BETA1 * self.means[name] + (1 - BETA1) * gradient
        square = BETA2 * self.squares[name] + (1 - BETA2) * gradient.square()
        size = mx.sqrt(square) / (1 - BETA2**self.num_updates) ** 0.5 + EPS
        master = self.masters[name] * (1 - rate * decay) - rate / (1 - BETA1**self.num_updates) * mean / size
        self.masters[name], self.means[name], self.squares[name] = master, mean, square

    def state(self) -> Arrays:
        """Everything needed to resume, as arrays for a safetensors file."""
        named = {f"{kind}.{name}": x for kind, arrays in self._kinds().items() for name, x in arrays.items()}
        return {"num_updates": mx.array(self.num_updates), **named}

    def restore(self, model: nn.Module, state: Mapping[str, mx.array]) -> None:
        """Resume from a state, bit for bit; CheckpointError if it belongs to another set of parameters."""
        own = self.state()
        wrong = [name for name in own.keys() | state.keys() if _layout(own, name) != _layout(state, name)]
        if wrong:
            raise CheckpointError(
                f"the optimizer's state does not fit the trained parameters: {min(wrong)} and {len(wrong) - 1} more",
                "Resume with the same model and the same trained parts.",
            )
        self.num_updates = int(state["num_updates"])
        for kind, arrays in self._kinds().items():
            arrays.update({name: state[f"{kind}.{name}"] for name in arrays})
        assign(model, self.masters)

    def _kinds(self) -> dict[str, Arrays]:
        return {"masters": self.masters, "means": self.means, "squares": self.squares}


def _layout(arrays: Mapping[str, mx.array], name: str) -> tuple[tuple[int, ...], mx.Dtype] | None:
    return (arrays[name].shape, arrays[name].dtype) if name in arrays else None

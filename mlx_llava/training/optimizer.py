"""AdamW on float32 masters of the trained parameters, whatever dtype the model computes in.

Knows neither loss nor schedule: gradients come in, and a factor for the learning rates.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlx_llava.errors import CheckpointError

# The defaults of transformers' TrainingArguments, with which every script of LLaVA ran.
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
CLIP_EPS = 1e-6  # torch.nn.utils.clip_grad_norm_

PORTION = 1 << 26  # bytes of masters that move together: so much, and not all, is there twice for a moment

Arrays = dict[str, mx.array]


@dataclass(frozen=True)
class OptimizerOptions:
    """How fast weights move."""

    learning_rate: float = 2e-5
    """Peak learning rate."""
    mm_projector_lr: float | None = None
    """Peak learning rate of the projector, where it has its own."""
    weight_decay: float = 0.0
    """Decay of the weights; norms and biases have none."""
    max_grad_norm: float | None = None
    """Clip gradients to this global norm. The runs of the papers clipped nothing."""


def trained(model: nn.Module) -> Arrays:
    """The parameters that are trained, by their full names."""
    return dict(tree_flatten(model.trainable_parameters()))  # pyright: ignore


def assign(model: nn.Module, values: Mapping[str, mx.array]) -> None:
    """Give parameters new values, each in the dtype that the model computes in."""
    now = trained(model)
    model.load_weights([(name, value.astype(now[name].dtype)) for name, value in values.items()], strict=False)


def global_norm(gradients: Mapping[str, mx.array]) -> mx.array:
    """The length of all gradients as one vector, in float32."""
    squares = [gradient.astype(mx.float32).square().sum() for gradient in gradients.values()]
    return mx.sqrt(mx.stack(squares).sum())


def without_decay(model: nn.Module) -> frozenset[str]:
    """The names of biases and of norms' parameters, which do not decay."""
    norms = tuple(f"{path}." for path, module in model.named_modules() if isinstance(module, nn.LayerNorm | nn.RMSNorm))
    return frozenset(name for name in trained(model) if name.startswith(norms) or name.endswith(".bias"))


def portions(arrays: Mapping[str, mx.array], size: int = PORTION) -> Iterator[list[str]]:
    """Names of arrays of about so many bytes together, in order; each array in one portion."""
    names, held = list[str](), 0
    for name, array in arrays.items():
        names.append(name)
        held += array.nbytes
        if held >= size:
            yield names
            names, held = [], 0
    if names:
        yield names


class AdamW:
    """torch.optim.AdamW, with bias correction, for the parameters that a model trains."""

    def __init__(self, model: nn.Module, options: OptimizerOptions) -> None:
        self.options = options
        self.num_updates = 0
        self.masters: Arrays = {name: weight.astype(mx.float32) for name, weight in trained(model).items()}
        self.means: Arrays = {name: mx.zeros_like(master) for name, master in self.masters.items()}
        self.squares: Arrays = {name: mx.zeros_like(master) for name, master in self.masters.items()}
        self._no_decay = without_decay(model)

    def learning_rate(self, name: str) -> float:
        """The peak learning rate of a parameter."""
        own = self.options.mm_projector_lr
        return own if own is not None and name.startswith("projector.") else self.options.learning_rate

    def update(self, model: nn.Module, gradients: Mapping[str, mx.array], factor: float) -> None:
        """Move every trained parameter once; `factor` times its peak is the learning rate. Evaluates everything."""
        if gradients.keys() != self.masters.keys():
            raise ValueError("gradients are not those of the parameters that this optimizer moves")
        scale = self._clip_scale(gradients)
        self.num_updates += 1
        for names in portions(self.masters):
            for name in names:
                self._move(name, gradients[name].astype(mx.float32) * scale, factor)
            assign(model, {name: self.masters[name] for name in names})
            mx.eval([[arrays[name] for name in names] for arrays in self._kinds().values()])  # old ones go here
        mx.eval(model.parameters())

    def _clip_scale(self, gradients: Mapping[str, mx.array]) -> mx.array | float:
        most = self.options.max_grad_norm
        return 1.0 if most is None else mx.minimum(most / (global_norm(gradients) + CLIP_EPS), 1.0)

    def _move(self, name: str, gradient: mx.array, factor: float) -> None:
        """One parameter. Corrections are computed in float64: 1 - 0.999 keeps four digits in float32."""
        rate = factor * self.learning_rate(name)
        decay = 0.0 if name in self._no_decay else self.options.weight_decay
        mean = BETA1 * self.means[name] + (1 - BETA1) * gradient
        square = BETA2 * self.squares[name] + (1 - BETA2) * gradient.square()
        size = mx.sqrt(square) / (1 - BETA2**self.num_updates) ** 0.5 + EPS
        moved = self.masters[name] * (1 - rate * decay) - rate / (1 - BETA1**self.num_updates) * mean / size
        self.masters[name], self.means[name], self.squares[name] = moved, mean, square

    def state(self) -> Arrays:
        """All that is needed to go on, as arrays that a safetensors file can hold."""
        return {"num_updates": mx.array(self.num_updates), **self._arrays()}

    def restore(self, model: nn.Module, state: Mapping[str, mx.array]) -> None:
        """Go on from a state, bit for bit; CheckpointError where it is that of another set of parameters."""
        wanted = self.state()
        wrong = [name for name in wanted.keys() | state.keys() if _form(wanted, name) != _form(state, name)]
        if wrong:
            raise CheckpointError(
                f"the optimizer's state does not fit the trained parameters: {min(wrong)} and {len(wrong) - 1} more",
                "Resume with the model and the trained parts that the run began with.",
            )
        self.num_updates = int(state["num_updates"])
        for kind, arrays in self._kinds().items():
            arrays.update({name: state[f"{kind}.{name}"] for name in arrays})
        assign(model, self.masters)

    def _kinds(self) -> dict[str, Arrays]:
        return {"masters": self.masters, "means": self.means, "squares": self.squares}

    def _arrays(self) -> Arrays:
        return {f"{kind}.{name}": x for kind, arrays in self._kinds().items() for name, x in arrays.items()}


def _form(arrays: Mapping[str, mx.array], name: str) -> tuple[tuple[int, ...], mx.Dtype] | None:
    return (arrays[name].shape, arrays[name].dtype) if name in arrays else None

"""AdamW by its formula, its groups, its masters and its state."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from lessons import tiny

from mlx_llava.errors import CheckpointError
from mlx_llava.training.optimizer import (
    AdamW,
    Arrays,
    OptimizerOptions,
    assign,
    chunks,
    global_norm,
    trainable,
    without_decay,
)
from mlx_llava.training.step import train_only

PROJECTOR, WEIGHT = "projector.linear_1.weight", "language_model.layers.0.mlp.up_proj.weight"


def pushes(count: int, seed: int = 0) -> list[Arrays]:
    """Gradients for the tiny model's projector and Vicuna."""
    model = tiny()
    train_only(model, "projector", "language_model")
    keys = mx.random.split(mx.random.key(seed), count)
    return [{name: mx.random.normal(w.shape, key=key) for name, w in trainable(model).items()} for key in keys]


def moved(options: OptimizerOptions, gradients: list[Arrays], factor: float = 1.0) -> Arrays:
    model = tiny()
    train_only(model, "projector", "language_model")
    optimizer = AdamW(model, options)
    for gradient in gradients:
        optimizer.update(model, gradient, factor)
    return trainable(model)


def by_formula(weight: np.ndarray, gradients: list[np.ndarray], rate: float, decay: float) -> np.ndarray:
    """Algorithm 2 of Loshchilov and Hutter, 2019, in float64."""
    theta, m, v = weight.astype(np.float64), 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g.astype(np.float64) ** 2
        theta = theta - rate * (m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + decay * theta)
    return theta


def test_weights_move_by_the_formula_each_group_at_its_own_rate() -> None:
    gradients = pushes(4)
    after = moved(OptimizerOptions(1e-2, mm_projector_lr=3e-2, weight_decay=0.1), gradients, factor=0.5)
    start = trainable(tiny())
    for name, rate, decay in (
        (PROJECTOR, 1.5e-2, 0.1),
        ("projector.linear_1.bias", 1.5e-2, 0.0),
        (WEIGHT, 5e-3, 0.1),
        ("language_model.norm.weight", 5e-3, 0.0),
        ("language_model.embed_tokens.weight", 5e-3, 0.1),
    ):
        expected = by_formula(np.array(start[name]), [np.array(g[name]) for g in gradients], rate, decay)
        np.testing.assert_allclose(after[name], expected, rtol=0, atol=1e-6, err_msg=name)  # float32


def test_norms_and_biases_do_not_decay_and_everything_else_does() -> None:
    model = tiny("attention bias")
    train_only(model, "projector", "language_model")
    still = without_decay(model)
    assert still == {name for name, weight in trainable(model).items() if weight.ndim == 1}
    assert "language_model.layers.0.self_attn.q_proj.bias" in still
    assert "language_model.layers.2.post_attention_layernorm.weight" in still


def test_clipping_shortens_all_gradients_together_to_the_norm_and_never_lengthens_them() -> None:
    gradients = pushes(3)
    norm = float(global_norm(gradients[0]))
    every = np.concatenate([np.array(g, np.float64).ravel() for g in gradients[0].values()])
    assert norm == pytest.approx(np.linalg.norm(every), rel=1e-6)
    free = moved(OptimizerOptions(1e-2), gradients)
    loose = moved(OptimizerOptions(1e-2, max_grad_norm=10 * norm), gradients)
    assert all(mx.array_equal(free[name], loose[name]) for name in free)
    scales = [1.0 / (float(global_norm(g)) + 1e-6) for g in gradients]
    tight = moved(OptimizerOptions(1e-2, max_grad_norm=1.0), gradients)
    shortened = [{name: x * s for name, x in g.items()} for g, s in zip(gradients, scales, strict=True)]
    for name, weight in moved(OptimizerOptions(1e-2), shortened).items():
        np.testing.assert_allclose(tight[name], weight, rtol=0, atol=1e-6)  # float32


def test_a_saved_state_resumes_bit_for_bit(tmp_path: Path) -> None:
    options, gradients = OptimizerOptions(1e-3, weight_decay=0.1), pushes(5)
    model, other = tiny(), tiny()
    for m in (model, other):
        train_only(m, "projector", "language_model")
    first = AdamW(model, options)
    for gradient in gradients[:3]:
        first.update(model, gradient, 1.0)
    mx.save_safetensors(str(tmp_path / "state.safetensors"), first.state())
    second = AdamW(other, options)
    second.restore(other, mx.load(str(tmp_path / "state.safetensors")))  # pyright: ignore
    assert all(mx.array_equal(weight, trainable(other)[name]) for name, weight in trainable(model).items())
    for gradient in gradients[3:]:
        first.update(model, gradient, 0.5)
        second.update(other, gradient, 0.5)
    ours, theirs = first.state(), second.state()
    assert ours.keys() == theirs.keys()
    assert all(mx.array_equal(ours[name], theirs[name]) for name in ours)
    assert all(mx.array_equal(weight, trainable(other)[name]) for name, weight in trainable(model).items())


def test_the_state_of_other_parts_is_refused_and_changes_nothing() -> None:
    model, other = tiny(), tiny()
    train_only(model, "projector")
    train_only(other, "projector", "language_model")
    optimizer = AdamW(model, OptimizerOptions())
    with pytest.raises(CheckpointError, match=r"does not fit the trained parameters"):
        optimizer.restore(model, AdamW(other, OptimizerOptions()).state())
    assert all(mx.array_equal(weight, trainable(tiny())[name]) for name, weight in trainable(model).items())


def test_half_precision_weights_move_by_steps_that_only_their_masters_can_hold() -> None:
    model = tiny()
    model.set_dtype(mx.bfloat16)
    train_only(model, "projector", "language_model")
    before = trainable(model)
    optimizer = AdamW(model, OptimizerOptions(2e-5))
    assert {x.dtype for name, x in optimizer.state().items() if name != "num_updates"} == {mx.float32}
    gradient = {name: mx.ones_like(weight) for name, weight in before.items()}
    for _ in range(200):  # each step is a fraction of bfloat16's distance at 0.2
        optimizer.update(model, gradient, 1.0)
    assert {weight.dtype for weight in trainable(model).values()} == {mx.bfloat16}
    assert {x.dtype for name, x in optimizer.state().items() if name != "num_updates"} == {mx.float32}
    way = np.array(optimizer.masters[WEIGHT]) - np.array(before[WEIGHT].astype(mx.float32))
    np.testing.assert_allclose(way, -200 * 2e-5, rtol=0, atol=1e-5)  # 200 roundings of float32 at 0.3
    assert not mx.array_equal(trainable(model)[WEIGHT], before[WEIGHT])


def test_assigned_values_take_the_models_dtype() -> None:
    model = tiny()
    model.set_dtype(mx.float16)
    train_only(model, "projector")
    assign(model, {PROJECTOR: mx.ones(trainable(model)[PROJECTOR].shape)})
    assert model.projector["linear_1"].weight.dtype == mx.float16


def test_gradients_of_other_parameters_are_a_mistake() -> None:
    model = tiny()
    train_only(model, "projector")
    with pytest.raises(ValueError, match="not those of this optimizer"):
        AdamW(model, OptimizerOptions()).update(model, {WEIGHT: mx.zeros(1)}, 1.0)


def test_chunks_hold_every_array_once_and_hardly_more_than_their_size() -> None:
    arrays = {str(n): mx.zeros(10 * (n + 1)) for n in range(10)}
    names_of = list(chunks(arrays, 400))
    assert [name for names in names_of for name in names] == list(arrays)
    assert all(sum(arrays[name].nbytes for name in names[:-1]) < 400 for names in names_of)
    assert list(chunks({}, 400)) == []

"""A step: what it counts, what it moves, what it refuses to move."""

from dataclasses import replace

import mlx.nn as nn
import numpy as np
import pytest
from lessons import batch, lessons, tiny, values

from mlx_llava.errors import RecordError, UsageError
from mlx_llava.inputs import Batch, Example
from mlx_llava.models.llava import Llava
from mlx_llava.training.optimizer import AdamW, OptimizerOptions, trainable
from mlx_llava.training.step import Part, loss_and_gradients, train_only, train_step

STAGE_2: tuple[Part, ...] = ("projector", "language_model")


def start(*parts: Part, rate: float = 1e-3) -> tuple[Llava, AdamW]:
    model = tiny()
    train_only(model, *parts)
    return model, AdamW(model, OptimizerOptions(rate))


def broken(like: Example) -> Batch:
    return batch(replace(like, crops=np.full_like(like.crops, np.nan)))


def test_four_batches_of_one_equal_one_batch_of_four() -> None:
    (one, first), (other, second) = start(*STAGE_2), start(*STAGE_2)
    for _ in range(3):
        together = train_step(one, first, [batch(*lessons())], 1.0)
        apart = train_step(other, second, [batch(example) for example in lessons()], 1.0)
        assert together.num_tokens == apart.num_tokens
        assert together.loss == pytest.approx(apart.loss, rel=1e-6)
        assert together.grad_norm == pytest.approx(apart.grad_norm, rel=1e-5)
    for name, weight in trainable(one).items():
        np.testing.assert_allclose(weight, trainable(other)[name], rtol=0, atol=1e-5)  # sums in another order


def test_per_batch_means_are_supported_as_in_llavas_own_runs() -> None:
    model, optimizer = start(*STAGE_2)
    batches = [batch(lessons()[0]), batch(*lessons()[1:])]
    (a, n, _), (b, m, _) = (loss_and_gradients(model, one) for one in batches)
    assert n != m
    step = train_step(model, optimizer, batches, 1.0, per_batch_mean=True)
    assert step.loss == pytest.approx((float(a) / n + float(b) / m) / 2, rel=1e-6)


def test_a_small_model_learns_its_lessons() -> None:
    model, optimizer = start(*STAGE_2, rate=3e-3)
    losses = [train_step(model, optimizer, [batch(*lessons())], 1.0).loss for _ in range(40)]
    assert losses[-1] < 0.05 * losses[0]


@pytest.mark.parametrize("parts", [("projector",), STAGE_2])
def test_only_the_chosen_parts_move(parts: tuple[Part, ...]) -> None:
    model, optimizer = start(*parts)
    before = values(model)
    train_step(model, optimizer, [batch(*lessons())], 1.0)
    changed = {name for name, value in values(model).items() if not np.array_equal(value, before[name])}
    assert changed == {name for name in before if name.split(".")[0] in parts}


def test_choosing_parts_switches_the_model_to_training() -> None:
    model = tiny()
    model.eval()
    train_only(model, "projector")
    assert all(module.training for module in model.modules())


def test_stage_1_computes_no_gradient_for_the_language_model() -> None:
    model, optimizer = start("projector")
    _, _, gradients = loss_and_gradients(model, batch(*lessons()))
    assert gradients.keys() == optimizer.masters.keys() == {n for n in values(model) if n.startswith("projector.")}


def test_a_step_that_is_not_finite_moves_nothing_and_says_so() -> None:
    model, optimizer = start(*STAGE_2)
    good = batch(*lessons())
    train_step(model, optimizer, [good], 1.0)
    weights, state = values(model), {name: np.array(x) for name, x in optimizer.state().items()}
    step = train_step(model, optimizer, [good, broken(lessons()[0])], 1.0)
    assert step.skipped
    assert not np.isfinite(step.grad_norm)
    assert all(np.array_equal(value, weights[name]) for name, value in values(model).items())
    assert all(np.array_equal(value, state[name]) for name, value in optimizer.state().items())
    assert not train_step(model, optimizer, [good], 1.0).skipped


def test_a_gradient_that_overflows_beside_a_finite_loss_is_skipped_too() -> None:
    model, optimizer = start("projector")
    first, second = model.projector["linear_1"], model.projector["linear_2"]
    first.weight, second.weight = 1e36 * first.weight, 1e-36 * second.weight
    step = train_step(model, optimizer, [batch(lessons()[0])], 1.0)
    assert np.isfinite(step.loss)
    assert np.isinf(step.grad_norm)
    assert step.skipped


def test_a_step_reports_what_it_did() -> None:
    model, optimizer = start(*STAGE_2)
    one = batch(*lessons())
    loss, count, gradients = loss_and_gradients(model, one)
    norm = np.linalg.norm(np.concatenate([np.array(g, np.float64).ravel() for g in gradients.values()])) / count
    step = train_step(model, optimizer, [one], 1.0)
    assert (step.num_tokens, step.skipped) == (count, False)
    assert (step.loss, step.grad_norm) == pytest.approx((float(loss) / count, norm), rel=1e-5)


def test_a_batch_that_would_train_on_nothing_is_refused() -> None:
    model, optimizer = start("projector")
    example = lessons()[0]
    mute = replace(example, label_mask=np.zeros_like(example.label_mask))
    with pytest.raises(RecordError, match="no answer token"):
        train_step(model, optimizer, [batch(example), batch(mute)], 1.0)
    assert optimizer.num_updates == 0


def test_quantized_parts_are_refused_with_what_to_do() -> None:
    model = tiny()
    nn.quantize(
        model, 64, 4, class_predicate=lambda path, _: path.endswith(("q_proj", "linear_2")) and "tower" not in path
    )
    with pytest.raises(UsageError, match="quantized") as error:
        train_only(model, "language_model")
    assert "Train adapters" in error.value.advice
    with pytest.raises(UsageError, match="the projector is quantized"):
        train_only(model, "projector")


def test_adapters_that_are_not_there_cannot_be_trained() -> None:
    with pytest.raises(UsageError, match="nothing to train in the adapters"):
        train_only(tiny(), "adapters", "projector")

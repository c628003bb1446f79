"""What the loss counts, what it does not see, and what gets no gradient."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from lessons import batch, lessons, tiny, values

from mlx_llava.inputs import Batch, no_crops
from mlx_llava.training.loss import BUCKET, answer_loss, embeddings, summed_loss, targets
from mlx_llava.training.optimizer import trainable
from mlx_llava.training.step import loss_and_gradients, train_only

CASES = ("plain", "grouped queries", "tied embeddings", "mistral, window 8", "class token kept")
LENGTHS = np.array([100, 100], np.int32)


@pytest.mark.parametrize("case", CASES)
def test_the_loss_is_the_cross_entropy_of_the_marked_tokens_and_of_no_other(case: str) -> None:
    model, one = tiny(case), batch(*lessons(case))
    logits = np.array(model(one), np.float64)[:, :-1]
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    each = np.take_along_axis(log_p, one.tokens[:, 1:, None], -1)[..., 0]
    expected = -each[one.label_mask[:, 1:]].sum()
    loss, count = answer_loss(model, one)
    assert count == one.label_mask.sum()
    assert float(loss) == pytest.approx(expected, rel=1e-6)  # float32


def test_rows_of_the_language_head_come_in_few_sizes_and_the_filling_weighs_nothing() -> None:
    mask = np.zeros((2, 100), bool)
    for count in (1, BUCKET, BUCKET + 1):
        mask.reshape(-1)[1 : count + 1] = True
        mask[1, 0] = False
        goal = targets(Batch(np.zeros((2, 100), np.int32), np.zeros((2, 100), np.int32), mask, no_crops(), LENGTHS))
        assert goal.num_tokens == mask.sum() == np.array(goal.weights).sum()
        assert goal.rows.shape == goal.tokens.shape == goal.weights.shape
        assert len(goal.rows) % BUCKET == 0


def test_a_first_token_has_no_one_to_predict_it() -> None:
    example = lessons()[3]
    for place, count in ((0, 0), (1, 1)):
        mask = np.zeros_like(example.label_mask)
        mask[place] = mask[-1] = True
        assert targets(batch(replace(example, label_mask=mask))).num_tokens == 1 + count


@pytest.mark.parametrize("case", CASES)
def test_a_padded_batch_has_the_loss_and_the_gradients_of_its_rows_alone(case: str) -> None:
    model = tiny(case)
    train_only(model, "projector", "language_model")
    together = loss_and_gradients(model, batch(*lessons(case)))
    alone = [loss_and_gradients(model, batch(example)) for example in lessons(case)]
    assert together[1] == sum(count for _, count, _ in alone)
    assert float(together[0]) == pytest.approx(sum(float(loss) for loss, _, _ in alone), rel=1e-6)
    for name, gradient in together[2].items():
        expected = np.sum([np.array(gradients[name]) for _, _, gradients in alone], axis=0)
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5 * np.abs(expected).max(), err_msg=name)


def test_the_tokens_of_padding_change_nothing() -> None:
    model = tiny()
    train_only(model, "projector", "language_model")
    one = batch(*lessons())
    other = Batch(one.tokens.copy(), one.slots, one.label_mask, one.crops, one.lengths)
    padding = np.arange(one.tokens.shape[1]) >= one.lengths[:, None]
    other.tokens[padding] = 7
    (loss, _, gradients), (same, _, others) = loss_and_gradients(model, one), loss_and_gradients(model, other)
    assert float(loss) == float(same)
    assert all(mx.array_equal(gradients[name], others[name]) for name in gradients)


@pytest.mark.parametrize("case", CASES)
def test_the_loss_of_a_token_has_no_gradient_in_later_embeddings(case: str) -> None:
    model, example = tiny(case), lessons(case)[0]
    place = len(example.tokens) - 4
    mask = np.arange(len(example.tokens)) == place
    one = batch(replace(example, label_mask=mask))
    goal = targets(one)
    gradient = mx.grad(lambda x: summed_loss(model.language_model, x, goal))(embeddings(model, one))
    size = np.abs(np.array(gradient[0])).max(axis=-1)
    assert (size[place:] == 0.0).all()  # the target's own embedding and everything behind it
    assert (size[place - 7 : place] > 0.0).all()


def test_a_text_only_batch_runs_without_the_tower_and_leaves_the_projector_without_gradient() -> None:
    model, text = tiny(), lessons()[3]
    model.vision_tower.encoder.layers.clear()  # it could not run
    train_only(model, "projector", "language_model")
    _, _, gradients = loss_and_gradients(model, batch(text))
    assert all(not np.array(g).any() for name, g in gradients.items() if name.startswith("projector."))
    assert np.array(gradients["language_model.norm.weight"]).any()


def test_the_tower_has_no_gradient_even_when_nothing_is_frozen() -> None:
    model = tiny()
    _, _, gradients = loss_and_gradients(model, batch(*lessons()))
    assert not any(np.array(g).any() for name, g in gradients.items() if name.startswith("vision_tower."))


def test_gradients_leave_the_model_as_it_was() -> None:
    model, before = tiny(), values(tiny())
    arrays = trainable(model)
    loss_and_gradients(model, batch(*lessons()))
    assert all(x is arrays[name] for name, x in trainable(model).items())  # not what the gradient was traced with
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, before[name], strict=True)


def test_the_loss_of_a_half_precision_model_is_float32() -> None:
    model = tiny()
    exact, _ = answer_loss(model, batch(*lessons()))
    model.set_dtype(mx.bfloat16)
    loss, count = answer_loss(model, batch(*lessons()))
    assert loss.dtype == mx.float32
    assert abs(float(loss) - float(exact)) / count < 0.1  # the weights have eight bits

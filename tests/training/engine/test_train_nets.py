"""The net a training starts from: new labels are added without touching what was learned."""

import numpy as np
import pytest

from apps.training.engine.nets import build_net, build_prior, heritage, load_base
from apps.training.engine.weights import WeightsError, load_torch_model, save_weights
from tests.training.engine.conftest import tiny_metadata


@pytest.fixture(scope="module")
def base(tiny_weights):
    import torch

    net = load_torch_model(tiny_weights)[0]  # labels disc, bar
    torch.manual_seed(2)
    for levels in net.model[-1].cv3:
        torch.nn.init.normal_(levels[-1].weight, std=1.0)
    return net


def answers(net, labels):
    """Boxes and scores of every anchor for a fixed picture, by label."""
    import torch

    torch.manual_seed(3)
    with torch.no_grad():
        raw = net.eval()(torch.rand(1, 3, 64, 64))[0][0].numpy()
    return raw[:4], dict(zip(labels, raw[4:], strict=True))


def test_a_third_label_changes_no_answer_for_the_first_two(base):
    boxes, scores = answers(base, ("disc", "bar"))
    extended = build_net(base, ("disc", "bar", "cross"), architecture="")
    new_boxes, new_scores = answers(extended, ("disc", "bar", "cross"))
    assert np.ptp(scores["disc"]) > 1e-3
    np.testing.assert_array_equal(new_boxes, boxes)
    np.testing.assert_allclose(new_scores["disc"], scores["disc"], rtol=1e-4)
    np.testing.assert_allclose(new_scores["bar"], scores["bar"], rtol=1e-4)
    assert 0 < new_scores["cross"].max() < 0.01


def test_labels_are_matched_by_name_in_any_order_and_some_may_go(base):
    boxes, scores = answers(base, ("disc", "bar"))
    labels = ("cross", "bar", "star", "disc")
    new_boxes, new_scores = answers(build_net(base, labels, architecture=""), labels)
    assert np.ptp(scores["disc"]) > 1e-3
    np.testing.assert_array_equal(new_boxes, boxes)
    np.testing.assert_allclose(new_scores["disc"], scores["disc"], rtol=1e-4)
    np.testing.assert_allclose(new_scores["bar"], scores["bar"], rtol=1e-4)
    _, one = answers(build_net(base, ("bar",), architecture=""), ("bar",))
    np.testing.assert_allclose(one["bar"], scores["bar"], rtol=1e-4)


def test_a_label_that_differs_by_case_only_is_another_label(base):
    assert heritage(base, ("Disc", "bar")).new == ("Disc",)
    net = build_net(base, ("Disc", "bar"), architecture="")
    assert float(net.model[-1].cv3[0][-1].weight[0].abs().max()) == 0.0


def test_the_same_labels_keep_everything(base):
    import torch

    same = build_net(base, ("disc", "bar"), architecture="")
    for name, value in base.state_dict().items():
        assert torch.equal(same.state_dict()[name], value), name


def test_without_a_common_label_the_head_starts_anew_and_the_rest_is_kept(base):
    net = build_net(base, ("mite", "beetle", "fly"), architecture="")
    assert (net.model[0].conv.weight == base.model[0].conv.weight).all()
    assert net.names == {0: "mite", 1: "beetle", 2: "fly"}
    assert heritage(base, ("mite",)).known == ()


def test_an_untrained_net_comes_from_the_list_only():
    net = build_net(None, ("disc", "bar"), architecture="yolov8n")
    assert net.names == {0: "disc", 1: "bar"}
    with pytest.raises(WeightsError, match="not on the list"):
        build_net(None, ("disc",), architecture="../yolo11n")


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["yolo11n", "yolo11s", "yolov8n", "yolov8m"])
def test_every_head_is_extended_and_survives_the_weights_file(architecture, tmp_path):
    """Eighty labels widen the branch of the nano nets, which the smaller head must keep."""
    import torch

    torch.manual_seed(5)
    many = tuple(f"label {number}" for number in range(80))
    base = build_net(None, many, architecture=architecture).eval()
    for levels in base.model[-1].cv3:
        torch.nn.init.normal_(levels[-1].weight, std=0.3)
    few = ("label 7", "new", "label 3")
    boxes, scores = answers(base, many)
    extended = build_net(base, few, architecture="")
    path = tmp_path / "extended.podura"
    save_weights(path, extended, tiny_metadata(architecture=_described(extended), labels=few))
    loaded = load_base(path)
    assert loaded.names == dict(enumerate(few))
    for net, tolerance in ((extended, 1e-6), (loaded, 0.05)):  # the file holds half precision
        new_boxes, new_scores = answers(net, few)
        np.testing.assert_allclose(new_boxes, boxes, atol=max(1e-3, tolerance * 10))
        np.testing.assert_allclose(new_scores["label 7"], scores["label 7"], atol=tolerance)
        np.testing.assert_allclose(new_scores["label 3"], scores["label 3"], atol=tolerance)
    # And once more from the file.
    assert heritage(loaded, ("new", "other")).known == ("new",)
    build_net(loaded, ("new", "other"), architecture="")


def _described(net):
    from apps.training.engine.train import _architecture

    return _architecture(net)


def test_the_prior_is_that_of_a_rare_animal(base):
    net = build_net(base, ("disc", "bar", "cross"), architecture="")
    for levels, prior in zip(net.model[-1].cv3, build_prior(net), strict=True):
        assert float(levels[-1].bias[2]) == pytest.approx(prior)
        assert prior < -4

"""SIMH: the mixture, the association against a plain loop, compression, gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from smoothdistill.models import SIMHHead

FEATURES, CLASSES = 12, 5
TOLERANCE = 3.0


@pytest.fixture(params=["published", "associative"])
def head(request):
    torch.manual_seed(0)
    head = SIMHHead(FEATURES, CLASSES, request.param, num_patterns=7).double()
    with torch.no_grad():
        head.mixture.copy_(torch.tensor([0.3, -0.4]))
        head.norm.weight.uniform_(0.5, 1.5)
        head.norm.bias.normal_()
    return head


@pytest.fixture
def features():
    torch.manual_seed(1)
    return torch.randn(9, FEATURES, dtype=torch.float64)


def test_training_gives_the_mixture_of_both_branches(head, features):
    shares = torch.softmax(head.mixture, 0)
    memory = torch.softmax(head.memory_logits(features), 1)
    intuition = torch.softmax(head.intuition(features), 1)
    expected = shares[0] * memory + shares[1] * intuition
    torch.testing.assert_close(torch.softmax(head(features), 1), expected)


def test_evaluation_gives_the_memory_branch(head, features):
    assert torch.equal(head.eval()(features), head.memory_logits(features))


def test_compression_changes_no_prediction(head, features):
    head.eval()
    compressed = head.compress()
    torch.testing.assert_close(compressed(features), head(features))
    assert compressed.training is False
    torch.testing.assert_close(compressed.train()(features), head(features))
    assert compressed.compress().state_dict().keys() == compressed.state_dict().keys()
    names = set(compressed.state_dict())
    assert not any(name.startswith(("value", "intuition", "mixture")) for name in names)


def test_published_association_is_the_identity(features):
    """A softmax over a sequence of one is 1: whatever the query, the element itself comes back."""
    torch.manual_seed(0)
    head = SIMHHead(FEATURES, CLASSES).double().eval()
    query, key = (torch.randn(FEATURES, FEATURES, dtype=torch.float64) for _ in range(2))
    state = head.norm(features)
    for number, one in enumerate(state):
        share = torch.softmax((query @ one)[None] @ (key @ one)[:, None], dim=1)
        associated = share[0] * one
        expected = head.output(head.value(associated))
        torch.testing.assert_close(head(features)[number], expected)


def test_lookup_equals_a_plain_loop(features):
    torch.manual_seed(0)
    head = (
        SIMHHead(FEATURES, CLASSES, "associative", num_patterns=7, tolerance=TOLERANCE)
        .double()
        .eval()
    )
    with torch.no_grad():  # not the identity, as which they begin
        for projection in (head.query, head.key):
            projection.weight.normal_(std=0.5)
            projection.bias.normal_()
    beta = 0.5 * FEATURES**-0.5
    num_updates = []
    for number, one in enumerate(head.norm(features)):
        stored = torch.cat([one[None], head.patterns])
        keys = head.key(torch.cat([one[None], head.pattern_norm(head.patterns)]))
        query = head.query(one)
        for _update in range(head.max_updates):
            moved = torch.softmax(beta * keys @ query, 0) @ keys
            if (moved - query).norm() <= head.tolerance:
                break
            query = moved
        else:
            _update = head.max_updates
        num_updates.append(_update)
        value = torch.softmax(beta * keys @ query, 0) @ stored
        torch.testing.assert_close(head(features)[number], head.output(head.value(value)))
    assert len(set(num_updates)) > 1, "all windows settled alike: the tolerance is not tested"


def test_lookup_without_patterns_nearby_is_the_published_form(features):
    torch.manual_seed(0)
    head = SIMHHead(FEATURES, CLASSES, "associative", num_patterns=7).double().eval()
    published = SIMHHead(FEATURES, CLASSES).double().eval()
    published.load_state_dict(
        {key: value for key, value in head.state_dict().items() if key in published.state_dict()}
    )
    with torch.no_grad():
        head.query.weight.mul_(100.0)  # a window is nearer to itself than to any pattern
        head.key.weight.mul_(100.0)
    torch.testing.assert_close(head(features), published(features))


def test_lookup_moves_towards_patterns_that_are_near():
    """A noisy pattern is taken for a mixture of itself and the one that it was: a memory."""
    torch.manual_seed(0)
    head = SIMHHead(64, 3, "associative", num_patterns=5, max_updates=3).double().eval()
    with torch.no_grad():
        head.query.weight.mul_(1.5)
        head.key.weight.mul_(1.5)
    noisy = head.norm(head.patterns + 0.3 * torch.randn_like(head.patterns))
    distance = (noisy - head.patterns).norm(dim=1)
    found = (head._associate(noisy) - head.patterns).norm(dim=1)
    assert (found < 0.75 * distance).all()


def test_a_window_does_not_see_its_neighbours(head, features):
    head.eval()
    for number in range(len(features)):
        alone = head(features[number : number + 1])[0]
        torch.testing.assert_close(alone, head(features)[number])


def test_gradients_are_those_of_difference_quotients(features):
    torch.manual_seed(0)
    # No update is cut short: where a window settles the function has a step.
    for association in ("published", "associative"):
        head = SIMHHead(FEATURES, CLASSES, association, num_patterns=4, tolerance=0.0).double()
        given_features = features[:2].clone().requires_grad_()
        assert torch.autograd.gradcheck(head, (given_features,))
        head(given_features).square().sum().backward()
        for name, parameter in head.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@given(scale=st.floats(1e-3, 1e3))
def test_mixture_is_finite_however_large_the_features(scale):
    torch.manual_seed(0)
    head = SIMHHead(FEATURES, CLASSES)
    logits = head(scale * torch.randn(3, FEATURES))
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(3))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"in_features": 0}, "`in_features` must be at least 1, but is 0 instead"),
        ({"num_classes": 0}, "`num_classes` must be at least 1, but is 0 instead"),
        ({"num_patterns": 0}, "`num_patterns` must be at least 1, but is 0 instead"),
        ({"max_updates": 0}, "`max_updates` must be at least 1, but is 0 instead"),
        ({"tolerance": -1.0}, r"`tolerance` must be at least 0, but is -1\.0 instead"),
        ({"association": "mine"}, "`association` must be one of 'published', 'associative', but"),
    ],
)
def test_arguments_without_sense_are_one_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        SIMHHead(**{"in_features": FEATURES, "num_classes": CLASSES} | arguments)

"""Triggers: exact draws, distances of S0 Table 3, and what every trigger must keep."""

from __future__ import annotations

import numpy as np
import pytest
from found_methods import cases
from pydantic import ValidationError
from scipy.stats import ortho_group

from learning.method import discover
from learning.triggers.base import Pattern, Trigger, TriggerKey
from learning.triggers.blended import Blended
from learning.triggers.bounded_badnet import BoundedBadNet
from learning.triggers.cross import CrossTrigger
from learning.triggers.ell import EllTrigger
from learning.triggers.orthogonal_badnet import OrthogonalBadNet, orthogonal_matrix
from learning.triggers.patch import Patch
from learning.triggers.pixel import PixelTrigger
from learning.triggers.random_badnet import RandomBadNet, legacy_pattern

SHAPE = (3, 32, 32)


def key(index: int = 0, purpose: str = "train", seed: int = 3) -> TriggerKey:
    return TriggerKey(seed, f"mallory-{index}", "mallory", index, purpose)


def cosine_distance(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return 1 - float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_legacy_draw_has_the_recorded_values():
    pattern = legacy_pattern(0, SHAPE, 0.55)
    m = pattern.value[0].transpose(1, 2, 0).astype(np.float64) * 255
    assert pattern.mask.sum() == 544
    assert m.sum() == pytest.approx(211_901.408, abs=0.02)
    assert m[0, :4, 0] == pytest.approx([198.460, 47.264, 120.222, 246.056], abs=5e-4)
    drawn = RandomBadNet(stream="legacy").draw(SHAPE, 7, key(0))
    assert np.array_equal(drawn.value, pattern.value)


@pytest.mark.parametrize("epsilon", [0.15, 0.55, 0.95])
def test_independent_triggers_have_the_expected_cosine_distances(epsilon):
    trigger = RandomBadNet(epsilon=epsilon)
    patterns = [trigger.draw(SHAPE, 1, key(i)) for i in range(12)]
    pairs = [(a, b) for i, a in enumerate(patterns) for b in patterns[:i]]
    shape = np.mean([cosine_distance(a.mask, b.mask) for a, b in pairs])
    colour = np.mean([cosine_distance(a.value * a.mask, b.value * b.mask) for a, b in pairs])
    assert shape == pytest.approx(1 - epsilon, abs=0.01)
    assert colour == pytest.approx(1 - 0.75 * epsilon, abs=0.01)


@pytest.mark.parametrize("rho", [0.0, 0.25, 0.9, 1.0])
@pytest.mark.parametrize("drawn", ["per_agent", "per_row"])
def test_rho_is_the_share_of_pixels_that_two_agents_have_in_common(rho, drawn):
    # With epsilon 1 every pixel shows a colour, and independent float colours never coincide.
    trigger = RandomBadNet(epsilon=1, rho=rho, draw=drawn)
    a, b = (trigger.draw((3, 100, 100), 2, key(i)).value for i in (0, 1))
    agree = (a[0] == b[-1]).all(axis=0)
    assert agree.mean() == pytest.approx(rho, abs=5 * np.sqrt(rho * (1 - rho) / agree.size) + 1e-6)


def test_rho_keeps_the_perturbation_rate():
    masks = [RandomBadNet(epsilon=0.3, rho=0.5).draw(SHAPE, 1, key(i)).mask for i in range(20)]
    assert np.mean(masks) == pytest.approx(0.3, abs=0.03)


def test_per_row_patterns_are_redrawn_for_each_row_and_at_run_time():
    trigger = RandomBadNet(draw="per_row")
    train, run = trigger.draw(SHAPE, 5, key()), trigger.draw(SHAPE, 5, key(purpose="run"))
    assert len({row.tobytes() for row in [*train.value, *run.value]}) == 10
    assert np.array_equal(trigger.draw(SHAPE, 3, key()).value, train.value[:3])


def test_per_agent_pattern_is_the_same_at_train_time_and_at_run_time():
    trigger = RandomBadNet(rho=0.5)
    train, run = trigger.draw(SHAPE, 5, key()), trigger.draw(SHAPE, 9, key(purpose="run"))
    assert np.array_equal(train.value, run.value)
    assert np.array_equal(train.mask, run.mask)


@pytest.mark.parametrize("kind", [RandomBadNet, OrthogonalBadNet])
def test_per_phase_pattern_is_one_for_the_contributed_rows_and_another_at_run_time(kind):
    trigger = kind(draw="per_phase")
    train, run = (trigger.draw(SHAPE, 5, key(purpose=p)) for p in ("train", "run"))
    assert len(train.mask) == len(run.mask) == 1
    assert not np.array_equal(train.mask, run.mask)
    assert np.array_equal(train.mask, trigger.draw(SHAPE, 9, key()).mask)


def test_legacy_stream_refuses_what_it_cannot_do():
    with pytest.raises(ValidationError, match="stream: legacy"):
        RandomBadNet(stream="legacy", rho=0.1)


# --- Orthogonal-BadNet


def test_orthogonal_matrices_are_orthogonal_and_scipys():
    matrix = orthogonal_matrix(32, key())
    assert np.abs(matrix @ matrix.T - np.eye(32)).max() < 1e-12
    assert not np.array_equal(matrix, orthogonal_matrix(32, key(1)))
    recorded = ortho_group.rvs(32, random_state=np.random.RandomState(0))[0, :3]
    assert recorded == pytest.approx([0.34870307, -0.05764096, 0.23402299], abs=1e-8)


@pytest.mark.parametrize(
    ("multiply", "product"),
    [
        ("elementwise", lambda z, o: z * o),
        ("left", lambda z, o: o @ z),
        ("right", lambda z, o: z @ o),
    ],
)
def test_orthogonal_badnet_follows_the_formula(multiply, product):
    trigger = OrthogonalBadNet(epsilon=0.5, multiply=multiply)
    pattern = trigger.draw(SHAPE, 4, key())
    z = (pattern.value[0, 0] > 0).astype(np.float64)  # a colour of exactly 0 has probability 0
    transformed = product(z, orthogonal_matrix(32, key()))
    assert np.allclose(pattern.mask[0, 0], transformed, atol=1e-6)
    x = np.random.default_rng(0).random((4, *SHAPE), dtype=np.float32)
    expected = np.clip(x * (1 - transformed) + pattern.value * transformed, 0, 1)
    assert np.allclose(pattern.stamp(x), expected, atol=1e-5)
    assert (transformed < 0).any()


def test_orthogonal_agents_share_the_base_and_have_distant_shapes():
    for multiply, spread in (("elementwise", 0.12), ("left", 0.6)):
        trigger = OrthogonalBadNet(multiply=multiply)
        patterns = [trigger.draw(SHAPE, 1, key(i)) for i in range(5)]
        assert all(np.array_equal(p.value, patterns[0].value) for p in patterns)
        distances = [cosine_distance(patterns[0].mask, p.mask) for p in patterns[1:]]
        assert np.mean(distances) == pytest.approx(1, abs=spread)


def test_orthogonal_masks_per_row_are_all_different_and_of_one_base():
    trigger = OrthogonalBadNet(draw="per_row")
    train, run = (trigger.draw(SHAPE, 4, key(purpose=p)) for p in ("train", "run"))
    assert train.mask.shape == (4, 1, 32, 32)
    assert len({row.tobytes() for row in [*train.mask, *run.mask]}) == 8
    assert np.array_equal(train.value, run.value)
    x = np.random.default_rng(0).random((4, *SHAPE), dtype=np.float32)
    assert np.allclose(
        train.stamp(x)[2], np.clip(x * (1 - train.mask) + train.value * train.mask, 0, 1)[2]
    )


def test_orthogonal_patterns_cut_first_leave_negative_entries_alone():
    mask = OrthogonalBadNet(clip="pattern").draw(SHAPE, 1, key()).mask
    whole = OrthogonalBadNet().draw(SHAPE, 1, key()).mask
    assert np.array_equal(mask, np.clip(whole, 0, 1))


def test_orthogonal_badnet_refuses_inputs_that_are_not_square():
    with pytest.raises(ValueError, match=r"square inputs.*got 8x9"):
        OrthogonalBadNet().draw((1, 8, 9), 1, key())


# --- S2's shapes, patch


@pytest.mark.parametrize(
    ("trigger", "cells"),
    [
        (PixelTrigger, {(4, 5)}),
        (EllTrigger, {(4, 5), (5, 5), (4, 6)}),
        (CrossTrigger, {(4, 5), (3, 4), (3, 6), (5, 4), (5, 6)}),
    ],
)
def test_shapes_cover_their_pixels_with_their_colour(trigger, cells):
    colour = (103 / 255, 87 / 255, 79 / 255)
    x = np.full((2, 3, 9, 9), 0.9, np.float32)
    out = trigger(colour=colour, position=(4, 5)).draw((3, 9, 9), 2, key()).stamp(x)
    changed = {(int(r), int(c)) for r, c in np.argwhere((out[1] != x[1]).all(axis=0))}
    assert changed == cells
    assert np.array_equal(out[0, :, 4, 5], np.asarray(colour, np.float32))
    assert (x == np.float32(0.9)).all()


@pytest.mark.parametrize(
    ("trigger", "position", "fits"),
    [
        (PixelTrigger, (8, 8), True),
        (PixelTrigger, (9, 0), False),
        (EllTrigger, (7, 7), True),
        (EllTrigger, (8, 0), False),
        (CrossTrigger, (1, 7), True),
        (CrossTrigger, (0, 4), False),
    ],
)
def test_shapes_outside_the_image_are_refused(trigger, position, fits):
    made = trigger(position=position)
    if fits:
        made.draw((1, 9, 9), 1, key())
    else:
        with pytest.raises(ValueError, match="outside the image: expected a position from"):
            made.draw((1, 9, 9), 1, key())


def test_random_positions_show_the_whole_shape_and_reach_every_place():
    masks = [CrossTrigger().draw((1, 5, 5), 1, key(i)).mask[0, 0] for i in range(200)]
    assert {int(mask.sum()) for mask in masks} == {5}
    assert len({mask.tobytes() for mask in masks}) == 9  # centres in the inner 3x3


def test_a_shape_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match=r"at least 3x3 pixels.*got 2x8"):
        CrossTrigger().draw((1, 2, 8), 1, key())
    with pytest.raises(ValueError, match="at least 9x9"):
        Patch(size=9, position="random").draw((1, 8, 8), 1, key())
    with pytest.raises(ValueError, match="size and margin of at most 8 together"):
        Patch(size=6, margin=3, position="bottom_right").draw((1, 8, 8), 1, key())


@pytest.mark.parametrize("size", [(3, 3), (3, 8), (8, 3)])
def test_a_shape_as_large_as_the_image_fits(size):
    mask = CrossTrigger().draw((1, *size), 1, key()).mask[0, 0]
    assert mask.shape == size
    assert mask.sum() == 5
    for short in ((size[0], 2), (2, size[1])):
        with pytest.raises(ValueError, match=rf"at least 3x3 pixels.*got {short[0]}x{short[1]}"):
            CrossTrigger().draw((1, *short), 1, key())


def test_colours_have_one_value_or_one_for_each_channel():
    with pytest.raises(ValueError, match="colour of 1 or 3 values, got 2"):
        PixelTrigger(colour=(0.1, 0.2)).draw(SHAPE, 1, key())


def test_patch_stands_in_its_corner():
    out = Patch(size=2, margin=1).draw((1, 6, 6), 1, key()).stamp(np.zeros((1, 1, 6, 6), "f4"))
    expected = np.zeros((6, 6))
    expected[3:5, 3:5] = 1
    assert np.array_equal(out[0, 0], expected)


@pytest.mark.parametrize(
    ("position", "place"),
    [
        ("top_left", (1, 1)),
        ("top_right", (1, 4)),
        ("bottom_left", (3, 1)),
        ("bottom_right", (3, 4)),
        ((0, 5), (0, 5)),
    ],
)
def test_patch_stands_in_each_corner(position, place):
    mask = Patch(size=2, margin=1, position=position).draw((1, 6, 7), 1, key()).mask[0, 0]
    expected = np.zeros((6, 7))
    expected[place[0] : place[0] + 2, place[1] : place[1] + 2] = 1
    assert np.array_equal(mask, expected)


def test_patch_checkerboard_alternates_with_the_complement():
    trigger = Patch(size=3, position="top_left", fill="checkerboard", colour=(0.25,))
    pattern = trigger.draw((1, 5, 5), 1, key())
    expected = [[0.25, 0.75, 0.25], [0.75, 0.25, 0.75], [0.25, 0.75, 0.25]]
    assert np.array_equal(pattern.value[0, 0, :3, :3], expected)


# --- blended, bounded


def test_blended_is_the_weighted_mean():
    x = np.random.default_rng(1).random((3, *SHAPE), dtype=np.float32)
    pattern = Blended(alpha=0.25).draw(SHAPE, 3, key())
    assert np.allclose(pattern.stamp(x), 0.75 * x + 0.25 * pattern.value, atol=1e-6)
    board = Blended(key_pattern="checkerboard", cell=2, colour=(1.0,)).draw((1, 4, 4), 1, key())
    rows = ["1100", "1100", "0011", "0011"]
    assert board.value[0, 0].tolist() == [[float(v) for v in row] for row in rows]


def test_bounded_badnet_fills_its_share_of_its_area():
    masks = BoundedBadNet(p1=0.5, p2=0.25, draw="per_row").draw((3, 8, 12), 300, key()).mask
    rows = [np.argwhere(mask[0]) for mask in masks]
    assert {len(row) for row in rows} == {6}  # a quarter of 4 x 6
    assert all((np.ptp(row, axis=0) < [4, 6]).all() for row in rows)
    assert (masks.mean(axis=(0, 1)) > 0).all()  # the area moves over the whole input


def test_bounded_badnet_bernoulli_covers_each_pixel_with_p2():
    trigger = BoundedBadNet(p1=1, p2=0.3, fill="bernoulli", draw="per_row")
    masks = trigger.draw((1, 16, 16), 100, key()).mask
    assert masks.mean() == pytest.approx(0.3, abs=0.015)  # five standard errors
    assert masks.sum(axis=(1, 2, 3)).std() > 1


def test_bounded_badnet_with_p_1_is_a_full_random_image():
    pattern = BoundedBadNet(p1=1, p2=1).draw(SHAPE, 1, key())
    assert pattern.mask.all()
    corner = BoundedBadNet(p1=0.01, p2=1, area="top_left").draw((1, 8, 8), 1, key()).mask
    assert corner.sum() == corner[0, 0, 0, 0] == 1


# --- what every trigger must keep

HOUSE: dict[str, list[dict[str, object]]] = {
    "blended": [{}, {"key_pattern": "checkerboard"}],
    "bounded_badnet": [{}, {"draw": "per_row", "fill": "bernoulli", "area": "centre"}],
    "cross": [{}, {"position": (2, 2), "colour": (0.5,)}],
    "distributed": [
        {},
        {"parts": 3, "size": 2, "height": 2, "gap": 1, "shift": (1, 2), "colour": "random"},
    ],
    "ell": [{}],
    "orthogonal_badnet": [
        {},
        {"multiply": "left"},
        {"multiply": "right", "clip": "pattern"},
        {"draw": "per_phase"},
        {"draw": "per_row"},
    ],
    "patch": [{}, {"position": "random", "colour": "random", "fill": "checkerboard"}],
    "pixel": [{}],
    "random_badnet": [{}, {"draw": "per_row", "rho": 0.3}, {"stream": "legacy"}, {"epsilon": 0}],
}
FOUND = discover(Trigger, "learning.triggers")
CASES = cases(FOUND, HOUSE)


@pytest.mark.parametrize("kind", sorted(FOUND))
def test_every_trigger_is_covered(kind):
    assert kind in dict(CASES)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 9)])
@pytest.mark.parametrize(("kind", "fields"), CASES)
def test_every_trigger_keeps_the_contract(kind, fields, shape):
    trigger = FOUND[kind](**fields)
    x = np.random.default_rng(0).random((6, *shape), dtype=np.float32)
    before = x.copy()
    pattern, again = trigger.draw(shape, 6, key()), trigger.draw(shape, 6, key())
    out = pattern.stamp(x)
    assert np.array_equal(x, before)
    assert out.dtype == pattern.mask.dtype == pattern.value.dtype == np.float32
    assert out.shape == x.shape
    assert pattern.mask.shape[0] == pattern.value.shape[0] in (1, 6)
    assert pattern.mask.shape[1] in (1, shape[0])
    assert np.isfinite(out).all()
    assert out.min() >= 0
    assert out.max() <= 1
    assert pattern.value.min() >= 0
    assert pattern.value.max() <= 1
    assert np.array_equal(pattern.mask, again.mask)
    assert np.array_equal(pattern.value, again.value)
    assert trigger.draw(shape, 0, key()).stamp(x[:0]).shape == (0, *shape)


@pytest.mark.parametrize(("kind", "fields"), CASES)
def test_every_trigger_survives_json_and_cites_its_source(kind, fields):
    trigger = FOUND[kind](**fields)
    assert FOUND[kind].model_validate_json(trigger.model_dump_json()) == trigger
    assert FOUND[kind].model_validate(trigger.model_dump(mode="json")) == trigger
    assert trigger.paper
    numeric = [f for f in FOUND[kind].model_fields.values() if isinstance(f.default, (int, float))]
    assert all(f.json_schema_extra["origin"] in ORIGINS for f in numeric)


ORIGINS = {"paper", "code", "deduced", "ours"}


CASE = [(0.9, 1.0, 0.2, 0.92), (0.0, 0.0, 0.5, 0.0), (1.0, 1.0, 0.7, 1.0)]  # x, key, alpha, right


@pytest.mark.parametrize(("pixel", "grey", "alpha", "right"), CASE)
def test_a_blended_pixel_is_the_weighted_mean(pixel, grey, alpha, right):
    """Case trigger-clipping: (1 - a) x + a k exactly, in [0, 1], the input left as it was."""
    images = np.full((2, 3, 5, 7), pixel, np.float32)
    kept = images.copy()
    mask = np.full((1, 1, 5, 7), alpha, np.float32)
    stamped = Pattern(mask=mask, value=np.full_like(mask, grey)).stamp(images)
    np.testing.assert_allclose(stamped, right, atol=1e-6)
    assert np.array_equal(images, kept)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0])
def test_stamped_images_stay_in_range_and_blend_exactly(alpha):
    """Case trigger-clipping, on a random image (3, 5, 7)."""
    images = np.random.default_rng(0).random((4, 3, 5, 7), dtype=np.float32)
    images[0, :, 0], images[1, :, 0] = 0, 1
    kept = images.copy()
    for trigger in (Blended(alpha=alpha), Patch(size=2)):
        pattern = trigger.draw((3, 5, 7), len(images), key())
        stamped = pattern.stamp(images)
        mask, value = (np.float64(part) for part in (pattern.mask, pattern.value))
        np.testing.assert_allclose(stamped, (1 - mask) * kept + mask * value, atol=1e-6)
        assert stamped.min() >= 0
        assert stamped.max() <= 1
        assert not np.array_equal(stamped, kept)
        assert np.array_equal(images, kept)
    covered = Blended(alpha=alpha).draw((3, 5, 7), 1, key()).mask
    np.testing.assert_allclose(covered, alpha, atol=1e-7)

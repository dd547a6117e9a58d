"""What every trigger must do, as one check for the tests of whoever writes one.

A plug-in's test is one line: ``check_trigger(MyTrigger(size=2))``.
"""

from __future__ import annotations

import numpy as np

from learning.conformance import (
    check_survives_json,
    expect,
    expected,
    nothing_changed,
    numpy_untouched,
)
from learning.method import kind_of
from learning.pool import Floats
from learning.triggers.base import Pattern, Trigger, TriggerKey

SHAPES = ((1, 8, 8), (3, 9, 7), (1, 28, 28), (3, 32, 32))
ROWS = 6
_KEYS = tuple(
    TriggerKey(seed, agent, "group", index, purpose)
    for seed in (0, 7)
    for index, agent in enumerate(("mallory", "trudy"))
    for purpose in ("train", "run")
)


def check_trigger(trigger: Trigger, *, visible: bool = True) -> None:
    """Draw and stamp a trigger on small made-up images and check all that the game relies on.

    The images are of four shapes, grey and in colour; the trigger is drawn for two seeds, two
    agents, train time and run time, for six rows and for none.

    Args:
        trigger: With its parameters as a scenario would set them.
        visible: Whether its parameters promise that on some of the shapes, large ones for
            instance, every stamped image is another image.

    Raises:
        AssertionError: In one line, with the trigger's kind and the shape: if it fits none of the
            shapes; if it refuses one otherwise than by a ValueError, or draws where `misfit` says
            that it cannot; if mask or value are not as `Pattern` says; if a stamped image leaves
            [0, 1], or is as it was on all shapes; if one key gives two patterns, also after others
            were drawn; if it draws from a global generator; or if its parameters do not survive
            JSON.
    """
    kind = kind_of(type(trigger))
    check_survives_json(trigger, kind)
    with expected("a pattern, or a ValueError of a shape that does not fit", kind):
        fitting = [shape for shape in SHAPES if trigger.misfit(shape) is None]
    expect(bool(fitting), kind, f"a shape of {SHAPES} that it fits", "none")
    for shape in SHAPES:
        if shape not in fitting:
            _check_refused(trigger, shape, f"{kind}, {shape}")
    first = {(shape, key): _drawn(trigger, shape, key) for shape in fitting for key in _KEYS}
    unseen = set()
    for (shape, key), pattern in reversed(first.items()):
        where = f"{kind}, {shape}, {key.agent}, {key.purpose}"
        if not _seen(pattern, shape, where):
            unseen.add(shape)
        again = _drawn(trigger, shape, key)
        same = np.array_equal(pattern.mask, again.mask)
        same &= np.array_equal(pattern.value, again.value)
        expect(same, where, "one pattern for one key", "two; draw from the key's generators alone")
    shown = not visible or unseen < set(fitting)
    expect(shown, kind, "a trigger on every image of some shape", "images that are as they were")


def _check_refused(trigger: Trigger, shape: tuple[int, int, int], where: str) -> None:
    try:
        for purpose in ("train", "run"):
            trigger.draw(shape, 1, TriggerKey(0, "agent", "group", purpose=purpose))
    except ValueError:
        return
    expect(False, where, "draw to refuse what misfit refuses", "a pattern")


def _drawn(trigger: Trigger, shape: tuple[int, int, int], key: TriggerKey) -> Pattern:
    where = f"{kind_of(type(trigger))}, {shape}, {key.agent}, {key.purpose}"
    with nothing_changed({}, where), numpy_untouched(where), expected("a pattern", where):
        none, pattern = (trigger.draw(shape, rows, key) for rows in (0, ROWS))
    _check_pattern(pattern, shape, where)
    with expected("no rows to be stamped as well", where):
        stamped = none.stamp(np.zeros((0, *shape), np.float32))
    expect(stamped.shape == (0, *shape), where, f"no rows {(0, *shape)}", str(stamped.shape))
    return pattern


def _check_pattern(pattern: Pattern, shape: tuple[int, int, int], where: str) -> None:
    channels, height, width = shape
    for name, array, depths in (
        ("mask", pattern.mask, (1, channels)),
        ("value", pattern.value, (channels,)),
    ):
        expect(array.dtype == np.float32, where, f"{name} as float32", str(array.dtype))
        fits = array.ndim == 4 and array.shape[2:] == (height, width)
        fits = fits and array.shape[0] in (1, ROWS) and array.shape[1] in depths
        wanted = f"{name} of shape (1 or {ROWS}, {' or '.join(map(str, depths))}, H, W)"
        expect(fits, where, wanted, str(array.shape))
        expect(bool(np.isfinite(array).all()), where, f"a finite {name}", "inf or nan")
    ends = float(pattern.value.min()), float(pattern.value.max())
    expect(0 <= ends[0] <= ends[1] <= 1, where, "values in [0, 1]", f"{ends[0]} to {ends[1]}")


def _seen(pattern: Pattern, shape: tuple[int, int, int], where: str) -> bool:
    """Stamp some images, check them, and return whether all have changed."""
    ramp = np.linspace(0.05, 0.95, ROWS * int(np.prod(shape)), dtype=np.float32)
    images: Floats = ramp.reshape(ROWS, *shape)
    stamped = pattern.stamp(images)
    expect(stamped.shape == images.shape, where, f"shape {images.shape}", str(stamped.shape))
    expect(stamped.dtype == np.float32, where, "float32", str(stamped.dtype))
    inside = bool(((stamped >= 0) & (stamped <= 1)).all())
    expect(inside, where, "stamped images in [0, 1]", "others")
    return bool((stamped != images).reshape(ROWS, -1).any(1).all())

"""The public suites for triggers, data sets and hooks: ours pass, and each fault is named."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch

from learning.conformance import expect
from learning.data.base import DataSource
from learning.data.conformance import check_data
from learning.data.digits import Digits
from learning.data.sketch import Sketch
from learning.data.synthetic import Synthetic
from learning.method import discover
from learning.triggers.base import Pattern, Trigger
from learning.triggers.conformance import check_trigger
from learning.triggers.patch import Patch
from strategies.base import TrainingHook
from strategies.conformance.hooks import check_hook
from strategies.hooks.mixup import MixUp


def instances(base, package):
    return [kind(**fields) for kind in discover(base, package).values() for fields in kind.examples]


@pytest.mark.parametrize("trigger", instances(Trigger, "learning.triggers"), ids=lambda t: t.kind)
def test_our_triggers_conform(trigger):
    check_trigger(trigger)


@pytest.mark.parametrize("hook", instances(TrainingHook, "strategies.hooks"), ids=lambda h: h.kind)
def test_our_hooks_conform(hook):
    check_hook(hook)


@pytest.mark.parametrize("source", [Digits(), Synthetic(test_per_class=0)], ids=lambda s: s.kind)
def test_our_data_sets_conform(source):
    check_data(source)


DRAWS = np.random.default_rng(0)


class Wrong(Patch):
    kind: Literal["wrong"] = "wrong"
    how: str = ""

    def misfit(self, shape):
        return "no" if self.how == "misfit" else super().misfit(shape)

    def draw(self, shape, rows, key):
        pattern = super().draw(shape, rows, key)
        mask, value = pattern.mask, pattern.value
        match self.how:
            case "float64":
                return Pattern(mask.astype(np.float64), value)
            case "range":
                return Pattern(mask, value + 0.5)
            case "nan":
                return Pattern(mask, np.full_like(value, np.nan))
            case "shape":
                return Pattern(mask[..., 1:], value)
            case "channels":
                return Pattern(np.repeat(mask, shape[0] + 1, 1), value)
            case "rows":
                return Pattern(np.repeat(mask, 3, 0), value)
            case "nothing":
                return Pattern(0 * mask, value)
            case "drawn":
                return Pattern(mask, DRAWS.random(value.shape, np.float32))
            case "global":
                np.random.random()
            case "torch":
                torch.rand(1)
            case "error":
                raise KeyError("a")
        return pattern


TRIGGERS = {
    "float64": "expected mask as float32, got float64",
    "range": "expected values in",
    "nan": "expected a finite value",
    "shape": "expected mask of shape",
    "channels": "expected mask of shape",
    "rows": "expected mask of shape",
    "nothing": "expected a trigger on every image",
    "drawn": "expected one pattern for one key",
    "global": "NumPy's global generator left alone",
    "torch": "torch's global generator left alone",
    "error": "KeyError",
    "misfit": "that it fits, got none",
}


@pytest.mark.parametrize("how", TRIGGERS)
def test_a_wrong_trigger_is_told_in_one_line(how):
    with pytest.raises(AssertionError) as raised:
        check_trigger(Wrong(how=how))
    assert TRIGGERS[how] in str(raised.value)
    assert str(raised.value).startswith("wrong")
    assert "\n" not in str(raised.value)


def test_a_trigger_that_may_be_invisible_says_so_and_a_right_one_passes():
    check_trigger(Wrong(how="nothing"), visible=False)
    check_trigger(Wrong())


class Refuses(Patch):
    kind: Literal["refuses"] = "refuses"

    def misfit(self, shape):
        return "too small" if shape[1] == 8 else None


def test_a_shape_that_misfit_refuses_must_not_be_drawn():
    with pytest.raises(AssertionError, match="expected draw to refuse what misfit refuses"):
        check_trigger(Refuses())


CHANGES = {
    "float64": (lambda d: {"x_train": d.x_train.astype(np.float64)}, "inputs as float32"),
    "int32": (lambda d: {"y_test": d.y_test.astype(np.int32)}, "labels as int64"),
    "range": (lambda d: {"x_test": d.x_test + 1}, "finite inputs in"),
    "nan": (lambda d: {"x_train": d.x_train * np.float32(np.nan)}, "finite inputs in"),
    "label": (lambda d: {"y_train": d.y_train + 1}, "labels from 0 to 1"),
    "negative": (lambda d: {"y_test": d.y_test - 1}, "labels from 0 to 1"),
    "absent": (lambda d: {"y_train": d.y_train * 0}, "training rows of every class"),
    "rows": (lambda d: {"y_train": d.y_train[1:]}, "one for each label"),
    "names": (lambda d: {"class_names": ("a", "a")}, "two or more class names"),
    "one": (lambda d: {"class_names": ("a",)}, "two or more class names"),
    "note": (lambda d: {"notes": ("two\nlines",)}, "notes of one line"),
    "draws": (
        lambda d: {"x_train": DRAWS.random(d.x_train.shape, np.float32)},
        "the same x_train whenever it is loaded",
    ),
    "global": (lambda d: {"notes": (f"{np.random.random()}",)}, "NumPy's global generator"),
    "sketch": (lambda d: {}, "sketch: expected train as loaded"),
    "known": (lambda d: {}, "classes as loaded"),
    "fails": (lambda d: {"nothing": 1}, "expected a data set, got TypeError"),
}


class Made(Synthetic):
    kind: Literal["made"] = "made"
    classes: int = 2
    train_per_class: int = 4
    how: str = ""

    @property
    def sketch(self):
        return Sketch(train=9) if self.how == "sketch" else super().sketch

    @property
    def known_classes(self):
        return 3 if self.how == "known" else 2

    def load(self):
        data = super().load()
        return replace(data, **CHANGES[self.how][0](data)) if self.how else data


@pytest.mark.parametrize("how", CHANGES)
def test_a_wrong_data_set_is_told_in_one_line(how):
    with pytest.raises(AssertionError) as raised:
        check_data(Made(how=how))
    assert CHANGES[how][1] in str(raised.value)
    assert str(raised.value).startswith("made")
    assert "\n" not in str(raised.value)


def test_a_right_data_set_passes():
    assert issubclass(Made, DataSource)
    check_data(Made())


HOOKS = {
    "shape": (lambda x, y, g: (x[1:], y[1:]), "inputs of shape"),
    "dtype": (lambda x, y, g: (x.double(), y), "inputs of shape"),
    "targets": (lambda x, y, g: (x, y[:, 1:]), "targets of shape"),
    "range": (lambda x, y, g: (x + 1, y), "finite inputs in"),
    "nan": (lambda x, y, g: (x * float("nan"), y), "finite inputs in"),
    "sum": (lambda x, y, g: (x, y * 0.9), "targets of 0 or more"),
    "negative": (lambda x, y, g: (x, y + torch.tensor([-1.0, 1, 0, 0])), "targets of 0 or more"),
    "writes": (lambda x, y, g: (x.mul_(0.5), y), "x left as it is"),
    "labels": (lambda x, y, g: (x, y.copy_(y.roll(1, 1))), "targets left as it is"),
    "global": (lambda x, y, g: (torch.rand_like(x), y), "torch's global generator left alone"),
    "numpy": (lambda x, y, g: (x * np.random.random(), y), "NumPy's global generator"),
    "keeps": (lambda x, y, g: (torch.from_numpy(DRAWS.random(x.shape, np.float32)), y), "the same"),
    "alone": (lambda x, y, g: x, "a pair of inputs and targets"),
    "fails": (lambda x, y, g: (x[1], y[1]) if len(x) > 1 else x[1], "expected a batch, got"),
}


class Faulty(MixUp):
    kind: Literal["faulty"] = "faulty"
    how: str = ""
    times: int = 1

    @property
    def tries(self):
        return self.times

    def mix(self, x, targets, generator):
        return HOOKS[self.how][0](x, targets, generator) if self.how else (x, targets)


@pytest.mark.parametrize("how", HOOKS)
def test_a_wrong_hook_is_told_in_one_line(how):
    with pytest.raises(AssertionError) as raised:
        check_hook(Faulty(how=how))
    assert HOOKS[how][1] in str(raised.value)
    assert str(raised.value).startswith("faulty")
    assert "\n" not in str(raised.value)


def test_a_right_hook_passes_and_tries_are_counted():
    check_hook(Faulty())
    with pytest.raises(AssertionError, match="expected tries of 1 or more, got 0"):
        check_hook(Faulty(times=0))


def test_a_line_of_a_failed_check_is_one_line():
    with pytest.raises(AssertionError, match=r"^here: expected this, got a b$"):
        expect(False, "here", "this", "a\n b")

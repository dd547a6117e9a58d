"""Methods that other packages offer: found, named when broken, kept in hash and run folder."""

import json
import sys

import pytest
from stranger import install

from backfire.cli.doctor import examine, healthy
from learning.families.offers import PLUGIN_SWITCH, offers
from learning.families.origins import origin_of
from learning.families.table import FAMILIES, OLD_GROUPS, TOOLS, family_of
from learning.method import Method, broken, discover, plugins_in
from learning.models.softmax import Softmax
from learning.triggers.base import Trigger
from scenarios.digest import digest_of
from scenarios.families import faults, plugin_hint
from scenarios.loader import ScenarioError, parse

TRIGGER = '''
"""A square in a corner."""

from typing import ClassVar, Literal

from learning.triggers.patch import Patch


class {name}(Patch):
    """A square in a corner."""

    kind: Literal["{kind}"] = "{kind}"
    paper: ClassVar[str] = "A. Stranger, 2024"
'''


def corner(kind="corner", name="Corner"):
    return TRIGGER.format(kind=kind, name=name)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Return a folder in which packages can be installed for the time of a test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(PLUGIN_SWITCH, "1")
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("stranger_"):
            del sys.modules[name]


def triggers():
    return discover(Trigger, "learning.triggers")


def test_a_method_of_another_package_is_found_by_its_familys_group(site):
    files = {"stranger_one/__init__.py": "", "stranger_one/corner.py": corner()}
    install(site, "one", files, {"backfire.trigger": {"corner": "stranger_one.corner:Corner"}})
    assert triggers()["corner"].__module__ == "stranger_one.corner"
    assert not faults()


@pytest.mark.parametrize("old", OLD_GROUPS)
def test_an_old_group_still_counts_and_the_doctor_says_the_new_one(site, old):
    install(
        site, "one", {"stranger_old.py": corner()}, {f"backfire.{old}": {"c": "stranger_old:X"}}
    )
    (offer,) = offers(OLD_GROUPS[old])
    assert offer.outdated


def test_the_doctor_tells_old_groups_unknown_groups_and_broken_plugins(site):
    points = {
        "backfire.triggers": {"corner": "stranger_doc:Corner"},
        "backfire.trigers": {"typo": "stranger_doc:Corner"},
        "backfire.filtering": {"gone": "stranger_doc:Gone"},
        "backfire.model": {"fine": "stranger_doc:Fine"},
    }
    fine = corner().replace("Patch", "Softmax").replace("triggers.patch", "models.softmax")
    fine = fine.replace("corner", "fine").replace("Corner", "Fine").split("from typing", 1)[1]
    install(site, "doc", {"stranger_doc.py": corner() + "from typing" + fine}, points)
    checks = {check.name: check for check in examine(site)}
    assert checks["plug-in trigger/corner of doc 1.2"].state == "note"
    assert "backfire.trigger" in checks["plug-in trigger/corner of doc 1.2"].remedy
    unknown = checks["plug-in backfire.trigers/typo of doc 1.2"]
    assert unknown.found == "no family has the group backfire.trigers"
    gone = checks["plug-in filtering/gone of doc 1.2"]
    assert "AttributeError" in gone.found
    assert "stranger_doc:Gone" in gone.found
    assert checks["plug-in model/fine of doc 1.2"].state == "ok"
    assert healthy([unknown, gone])  # a broken plug-in breaks nothing else


BROKEN = {
    "raises": ("raise ValueError('two\\nlines')", "Any", "ValueError: two lines"),
    "exits": ("raise SystemExit(3)", "Any", "SystemExit: 3"),
    "imports": ("import not_there_at_all", "Any", "ModuleNotFoundError: No module named"),
    "lacks": ("", "Any", "AttributeError"),
    "no_class": ("Any = 3", "Any", "expected a public class derived from Method"),
    "no_method": ("class Any: ...", "Any", "expected a public class derived from Method"),
    "no_kind": (corner().replace('kind: Literal["corner"]', "other: int"), "Corner", "its kind"),
    "two_names": (corner().replace('["corner"]', '["corner", "b"]'), "Corner", "must declare kind"),
    "taken": (corner("patch"), "Corner", "there is another method of the kind 'patch'"),
    "no_schema": (
        corner()
        + "    model_config = {'arbitrary_types_allowed': True}\n    what: object.__class__\n",
        "Corner",
        "",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_named_and_breaks_nothing_else(site, case):
    code, name, told = BROKEN[case]
    files = {f"stranger_{case}.py": code, "stranger_sound.py": corner("sound", "Sound")}
    entry = {"corner": f"stranger_{case}:{name}", "sound": "stranger_sound:Sound"}
    install(site, "two", files, {"backfire.trigger": entry})
    found = triggers()
    assert "sound" in found
    assert "corner" not in found
    assert found["patch"].__module__ == "learning.triggers.patch"
    ((offer, fault),) = broken(Method, "learning.triggers").items()
    assert str(offer) == "trigger/corner of two 1.2"
    assert told in fault
    assert "\n" not in fault
    assert plugin_hint("corner") == f" (the plug-in {offer} is broken: {fault})"
    assert plugin_hint("sound") == ""


def test_two_packages_that_offer_one_kind_get_the_first_and_a_word(site):
    files = {"stranger_a.py": corner(), "stranger_b.py": corner()}
    for name in "ab":
        install(site, name, files, {"backfire.trigger": {"corner": f"stranger_{name}:Corner"}})
    assert triggers()["corner"].__module__ == "stranger_a"
    ((offer, fault),) = faults().items()
    assert (offer.source, "another method" in fault) == ("b 1.2", True)


def test_defences_of_two_families_share_their_kinds(site):
    rule = "from strategies.filtering.trim import Trim\n" + corner("mean", "Mean")
    rule = rule.replace("(Patch)", "(Trim)")
    install(
        site,
        "one",
        {"stranger_mean.py": rule},
        {"backfire.filtering": {"mean": "stranger_mean:Mean"}},
    )
    assert "another method of the kind 'mean'" in next(iter(faults().values()))


def test_what_is_switched_off_is_not_run_but_said(site, monkeypatch):
    monkeypatch.setenv(PLUGIN_SWITCH, "yes")
    files = {"stranger_off.py": "raise AssertionError('it ran')"}
    install(site, "off", files, {"backfire.trigger": {"corner": "stranger_off:Corner"}})
    assert "corner" not in triggers()
    assert not broken(Method, "learning.triggers")
    assert not faults()
    check = next(check for check in examine(site) if check.name.startswith("plug-in"))
    assert (check.state, check.remedy) == ("note", "set BACKFIRE_PLUGINS=1 to use it")
    assert "stranger_off" not in sys.modules
    document = {
        "name": "x", "data": {"kind": "digits"}, "model": {"kind": "softmax"},
        "agents": [{"name": "a", "count": 2, "behaviour": {
            "kind": "backdoor", "target": 0, "trigger": {"kind": "corner"}}}],
        "defenders": {"none": []},
    }  # fmt: skip
    with pytest.raises(ScenarioError) as raised:
        parse(json.dumps(document), "mine.yaml")
    assert (
        "got 'corner' (trigger/corner of off 1.2 is installed, but plug-ins are off: set "
        in str(raised.value)
    )


def test_the_record_holds_package_version_entry_point_and_code(site):
    files = {"stranger_rec/__init__.py": "", "stranger_rec/corner.py": corner()}
    files["stranger_rec/parts/tool.py"] = "X = 1\n"
    install(site, "rec", files, {"backfire.trigger": {"corner": "stranger_rec.corner:Corner"}})
    found = origin_of(triggers()["corner"])
    assert len(found.pop("code")) == 64
    assert found == {
        "method": "stranger_rec.corner.Corner",
        "distribution": "rec",
        "version": "1.2",
        "entry_point": "backfire.trigger:corner",
    }


def code_of(site, files, module):
    install(site, f"d{len(list(site.iterdir()))}", files, {})
    before = set(sys.modules)
    try:
        return origin_of(__import__(module, fromlist=["Corner"]).Corner)["code"]
    finally:
        for name in set(sys.modules) - before:
            del sys.modules[name]


def test_the_hash_follows_every_file_of_the_package_and_nothing_else(site):
    files = {"stranger_code/__init__.py": "", "stranger_code/corner.py": corner()}
    seen = [code_of(site, files, "stranger_code.corner")]
    seen.append(code_of(site, {"stranger_code/tool.py": "X = 1\n"}, "stranger_code.corner"))
    seen.append(code_of(site, {"stranger_code/tool.py": "X = 2\n"}, "stranger_code.corner"))
    assert len(set(seen)) == 3
    again = code_of(site, {"stranger_code/notes.txt": "none of its code"}, "stranger_code.corner")
    assert again == seen[-1]
    one = code_of(site, {"stranger_file.py": corner()}, "stranger_file")
    assert one != code_of(site, {"stranger_filf.py": corner() + "#\n"}, "stranger_filf")


def test_methods_of_this_house_leave_no_trace_and_others_are_found_wherever_they_stand():
    assert origin_of(Softmax) is None
    assert plugins_in([Softmax()]) == []

    class Mine(Softmax):
        kind: str = "mine"

    found = {one["method"].rsplit(".", 1)[-1] for one in plugins_in({"x": [(Mine(),)]})}
    assert found == {"Mine"}


def test_a_hash_without_plugins_is_as_it_was_and_each_of_their_facts_counts():
    plain = {"name": "x", "seed": 1}
    assert digest_of(plain, []) == digest_of(plain)
    record = {"method": "m", "distribution": "d", "version": "1", "entry_point": "p", "code": "c"}
    seen = {digest_of(plain), digest_of(plain, [record])}
    for name in record:
        seen.add(digest_of(plain, [record | {name: "other"}]))
    assert len(seen) == 2 + len(record)


def test_families_are_named_once():
    assert not OLD_GROUPS.keys() & FAMILIES.keys()
    assert set(OLD_GROUPS.values()) <= FAMILIES.keys()
    assert len(set(FAMILIES.values())) == len(FAMILIES)
    assert not FAMILIES.keys() & TOOLS.keys()
    assert all(family_of(package) == family for family, package in FAMILIES.items())
    assert family_of("learning") is None

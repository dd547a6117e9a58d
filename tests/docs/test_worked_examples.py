"""The Python of the pages on how to add methods runs as it stands, and its tests can fail."""

import re
from pathlib import Path

import pytest

from learning.families.table import FAMILIES

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    "adding-an-update-attack.md": ("PushBack", 2),
    "adding-an-aggregation-rule.md": ("UsualNorms", 2),
    "adding-a-filter.md": ("SmallestMargin", 2),
    "adding-a-trigger.md": ("Line", 2),
    "adding-a-data-set.md": ("Bars", 2),
    "adding-a-hook.md": ("NoisyBatch", 2),
    "adding-a-model.md": ("Sigmoids", 2),
    "adding-a-score.md": ("StrayAnswers", 2),
}


def python_of(page):
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.M | re.S)
    return "\n\n".join(blocks)


def played(source):
    """Return what the page's lines define."""
    names = {"__name__": "worked_example"}
    exec(compile(source, "worked_example", "exec"), names)  # noqa: S102 - our own page
    return names


def run_tests(names):
    """Run the tests among what a page defines; return how many there are."""
    tests = [value for name, value in names.items() if name.startswith("test_")]
    for test in tests:
        test()
    return len(tests)


@pytest.mark.parametrize("page", PAGES)
def test_the_example_of_a_page_passes_its_own_tests(page):
    method, least = PAGES[page]
    names = played(python_of(page))
    assert method in names
    assert run_tests(names) >= least
    for name, field in names[method].model_fields.items():
        if name in names[method].__annotations__ and name != "kind":  # not those of its base
            assert field.json_schema_extra["origin"] == "ours"


@pytest.mark.parametrize(
    ("page", "right", "wrong"),
    [
        ("adding-an-update-attack.md", "if view.previous is not None:", "if True:"),
        ("adding-an-update-attack.md", "(rate=0.5, ", "(rate=0.0, "),
        ("adding-an-update-attack.md", ", bound=self.radius)", ")"),
        ("adding-an-aggregation-rule.md", ": len(updates) - self.f]", ": len(updates)]"),
        ("adding-an-aggregation-rule.md", 'too_few(self, "2f + 1", 2 * self.f + 1, n)', "None"),
        ("adding-an-aggregation-rule.md", ".clamp(min=1e-300)", ""),
        ("adding-a-filter.md", "Verdict(pool.ids[np.sort(worst)]", "Verdict(np.sort(worst)"),
        ("adding-a-filter.md", "worst = worst[scores[worst] > 0]", ""),
        ("adding-a-filter.md", "np.lexsort((ties, -scores))", "np.arange(len(scores))"),
        ("adding-a-trigger.md", ", agent=key.agent)", ")"),
        ("adding-a-trigger.md", "top : top + self.thickness", "top : top + 1"),
        ("adding-a-trigger.md", "mask = np.zeros((1, 1, height", "mask = np.zeros((1, 2, height"),
        ("adding-a-trigger.md", "raise ValueError(f", "raise KeyError(f"),
        ("adding-a-data-set.md", "numpy_generator(0, ", "np.random.default_rng() or ("),
        ("adding-a-data-set.md", " / 4\n", " * 4\n"),
        ("adding-a-data-set.md", "self.side), 2, self.rows, 0)", "self.side), 2, self.rows, 1)"),
        ("adding-a-data-set.md", "if y[row] == 0 else", "if y[row] == 1 else"),
        ("adding-a-model.md", "self.width, classes", "self.width, classes + 1"),
        ("adding-a-model.md", "nn.Sigmoid()", "nn.Identity()"),
        ("adding-a-model.md", "nn.Linear(prod(shape),", "nn.Linear(prod(shape[1:]),"),
        ("adding-a-score.md", "(answers != own.targets) & ", ""),
        ("adding-a-score.md", "return share_of(stray[counted])", "return float(stray.mean())"),
        ("adding-a-score.md", "else own.counted", "else ~own.counted"),
        ("adding-a-hook.md", ".clamp(0, 1)", ""),
        ("adding-a-hook.md", "x.shape, generator=generator)", "x.shape)"),
        ("adding-a-hook.md", "self.doubt / targets.shape[1]", "self.doubt / 3"),
        ("adding-a-hook.md", "x + self.noise * drawn", "x.add_(self.noise * drawn)"),
    ],
)
def test_a_mistake_in_an_example_is_found_by_its_tests(page, right, wrong):
    source = python_of(page)
    assert source.count(right) == 1
    names = played(source.replace(right, wrong))
    with pytest.raises((AssertionError, TypeError)):
        run_tests(names)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_the_group_of_its_family(page):
    method, _ = PAGES[page]
    package = next(
        base.__module__.removesuffix(".base")
        for base in played(python_of(page))[method].__mro__
        if base.__module__.endswith(".base")
    )
    (group,) = re.findall(r"the group is `backfire\.(\w+)`", (DOCS / page).read_text())
    assert FAMILIES[group].startswith(package)


def test_the_pages_are_linked_and_their_links_lead_somewhere():
    for page in PAGES:
        assert f"docs/{page}" in (DOCS.parent / "README.md").read_text()
        assert f"({page})" in (DOCS / "adding-a-method.md").read_text()
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (DOCS / page).read_text()):
            assert (DOCS / target).exists(), target

"""The report: complete, self-contained, and unmoved by hostile names and files."""

from __future__ import annotations

import base64
import hashlib
import importlib
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import report_fixture as fixture
import torch
from PIL import Image

from backfire.reporting import render
from backfire.reporting.charts.heatmap import colours
from backfire.reporting.charts.svg import Scale, element
from backfire.reporting.gallery import exhibits
from backfire.reporting.origins import parameters
from backfire.reporting.readings import finding_reading, group_readings
from backfire.reporting.removals import counts
from backfire.reporting.text import (
    counted,
    fitted,
    gap_interval,
    interval,
    percent,
    points,
    sentence,
)
from server.referee.assembly import group_scores
from server.referee.findings import is_void, judged
from server.referee.results import Finding, FindingCode, GameResult, Quarantine, Score
from server.referee.scoring.agents import CountedHits
from server.referee.scoring.scores import mean_share, share, share_of
from server.referee.verdict import verdict
from server.store.run_folder import RunFolder, RunFolderError

VOID = {"meta", "img", "br", "link", "input", "hr"}
REFUSED = (
    Quarantine(agent="mallory-02", code="non_finite", message="expected finite inputs, got NaN"),
    Quarantine(agent=fixture.FORMULA, code="shape", message="got <b>(72, 8)</b>"),
)


class Page(HTMLParser):
    """Reads a page, and fails where its elements are not nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.style = ""
        self.feed(text)
        self.close()
        assert not self.open
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.texts.append(data)


def report(root: Path, game, result: GameResult, images=None) -> Page:
    path = render(fixture.write_folder(root, game, result, images))
    return Page(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory):
    game = fixture.scenario()
    result = fixture.Maker(game).result(REFUSED)
    folder = fixture.write_folder(
        tmp_path_factory.mktemp("runs"), game, result, fixture.gallery(game)
    )
    path = render(folder)
    return path, result, Page(path.read_text("utf-8"))


def check_self_contained(page: Page) -> None:
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form", "audio"}
    for _, attributes in page.tags:
        for key, value in attributes.items():
            assert not key.startswith("on"), key
            if key in {"src", "href", "srcset", "action", "data", "xlink:href", "background"}:
                assert re.match(r"#[\w-]+$|data:image/png;base64,[A-Za-z0-9+/=]+$", value), value
            assert not re.search(r"javascript:|url\(|https?://", value), value
    assert not re.search(r"url\(|@import|expression\(", page.style)
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:")


def test_the_page_needs_nothing_else_and_is_small(quickstart) -> None:
    path, _, page = quickstart
    check_self_contained(page)
    assert path.name == "report.html"
    assert path.stat().st_size < 1_500_000


def test_the_same_folder_gives_the_same_bytes_and_stays_valid(quickstart) -> None:
    path, result, _ = quickstart
    before = path.read_bytes()
    assert render(path.parent).read_bytes() == before
    assert RunFolder.open(path.parent).result() == result


def test_hostile_names_are_text_and_nothing_else(quickstart) -> None:
    path, _, page = quickstart
    source = path.read_text("utf-8")
    assert "<script" not in source
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in source
    for name in (fixture.HOSTILE, fixture.FORMULA, fixture.HEBREW, fixture.PLAIN):
        assert name in page.text
    assert "got <b>(72, 8)</b>" in page.text
    assert "&lt;b&gt;(72, 8)" in source


def shown(score: Score) -> str:
    if score.value is None:
        return "no inputs"
    value, reach = percent(score.value), interval(score)
    return f'<td title="{counted(score)}"><b>{value}</b><small>{reach}</small>'


def words(text: str) -> str:
    return " ".join(text.split())


def test_every_score_is_shown_with_its_count_and_interval(quickstart) -> None:
    path, result, page = quickstart
    cells, seen = path.read_text("utf-8"), 0
    for scores in result.defenders.values():
        inline = [scores.clean_accuracy, scores.clean_accuracy_attacker_free]
        inline += [*scores.adversarial_accuracy.values(), scores.guess_accuracy]
        for one in [score for score in inline if score is not None]:
            assert words(f"{percent(one.value)} ({interval(one)}, {counted(one)})") in page.text
        for record in scores.agents.values():
            for name in type(record).model_fields.keys() - {"more"}:
                one = getattr(record, name)
                if isinstance(one, Score):
                    assert shown(one) in cells, name
                elif one is not None:
                    assert words(f"{points(one.value)} {gap_interval(one)}") in page.text
                seen += one is not None
        for group in [*scores.groups.values(), scores.malicious]:
            for name in ("asr", "asr_all", "robust_accuracy"):
                found = re.escape(shown(getattr(group, name).pooled))
                assert re.search(found.replace('">', ', [^"]*">', 1), cells), name
            compared = group.comparison
            for one in (compared.together, compared.alone, compared.untrained):
                assert shown(one) in cells
            if not is_void(group):
                gap = compared.interference
                assert words(f"{points(gap.value)} {gap_interval(gap)}") in page.text
            assert f"{compared.agents} of {compared.of} also played alone" in page.text
        for one in scores.filters:
            assert shown(one.precision) in cells
            assert shown(one.recall) in cells
    assert seen > 300


def test_verdict_definitions_quarantine_scenario_and_replay_are_there(quickstart) -> None:
    path, result, page = quickstart
    text = page.text.replace("\u2068", "").replace("\u2069", "")
    for told in result.verdict:
        clean = words(sentence(told).replace("\u2068", "").replace("\u2069", ""))
        assert clean.replace("; ", ";") in text.replace("; ", ";")
    for name, meaning in result.definitions.items():
        assert name in text
        assert words(sentence(meaning)) in text
    assert "expected finite inputs, got NaN" in text
    assert "agents[1].behaviour.trigger.draw" in text
    assert f"backfire run {path.parent.name}/scenario.yaml" in text
    assert torch.__version__ in text
    headings = [tag for tag, _ in page.tags].count("h2")
    assert headings == 11


def test_the_charts_show_the_numbers(quickstart) -> None:
    _, result, page = quickstart
    agents = [r for r in result.roster if r.malicious and r.admitted]
    titles = [t for t in page.texts if re.match(r"ASR: .* of 42; 95 % interval", t)]
    for name, scores in result.defenders.items():
        for agent in agents:
            one = scores.agents[agent.name].asr
            title = f"ASR: {percent(one.value)} ({counted(one)}; 95 % interval {interval(one)})"
            assert title in titles, (name, agent.name)
    assert page.text.count("ASR alone: ") >= sum(
        one.asr_alone is not None for d in result.defenders.values() for one in d.agents.values()
    )
    assert sum("trigger of mallory-01, target of mallory-04" in t for t in page.texts) == 4


def test_a_heat_map_cell_has_the_colour_of_its_value(quickstart) -> None:
    _, result, page = quickstart
    source = next(a["href"] for t, a in page.tags if t == "image" and a.get("class") == "pixels")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))))
    matrix = next(iter(result.defenders.values())).cross_asr.matrix
    values = np.array([[np.nan if v is None else v for v in row] for row in matrix])
    np.testing.assert_array_equal(pixels, colours(values))
    assert len({tuple(p) for p in pixels.reshape(-1, 3)}) > 10


# Other games


@pytest.mark.parametrize(
    ("honest", "mallory", "chameleon", "strange"),
    [(5, 0, 0, False), (0, 1, 0, False), (1, 2, 0, False), (2, 60, 50, True)],
)
@pytest.mark.parametrize("controls", [True, False])
def test_any_number_of_agents_with_and_without_controls(
    tmp_path: Path, honest: int, mallory: int, chameleon: int, strange: bool, controls: bool
) -> None:
    game = fixture.scenario(honest, mallory, chameleon, strange)
    page = report(tmp_path, game, fixture.Maker(game, controls=controls).result())
    check_self_contained(page)
    assert ("there is no attack success rate" in page.text) == (mallory == 0)
    assert ("the game without attackers was not played" in page.text) != controls
    assert ("control: a model that never saw" in page.text) == (controls and mallory > 0)


def test_nobody_admitted(tmp_path: Path) -> None:
    game = fixture.scenario(0, 2, 0, False)
    out = tuple(
        Quarantine(agent=f"mallory-0{k}", code="missing", message="no reply") for k in (1, 2)
    )
    page = report(tmp_path, game, fixture.Maker(game).result(out))
    assert "2\u00a0contributions refused" in page.text or "2 contributions refused" in page.text


def test_a_thousand_agents_are_few_pages(tmp_path: Path) -> None:
    game = fixture.scenario(100, 500, 400, False)
    result = fixture.Maker(game, inputs=3).result()
    path = render(fixture.write_folder(tmp_path, game, result, fixture.gallery(game)))
    page = Page(path.read_text("utf-8"))
    assert path.stat().st_size < 3_000_000
    assert "agents.parquet" in page.text
    assert "mallory-500" in page.text or "mallory-499" in page.text or "extremes" in page.text
    bars = [t for t in page.texts if re.search(r"%: \d+ of (500|400) agents", t)]
    for size in (500, 400):
        total = sum(int(re.search(r": (\d+) of", t)[1]) for t in bars if f"of {size} " in t)
        assert total == 4 * size


def test_the_extremes_of_many_agents_are_listed(tmp_path: Path) -> None:
    game = fixture.scenario(20, 50, 50, False)
    result = fixture.Maker(game).result()
    page = report(tmp_path, game, result)
    scores = result.defenders["undefended"].agents
    ranked = sorted(
        (r.name for r in result.roster if r.malicious), key=lambda n: scores[n].asr.value
    )
    table = page.text.split("Every agent, every score")[1].split("augmented – the extremes")[0]
    best = scores[ranked[-1]].asr.value
    assert any(n in table for n in ranked if scores[n].asr.value == best)
    worst = scores[ranked[0]].asr.value
    assert any(n in table for n in ranked if scores[n].asr.value == worst)
    listed = [n for n in ranked if re.search(rf"{n}\b", table)]
    assert len(listed) == 16


def test_a_diverged_training_and_empty_curves(tmp_path: Path) -> None:
    game = fixture.scenario(1, 2, 0, False)
    data = json.loads(fixture.Maker(game).result().model_dump_json())
    data["defenders"]["undefended"]["curves"] = [
        {"name": "shared", "points": [{"train_loss": "NaN"}, {"train_loss": "Infinity"}]},
        {"name": "empty", "points": []},
        {"name": "huge", "points": [{"train_loss": 1e308}, {"train_loss": -1e308}]},
    ]
    page = report(tmp_path, game, GameResult.model_validate(data))
    assert "nan" not in [v for _, a in page.tags for v in a.values()]


# Hostile folders


def forge(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)
    sums = json.loads((folder / "checksums.json").read_bytes())
    sums[name] = hashlib.sha256(data).hexdigest()
    (folder / "checksums.json").write_text(json.dumps(sums))


def small_folder(tmp_path: Path) -> Path:
    game = fixture.scenario(1, 2, 0, False)
    return fixture.write_folder(tmp_path, game, fixture.Maker(game).result(), None)


def change(folder: Path, edit) -> None:
    data = json.loads((folder / "result.json").read_bytes())
    edit(data)
    forge(folder, "result.json", json.dumps(data).encode())


def _undefended(data: dict) -> dict:
    return data["defenders"]["undefended"]


REFUSALS = {
    "wrong hash": lambda d: d.update(scenario_hash="0" * 64),
    "version": lambda d: d.update(version=2),
    "unknown field": lambda d: d.update(html="<b>"),
    "no verdict": lambda d: d.update(verdict=[]),
    "share above one": lambda d: _undefended(d)["clean_accuracy"].update(value=7.0),
    "share not a number": lambda d: _undefended(d)["clean_accuracy"].update(low="NaN"),
    "count below zero": lambda d: _undefended(d)["clean_accuracy"].update(count=-1),
    "count beyond all": lambda d: _undefended(d)["clean_accuracy"].update(count=10**400),
    "ragged matrix": lambda d: _undefended(d)["cross_asr"].update(targets=[1]),
    "seconds": lambda d: d["seconds"].update(training="Infinity"),
    "text for a number": lambda d: d.update(trainings="<script>"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_hostile_result_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    folder = small_folder(tmp_path)
    change(folder, REFUSALS[kind])
    with pytest.raises(RunFolderError) as caught:
        render(folder)
    assert str(caught.value).isprintable()
    assert not (folder / "report.html").exists()


def test_a_changed_result_is_refused(tmp_path: Path) -> None:
    folder = small_folder(tmp_path)
    text = (folder / "result.json").read_text()
    (folder / "result.json").write_text(text.replace("quickstart", "quickstarT", 1))
    with pytest.raises(RunFolderError, match="SHA-256"):
        render(folder)


def test_hostile_text_in_every_field_stays_text(tmp_path: Path) -> None:
    folder = small_folder(tmp_path)
    bad = "</style></title><script>x</script>\x1b[31m\u202e\n{{ 7*7 }}{% raw %}"

    def poison(value, key=""):
        if isinstance(value, dict):
            keep = key in {"points"}
            return {k if keep or k in FIELDS else bad + k: poison(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [poison(v, key) for v in value]
        fixed = {"scenario_hash", "game", "code"}
        if isinstance(value, str) and key not in fixed and value != "NaN":
            return bad + value
        return value

    def edit(data: dict) -> None:
        poisoned = poison(data)
        data.clear()
        data.update(poisoned)

    change(folder, edit)
    forge(folder, "environment.json", json.dumps({bad: bad, "argv": [bad]}).encode())
    page = Page(render(folder).read_text("utf-8"))
    check_self_contained(page)
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text
    assert "{{ 7*7 }}" in page.text
    assert "<script>x</script>\\x1b[31m\\u202e\\n" in page.text


def _fields(model: type) -> set[str]:
    found: set[str] = set()
    for name, info in model.model_fields.items():
        found.add(name)
        for part in re.findall(r"server\.referee\.results\.(\w+)", str(info.annotation)):
            found |= _fields(getattr(importlib.import_module("server.referee.results"), part))
    return found


FIELDS = _fields(GameResult) | {"train_loss", "train_accuracy", "learning_rate"}


def test_an_old_scenario_is_listed_without_origins(tmp_path: Path) -> None:
    game = fixture.scenario(1, 1, 0, False)
    resolved = game.resolved() | {"gone": {"field": [1, 2]}}
    lines = {line.path: line for line in parameters(resolved)}
    assert lines["gone.field"].value == "[1,2]"
    assert all(line.origin == "" for line in lines.values())


# Parts


def test_origins_of_defaults_and_of_what_the_scenario_sets() -> None:
    lines = {line.path: line for line in parameters(fixture.scenario().resolved())}
    assert lines["agents[1].behaviour.trigger.epsilon"].origin == "scenario"
    assert lines["agents[1].behaviour.trigger.rho"].origin == "ours"
    assert lines["agents[1].behaviour.poison_rate"].origin == "paper"
    assert lines["agents[1].behaviour.kind"].paper.startswith("Gu et al. 2019")
    assert lines["defenders.undefended"].value == "[]"
    assert lines["defenders.augmented[0].agents"].value == "20"
    assert lines["seed"].value == "0"


def test_the_gallery_shows_pixels_and_their_difference() -> None:
    before = torch.full((2, 1, 4, 8), 0.2).numpy()
    after = before.copy()
    after[0, 0, 1, 2], after[0, 0, 0, 0] = 1.0, math.nan
    images = {"original/a/b": before, "triggered/a/b": after}
    images |= {"poisoned/a/b": before, "poisoned_from/a/b": before, "triggered/c": after}
    (shown,) = exhibits(images, ["a/b", "c"])
    run_time, contributed = shown.strips
    picture = Image.open(io.BytesIO(base64.b64decode(run_time.pairs[0].change.split(",")[1])))
    change = np.asarray(picture)
    assert change.shape == (32, 64)
    assert change[9, 17] == round(255 * 0.9)
    assert change[9, 15] == 128
    assert change[0, 0] == round(255 * 0.4)
    assert (run_time.same, contributed.same) == (False, True)


def test_a_gallery_of_large_images_stays_within_its_budget() -> None:
    noise = np.random.default_rng(0).random((4, 3, 224, 224), dtype=np.float32)
    images = {f"{kind}/{k}": noise for kind in ("original", "triggered") for k in range(12)}
    found = exhibits(images, [str(k) for k in range(12)])
    size = sum(len(p.before + p.after + p.change) for e in found for s in e.strips for p in s.pairs)
    assert found
    assert size < 2_000_000


def test_removed_rows_add_up_by_agent_and_by_group() -> None:
    for sizes in ((2, 3, 3, False), (10, 30, 30, False)):
        maker = fixture.Maker(fixture.scenario(*sizes))
        (scores,) = maker.filters()
        more = scores.model_copy(update={"removed": scores.removed + 7})
        what, rows = counts(more, {r.name: r for r in maker.roster})
        assert what == ("agent" if sum(sizes[:3]) <= 40 else "group")
        assert sum(row.caught + row.lost for row in rows) == more.removed
        assert sum(row.caught + row.missed for row in rows) == more.poisoned
        assert rows[-1].name == "other rows"
        assert rows[-1].lost == 7


def test_scales_clamp_and_ticks_are_round() -> None:
    scale = Scale(10, 110)
    assert [scale(v) for v in (-1, 0, 0.25, 1, 9, math.inf, -math.inf, math.nan)] == [
        10, 10, 35, 110, 110, 110, 10, 10,
    ]  # fmt: skip
    assert scale.ticks() == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert Scale(0, 1, 0.85, 1.0).ticks() == [0.85, 0.9, 0.95, 1.0]
    for low, high in ((0, 0), (0, math.inf), (-1e308, 1e308), (0, 5e-324), (0, math.nan)):
        assert len(Scale(0, 1, low, high).ticks()) < 20


VERDICTS = {
    "backfired": " backfired: ",
    "helped": "the other attackers help it",
    "not_backfired": "did not backfire: ",
    "bounded": "points at most: ",
    "open": "is unclear, ",
    "lower": "less success together",
    "higher": "more success together",
    "alike": "about the same success",
    "no_effect": "does not surely beat the same triggers",
    "not_alone": "as none of its attackers was played alone",
    "no_control": "(referee.attacker_free)",
}


def test_badges_and_verdict_are_of_one_finding() -> None:
    # Audit A7: badges contradicted each other and the table.
    draw = np.random.default_rng(0)
    maker = fixture.Maker(fixture.scenario(0, 3, 0, False))
    met = set()
    for _ in range(600):
        maker.inputs = int(draw.choice([5, 40, 400, 2000]))
        rates = draw.choice([0.05, 0.1, 0.12, 0.5, 0.52, 0.9], 2)
        trainings = int(draw.choice([1, 3]))
        played, free = draw.random() < 0.95, draw.random() < 0.95
        agents, hits = [], []
        for k in range(3):
            drawn = [
                np.stack([maker.hits(rate) for _ in range(trainings)]) for rate in (*rates, 0.1)
            ]
            scores, _ = maker.agent(maker.roster[k], "undefended", False)
            agents.append(
                scores.model_copy(
                    update={
                        "asr": share_of(drawn[0][0]),
                        "asr_together": mean_share(drawn[0]) if played else None,
                        "asr_alone": mean_share(drawn[1]) if played else None,
                        "asr_untrained": mean_share(drawn[2]) if free else None,
                        "clean_accuracy_alone": share(350, 360) if played else None,
                    }
                )
            )
            hits.append(
                CountedHits(drawn[0], drawn[2] if free else None, drawn[1] if played else None)
            )
        group = group_scores(agents, hits)
        defender = judged(
            maker.defender("undefended").model_copy(update={"groups": {"mallory": group}}), 3
        )
        told = verdict({"undefended": defender}, maker.roster, ())[0]
        found = defender.groups["mallory"]
        badges = group_readings(found)
        assert VERDICTS[found.finding.code] in told, (found.finding, told)
        assert all(badge.words and badge.meaning for badge in badges)
        assert len({badge.words for badge in badges}) == len(badges)
        # "as if untrained" never beside a finding that rests on an effect together.
        if [badge.words for badge in badges[1:]] == ["ASR as if untrained"]:
            assert found.effect.low <= 0
        met.add(found.finding.code)
    assert met == set(VERDICTS)


def test_every_finding_has_a_badge_with_words_of_its_own() -> None:
    codes = get_args(FindingCode)
    nothing = group_scores([], [])
    badges = [
        finding_reading(nothing.model_copy(update={"finding": Finding(code=code)}))
        for code in codes
    ]
    assert len({badge.words for badge in badges}) == len(codes)
    assert len({badge.meaning for badge in badges}) == len(codes)


def test_the_page_on_verdicts_names_every_badge() -> None:
    page = (Path(__file__).parents[2] / "docs" / "verdicts.md").read_text("utf-8")
    nothing = group_scores([], [])
    for code in get_args(FindingCode):
        badge = finding_reading(nothing.model_copy(update={"finding": Finding(code=code)}))
        named = "loses ... points at most" if code == "bounded" else badge.words
        assert named in page, code
    assert "ASR as if untrained" in page


def test_elements_escape_their_attributes_and_texts() -> None:
    made = element("text", '<a&"', title="\"'><script>", x=0.04, y=math.inf, class_=None)
    assert made == '<text title="&#34;&#39;&gt;&lt;script&gt;" x="0" y="0">&lt;a&amp;&#34;</text>'


def test_text_is_fitted_and_right_to_left_words_are_isolated() -> None:
    assert fitted("mallory-01", 7) == "mallory-01"
    assert fitted("W" * 30, 7) == "W" * 6 + "…"
    assert fitted("漢" * 9, 7) == "漢" * 6 + "…"
    assert sentence("ASR of שלום עולם 19 %") == "ASR of \u2068שלום עולם\u2069 19\u202f%"
    assert points(-0.125) == "−12.5"

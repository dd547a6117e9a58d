"""The container files agree with the program: commands, files, variables, versions, secrets.

No image is built here; `hadolint` and Compose's own schema were used when the files were written.
"""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer.main
import yaml
from packaging.requirements import Requirement

from backfire.cli.main import app

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
FILES = ("compose.yml", "gpu.yml", "chaos.yml")
COMPOSE = {name: yaml.safe_load((DOCKER / name).read_text()) for name in FILES}
SERVICES = COMPOSE["compose.yml"]["services"]
AGENTS = ("alice", "bob", "mallory")
DOCKERFILE = (DOCKER / "Dockerfile").read_text()


def parse(arguments):
    """Parse a command line of ours as the program does, without running it."""
    command, name, rest = typer.main.get_command(app), "backfire", list(arguments)
    while hasattr(command, "commands"):
        name = rest.pop(0)
        command = command.commands[name]
    command.make_context(name, rest)


def filled(value):
    """Return a Compose value with the defaults of its variables."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))


def command_lines():
    for name, service in SERVICES.items():
        yield f"{name}: command", service["command"]
        yield f"{name}: healthcheck", service.get("healthcheck", {}).get("test", [])[2:]
    image = [line for line in DOCKERFILE.splitlines() if line.startswith("CMD")]
    assert image


@pytest.mark.parametrize(("place", "line"), [pair for pair in command_lines() if pair[1]])
def test_every_command_exists_in_the_program(place, line):
    parse([filled(word) for word in line])


def commands_in_comments():
    for path in [*(DOCKER / name for name in FILES), DOCKER / "Dockerfile"]:
        for line in path.read_text().splitlines():
            if found := re.match(r"#\s+(backfire .*)", line):
                yield found[1]


def test_every_command_in_a_comment_exists():
    lines = list(commands_in_comments())
    assert lines
    for line in lines:
        parse(shlex.split(line)[1:])


def test_health_checks_run_our_program():
    for name, service in SERVICES.items():
        if name != "table":
            assert service["healthcheck"]["test"][:2] == ["CMD", "backfire"], name


def test_a_command_that_does_not_exist_is_noticed():
    with pytest.raises(Exception, match="No such option"):
        parse(["deploy", "up", "/deployment", "--no-such-option"])
    with pytest.raises(KeyError):
        parse(["deploy", "no-such-command"])


def test_the_scenario_of_the_table_is_for_these_agents():
    from scenarios.library import find
    from scenarios.loader import load

    command = SERVICES["table"]["command"]
    roster = load(find(command[1])).roster()
    assert tuple(place.name for place in roster) == AGENTS


def test_every_variable_is_explained_with_its_default():
    told = dict(
        line.split("=", 1)
        for line in (DOCKER / ".env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )
    used = {}
    for name in FILES:
        text = (DOCKER / name).read_text()
        assert not re.search(r"\$\{\w+\}|\$\w", text), "a variable without a default"
        for variable, default in re.findall(r"\$\{(\w+):-([^}]*)\}", text):
            assert used.setdefault(variable, default) == default, variable
    assert used == told


def test_only_the_fleet_port_is_published_and_only_on_loopback_by_default():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert [filled(port) for port in ports] == ["127.0.0.1:9443:9443"]
    assert SERVICES["table"]["network_mode"] == "service:superlink"


@pytest.mark.parametrize("name", SERVICES)
def test_containers_have_no_rights_that_they_do_not_need(name):
    service = SERVICES[name]
    assert filled(service["user"]) == "1000:1000"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "mem_limit" in service
    assert "pids_limit" in service
    assert not {"privileged", "pid", "ipc"} & set(service)


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_is_given_its_own_kit_and_nothing_else(name):
    service = SERVICES[name]
    secrets = {item["source"]: item["target"] for item in service["secrets"]}
    configs = {item["source"]: item["target"] for item in service["configs"]}
    assert secrets == {f"{name}-key": "/kit/key"}
    assert configs == {"ca": "/kit/ca.crt", name: "/kit/agent.yaml"}
    assert service["volumes"] == [f"{name}-data:/data:ro"]


def test_what_is_referred_to_is_there(tmp_path):
    from backfire.deployment.operations import init
    from small_deployments import plan

    init(tmp_path / "table", plan(agents=AGENTS))
    compose = COMPOSE["compose.yml"]
    for kind in ("configs", "secrets"):
        for name, item in compose[kind].items():
            assert (tmp_path / filled(item["file"])).is_file(), name
    for service in SERVICES.values():
        for kind in ("configs", "secrets"):
            assert {item["source"] for item in service.get(kind, [])} <= set(compose[kind])
        assert set(service.get("networks", [])) <= set(compose["networks"])
        volumes = {volume.split(":")[0] for volume in map(filled, service.get("volumes", []))}
        assert {name for name in volumes if not name.startswith((".", "/"))} <= set(
            compose["volumes"]
        )


def test_overlays_change_services_that_exist():
    for name in ("gpu.yml", "chaos.yml"):
        for service, changes in COMPOSE[name]["services"].items():
            assert service in SERVICES or "image" in changes, f"{name}: {service}"
            build = changes.get("build")
            if build:
                assert f" AS {build['target']}\n" in DOCKERFILE
                assert (DOCKER / build["context"] / build["dockerfile"]).is_file()


def test_the_image_holds_every_package_and_nothing_private():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    copied = set(re.findall(r"^COPY (\w+)/ \1/$", DOCKERFILE, re.MULTILINE))
    assert copied == set(wheel["targets"]["wheel"]["packages"])
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        assert all((ROOT / source).exists() for source in line.split()), line
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    allowed = {line[1:] for line in rules if line.startswith("!")}
    assert rules[0] == "*"
    assert allowed == copied | {"pyproject.toml", "README.md", "LICENSE", "docker/constraints.txt"}


def test_the_image_is_pinned_and_not_of_root():
    bases = re.findall(r"^ARG PYTHON=(.+)$", DOCKERFILE, re.MULTILINE)
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", bases[0])
    stages = DOCKERFILE.split("\nFROM ")
    runtime = next(stage for stage in stages if " AS runtime" in stage)
    assert "\nUSER 1000:1000\n" in runtime
    assert stages[-1].strip() == "runtime"


def test_the_pinned_versions_are_those_that_we_ask_for():
    lines = (DOCKER / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for requirement in map(Requirement, needed):
        version = pinned[requirement.name.lower()]
        assert requirement.specifier.contains(version), f"{requirement}: {version}"

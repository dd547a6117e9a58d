"""What an operator does: make a deployment, change its agents, bring it up, look at it, end it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from backfire.deployment import credentials as kits
from backfire.deployment import files, pki, superlink
from backfire.deployment import node_registry as roll
from backfire.deployment.layout import EVERY_ADDRESS, Deployment, Settings
from backfire.deployment.names import agent_names, host_name, reachable_name
from backfire.deployment.play_mode import PlayMode
from backfire.errors import DeployError, UsageError
from backfire.runtimes.grpc import probe
from scenarios.text.quoting import printable, shown

START_SECONDS = 60.0
ENDING_SECONDS = 5.0


@dataclass(frozen=True)
class Plan:
    """A deployment to be made.

    Attributes:
        hosts: Names and addresses of the server's machine; the first is the one in the kits.
        agents: The agents' names.
        port: Port of the Control and Runtime API.
        fleet_port: Port that agents connect to.
        fleet_host: Address that the latter is bound to.
        days: How long the server's certificate is valid.
        play: What agents play with until their owners say otherwise.
    """

    hosts: Sequence[str]
    agents: Sequence[str]
    port: int = 8443
    fleet_port: int = 9443
    fleet_host: str = EVERY_ADDRESS
    days: int = 365
    play: PlayMode = PlayMode.PRIVATE


@dataclass(frozen=True)
class Up:
    """What `up` found or did.

    Attributes:
        pid: The SuperLink's process.
        started: Whether it was started now.
        added: Agents that were registered now.
        revoked: Names whose keys were revoked now.
        days_left: How long the server's certificate is still valid.
    """

    pid: int
    started: bool
    added: list[str]
    revoked: list[str]
    days_left: int


@dataclass(frozen=True)
class Status:
    """How a deployment is.

    Attributes:
        running: Whether the SuperLink's process lives.
        pid: Its number, or None.
        control: Whether the Control API answers that it is well.
        fleet: Whether the port of the agents answers, with a certificate of ours.
        agents: The agents with their states; empty where the Control API does not answer.
        strangers: Names let in that `deploy.yaml` does not have.
        certificate: Days for which the server's certificate is valid, or what is wrong with it.
    """

    running: bool
    pid: int | None
    control: bool
    fleet: bool
    agents: list[roll.Called]
    strangers: list[str]
    certificate: int | str

    @property
    def well(self) -> bool:
        """Whether games can be played."""
        return (
            self.running and self.control and self.fleet and not isinstance(self.certificate, str)
        )


def init(folder: Path, plan: Plan) -> Deployment:
    """Make a deployment: certificates, keys, kits. All of it appears at once, or nothing.

    Raises:
        UsageError: If there is something of that name, or the plan cannot be.
        DeployError: If the disk refuses.
    """
    hosts = tuple(reachable_name(host) for host in plan.hosts)
    settings = Settings(
        host=hosts[0],
        names=hosts[1:],
        port=plan.port,
        fleet_port=plan.fleet_port,
        fleet_host=host_name(plan.fleet_host),
        agents=agent_names(plan.agents),
    )
    _refuse_existing(folder)
    with _told_by_disk(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _build(Deployment(work, settings), plan)
            work.rename(folder)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    return Deployment.read(folder)


def add(folder: Path, name: str, public_key: Path | None, play: PlayMode) -> Deployment:
    """Add an agent, with a key pair of ours or the public key that its owner sent.

    Raises:
        UsageError: If the name or the key cannot be, or is there already.
    """
    deployment = Deployment.read(folder)
    (name,) = agent_names([name], deployment.settings.agents)
    key = None if public_key is None else _own_key(deployment, public_key)
    with _told_by_disk(folder):
        kits.remove_kit(deployment, name)
        _write_agent(deployment, name, play, key)
        changed = deployment.changed(agents=(*deployment.settings.agents, name))
        changed.write()
    return changed


def remove(folder: Path, name: str) -> Deployment:
    """Remove an agent with its key and its kit; a SuperLink lets it in no longer after `up`.

    Raises:
        UsageError: If there is no such agent, or no other one.
    """
    deployment = Deployment.read(folder)
    agents = deployment.settings.agents
    if name not in agents:
        raise UsageError(f"expected an agent of {', '.join(agents)}; got {shown(name)}")
    if len(agents) == 1:
        raise UsageError(f"{name} is the only agent; add another one first")
    with _told_by_disk(folder):
        changed = deployment.changed(agents=tuple(each for each in agents if each != name))
        changed.write()
        deployment.public_key(name).unlink(missing_ok=True)
        kits.remove_kit(deployment, name)
    return changed


def renew(folder: Path, hosts: Sequence[str], days: int) -> Deployment:
    """Make a new certificate for the server; kits stay as they are.

    Args:
        folder: The deployment.
        hosts: Further names of the server's machine.
        days: How long the certificate is valid.
    """
    deployment = Deployment.read(folder)
    names = dict.fromkeys((*deployment.settings.names, *(reachable_name(host) for host in hosts)))
    changed = deployment.changed(names=tuple(names))
    signed = pki.server(pki.read_authority(changed), changed.server_names, days)
    with _told_by_disk(folder):
        files.write(changed.server_key, signed.key_pem())
        files.write(changed.server, signed.certificate_pem(), files.PUBLIC)
        changed.write()
    return changed


def up(folder: Path, seconds: float = START_SECONDS) -> Up:
    """Start the SuperLink unless it runs, wait for it, and enrol the agents.

    Raises:
        DeployError: If it cannot be brought up; what was started is then ended.
    """
    deployment = Deployment.read(folder)
    days = pki.days_left(deployment)
    superlink.program()
    with _started(deployment, seconds, detached=True) as process:
        added, revoked = roll.enrol(deployment)
        found = superlink.running(deployment)
    pid = found.pid if found else 0
    return Up(pid, process is not None, added, revoked, days)


def up_in_foreground(folder: Path, told: Callable[[Up], None]) -> None:
    """Bring the SuperLink up and stay until it ends, or until this process is asked to.

    Args:
        folder: The deployment.
        told: Called once it is up.

    Raises:
        DeployError: If one runs already, or it ends by itself.
    """
    deployment = Deployment.read(folder)
    days = pki.days_left(deployment)
    superlink.program()
    with _asked_to_end() as asked, _started(deployment, START_SECONDS, detached=False) as process:
        if process is None:
            raise DeployError("the SuperLink runs already; see `backfire deploy status`")
        added, revoked = roll.enrol(deployment)
        told(Up(process.pid, True, added, revoked, days))
        try:
            code = process.wait()
        except _StopAsked:
            superlink.stop(deployment)
            process.wait()
            return
        if not asked:
            raise DeployError(f"the SuperLink ended with code {code}")


def status(folder: Path) -> Status:
    """Look at a deployment; nothing is changed.

    Raises:
        UsageError: If the folder holds none.
    """
    deployment = Deployment.read(folder)
    process = superlink.running(deployment)
    well = probe.healthy(deployment.control, deployment.ca)
    called, strangers = roll.call(deployment) if well else ([], [])
    return Status(
        running=process is not None,
        pid=process.pid if process else None,
        control=well,
        fleet=_answers(deployment),
        agents=called,
        strangers=strangers,
        certificate=_certificate(deployment),
    )


def down(folder: Path, grace: float = superlink.GRACE) -> str:
    """End the SuperLink; return what happened, in words."""
    return superlink.stop(Deployment.read(folder), grace)


class _StopAsked(Exception):
    """This process was asked to end."""


@contextmanager
def _asked_to_end() -> Iterator[list[int]]:
    """Turn the first SIGTERM or SIGINT into `_StopAsked`."""
    asked: list[int] = []

    def hear(number: int, _: FrameType | None) -> None:
        asked.append(number)
        if len(asked) == 1:
            raise _StopAsked

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, hear) for number in numbers]
    try:
        yield asked
    except _StopAsked:
        return
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _started(
    deployment: Deployment, seconds: float, *, detached: bool
) -> Iterator[subprocess.Popen[bytes] | None]:
    """Start the SuperLink and wait for it; where the body fails, end it again.

    Yields None where one runs already.
    """
    with superlink.locked(deployment, ENDING_SECONDS) as lock:
        if lock is None:
            superlink.wait(deployment, None, seconds)
            yield None
            return
        superlink.check(deployment)
        process = superlink.start(deployment, lock, detached=detached)
    try:
        superlink.wait(deployment, process, seconds)
        yield process
    except BaseException:
        superlink.stop(deployment)
        process.wait()
        raise


def _build(deployment: Deployment, plan: Plan) -> None:
    folders = (
        deployment.pki,
        deployment.keys,
        deployment.kits,
        deployment.state,
        deployment.flower,
    )
    for path in folders:
        files.make_folder(path)
    ca = pki.authority(deployment.settings.host, plan.days)
    signed = pki.server(ca, deployment.server_names, plan.days)
    files.write(deployment.ca, ca.certificate_pem(), files.PUBLIC)
    files.write(deployment.ca_key, ca.key_pem())
    files.write(deployment.server, signed.certificate_pem(), files.PUBLIC)
    files.write(deployment.server_key, signed.key_pem())
    for name in deployment.settings.agents:
        _write_agent(deployment, name, plan.play, None)
    deployment.write()


def _write_agent(deployment: Deployment, name: str, play: PlayMode, public: bytes | None) -> None:
    private, made = (None, public) if public is not None else pki.agent_key()
    kits.make_kit(deployment, name, private, play)
    files.write(deployment.public_key(name), made + f" {name}\n".encode(), files.PUBLIC)


def _own_key(deployment: Deployment, path: Path) -> bytes:
    pem = pki.public_pem(path)
    for name in deployment.settings.agents:
        if pki.public_pem(deployment.public_key(name)) == pem:
            raise UsageError(f"expected a key of its own, got the one of {name}")
    return b" ".join(path.read_bytes().split()[:2])


def _refuse_existing(folder: Path) -> None:
    if os.path.lexists(folder):
        raise UsageError(
            f"expected a new folder, got {shown(str(folder), 200)}, which exists; nothing is ever "
            "overwritten (`backfire deploy add` adds an agent)"
        )


@contextmanager
def _told_by_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = printable(str(error.filename or folder), 300)
        raise DeployError(f"{place} cannot be written: {error.strerror or error}") from None


def _answers(deployment: Deployment) -> bool:
    try:
        probe.reach(deployment.fleet_here, deployment.ca)
    except DeployError:
        return False
    return True


def _certificate(deployment: Deployment) -> int | str:
    try:
        return pki.days_left(deployment)
    except DeployError as error:
        return str(error)

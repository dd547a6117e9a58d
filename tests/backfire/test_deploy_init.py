"""A deployment's folder: certificates, keys, kits; what is refused; what never leaks."""

import datetime as dt
import ipaddress
import os
import re
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)
from cryptography.x509 import verification

from backfire.deployment import pki
from backfire.deployment.layout import Deployment
from backfire.deployment.names import agent_names, host_name
from backfire.deployment.operations import add, init, remove, renew
from backfire.deployment.play_mode import PlayMode
from backfire.errors import DeployError, UsageError
from clients.agent_file import AgentFile
from small_deployments import AGENTS, plan

CANARY = b"canary-7f3a-do-not-leak"
BEGINS = b"PRIVATE KEY"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One deployment, made under a careless umask; tests only read it."""
    before = os.umask(0)
    try:
        return init(tmp_path_factory.mktemp("deploy") / "table", plan())
    finally:
        os.umask(before)


@pytest.fixture
def own(tmp_path):
    return init(tmp_path / "table", plan(agents=["alice", "bob"]))


def certificate(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def verify(made, subject, when=None):
    """Verify the server's certificate as a TLS client does, by another implementation."""
    store = verification.Store([certificate(made.ca)])
    builder = verification.PolicyBuilder().store(store)
    if when:
        builder = builder.time(when)
    builder.build_server_verifier(subject).verify(certificate(made.server), [])


@pytest.mark.parametrize("name", ["table.example.org", "localhost"])
def test_the_certificate_is_valid_for_the_names(made, name):
    verify(made, x509.DNSName(name))


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.0.0.7"])
def test_the_certificate_is_valid_for_the_addresses(made, address):
    verify(made, x509.IPAddress(ipaddress.ip_address(address)))


def test_the_certificate_is_valid_for_nothing_else(made):
    with pytest.raises(verification.VerificationError):
        verify(made, x509.DNSName("evil.example.org"))
    late = dt.datetime.now(dt.UTC) + dt.timedelta(days=366)
    with pytest.raises(verification.VerificationError):
        verify(made, x509.DNSName("localhost"), late)


def test_another_authority_is_not_trusted(made, own):
    store = verification.Store([certificate(own.ca)])
    verifier = (
        verification.PolicyBuilder().store(store).build_server_verifier(x509.DNSName("localhost"))
    )
    with pytest.raises(verification.VerificationError):
        verifier.verify(certificate(made.server), [])


def test_the_authority_signs_certificates_and_nothing_else(made):
    found = certificate(made.ca)
    basic = found.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = found.extensions.get_extension_for_class(x509.KeyUsage).value
    assert basic.critical
    assert (basic.value.ca, basic.value.path_length) == (True, 0)
    assert (usage.key_cert_sign, usage.digital_signature) == (True, False)


def test_each_agent_has_a_key_of_flowers_kind_and_the_pair_fits(made):
    keys = set()
    for name in AGENTS:
        private = load_ssh_private_key((made.kits / name / "key").read_bytes(), None)
        public = load_ssh_public_key(made.public_key(name).read_bytes())
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        assert isinstance(private.curve, ec.SECP384R1)
        assert private.public_key() == public
        keys.add(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert len(keys) == len(AGENTS)


def test_flowers_own_command_line_reads_the_public_keys(made):
    from flwr.cli.supernode.register import try_load_public_key

    for name in AGENTS:
        assert try_load_public_key(made.public_key(name)) == pki.public_pem(made.public_key(name))


def test_secrets_are_for_their_owner_only(made):
    for path in [made.folder, *made.folder.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.is_dir():
            assert mode == 0o700, path
        elif BEGINS in path.read_bytes() or path.suffix == ".zip":
            assert mode == 0o600, path
        else:
            assert mode in (0o600, 0o644), path


def test_private_keys_lie_where_they_belong_and_nowhere_else(made):
    found = {
        path.relative_to(made.folder).as_posix()
        for path in made.folder.rglob("*")
        if path.is_file() and BEGINS in path.read_bytes()
    }
    assert found == {"pki/ca.key", "pki/server.key", *(f"kits/{name}/key" for name in AGENTS)}


def secrets_of(made):
    """Return the secret part of every private key, as bytes that a copy would hold."""
    lines = {}
    for path in [made.ca_key, made.server_key, *(made.kits / name / "key" for name in AGENTS)]:
        lines[path] = path.read_bytes().splitlines()[2]
    return lines


def test_a_kit_holds_no_secret_of_others(made):
    for name in AGENTS:
        with zipfile.ZipFile(made.kits / f"{name}.zip") as archive:
            packed = {item.filename: archive.read(item) for item in archive.infolist()}
            modes = {(item.external_attr >> 16) & 0o777 for item in archive.infolist()}
        expected = {"key", "ca.crt", "agent.yaml", "README.md"}
        assert set(packed) == {f"{name}/{file}" for file in expected}
        assert modes == {0o600}
        folder = made.kits / name
        assert {path.name for path in folder.iterdir()} == expected
        for file in expected:
            assert packed[f"{name}/{file}"] == (folder / file).read_bytes()
        assert packed[f"{name}/ca.crt"] == made.ca.read_bytes()
        everything = b"".join(packed.values())
        for path, secret in secrets_of(made).items():
            assert (secret in everything) == (path == folder / "key"), path


def test_t46_a_canary_beside_the_secrets_reaches_no_kit(tmp_path):
    """T46: what lies in the server's secret folders is in nothing that is handed over."""
    made = init(tmp_path / "table", plan(agents=["alice"]))
    for folder in (made.pki, made.state, made.flower, made.keys):
        (folder / "canary").write_bytes(CANARY)
    made.ca_key.write_bytes(made.ca_key.read_bytes() + CANARY)
    add(made.folder, "bob", None, PlayMode.PRIVATE)
    kit = [path for path in made.kits.rglob("*") if path.is_file()]
    with zipfile.ZipFile(made.kits / "bob.zip") as archive:
        contents = [archive.read(item) for item in archive.infolist()]
    assert len(kit) == 10
    assert not any(CANARY in data for data in [*contents, *(path.read_bytes() for path in kit)])


def agent_yaml(made, name):
    return (made.kits / name / "agent.yaml").read_text()


def test_the_agents_file_is_one_that_agents_read(made):
    seeds = set()
    for name in AGENTS:
        agent = AgentFile.model_validate(yaml.safe_load(agent_yaml(made, name)))
        told = (agent.agent, agent.server, agent.play, agent.behaviour.kind)
        assert told == (name, made.fleet, "private", "benign")
        seeds.add(agent.seed)
    assert len(seeds) == len(AGENTS)


def test_every_alternative_that_the_agents_file_offers_is_valid(made):
    text = agent_yaml(made, "alice")
    offers = re.findall(r"^# ((data|behaviour|accept): \{.*)$", text, re.MULTILINE)
    assert len(offers) >= 5
    for line, field in offers:
        changed = re.sub(rf"^{field}: .*$", lambda _, line=line: line, text, flags=re.MULTILINE)
        agent = AgentFile.model_validate(yaml.safe_load(changed))
        assert agent != AgentFile.model_validate(yaml.safe_load(text)), line


def test_kits_for_rehearsals(tmp_path):
    made = init(tmp_path / "table", plan(play=PlayMode.SCENARIO))
    assert yaml.safe_load(agent_yaml(made, "alice"))["play"] == "scenario"


def test_deploy_yaml_says_what_a_connection_needs(made):
    told = yaml.safe_load((made.folder / "deploy.yaml").read_bytes())
    assert told["host"] == "table.example.org"
    assert told["agents"] == list(AGENTS)
    assert {"version", "port", "fleet_port"} <= set(told)
    again = Deployment.read(made.folder)
    assert again.settings == made.settings


def test_nothing_is_ever_overwritten(own):
    before = {path: path.read_bytes() for path in own.folder.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="exists"):
        init(own.folder, plan())
    assert {path: path.read_bytes() for path in before} == before
    (own.folder.parent / "empty").mkdir()
    dangling = own.folder.parent / "dangling"
    dangling.symlink_to("nowhere")
    for path in (own.folder.parent / "empty", dangling):
        with pytest.raises(UsageError, match="exists"):
            init(path, plan())


def test_a_failed_init_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("backfire.deployment.operations.kits.make_kit", fail)
    with pytest.raises(DeployError, match="No space left"):
        init(tmp_path / "table", plan())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "a\\b", "/etc", "a b", "a\nb", "a\x00b", "-x", "ä", "x" * 64,
     "alice\u202e", "~root", "CON", "nul.txt", "a.", ".hidden", "server", "$(x)", "a;b", "a,b"],
)  # fmt: skip
def test_names_that_are_no_safe_file_names_are_refused(name, own):
    for act in (
        lambda: agent_names([name]),
        lambda: add(own.folder, name, None, PlayMode.PRIVATE),
    ):
        with pytest.raises(UsageError) as told:
            act()
        assert str(told.value).isprintable()
    assert own.settings == Deployment.read(own.folder).settings


def test_two_agents_never_share_a_name_on_any_file_system(own):
    with pytest.raises(UsageError, match="twice"):
        agent_names(["alice", "Alice"])
    with pytest.raises(UsageError, match="twice"):
        add(own.folder, "BOB", None, PlayMode.PRIVATE)


@pytest.mark.parametrize(
    ("text", "host"),
    [("Table.Example.org.", "table.example.org"), ("10.0.0.1", "10.0.0.1"), ("0::1", "::1"),
     ("superlink", "superlink")],
)  # fmt: skip
def test_hosts_in_their_usual_form(text, host):
    assert host_name(text) == host


@pytest.mark.parametrize(
    "text",
    ["", "a b", "host:9443", "https://host", "1.2.3", "999.1.1.1", "-a", "a..b", "*.x.org",
     "bücher", "a" * 64, "x\n", "[::1]"],
)  # fmt: skip
def test_hosts_that_are_none(text):
    with pytest.raises(UsageError, match="expected the name or the IP address"):
        host_name(text)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0:0::0", "::ffff:0.0.0.0"])  # noqa: S104
def test_an_address_under_which_agents_reach_themselves_is_refused(tmp_path, own, host):
    """Case unspecified-host: for the first name, a further one, and one that is added later."""
    for hosts in ([host], ["table.example.org", host]):
        with pytest.raises(UsageError, match=r"got .*each would reach itself.*--fleet-host"):
            init(tmp_path / "other", plan(hosts=hosts))
        assert not (tmp_path / "other").exists()
    with pytest.raises(UsageError, match="each would reach itself"):
        renew(own.folder, [host], 30)


def test_every_address_may_be_listened_on(tmp_path):
    """Case unspecified-host: the null case, which is the default."""
    made = init(tmp_path / "table", plan(hosts=["table.example.org"], fleet_host="::"))
    assert made.fleet.startswith("table.example.org:")


def test_an_ipv6_host_is_written_in_brackets(tmp_path):
    """Case ipv6-host: the kit has the address in brackets, and the certificate names it."""
    made = init(tmp_path / "table", plan(hosts=["fd00::7"]))
    assert made.fleet == f"[fd00::7]:{made.settings.fleet_port}"
    agent = AgentFile.model_validate(yaml.safe_load(agent_yaml(made, "alice")))
    assert agent.server == made.fleet
    verify(made, x509.IPAddress(ipaddress.ip_address("fd00::7")))


def test_one_port_cannot_be_for_both(tmp_path):
    with pytest.raises(UsageError, match="two ports"):
        init(tmp_path / "table", plan(port=9443, fleet_port=9443))
    assert not (tmp_path / "table").exists()


def test_an_agent_is_added_and_removed(own):
    changed = add(own.folder, "carol", None, PlayMode.PRIVATE)
    assert Deployment.read(own.folder).settings.agents == ("alice", "bob", "carol")
    first = changed.public_key("carol").read_bytes()
    remove(own.folder, "carol")
    assert Deployment.read(own.folder).settings.agents == ("alice", "bob")
    assert not list(own.folder.rglob("*carol*"))
    add(own.folder, "carol", None, PlayMode.PRIVATE)
    assert changed.public_key("carol").read_bytes() != first
    with pytest.raises(UsageError, match="expected an agent of alice"):
        remove(own.folder, "dave")


def test_an_owner_may_keep_the_private_key(own, tmp_path):
    key = ec.generate_private_key(ec.SECP384R1())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    (tmp_path / "dora.pub").write_bytes(public + b" dora@her-machine\n")
    made = add(own.folder, "dora", tmp_path / "dora.pub", PlayMode.PRIVATE)
    assert {path.name for path in (made.kits / "dora").iterdir()} == {
        "ca.crt", "agent.yaml", "README.md",
    }  # fmt: skip
    assert made.public_key("dora").read_bytes() == public + b" dora\n"
    with pytest.raises(UsageError, match="the one of dora"):
        add(own.folder, "eve", tmp_path / "dora.pub", PlayMode.PRIVATE)


def test_keys_of_another_kind_are_refused(own, tmp_path):
    from cryptography.hazmat.primitives.asymmetric import ed25519

    other = ed25519.Ed25519PrivateKey.generate()
    wrong = {
        "ed.pub": other.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "private": other.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        "noise": b"\x00\xff" * 40,
        "curve.pub": ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        .replace(b"nistp256", b"nistp384"),
    }
    for name, data in wrong.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError, match="expected a public key"):
            add(own.folder, "eve", tmp_path / name, PlayMode.PRIVATE)
    with pytest.raises(UsageError, match="No such file"):
        add(own.folder, "eve", tmp_path / "missing.pub", PlayMode.PRIVATE)
    assert Deployment.read(own.folder).settings.agents == ("alice", "bob")


def test_a_renewed_certificate_needs_no_new_kits(own):
    old, ca = own.server.read_bytes(), own.ca.read_bytes()
    made = renew(own.folder, ["other.example.org"], 30)
    assert made.server.read_bytes() != old
    assert made.ca.read_bytes() == ca
    verify(made, x509.DNSName("other.example.org"))
    verify(made, x509.DNSName("table.example.org"))
    assert pki.days_left(Deployment.read(own.folder)) == 29


def replaced(own, days, names=None):
    ca = pki.read_authority(own)
    signed = pki.server(ca, names or own.server_names, days)
    own.server_key.write_bytes(signed.key_pem())
    own.server.write_bytes(signed.certificate_pem())


def test_a_certificate_that_agents_could_not_trust_is_said(own):
    assert pki.days_left(own) == 364
    replaced(own, 0)
    with pytest.raises(DeployError, match=r"expired on .*deploy renew"):
        pki.days_left(own)
    replaced(own, 9, ["localhost", "127.0.0.1", "::1"])
    with pytest.raises(DeployError, match=r"not valid for table.example.org, 10.0.0.7"):
        pki.days_left(own)
    replaced(own, 9)
    own.ca.write_bytes(pki.authority("other", 9).certificate_pem())
    with pytest.raises(DeployError, match=r"not signed by ca\.crt"):
        pki.days_left(own)
    own.server.write_bytes(CANARY)
    with pytest.raises(DeployError, match="expected a certificate") as told:
        pki.days_left(own)
    assert CANARY.decode() not in str(told.value)


def test_a_key_of_another_certificate_is_said(own):
    own.server_key.write_bytes(own.ca_key.read_bytes())
    with pytest.raises(DeployError, match=r"server.key does not belong to server.crt"):
        pki.days_left(own)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "expected a mapping"),
        ("[1", "expected YAML"),
        ("host: x\nagents: [a]\nport: 99999", "port"),
        ("host: x\nagents: [../a]", "expected an agent's name"),
        ("host: x\nagents: [a]\nsecret: 1", "secret"),
        ("host: x\nagents: []", "at least one agent"),
        ("!!python/object/apply:os.system [ls]", "expected YAML"),
    ],
)
def test_a_broken_deploy_yaml_is_one_line(own, text, line):
    (own.folder / "deploy.yaml").write_text(text)
    with pytest.raises(UsageError, match=line) as told:
        Deployment.read(own.folder)
    assert "\n" not in str(told.value)


def backfire(*args):
    return subprocess.run(
        [sys.executable, "-m", "backfire", *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )


def test_the_commands_tell_errors_in_one_line(tmp_path):
    missing = backfire("deploy", "status", tmp_path)
    assert missing.returncode == 2
    assert missing.stderr.count("\n") == 1
    assert "backfire deploy init" in missing.stderr
    made = backfire("deploy", "init", tmp_path / "t", "--agents", "a,../b", "--host", "x")
    assert (made.returncode, made.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "t").exists()


def test_a_run_on_a_deployment_that_is_not_up_says_so(own):
    told = backfire("run", "rehearsal", "--runtime", "grpc", "--connection", own.folder)
    (line,) = told.stderr.splitlines()[-1:]
    assert told.returncode == 3
    assert "does not answer: `backfire deploy up`" in line
    assert "pyproject" not in told.stderr


def test_help_is_quick_to_load():
    code = (
        "import sys, backfire.cli.main\n"
        "slow = {'torch', 'flwr', 'cryptography', 'grpc'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])

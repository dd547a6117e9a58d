"""The folder of a deployment: what lies where, and ``deploy.yaml``.

    deploy.yaml                                   the server's names, the ports, the agents
    pki/    ca.crt ca.key server.crt server.key   who the server is
    keys/   NAME.pub                              who each agent is
    kits/   NAME/ NAME.zip                        what the owner of each agent is given
    state/  state.db link.pid link.lock link.log  what the SuperLink keeps
    flower/ config.toml                           Flower's own home folder

All but the kits stays on the server's machine. Once a kit is handed over, it can be deleted here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from backfire.deployment import files
from backfire.deployment.names import address, agent_names, host_name, reachable_name
from backfire.errors import UsageError
from scenarios.text.quoting import printable

FILE: Final = "deploy.yaml"
CONTROL_HOST: Final = "127.0.0.1"
EVERY_ADDRESS: Final = "0.0.0.0"  # noqa: S104 - agents come from other machines; keys are required
_HEAD = b"# Made by `backfire deploy init`; `backfire deploy add` and `remove` change it.\n"

Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseModel):
    """What ``deploy.yaml`` says."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = 1
    host: str = Field(description="Name or address that agents reach the server under.")
    names: tuple[str, ...] = Field((), description="Further names in the server's certificate.")
    port: Port = Field(8443, description="Control and Runtime API, on this machine only.")
    fleet_port: Port = Field(9443, description="Fleet API: the port that agents connect to.")
    fleet_host: str = Field(EVERY_ADDRESS, description="Address that the Fleet port is bound to.")
    agents: tuple[str, ...] = Field(description="The agents, in their order.")

    @model_validator(mode="after")
    def _checked(self) -> Self:
        for name in (self.host, *self.names):
            reachable_name(name)
        host_name(self.fleet_host)
        agent_names(self.agents)
        if self.port == self.fleet_port:
            raise UsageError(f"expected two ports, got {self.port} for both")
        return self


class Deployment:
    """A deployment: its folder and what its ``deploy.yaml`` says.

    Attributes:
        folder: Where it lies; absolute.
        settings: What ``deploy.yaml`` says.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder.resolve()
        self.settings = settings
        self.ca, self.ca_key = self.pki / "ca.crt", self.pki / "ca.key"
        self.server, self.server_key = self.pki / "server.crt", self.pki / "server.key"

    @classmethod
    def read(cls, folder: Path) -> Deployment:
        """Read a deployment.

        Raises:
            UsageError: If the folder holds none, or its ``deploy.yaml`` cannot be used.
        """
        file = folder / FILE
        shown = printable(str(file))
        try:
            told = yaml.safe_load(file.read_bytes())
        except FileNotFoundError:
            raise UsageError(
                f"expected a folder that `backfire deploy init` made, got one without {shown}"
            ) from None
        except (OSError, yaml.YAMLError, ValueError) as error:
            text = " ".join(str(error).split())
            raise UsageError(f"{shown}: expected YAML that can be read: {text}") from None
        return cls(folder, _settings(told, shown))

    def write(self) -> None:
        """Write ``deploy.yaml``."""
        values = self.settings.model_dump(mode="json")
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        files.write(self.folder / FILE, _HEAD + text.encode())

    def changed(self, **values: object) -> Deployment:
        """Return the deployment with other settings, checked; nothing is written."""
        merged = self.settings.model_dump() | values
        return Deployment(self.folder, _settings(merged, FILE))

    @property
    def pki(self) -> Path:
        """Folder of the certificates."""
        return self.folder / "pki"

    @property
    def keys(self) -> Path:
        """Folder of the agents' public keys."""
        return self.folder / "keys"

    @property
    def kits(self) -> Path:
        """Folder of the agents' kits."""
        return self.folder / "kits"

    @property
    def state(self) -> Path:
        """Folder of what the SuperLink keeps."""
        return self.folder / "state"

    @property
    def flower(self) -> Path:
        """Flower's home folder."""
        return self.folder / "flower"

    @property
    def control(self) -> str:
        """Host and port of the Control and Runtime API."""
        return address(CONTROL_HOST, self.settings.port)

    @property
    def fleet(self) -> str:
        """Host and port that agents connect to."""
        return address(self.settings.host, self.settings.fleet_port)

    @property
    def fleet_here(self) -> str:
        """Host and port of the Fleet API as this machine reaches it."""
        bound = self.settings.fleet_host
        here = {EVERY_ADDRESS: CONTROL_HOST, "::": "::1"}.get(bound, bound)
        return address(here, self.settings.fleet_port)

    @property
    def fleet_bound(self) -> str:
        """Host and port that the Fleet API listens on."""
        return address(self.settings.fleet_host, self.settings.fleet_port)

    @property
    def server_names(self) -> tuple[str, ...]:
        """Every name that the server's certificate holds, each once."""
        ours = (self.settings.host, *self.settings.names, "localhost", CONTROL_HOST, "::1")
        bound = self.settings.fleet_host
        more = () if bound in (EVERY_ADDRESS, "::") else (bound,)
        return tuple(dict.fromkeys(host_name(name) for name in (*ours, *more)))

    def public_key(self, name: str) -> Path:
        """Return the file of an agent's public key."""
        return self.keys / f"{name}.pub"


def _settings(told: object, shown: str) -> Settings:
    if not isinstance(told, dict):
        raise UsageError(f"{shown}: expected a mapping with host, port, fleet_port and agents")
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in told.items()}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{shown} {field}: {first['msg']}") from None

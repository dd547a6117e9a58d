"""What the owner of an agent is given: a folder, and the same as a .zip; no other agent's key."""

from __future__ import annotations

import io
import secrets
import shutil
import zipfile
from typing import Final

from backfire.deployment import files
from backfire.deployment.layout import Deployment
from backfire.deployment.play_mode import PlayMode

KEY: Final = "key"
_TIME: Final = (1980, 1, 1, 0, 0, 0)  # the same kit is the same .zip

_AGENT = """\
# Agent {name}: what it plays with, and what it accepts. Nothing of this file is sent to the server.
agent: "{name}"
server: "{server}"

# private:  my data and my behaviour, as said below; the scenario only says which game it is.
# scenario: a rehearsal: the part and the data that the scenario gives to {name}; mine stay unread.
play: {play}

# Where the private data lie, from this folder on. An .npz file holds x_train (rows, height, width,
# channels; uint8, or floats between 0 and 1) and y_train (labels from 0); a folder of images holds
# train/CLASS/*.png. `classes` is how many the game has, should some be missing from these data.
data: {{kind: npz, path: data.npz}}
# data: {{kind: npz, path: data.npz, classes: 10}}
# data: {{kind: folder, path: images}}

# Benign, or an attack to test the defences with; `backfire list behaviour` shows them all.
behaviour: {{kind: benign}}
# behaviour: {{kind: backdoor, poison_rate: 0.1, target: 7, trigger: {{kind: random_badnet}}}}
# behaviour: {{kind: label_flip, poison_rate: 0.3}}

# My own random draws follow from this number; keep it to yourself, or choose another one.
seed: {seed}

# Games that I play. pooled hands rows of the data over, federated model updates. In both the
# referee is handed the run-time rows, which are kept back from training, to score me with, and of
# the rows that I changed what they were: at most max_run_time_share of my rows are run-time rows; 0
# hands nothing over, and nobody scores me.
accept: {{scenarios: any, games: [pooled, federated], max_run_time_share: 0.3}}
# accept: {{scenarios: [a-name], games: [federated], models: [small_cnn], max_rows: 1000}}
# accept: {{max_message_mib: 512, max_local_epochs: 10, max_trainings: 1000}}

# auto, cpu, cuda, cuda:1, mps.
device: auto
"""

_README = """\
# Kit of agent {name}

This folder lets one agent, `{name}`, play on the server `{server}`.

1. Install Backfire on the machine where the private data lie (Python 3.11 or newer).
2. Look into `agent.yaml`, and fill in where the data are.
3. Start the agent, which keeps running until Ctrl-C:

       backfire agent start FOLDER

   where FOLDER is this one. The machine needs no open port; it connects to {server}
   (gRPC, TLS). `backfire deploy probe {server} --ca FOLDER/ca.crt` says whether it can.

{key}`ca.crt` is the certificate that the server's must be signed by. It is not secret.

Data, trigger, target and behaviour stay on this machine; what the agent sends are its
contributions, and its run-time rows for the referee (see `accept` in `agent.yaml`). It runs the
Backfire that is installed here, never code that the server sends.
"""
_WITH_KEY = """\
`key` is this agent's private key: who holds it, plays as `{name}`. Keep it to yourself (mode 600),
never send it on, and tell the operator at once if it may have leaked.
"""
_WITHOUT_KEY = """\
Put the private key that belongs to the public key you sent to the operator into this folder, as
the file `key` (mode 600). Never send it to anyone.
"""


def make_kit(deployment: Deployment, name: str, key: bytes | None, play: PlayMode) -> None:
    """Write an agent's kit and its .zip.

    Args:
        deployment: The deployment, whose kits folder holds neither yet.
        name: The agent.
        key: Its private key, or None where its owner keeps it.
        play: What `agent.yaml` says at first.
    """
    content = _content(deployment, name, key, play)
    folder = files.make_folder(deployment.kits / name)
    for file, data in content.items():
        files.write(folder / file, data)
    files.write(deployment.kits / f"{name}.zip", _zipped(name, content))


def remove_kit(deployment: Deployment, name: str) -> None:
    """Delete an agent's kit and its .zip, as far as they are there."""
    shutil.rmtree(deployment.kits / name, ignore_errors=True)
    (deployment.kits / f"{name}.zip").unlink(missing_ok=True)


def _content(
    deployment: Deployment, name: str, key: bytes | None, play: PlayMode
) -> dict[str, bytes]:
    words = {"name": name, "server": deployment.fleet, "play": play.value}
    seed = secrets.randbelow(2**53)  # what every reader of YAML takes for the same number
    secret = (_WITHOUT_KEY if key is None else _WITH_KEY).format(**words)
    content = {
        "README.md": _README.format(**words, key=secret).encode(),
        "agent.yaml": _AGENT.format(**words, seed=seed).encode(),
        "ca.crt": deployment.ca.read_bytes(),
    }
    return content if key is None else {**content, KEY: key}


def _zipped(name: str, content: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, data in content.items():
            entry = zipfile.ZipInfo(f"{name}/{file}", _TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, so that `unzip` keeps the mode
            entry.external_attr = (0o100000 | files.SECRET) << 16
            archive.writestr(entry, data)
    return packed.getvalue()

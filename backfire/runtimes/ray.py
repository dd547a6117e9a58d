"""Flower's own simulation engine on Ray: many processes, GPUs or a Ray cluster.

Needs the extra ``ray``. The agents' app is sent to Ray's actors, each of which deals the data for
itself once.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import warnings

from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp


class RayMissingError(RuntimeError):
    """The extra ``ray`` is not installed."""


def need_ray() -> None:
    """Check that Ray is installed.

    Raises:
        RayMissingError: If it is not; says how to install it.
    """
    if importlib.util.find_spec("ray") is None:
        raise RayMissingError(
            "the runtime ray needs Ray: install it with  pip install 'backfire[ray]'  "
            "(in a clone: pip install -e '.[ray]'), or use --runtime local"
        )


def run_ray(server: ServerApp, client: ClientApp, agents: int, cpus_per_agent: int = 1) -> None:
    """Play a game on Flower's simulation engine.

    Args:
        server: The defender's app.
        client: The agents' app; it must carry its scenario with it.
        agents: Number of agents.
        cpus_per_agent: CPU cores that Ray reserves for each agent that plays.

    Raises:
        RayMissingError: If Ray is not installed; says how to install it.
    """
    need_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from flwr.simulation import run_simulation

    logging.getLogger("flwr").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        run_simulation(
            server_app=server,
            client_app=client,
            num_supernodes=agents,
            backend_config={
                "init_args": {"include_dashboard": False, "log_to_driver": False},
                "client_resources": {"num_cpus": cpus_per_agent, "num_gpus": 0.0},
            },
        )

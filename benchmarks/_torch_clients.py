"""Federated averaging as a user writes it: torch in each client, on Flower or in a plain loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from torch import Tensor, nn

from clients.agents import deal_scenario
from learning.data.partitioning import split_share
from scenarios.loader import parse
from scenarios.scenario import Scenario

Weights = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Site:
    """What a client needs: the model and each client's rows, the same as the game's agents hold."""

    scenario: Scenario
    shape: tuple[int, int, int]
    classes: int
    shares: list[tuple[Tensor, Tensor]]
    test: tuple[Tensor, Tensor]

    def model(self) -> nn.Module:
        """Return an untrained model."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.scenario.seed)
            return self.scenario.model.build(self.shape, self.classes)


@lru_cache(maxsize=1)
def site(text: str) -> Site:
    """Return the site of a scenario, made once in each process."""
    scenario = parse(text, "benchmark")
    dealt = deal_scenario(scenario)
    shares = []
    for name, rows in dealt.shares.items():
        train, _ = split_share(rows, scenario.run_time_share, scenario.seed, name)
        shares.append((torch.from_numpy(dealt.x[train]), torch.from_numpy(dealt.y[train])))
    test = torch.from_numpy(dealt.test_x), torch.from_numpy(dealt.test_y)
    return Site(scenario, dealt.data.shape, dealt.data.classes, shares, test)


def fit(here: Site, client: int, number: int, start: Weights) -> Weights:
    """Train a client's model on its rows; an ordinary loop of torch."""
    training = here.scenario.training
    model = here.model()
    model.load_state_dict(start)
    x, y = here.shares[client]
    settings = training.optimizer
    optimizer = torch.optim.SGD(model.parameters(), lr=settings.lr, momentum=settings.momentum)
    draws = torch.Generator().manual_seed(1000 * number + client)
    model.train()
    for _ in range(here.scenario.federation.local_epochs):
        for batch in torch.randperm(len(y), generator=draws).split(training.batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    return model.state_dict()


@torch.no_grad()
def accuracy(here: Site, weights: Weights) -> float:
    """Return the share of test rows that a model predicts as their label."""
    model = here.model().eval()
    model.load_state_dict(weights)
    x, y = here.test
    return float((model(x).argmax(1) == y).float().mean())


def flower_client(text: str) -> ClientApp:
    """Return a ClientApp that trains with torch."""
    client = ClientApp()

    @client.train()
    def train(message: Message, context: Context) -> Message:
        here, place = site(text), int(context.node_config["partition-id"])
        number = int(message.content["config"]["server-round"])
        trained = fit(here, place, number, message.content["arrays"].to_torch_state_dict())
        rows = MetricRecord({"num-examples": len(here.shares[place][1])})
        content = RecordDict({"arrays": ArrayRecord(trained), "metrics": rows})
        return Message(content, reply_to=message)

    return client


def flower_server(text: str, mark: Callable[[int], None], result: list[Weights]) -> ServerApp:
    """Return a ServerApp that runs FedAvg; `mark` is called before and after each round."""
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        here = site(text)
        clients = len(here.shares)
        strategy = FedAvg(
            fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients
        )

        def evaluate(number: int, arrays: ArrayRecord) -> Any:
            mark(number)

        ended = strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(here.model().state_dict()),
            num_rounds=here.scenario.federation.rounds,
            train_config=ConfigRecord(),
            evaluate_fn=evaluate,
        )
        result.append(dict(ended.arrays.to_torch_state_dict()))

    return server


def plain_loop(text: str, mark: Callable[[int], None]) -> Weights:
    """Play the same rounds in a loop over the clients, without Flower."""
    here = site(text)
    weights: Weights = here.model().state_dict()
    rows = torch.tensor([len(y) for _, y in here.shares], dtype=torch.float64)
    shares = rows / rows.sum()
    for number in range(1, here.scenario.federation.rounds + 1):
        trained = [fit(here, client, number, weights) for client in range(len(here.shares))]
        weights = {
            name: torch.tensordot(shares, torch.stack([t[name].double() for t in trained]), 1).to(
                value.dtype
            )
            for name, value in weights.items()
        }
        mark(number)
    return weights

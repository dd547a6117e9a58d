"""Model replacement: the update is scaled up until the mean becomes the attacker's model.

Bagdasaryan, Veit, Hua, Estrin, Shmatikov, How To Backdoor Federated Learning, AISTATS 2020 (arXiv
1807.00459), eq. 3: instead of X it hands over ``gamma (X - G) + G`` with ``gamma = n / eta``; with
the weights of this game, ``n / eta`` is 1 / (its share of the rows * the server's learning rate).
"Scaling attack" in later papers (FLTrust) is the same with a factor of the attacker's choice,
`scale`. Their train-and-scale, ``gamma = S / ||X - G||``, is `bound`: the norm S that a detector
lets pass, where that is less than full replacement. Their code divides its one factor by the number
of attackers in the round; here that is done where the factor is not given (`together`).

Their attacker trains longer and more slowly; for CIFAR-10 the code has 15 epochs where others
have 2, at half the learning rate (``epochs: 15, rate: 0.5``). Its stop at a low backdoor loss, its
decay of the learning rate and its lower rate where the backdoor already works are left out.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from clients.update_attacks.boosted import Boosted


class ModelReplacement(Boosted):
    """Hands over ``gamma`` times its own update."""

    kind: Literal["model_replacement"] = "model_replacement"
    paper: ClassVar[str] = "Bagdasaryan et al., How to backdoor FL, AISTATS 2020, eq. 3"

"""Directions of crafted poison: the published solver beside ours, and closed forms beside autograd.

The question that a solver answers: how does the judges' loss change where poison moves a follower
that T steps of gradient descent at rate eta have trained? For a quadratic loss the exact answer is
``(I - (I - eta H)^T) H^-1 v``, which ``(H + 1 / (eta T))^-1 v`` stands for. Both are computed here
from all eigenvalues, in float64, and each solver's answer is held against them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from learning.curvature.objective import RowObjective
from learning.curvature.products import Kind, Product
from learning.curvature.row_gradient import Form, row_gradient
from learning.curvature.solvers.conjugate_gradients import conjugate_gradients
from learning.curvature.solvers.kronecker import Kronecker
from learning.curvature.solvers.minres import minres
from learning.curvature.solvers.neumann import neumann
from learning.curvature.solvers.normal_equations import normal_equations
from learning.curvature.solvers.solution import Operator, Solution
from learning.curvature.vectors import load, vector_of
from learning.data.digits import Digits
from learning.models.base import Architecture
from learning.models.mlp import MLP
from learning.models.small_cnn import SmallCNN
from learning.models.softmax import Softmax

RATE, ROWS, JUDGES = 0.1, 1200, 500


@dataclass(frozen=True, eq=False)
class Question:
    """A follower, what its judges ask, and the exact answers.

    Attributes:
        product: v -> H v at the follower.
        wanted: v, the gradient of the judges' loss, float64 (P,).
        damping: 1 / (eta T).
        damped: (H + damping)^-1 v.
        descent: What T steps of descent make of v.
        undamped: H^+ v, of eigenvalues beyond 1e-9 of the largest.
        near: Preconditioner of softmax regression.
        last: The damped answer at the weights of 20 steps of descent ago.
    """

    product: Product
    wanted: Tensor
    damping: float
    damped: Tensor
    descent: Tensor
    undamped: Tensor
    near: Operator | None
    last: Tensor


def question(model: Architecture, kind: Kind, steps: int) -> Question:
    """Return that of a model on scikit-learn's digits."""
    follower, judges, w = descended(model, steps - 20)
    before = answers(follower, judges.gradient(w), w, kind, steps)[0]
    for _ in range(20):
        w = w - RATE * follower.gradient(w)
    wanted, near = judges.gradient(w), None
    damped, descent, undamped = answers(follower, wanted, w, kind, steps)
    if isinstance(model, Softmax):
        load(follower.module, w)
        chances = follower.module(follower.x).softmax(1)
        ones = torch.ones(ROWS, 1, dtype=torch.float64)
        rows = Kronecker.of(torch.cat([follower.x.flatten(1), ones], 1))
        near = rows.preconditioner(chances, 1 / (RATE * steps))
    product = follower.product(w, kind)
    return Question(product, wanted, 1 / (RATE * steps), damped, descent, undamped, near, before)


def descended(model: Architecture, steps: int) -> tuple[RowObjective, RowObjective, Tensor]:
    """Return a follower's loss, its judges' and weights after some steps of descent."""
    module, data = built(model, (1, 8, 8)).double(), Digits().load()
    order = torch.randperm(len(data.y_train), generator=torch.Generator().manual_seed(0))
    x = torch.from_numpy(data.x_train).double()[order]
    y = torch.from_numpy(data.y_train)[order]
    follower = RowObjective(module, x[:ROWS], y[:ROWS])
    judges = RowObjective(module, x[ROWS : ROWS + JUDGES], y[ROWS : ROWS + JUDGES])
    w = vector_of(module)
    for _ in range(steps):
        w = w - RATE * follower.gradient(w)
    return follower, judges, w


def built(model: Architecture, shape: tuple[int, int, int]) -> nn.Module:
    """Return a model of ten classes at fixed first weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return model.build(shape, 10).eval().requires_grad_(False)


def answers(
    follower: RowObjective, wanted: Tensor, w: Tensor, kind: Kind, steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what damping, T steps of descent and H^+ make of v, by all eigenvalues of H."""
    product = follower.product(w, kind)
    matrix = torch.stack([product(one) for one in torch.eye(len(w), dtype=torch.float64)])
    sizes, axes = torch.linalg.eigh((matrix + matrix.T) / 2)
    along = axes.T @ wanted
    damped = axes @ (along / (sizes + 1 / (RATE * steps)))
    small = sizes.abs() < 1e-12
    reached = (1 - (1 - RATE * sizes) ** steps) / torch.where(small, 1.0, sizes)
    descent = axes @ (along * torch.where(small, RATE * steps, reached))
    flat = sizes.abs() < 1e-9 * sizes.abs().max()
    return damped, descent, axes @ (along * torch.where(flat, 0.0, 1 / sizes))


def solvers(asked: Question) -> dict[str, Callable[[], Solution]]:
    """Return the solvers by name."""
    product, v, damping = asked.product, asked.wanted, asked.damping

    def iterated(most: int, **given: Tensor | Operator | None) -> Callable[[], Solution]:
        return lambda: conjugate_gradients(product, damping, v, 0.0, most, **given)  # type: ignore[arg-type]

    found = {
        "normal equations, 16 steps, undamped (as published)": lambda: normal_equations(
            product, 0.0, v
        ),
        "normal equations, 16 steps": lambda: normal_equations(product, damping, v),
        "neumann, 33 terms": lambda: neumann(product, 0.0, v, RATE, 33),
        "cg, 32 steps": iterated(32),
        "cg, 10 steps": iterated(10),
        "cg, 5 steps, from the last answer": iterated(5, start=asked.last),
        "minres, 10 steps": lambda: minres(product, damping, v, 0.0, 10),
        "minres, 32 steps": lambda: minres(product, damping, v, 0.0, 32),
    }
    if asked.near is not None:
        found["cg, 10 steps, Kronecker"] = iterated(10, preconditioner=asked.near)
        found["cg, 3 steps, Kronecker, from the last answer"] = iterated(
            3, preconditioner=asked.near, start=asked.last
        )
    return found


def compared(name: str, asked: Question) -> list[dict[str, object]]:
    """Return a line for each solver."""
    out = []
    for solver, solve in solvers(asked).items():
        found = solve()
        out.append(
            {
                "model": name,
                "what": solver,
                "products": found.products,
                "residual": found.residual,
                "cosine to damped": cosine(found.vector, asked.damped),
                "cosine to descent": cosine(found.vector, asked.descent),
                "cosine to undamped": cosine(found.vector, asked.undamped),
                "negative curvature": "met" if found.negative else "",
            }
        )
    exact = {
        "cosine to damped": 1.0,
        "cosine to descent": cosine(asked.damped, asked.descent),
        "cosine to undamped": cosine(asked.damped, asked.undamped),
    }
    return [{"model": name, "what": "damped, by all eigenvalues", **exact}, *out]


def cosine(a: Tensor, b: Tensor) -> float:
    """Return the cosine of two vectors; 0 where one is 0."""
    length = float(a.norm() * b.norm())
    return float(a @ b) / length if length else 0.0


def seconds(*forms: Callable[[], object]) -> list[float]:
    """Return CPU seconds of some forms, the best of five, by turns."""
    best = [float("inf")] * len(forms)
    for form in forms:
        form()
    for _ in range(5):
        for at, form in enumerate(forms):
            start = time.process_time()
            form()
            best[at] = min(best[at], time.process_time() - start)
    return best


def costs(
    name: str, model: Architecture, shape: tuple[int, int, int], rows: int
) -> list[dict[str, object]]:
    """Return what a product and a row gradient cost, in each form."""
    module, generator = built(model, shape), torch.Generator().manual_seed(1)
    x, y = torch.rand(rows, *shape, generator=generator), torch.arange(rows) % 10
    w = vector_of(module)
    v = torch.randn(len(w), generator=generator)
    closed = RowObjective(module, x, y).product(w)
    plain = RowObjective(nn.Sequential(module).eval(), x, y)  # in which no closed form is seen
    hessian, outer = plain.product(w), plain.product(w, "gauss_newton")

    def moved(form: Form) -> Callable[[], object]:
        return lambda: row_gradient(module, x, y, v, form=form)

    products = {
        "H v, closed form": lambda: closed(v),
        "H v, forward over reverse": lambda: hessian(v),
        "H v, double backward": lambda: double_backward(module, x, y, v),
        "H v, Gauss-Newton": lambda: outer(v),
    }
    gradients = {
        "row gradient, closed form": moved("auto"),
        "row gradient, double backward": moved("double_backward"),
        "row gradient, forward over reverse": moved("forward_over_reverse"),
    }
    if not isinstance(model, Softmax):
        products.pop("H v, closed form")
        gradients.pop("row gradient, closed form")
    out = []
    for forms in (products, gradients):
        spent = seconds(*forms.values())
        for what, each in zip(forms, spent, strict=True):
            line = {"model": f"{name}, {rows} rows", "what": what, "CPU s": each}
            out.append({**line, "times the first": each / spent[0]})
    return out


def double_backward(module: nn.Module, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
    """Return H v of the mean loss as public code has it: two backward passes, all rows at once."""
    weights = [p.detach().requires_grad_() for p in module.parameters()]
    named = dict(zip(dict(module.named_parameters()), weights, strict=True))
    loss = nn.functional.cross_entropy(torch.func.functional_call(module, named, (x,)), y)
    slopes = torch.autograd.grad(loss, weights, create_graph=True)
    inner = torch.cat([slope.flatten() for slope in slopes]) @ v
    return torch.cat([part.flatten() for part in torch.autograd.grad(inner, weights)])


def run(quick: bool) -> dict[str, object]:
    """Measure."""
    steps = 300 if quick else 1000
    out = compared("softmax", question(Softmax(), "hessian", steps))
    net = MLP(hidden=[8 if quick else 16])
    for kind in ("gauss_newton", "hessian"):
        out += compared(f"mlp, {kind}", question(net, kind, steps))
    share = 8 if quick else 1
    out += costs("softmax", Softmax(), (1, 28, 28), 6000 // share)
    out += costs("mlp 784-784", MLP(hidden=[784, 784]), (1, 28, 28), 1000 // share)
    out += costs("small_cnn", SmallCNN(), (1, 28, 28), 500 // share)
    note = (
        f"Solvers: digits, {ROWS} rows, {steps} steps of descent at {RATE}, float64; damped by "
        "1 / (rate steps) but where it says undamped. `descent` is what as many steps of descent "
        "make of the judges' gradient; products are all, the residual's own included. Costs: "
        "28 x 28 inputs, float32, CPU seconds, best of five, forms by turns in one process; "
        "the closed form's softmax of the rows is made once for all products at one point."
    )
    return {"name": "directions of crafted poison", "rows": out, "note": note}

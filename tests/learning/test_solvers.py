"""Solvers of (H + damping) s = v against exact values in float64, definite and not."""

import numpy as np
import pytest
import torch

from learning.curvature.solvers.conjugate_gradients import conjugate_gradients
from learning.curvature.solvers.kronecker import Kronecker
from learning.curvature.solvers.minres import minres
from learning.curvature.solvers.neumann import neumann
from learning.curvature.solvers.normal_equations import normal_equations


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


# A game of two quadratics: the follower minimises w'Aw/2 - w'(Bx + b), the leader
# |w - t|^2/2 + mu |x|^2/2.
A, B = tensor([2, 1], [1, 3]), torch.diag(tensor(1, 2))
b, T, MU, X = tensor(1, -1), tensor(0.5, 0.25), 0.1, tensor(0.3, -0.7)
MINIMUM = tensor(1.26, -1.22)


def times(matrix):
    return lambda vector: matrix @ vector


def total(solution):
    """The leader's total gradient: L_x - f_xw s, f_xw = -B."""
    return MU * X + B @ solution.vector


def close(found, wanted, to=1e-10):
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=0, atol=to)


def test_the_follower_answers_the_leader():
    close(conjugate_gradients(times(A), 0.0, B @ X + b, 1e-15, 9).vector, MINIMUM, 1e-14)
    example = conjugate_gradients(times(A), 0.0, tensor(3, 4), 1e-14, 9)
    close(example.vector, tensor(1, 1), 1e-14)
    assert (example.steps, example.products, example.negative) == (2, 3, False)


SOLVED = {
    "exact": (lambda v: conjugate_gradients(times(A), 0.0, v, 1e-15, 9), (0.78, -1.55)),
    "minres": (lambda v: minres(times(A), 0.0, v, 1e-15, 9), (0.78, -1.55)),
    "damped": (
        lambda v: conjugate_gradients(times(A), 0.5, v, 1e-15, 9),
        (0.5629032258, -1.2145161290),
    ),
    "damped minres": (lambda v: minres(times(A), 0.5, v, 1e-15, 9), (0.5629032258, -1.2145161290)),
    "one step": (
        lambda v: conjugate_gradients(times(A), 0.0, v, 0.0, 1),
        (0.4151688720, -1.5599953734),
    ),
    "one normal step": (
        lambda v: normal_equations(times(A), 0.0, v, most=1),
        (0.0350699134, -0.8102073623),
    ),
    "normal equations": (lambda v: normal_equations(times(A), 0.0, v), (0.78, -1.55)),
    "damped normal equations": (
        lambda v: normal_equations(times(A), 0.5, v),
        (0.5629032258, -1.2145161290),
    ),
    "1 term": (lambda v: neumann(times(A), 0.0, v, 0.2, 1), (0.182, -0.658)),
    "5 terms": (lambda v: neumann(times(A), 0.0, v, 0.2, 5), (0.60688, -1.33512)),
    "20 terms": (lambda v: neumann(times(A), 0.0, v, 0.2, 20), (0.77864672256, -1.54832725709)),
}


@pytest.mark.parametrize("name", SOLVED)
def test_total_gradients_of_the_quadratic_game(name):
    solver, wanted = SOLVED[name]
    close(total(solver(MINIMUM - T)), tensor(*wanted))


@pytest.mark.parametrize("name", SOLVED)
def test_a_residual_is_that_of_the_vector_and_products_are_counted(name):
    seen = []

    def counting(vector):
        seen.append(vector)
        return A @ vector

    solver = {
        "exact": lambda v: conjugate_gradients(counting, 0.0, v, 1e-15, 9),
        "minres": lambda v: minres(counting, 0.0, v, 1e-15, 9),
        "damped": lambda v: conjugate_gradients(counting, 0.5, v, 1e-15, 9),
        "damped minres": lambda v: minres(counting, 0.5, v, 1e-15, 9),
        "one step": lambda v: conjugate_gradients(counting, 0.0, v, 0.0, 1),
        "one normal step": lambda v: normal_equations(counting, 0.0, v, most=1),
        "normal equations": lambda v: normal_equations(counting, 0.0, v),
        "damped normal equations": lambda v: normal_equations(counting, 0.5, v),
        "1 term": lambda v: neumann(counting, 0.0, v, 0.2, 1),
        "5 terms": lambda v: neumann(counting, 0.0, v, 0.2, 5),
        "20 terms": lambda v: neumann(counting, 0.0, v, 0.2, 20),
    }[name]
    wanted = MINIMUM - T
    found = solver(wanted)
    assert found.products == len(seen)
    damping = 0.5 if "damped" in name else 0.0
    left = A @ found.vector + damping * found.vector - wanted
    assert found.residual == pytest.approx(float(left.norm() / wanted.norm()), abs=1e-15)


def test_an_indefinite_system_is_solved_by_minres_and_told_by_all():
    bent, wanted = torch.diag(tensor(2, -1)), tensor(1, 1)
    exact = minres(times(bent), 0.0, wanted, 1e-14, 9)
    close(exact.vector, tensor(0.5, -1), 1e-14)
    assert exact.steps == 2
    assert exact.negative
    assert exact.residual < 1e-14
    for solver in (conjugate_gradients, minres):
        damped = solver(times(bent), 1.5, wanted, 1e-14, 9)
        close(damped.vector, tensor(0.2857142857, 2))
        assert not damped.negative
    assert normal_equations(times(torch.diag(tensor(1, -3))), 0.0, wanted).negative
    assert neumann(times(torch.diag(tensor(1, -3))), 0.0, wanted, 0.1, 3).negative


def test_conjugate_gradients_stop_where_there_is_no_curvature():
    found = conjugate_gradients(times(torch.diag(tensor(1, -1))), 0.0, tensor(1, 1), 1e-14, 9)
    assert found.negative
    assert found.steps == 1
    assert found.residual == 1  # and hand back what they had, which was nothing
    close(found.vector, tensor(0, 0), 0)


def some_system(size=30, definite=True):
    draws = np.random.default_rng(0)
    axes = np.linalg.qr(draws.standard_normal((size, size)))[0]
    sizes = np.linspace(0.1, 5, size) * (1 if definite else np.where(np.arange(size) % 3, 1, -1))
    return torch.from_numpy(axes * sizes @ axes.T), torch.from_numpy(draws.standard_normal(size))


@pytest.mark.parametrize("solver", [conjugate_gradients, minres])
def test_a_warm_start_saves_steps_and_leads_to_the_same(solver):
    matrix, wanted = some_system()
    cold = solver(times(matrix), 0.1, wanted, 1e-10, 200)
    near = cold.vector + 1e-5 * wanted
    warm = solver(times(matrix), 0.1, wanted, 1e-10, 200, start=near)
    exact = torch.linalg.solve(matrix + 0.1 * torch.eye(30, dtype=torch.float64), wanted)
    close(warm.vector, exact, 1e-8)
    close(cold.vector, exact, 1e-8)
    assert warm.steps < cold.steps
    again = solver(times(matrix), 0.1, wanted, 1e-9, 200, start=cold.vector)
    assert again.steps == 0
    assert again.products == 2
    with pytest.raises(ValueError, match="expected a vector of 30, got \\(3,\\)"):
        solver(times(matrix), 0.1, wanted, 1e-10, 200, start=wanted[:3])


def test_minres_has_the_least_residual_at_every_step():
    matrix, wanted = some_system(definite=False)
    space = wanted[:, None]
    for most in range(1, 12):
        found = minres(times(matrix), 0.0, wanted, 0.0, most)
        reached = matrix @ space
        best = reached @ torch.linalg.lstsq(reached, wanted[:, None]).solution
        least = float((best[:, 0] - wanted).norm() / wanted.norm())
        assert found.residual == pytest.approx(least, rel=1e-7)
        following = matrix @ space[:, -1:]
        space = torch.linalg.qr(torch.cat([space, following], 1))[0]


def test_minres_keeps_to_nothing_and_to_what_a_singular_system_allows():
    nothing = minres(times(A), 0.0, tensor(0, 0), 1e-10, 5)
    assert (nothing.steps, nothing.residual) == (0, 0.0)
    flat = torch.diag(tensor(2, 0))
    found = minres(times(flat), 0.0, tensor(1, 1), 1e-12, 9)
    assert found.negative  # 0 is not positive
    assert found.residual == pytest.approx(2**-0.5)
    assert bool(found.vector.isfinite().all())


def test_neumanns_terms_are_steps_of_descent():
    """``w_k = w_0 - s_k`` for s of the gradient at w_0."""
    w = tensor(0, 0)
    for _ in range(7):
        w = w - 0.2 * (A @ w - (B @ X + b))
    found = neumann(times(A), 0.0, -(B @ X + b), 0.2, 7)
    close(-found.vector, w, 1e-14)
    assert found.products == 7
    warm = neumann(times(A), 0.0, -(B @ X + b), 0.2, 3, start=found.vector)
    close(warm.vector, neumann(times(A), 0.0, -(B @ X + b), 0.2, 10).vector, 1e-14)


def test_too_large_a_rate_shows_in_the_residual():
    assert neumann(times(A), 0.0, MINIMUM - T, 2.0, 20).residual > 1


def regression(bias, rows=80, classes=4, width=6):
    draws = np.random.default_rng(3)
    features = torch.from_numpy(draws.standard_normal((rows, width)) * np.arange(1, width + 1))
    a = torch.cat([features, torch.ones(rows, 1)], 1).double() if bias else features
    theta = torch.from_numpy(draws.standard_normal((classes, a.shape[1])))
    return a, (a @ (0.05 * theta).T).softmax(1)


@pytest.mark.parametrize("bias", [False, True])
def test_the_kronecker_preconditioner_inverts_the_product_of_the_means(bias):
    a, chances = regression(bias)
    second = a.T @ a / len(a)
    mean = torch.stack([torch.diag(p) - torch.outer(p, p) for p in chances]).mean(0)
    by_class = torch.kron(mean, second)
    width, classes = a.shape[1], chances.shape[1]
    order = torch.arange(classes * width).view(classes, width)
    if bias:  # a layer's parameters are its weights, then its biases
        order = torch.cat([order[:, :-1].flatten(), order[:, -1]])
    order = order.flatten()
    matrix = by_class[order][:, order] + 0.01 * torch.eye(classes * width, dtype=torch.float64)
    vector = torch.from_numpy(np.random.default_rng(5).standard_normal(classes * width))
    near = Kronecker.of(a, bias).preconditioner(chances, 0.01)
    close(near(vector), torch.linalg.solve(matrix, vector), 1e-9)


def test_a_preconditioner_saves_steps_and_changes_no_answer():
    a, chances = regression(True)
    classes, width = chances.shape[1], a.shape[1]
    full = sum(
        torch.kron(torch.diag(p) - torch.outer(p, p), torch.outer(row, row))
        for p, row in zip(chances, a, strict=True)
    ) / len(a)
    order = torch.arange(classes * width).view(classes, width)
    order = torch.cat([order[:, :-1].flatten(), order[:, -1]])
    matrix = full[order][:, order]
    wanted = torch.from_numpy(np.random.default_rng(5).standard_normal(classes * width))
    near = Kronecker.of(a).preconditioner(chances, 1e-3)
    plain = conjugate_gradients(times(matrix), 1e-3, wanted, 1e-8, 500)
    helped = conjugate_gradients(times(matrix), 1e-3, wanted, 1e-8, 500, preconditioner=near)
    close(helped.vector, plain.vector, 1e-4)
    assert helped.residual < 1e-7
    assert 2 * helped.steps < plain.steps


def test_no_preconditioner_without_damping():
    a, chances = regression(True)
    with pytest.raises(ValueError, match="expected damping > 0, got 0"):
        Kronecker.of(a).preconditioner(chances, 0)


def stepped(w):
    """One step of each dynamics at rate 0.1 from x and w: (D, x, w) of each."""
    solved = conjugate_gradients(times(A), 0.0, w - T, 1e-15, 9)
    slope = total(solved)
    forward = w - 0.1 * (A @ w - (B @ X + b))
    # following the ridge: the follower also makes up for the leader's move
    ridge = forward - 0.1 * conjugate_gradients(times(A), 0.0, B @ slope, 1e-15, 9).vector
    newton = w - conjugate_gradients(times(A), 0.0, A @ w - (B @ X + b), 1e-15, 9).vector
    return slope, X - 0.1 * slope, forward, ridge, newton


def test_a_step_of_each_dynamics_from_zero_weights():
    slope, x, forward, ridge, newton = stepped(tensor(0, 0))
    close(slope, tensor(-0.22, -0.07), 1e-14)
    close(x, tensor(0.322, -0.693), 1e-14)
    close(forward, tensor(0.13, -0.24), 1e-14)
    close(ridge, tensor(0.1404, -0.2388), 1e-14)
    close(newton, MINIMUM, 1e-14)  # the follower is quadratic: one step is all


def test_the_total_gradient_is_that_of_the_loss_through_the_follower():
    x = X.clone().requires_grad_()
    w = torch.linalg.solve(A, B @ x + b)
    ((w - T) @ (w - T) / 2 + MU * x @ x / 2).backward()
    close(total(conjugate_gradients(times(A), 0.0, MINIMUM - T, 1e-15, 9)), x.grad, 1e-14)


def test_the_leaders_optimum_has_no_total_gradient_and_plain_descent_stops_elsewhere():
    def slope(x):
        w = conjugate_gradients(times(A), 0.0, B @ x + b, 1e-15, 9).vector
        return w, MU * x + B @ conjugate_gradients(times(A), 0.0, w - T, 1e-15, 9).vector

    best = tensor(0.0172413793, 0.8965517241)
    w, left = slope(best)
    close(w, tensor(0.4517241379, 0.1137931034))
    close(left, tensor(0, 0))
    value = float((w - T) @ (w - T) / 2 + MU * best @ best / 2)
    assert value == pytest.approx(0.0506465517, abs=1e-10)
    w, left = slope(tensor(0, 0))  # where each descends its own loss, x = 0 is at rest
    close(w, tensor(0.8, -0.6), 1e-14)
    assert float((w - T) @ (w - T) / 2) == pytest.approx(0.40625)
    assert float(left.norm()) > 0.1


@pytest.mark.parametrize("steps", [1, 5, 20, 100])
def test_unrolled_descent_and_its_closed_form(steps):
    x = X.clone().requires_grad_()
    w = tensor(0, 0)
    for _ in range(steps):
        w = w - 0.2 * (A @ w - (B @ x + b))
    wanted = {
        1: ((0.26, -0.48), (-0.018, -0.362)),
        5: ((0.9712, -1.0408), (0.439264, -1.1275424)),
        20: ((1.2577425654, -1.2186048287), (0.7770157578, -1.5463112738)),
        100: ((1.26, -1.22), (0.78, -1.55)),
    }[steps]
    close(w.detach(), tensor(*wanted[0]))
    ((w - T) @ (w - T) / 2 + MU * x @ x / 2).backward()
    close(x.grad, tensor(*wanted[1]))
    # the series of as many terms is the derivative through as many steps from 0
    close(total(neumann(times(A), 0.0, w.detach() - T, 0.2, steps)), x.grad, 1e-14)


SCALED = {
    "cg": lambda product, v: conjugate_gradients(product, 0.0, v, 1e-3, 200),
    "minres": lambda product, v: minres(product, 0.0, v, 1e-3, 200),
    "normal equations": lambda product, v: normal_equations(product, 0.0, v, 1e-3, 200),
}


@pytest.mark.parametrize("name", SCALED)
def test_no_unit_of_the_loss_counts(name):
    matrix, wanted = some_system()
    found = SCALED[name](times(matrix), wanted)
    assert 3 < found.steps < 200  # the tolerance ended it
    # powers of two change no digit
    for height, length in ((2**-60, 1), (2**60, 1), (1, 2**-30), (1, 2**30)):
        other = SCALED[name](times(height * matrix), length * wanted)
        assert (other.steps, other.residual) == (found.steps, found.residual)
        close(other.vector * (height / length), found.vector, 0)


def test_normal_equations_stop_at_their_own_tolerance():
    matrix, wanted = some_system()
    for tolerance in (1e-1, 1e-3):
        found = normal_equations(times(matrix), 0.0, wanted, tolerance, 200)
        left = matrix @ (matrix @ found.vector - wanted)
        assert float(left.norm() / (matrix @ wanted).norm()) <= tolerance
        short = normal_equations(times(matrix), 0.0, wanted, tolerance, found.steps - 1)
        left = matrix @ (matrix @ short.vector - wanted)
        assert float(left.norm() / (matrix @ wanted).norm()) > tolerance


@pytest.mark.parametrize("name", SCALED)
def test_nothing_wanted_takes_no_step(name):
    found = SCALED[name](times(A), tensor(0, 0))
    assert (found.steps, found.residual, found.negative) == (0, 0.0, False)
    close(found.vector, tensor(0, 0), 0)

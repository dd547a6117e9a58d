"""Two operators that cosmic-ray lacks; both follow its interface, on parso's trees."""

from cosmic_ray.operators.operator import Example, Operator
from parso.python.tree import Name


class SwapCall(Operator):
    """Calls another function: `min` for `max`, `int` for `round`."""

    def __init__(self, swaps):
        self.swaps = swaps

    def mutation_positions(self, node):
        """Yield the place of a called name."""
        if isinstance(node, Name) and node.value in self.swaps and _called(node):
            yield node.start_pos, node.end_pos

    def mutate(self, node, index):
        """Replace the name."""
        node.value = self.swaps[node.value]
        return node

    @classmethod
    def examples(cls):
        """See `Operator.examples`."""
        args = {"swaps": {"max": "min"}}
        return (Example("x = max(y)", "x = min(y)", operator_args=args),)


class DropOption(Operator):
    """Leaves an optional argument out: `x.sum(dim=1)` becomes `x.sum()`."""

    def __init__(self, names):
        self.names = names

    def mutation_positions(self, node):
        """Yield the place of each such argument of a call."""
        # Whoever asks may take an argument away between two answers.
        spans = [
            (node.children[at].start_pos, node.children[at].end_pos) for at in self._places(node)
        ]
        yield from spans

    def mutate(self, node, index):
        """Take the argument and a comma beside it away."""
        at = self._places(node)[index]
        first = at if node.type == "trailer" or at == 0 else at - 1
        last = at + 1 if node.type == "trailer" or at else at + 2
        node.children = node.children[:first] + node.children[last:]
        return node

    def _places(self, node):
        if node.type not in {"arglist", "trailer"}:
            return []
        return [
            at
            for at, child in enumerate(node.children)
            if child.type == "argument"
            and child.children[1].get_code().strip() == "="
            and child.children[0].value in self.names
        ]

    @classmethod
    def examples(cls):
        """See `Operator.examples`."""
        args = {"names": ["dim"]}
        return (
            Example("x = y.sum(dim=1)", "x = y.sum()", operator_args=args),
            Example("x = f(y, dim=1, a=2)", "x = f(y, a=2)", operator_args=args),
            Example("x = f(dim=1, a=2)", "x = f( a=2)", operator_args=args),
            Example("x = f(a, dim=1, dim=2)", "x = f(a, dim=2)", operator_args=args),
        )


def _called(name: Name) -> bool:
    after = name.get_next_leaf()
    return after is not None and after.value == "(" and name.parent.type != "funcdef"

"""Checks that the parameters of several defences share."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel


def refuse_unused(model: BaseModel, switch: str, uses: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a field that was changed but that the chosen variant would never read.

    Args:
        model: The parameters.
        switch: Name of the field that picks the variant.
        uses: For each variant, the fields that only it (or the others that name them) reads.

    Raises:
        ValueError: If a field that the chosen variant does not read differs from its default.
    """
    chosen = getattr(model, switch)
    read = set(uses.get(chosen, ()))
    for variant, fields in uses.items():
        for name in fields:
            changed = getattr(model, name) != type(model).model_fields[name].default
            if name not in read and changed:
                raise ValueError(
                    f"{name} is read with {switch}: {variant} only, but {switch} is {chosen}"
                )

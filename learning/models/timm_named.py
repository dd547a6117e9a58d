"""Any classifier of timm, by the name that timm gives it; needs the extra `timm`.

R. Wightman, "PyTorch Image Models", 2019, https://github.com/huggingface/pytorch-image-models.

timm builds it with the game's channels and classes. Like those of torchvision its networks are
made for large images; what does not take small ones is refused before anything is trained. Nothing
is downloaded: weights come from a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from learning.models.published import PublishedNet, fitted


class TimmNet(PublishedNet):
    """A classifier of timm."""

    paper: ClassVar[str] = "Wightman, PyTorch Image Models, 2019"
    kind: Literal["timm"] = "timm"
    examples: ClassVar = ()  # its networks come with an extra
    name: str = Field(
        min_length=1,
        max_length=200,
        description="What timm calls the network, such as `resnet10t`.",
        json_schema_extra={"origin": "ours"},
    )

    def network(
        self, shape: tuple[int, int, int], classes: int, weights: Mapping[str, torch.Tensor] | None
    ) -> torch.nn.Module:
        """Return the network with the game's channels and classes; see `PublishedNet`."""
        try:
            import timm
        except ImportError:
            raise ValueError(
                f"model: expected the package timm for {self.name}, got none: "
                "pip install 'backfire[timm]'"
            ) from None
        if not timm.is_model(self.name):
            like = timm.list_models(f"*{self.name}*")[:3]
            hint = f" (there are: {', '.join(like)})" if like else ""
            raise ValueError(f"model.name: expected a network of timm, got {self.name!r}{hint}")
        # With a file the first convolution and the head are fitted after it is loaded.
        own: dict[str, Any] = {"in_chans": shape[0], "num_classes": classes}
        net: torch.nn.Module = timm.create_model(
            self.name, pretrained=False, **({} if weights else own)
        )
        return fitted(net, shape[0], classes, weights)

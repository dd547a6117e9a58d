"""How many rows go through a model at once, and that none is left out."""

import torch
from torch import nn

from learning.curvature.passes import pieces, rows_per_pass
from learning.models.mlp import MLP
from learning.models.small_cnn import SmallCNN


def test_no_layer_gives_out_more_than_stays_in_caches():
    net, sizes = SmallCNN().build((3, 32, 32), 10), []
    x = torch.empty(5000, 3, 32, 32)
    rows = rows_per_pass(net, x)
    for layer in net.modules():
        layer.register_forward_hook(lambda _, __, out: sizes.append(out.numel() * 4))
    net(torch.zeros(rows, 3, 32, 32))
    assert 2**23 < max(sizes) <= 2**24
    assert rows_per_pass(net.double(), x.double()) == rows // 2


def test_a_small_model_takes_many_rows_and_a_large_one_at_least_one():
    assert rows_per_pass(MLP(hidden=[8]).build((1, 8, 8), 10), torch.empty(5000, 1, 8, 8)) == 2048
    wide = nn.Sequential(nn.Linear(2, 2**23, bias=False))
    assert rows_per_pass(wide, torch.empty(100, 2)) == 1


def test_every_row_is_in_one_piece():
    net, x = MLP(hidden=[8]).build((1, 8, 8), 10), torch.empty(5000, 1, 8, 8)
    for chunk in (None, 7, 5000, 9000):
        found = torch.cat([torch.arange(5000)[rows] for rows in pieces(net, x, chunk)])
        assert torch.equal(found, torch.arange(5000))
    assert len(list(pieces(net, x[:64], None))) == 1

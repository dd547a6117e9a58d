"""How a step of training is made: one optimiser, one file.

`torch.optim` has one step counter for a tensor; models of a stack may be at different steps (one
has a batch more in an epoch than another), and a model without a batch must not move at all, not
even by momentum or weight decay. So a step here moves the first m models of the stack only.
"""

"""Muon (Jordan et al. 2024) for matrices and convolution kernels: the momentum, orthogonalised, at AdamW's step size.

`torch.optim.Muon` takes matrices only; here a kernel is the matrix of its output channels, as the method's author does it.
"""

import torch
from torch import Tensor, nn


class Muon(torch.optim.Muon):
    """Torch's Muon on matrices that share their memory with the parameters given."""

    def __init__(self, parameters: list[Tensor], lr: float, *, weight_decay: float = 0.0) -> None:
        """Take contiguous parameters of two or more dimensions; steps have AdamW's root mean square of 0.2 (Liu et al. 2025)."""
        self.parameters = parameters
        self.matrices = [nn.Parameter(parameter.detach().view(len(parameter), -1)) for parameter in parameters]
        super().__init__(self.matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for parameter, matrix in zip(self.parameters, self.matrices, strict=True):
            matrix.grad = None if parameter.grad is None else parameter.grad.reshape(matrix.shape)
        super().step()

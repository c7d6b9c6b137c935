"""The device that this machine computes on: CUDA, else Apple's MPS, else the CPU."""

import torch


def best_device() -> torch.device:
    """Return the first accelerator that torch can use here, or the CPU."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")

"""A trained network rewritten for speed: the same outputs, sooner."""

from fastfcn.optimize.optimizer import Optimize, Optimized

__all__ = ["Optimize", "Optimized"]

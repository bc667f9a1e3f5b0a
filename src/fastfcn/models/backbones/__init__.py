"""Backbones: image -> Pyramid. Each publishes ``out_channels`` and ``output_stride``."""

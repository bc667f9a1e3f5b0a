"""Upsamplers: Pyramid -> Pyramid whose last level lies at 1/8. Each publishes ``out_channels`` and ``input_stride``."""

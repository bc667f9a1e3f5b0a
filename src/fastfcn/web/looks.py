"""Theme and icon of the page: fonts of the system, nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

ICON = Path(__file__).with_name("icon.png")

#: Names that systems know; the browser takes the first that it has.
FONTS = ("Segoe UI", "Roboto", "Helvetica Neue", "DejaVu Sans", "sans-serif")
FIXED = ("Consolas", "Menlo", "DejaVu Sans Mono", "monospace")


def theme() -> gr.themes.Base:
    """The theme, in light and dark."""
    made = gr.themes.Default(primary_hue="blue", secondary_hue="blue", neutral_hue="slate", font=FONTS, font_mono=FIXED)
    # Small print that can be read: Gradio's own is of too little contrast.
    return made.set(body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300")

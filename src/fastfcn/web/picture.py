"""The box that an image is dropped on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData

from fastfcn.web.uploads import Upload


def drop_zone(**options: Any) -> gr.Image:
    """Gradio's image, which hands on the file that was uploaded instead of decoding it.

    Gradio would decode it before anybody has looked at its size, and tell what is damaged as a fault of the program. An
    address instead of a file, which Gradio would fetch, is refused: the page asks no other host.

    Its methods are replaced, for a class of one's own would have Gradio write a file beside its source. They stay in
    place as long as no event changes anything but the image's value.

    Args:
        **options: of gr.Image.
    """
    box = gr.Image(type="filepath", **options)
    into_cache = box.async_move_resource_to_block_cache

    def handed_on(payload: ImageData | None) -> Upload | None:
        if payload is None or payload.path is None:
            return None
        return Upload(Path(payload.path), payload.orig_name or Path(payload.path).name)

    async def of_this_machine(place: str | Path | None) -> str | None:
        if place is not None and "://" in str(place):
            raise gr.Error("Give the image itself, not its address.", print_exception=False)
        return await into_cache(place)

    box.preprocess = handed_on  # type: ignore[method-assign, assignment]
    box.async_move_resource_to_block_cache = of_this_machine  # type: ignore[method-assign, assignment]
    return box

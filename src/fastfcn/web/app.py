"""The page itself: what stands where, and what happens at a click."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from fastfcn.cli import explain
from fastfcn.types import UInt8Array
from fastfcn.web import texts
from fastfcn.web.answers import Comparison
from fastfcn.web.comparing import Comparer
from fastfcn.web.downloads import Downloads
from fastfcn.web.picture import drop_zone
from fastfcn.web.uploads import Upload
from fastfcn.web.views import TOLD, VIEWS, View, pair

STYLE = Path(__file__).with_name("page.css")

#: How strongly classes are painted over the image.
STRENGTH = 0.6

#: Seconds after which what a visitor has left is forgotten, and between two looks for it.
FORGOTTEN, LOOKED_FOR = 3600, 60


class Shown(NamedTuple):
    """What a visitor looks at, kept while the page is open.

    Attributes:
        comparison: two models' answers.
        alone: the name of the one class that is shown; None for all.
    """

    comparison: Comparison
    alone: str | None = None


class Page:
    """The page: `blocks` is what is served.

    Args:
        comparer: compares two models on an image.
        downloads: writes the files to take home.
        trained: whether any model was.
    """

    def __init__(self, comparer: Comparer, downloads: Downloads, *, trained: bool) -> None:
        self._comparer = comparer
        self._downloads = downloads
        self._trained = trained
        self._names = list(comparer.models.offers)
        with gr.Blocks(
            title=texts.TITLE, analytics_enabled=False, delete_cache=(LOOKED_FOR, FORGOTTEN), fill_width=True
        ) as self.blocks:
            self._lay_out()
            self._connect()

    def _lay_out(self) -> None:
        examples = self._comparer.examples
        left, right = texts.choices(self._names)
        self._shown = gr.State(None, time_to_live=FORGOTTEN)
        self._current = gr.State(Upload(examples[0].path, examples[0].name))
        gr.HTML(texts.HEADER, js_on_load=None)
        if not self._trained:
            gr.HTML(texts.untrained(), js_on_load=None)
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=300):
                # It stays empty: the image is shown large beside it, and the next one can be dropped at any time.
                self._image = drop_zone(
                    sources=["upload", "clipboard"], height=170, show_label=False, buttons=[],
                    elem_id="image",
                )  # fmt: skip
                gr.HTML(texts.EXAMPLES, js_on_load=None)
                self._gallery = gr.Gallery(
                    value=[str(example.path) for example in examples], columns=4, height="auto", object_fit="cover",
                    allow_preview=False, interactive=False, show_label=False, buttons=[], elem_id="examples",
                    container=False,
                )  # fmt: skip
                self._left = gr.Dropdown(self._names, value=left, label="Left", elem_id="left")
                self._right = gr.Dropdown(self._names, value=right, label="Right", elem_id="right")
                self._button = gr.Button("Compare", variant="primary", elem_id="compare")
            with gr.Column(scale=7, min_width=320):
                self._notice = gr.HTML(elem_id="notice", js_on_load=None)
                self._view = gr.Radio(
                    VIEWS[:3], value=VIEWS[0], show_label=False, info=TOLD[VIEWS[0]], container=False, elem_id="view"
                )
                self._caption = gr.HTML(elem_id="caption", js_on_load=None)
                self._slider = gr.ImageSlider(
                    type="numpy", format="png", show_label=False, interactive=False, max_height=560, elem_id="slider",
                    buttons=["fullscreen"], container=False,
                )  # fmt: skip
                self._about = gr.HTML(elem_id="about", js_on_load=None)
                self._strength = gr.Slider(
                    0, 1, STRENGTH, step=0.05, label="Colour over image", elem_id="strength", buttons=[]
                )
                with gr.Row(elem_id="files"):
                    self._files = [
                        gr.DownloadButton(
                            f"{what}, {side}",
                            size="sm",
                            interactive=False,
                            min_width=110,
                            elem_id=f"{what}_{side}".lower(),
                        )
                        for side in ("left", "right")
                        for what in ("Mask", "Overlay")
                    ]
            with gr.Column(scale=4, min_width=300):
                self._legend = gr.HTML(elem_id="legend", js_on_load=texts.LEGEND_SCRIPT)
                self._times = gr.HTML(elem_id="times", js_on_load=None)

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"api_visibility": "private"}
        models = [self._left, self._right, self._view, self._strength]
        seen = [self._slider, self._legend, self._view, self._shown]
        all_of_it = [
            self._notice, self._image, self._current, self._caption, self._about, self._times, *seen, *self._files,
        ]  # fmt: skip
        compare: dict[str, Any] = {
            "outputs": all_of_it, "concurrency_id": "models", "concurrency_limit": 1, "trigger_mode": "always_last",
            "show_progress_on": [self._slider], **quiet,
        }  # fmt: skip
        changed = [self.blocks.load, self._button.click, self._left.input, self._right.input]
        gr.on(changed, self.compare, [self._current, *models], **compare)
        gr.on(self._image.upload, self.compare, [self._image, *models], **compare)
        gr.on(self._gallery.select, self.compare_example, models, **compare)
        # One after the other: each takes up what the one before has left in the state.
        redraw: dict[str, Any] = {
            "outputs": seen, "show_progress": "hidden", "concurrency_id": "models", "concurrency_limit": 1, **quiet,
        }  # fmt: skip
        state = [self._shown, self._view, self._strength]
        gr.on([self._view.input, self._strength.input], self.redraw, state, trigger_mode="always_last", **redraw)
        self._legend.click(self.isolate, state, **redraw)

    def compare(
        self, upload: Upload | None, left: str | None, right: str | None, view: View, strength: float
    ) -> list[Any]:
        """Everything that an image and two models give; of an image that cannot be used, a sentence alone."""
        try:
            if upload is None:
                return self._only("Drop an image on the box, or take an example.")
            picture, comparison = self._comparer(upload, left, right)
            view = view if view != "Errors" or comparison.truth is not None else "Classes"
            files = self._downloads.write(comparison, name=picture.name, strength=strength)
            return [
                "",
                None,
                upload,
                texts.caption(comparison),
                texts.about(picture, comparison, trained=self._trained),
                texts.times(comparison, device=self._comparer.device_name),
                *self._seen(Shown(comparison), view, strength),
                *(gr.DownloadButton(value=path, interactive=True) for path in files),
            ]
        except Exception as error:
            return self._only(self._sentence(error))

    def compare_example(
        self, chosen: gr.SelectData, left: str | None, right: str | None, view: View, strength: float
    ) -> list[Any]:
        """The same for an example."""
        example = self._comparer.examples[int(chosen.index)]
        return self.compare(Upload(example.path, example.name), left, right, view, strength)

    def redraw(self, shown: Shown | None, view: View, strength: float) -> list[Any]:
        """The same answers, seen in another way."""
        return self._seen(shown, view, strength) if shown is not None else [gr.skip()] * 4

    def isolate(self, shown: Shown | None, view: View, strength: float, clicked: gr.EventData) -> list[Any]:
        """Show the class alone that was clicked on; all of them where it was alone already."""
        if shown is None:
            return [gr.skip()] * 4
        name = str(clicked.name)
        known = {share.name for share in shown.comparison.legend()}
        alone = None if name == shown.alone or name not in known else name
        return self._seen(shown._replace(alone=alone), view, strength)

    def _seen(self, shown: Shown, view: View, strength: float) -> list[Any]:
        views = VIEWS if shown.comparison.truth is not None else VIEWS[:3]
        pictures: tuple[UInt8Array, UInt8Array] = pair(shown.comparison, view, strength=strength, alone=shown.alone)
        legend = texts.legend(shown.comparison, alone=shown.alone)
        return [pictures, legend, gr.Radio(choices=views, value=view, info=TOLD[view]), shown]

    def _only(self, sentence: str) -> list[Any]:
        """A sentence, and the box is empty again; all else stays as it is."""
        return [texts.notice(sentence), None, *[gr.skip()] * (8 + len(self._files))]

    def _sentence(self, error: Exception) -> str:
        """What went wrong, in one sentence; a fault of the program is told with its traceback where it was started."""
        told = explain(error)
        if told is None:
            traceback.print_exception(error)
            told = f"This failed ({type(error).__name__}): the terminal in which the page was started says why."
        return told

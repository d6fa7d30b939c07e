"""The page in Gradio's components: a form, a slider and the answer. All that it knows comes from the studio; it draws nothing itself.

An uploaded file is taken as a file, so that no other opener than the repository's own decodes it.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from pipeline.demo.studio import MAX_TEXT, Ask, Studio
from pipeline.demo.view import show_answer, show_refusal

UPLOADS_KEPT = 3_600  # seconds
INTRO = "## RAGAR\nChoose whose picture it is and of what, or upload a picture and say what it shows. Nothing leaves this machine."


def build_page(studio: Studio) -> gr.Blocks:
    """Lay out the page and connect it."""
    users, references = studio.list_users(), studio.list_references()
    first = users[0] if users else ""
    private = {"api_visibility": "private"}

    def answer(user_id: str | None, reference_id: str | None, upload: str | None, text: str | None, k: float) -> str:
        ask = Ask(user_id or "", reference_id or "", int(k), Path(upload) if upload else None, (text or "") if upload else "")
        try:
            return show_answer(studio.answer(ask))
        except ValueError as error:  # of a request or of the run: a sentence for a person
            return show_refusal(str(error))

    with gr.Blocks(title="RAGAR demo", analytics_enabled=False, delete_cache=(UPLOADS_KEPT, UPLOADS_KEPT)) as page:
        gr.Markdown(INTRO)
        with gr.Row():
            with gr.Column(min_width=280):
                user = gr.Dropdown(users, value=first, label="User", allow_custom_value=True, elem_id="user")
                reference = gr.Dropdown(
                    references, value=studio.find_reference(first), label="Reference", allow_custom_value=True, elem_id="reference"
                )
            with gr.Column(min_width=280):
                upload = gr.File(label="or a picture of yours instead", file_types=["image"], height=150, elem_id="upload")
                text = gr.Textbox(label="What it shows", max_length=MAX_TEXT, elem_id="text")
        k = gr.Slider(1, studio.max_k, value=studio.run.retrieval.k or 1, step=1, label="k: how many items are retrieved", elem_id="k")
        button = gr.Button("Draw", variant="primary", elem_id="draw")
        result = gr.HTML(elem_id="answer")
        form = [user, reference, upload, text, k]
        user.input(studio.find_reference, user, reference, show_progress="hidden", **private)
        gr.on([page.load, button.click, k.release], answer, form, result, trigger_mode="always_last", concurrency_limit=1, **private)
    return page

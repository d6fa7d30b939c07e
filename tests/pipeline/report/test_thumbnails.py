"""Small pictures inside of the page. Run: python -m pytest tests/pipeline/report/test_thumbnails.py -q"""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from pipeline.report.thumbnails import Picture, build_picture, encode_thumbnail
from tests.pipeline.report.made import make_png


def test_thumbnails_are_shrunk_but_never_enlarged_and_small_ones_keep_every_pixel():
    small = Image.open(io.BytesIO(make_png(0, 20)))
    for image, side, expected in ((small, 96, (20, 20)), (small.resize((400, 200)), 192, (192, 96))):
        data = base64.b64decode(encode_thumbnail(image, side).removeprefix("data:image/webp;base64,"))
        assert Image.open(io.BytesIO(data)).size == expected
    data = base64.b64decode(encode_thumbnail(small, 96).removeprefix("data:image/webp;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), np.asarray(small))


def test_bytes_of_the_data_never_reach_the_page_undecoded():
    evil = make_png(0) + b"<script>alert(1)</script>"
    picture = build_picture(evil, side=96, title="t")
    assert picture.title == "t"
    assert b"<script>" not in base64.b64decode(picture.uri.removeprefix("data:image/webp;base64,"))


def test_the_tooltip_of_what_cannot_be_shown_says_why():
    assert build_picture(None, side=96, title="t", missing="nothing was drawn") == Picture("t nothing was drawn")
    assert build_picture(b"", side=96, title="") == Picture("The image is empty (0 bytes).")

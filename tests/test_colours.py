"The released networks stay close to bicubic or better on pure colours, which are in no photo (the chart of nbs/2_study/02_pictures)."
from itertools import product

import numpy as np
import pytest

from srgan_study.images import imresize
from srgan_study.metrics import psnr
from srgan_study.upscaling import upscale
from srgan_study.weights import load

TILE = 48 # pixels a side
COLOURS = [np.uint8(colour) for colour in product((0, 255), repeat=3)]


def chart() -> np.ndarray:
    "A disc and a line in each of eight colours (columns) on each of the others (rows): uint8 (384, 384, 3)."
    y, x = np.mgrid[:TILE, :TILE] - (TILE - 1)/2
    drawn = (np.hypot(x, y) < TILE/4) | (abs(x - y) < 2) & (np.hypot(x, y) < TILE/2)
    return np.vstack([np.hstack([np.where(drawn[..., None], colour, ground) for colour in COLOURS]) for ground in COLOURS])


def tiles(image: np.ndarray) -> list[np.ndarray]:
    "The 56 tiles that show two different colours."
    corners = product(range(0, len(image), TILE), repeat=2)
    return [image[row:row + TILE, column:column + TILE] for row, column in corners if row != column]


@pytest.mark.parametrize("name", ["srresnet", "srgan", "rrdb", "esrgan"])
def test_pure_colours(name):
    "Without batch norm, blocks can amplify an input that no patch had, until the result is noise."
    hr = chart()
    lr = imresize(hr, 1/4)
    sr, bicubic = upscale(load(name), lr, precision="fp32"), imresize(lr, 4)
    gains = [psnr(ours, truth, "rgb", 0) - psnr(theirs, truth, "rgb", 0) for ours, theirs, truth in zip(*map(tiles, (sr, bicubic, hr)))]
    assert len(gains) == 56 and min(gains) > -1

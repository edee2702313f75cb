"imresize against LR images that MATLAB made: every value must be equal."
import os
from pathlib import Path

import numpy as np
import pytest

from srgan_study.images import imresize, read_rgb

DATA = Path(os.environ.get("SRGAN_STUDY_TEST_DATA", "no SRGAN_STUDY_TEST_DATA"))/"test"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the benchmark sets are not here ({DATA})")


@needs_data
@pytest.mark.parametrize("name, scale", [("Set5", 2), ("Set5", 4), ("BSD100", 4)])
def test_every_value_equals_matlabs(name, scale):
    paths = sorted((DATA/name/"HR").iterdir())
    assert len(paths) == {"Set5": 5, "BSD100": 100}[name]
    for path in paths:
        lr = read_rgb(DATA/name/f"LRx{scale}"/path.name)
        np.testing.assert_array_equal(imresize(read_rgb(path), 1/scale), lr, err_msg=path.name)


@needs_data
def test_newer_matlab_mirrors_the_border():
    "The authors of DIV2K used a release of MATLAB that mirrors the image at its border."
    paths = sorted((DATA/"DIV2K12/HR").iterdir())[:3]
    for path in paths:
        lr = read_rgb(DATA/"DIV2K12/LRx4"/f"{path.stem}x4.png")
        np.testing.assert_array_equal(imresize(read_rgb(path), 1/4, border="mirror"), lr, err_msg=path.name)


@needs_data
def test_the_two_details_matter():
    "Without the rounding between the passes, or with the other border, the values differ from MATLAB's."
    hr, lr = (read_rgb(DATA/"Set5"/kind/"img_001.png") for kind in ("HR", "LRx4"))
    assert (imresize(hr, 1/4, rounding=False) != lr).mean() > 0.05
    assert (imresize(hr, 1/4, border="mirror") != lr).any()

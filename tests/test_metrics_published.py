"""Bicubic's published figures on the real Set5 and BSD100, from the images on (needs SRGAN_STUDY_TEST_DATA)."""
import os
from pathlib import Path

import numpy as np
import pytest

from srgan_study.images import imresize, read_rgb
from srgan_study.metrics import lr_consistency, protocol, published_bicubic

DATA = Path(os.environ.get("SRGAN_STUDY_TEST_DATA", "unset"))
pytestmark = pytest.mark.skipif(not (DATA/"test").is_dir(), reason="SRGAN_STUDY_TEST_DATA doesn't name a folder with test/Set5 and test/BSD100")

# (data set, scale): PSNR, SSIM; VDSR, arXiv 1511.04587, its benchmark table; the x4 rows also in ESRGAN's supplement, table 2
PUBLISHED = {("Set5", 4): (28.42, 0.8104), ("BSD100", 4): (25.96, 0.6675), ("Set5", 2): (33.66, 0.9299), ("BSD100", 2): (29.56, 0.8431)}

def hr_images(name):
    files = sorted((DATA/"test"/name/"HR").iterdir())
    assert len(files) == {"Set5": 5, "BSD100": 100}[name]
    return files

@pytest.mark.parametrize("name, scale", PUBLISHED)
def test_the_published_way_gives_the_published_figures(name, scale):
    rows = [published_bicubic(read_rgb(file), scale) for file in hr_images(name)]
    psnr, ssim = PUBLISHED[name, scale]
    assert abs(np.mean([row["psnr"] for row in rows]) - psnr) < 0.005
    assert abs(np.mean([row["ssim"] for row in rows]) - ssim) < 0.0001

@pytest.mark.parametrize("name", ["Set5", "BSD100"])
def test_from_the_8_bit_lr_files_psnr_is_published_and_ssim_a_little_lower(name):
    paper, rows = protocol("paper", 4, "files"), []
    for file in hr_images(name):
        lr = read_rgb(DATA/"test"/name/"LRx4"/file.name)
        sr = imresize(lr, 4)
        hr = read_rgb(file)[:sr.shape[0], :sr.shape[1]]
        assert lr_consistency(hr, lr, 4) == np.inf # LR is imresize's, value for value
        rows.append((paper.psnr(sr, hr), paper.ssim(sr, hr)))
    psnr, ssim = np.mean(rows, axis=0)
    assert abs(psnr - PUBLISHED[name, 4][0]) < 0.005
    assert 0.0002 < PUBLISHED[name, 4][1] - ssim < 0.0004 # what the LR image's rounding costs

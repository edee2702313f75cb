"""PSNR and SSIM against values computed without this package, and the published values of bicubic on the real test sets.

The published values need SRGAN_STUDY_TEST_DATA, the folder that holds test/Set5 and test/BSD100."""
import math
import os
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from scipy.signal import convolve2d
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from srgan_study.images import imresize, read_rgb
from srgan_study.metrics import lr_consistency, psnr, ssim
from srgan_study.protocols import PROTOCOLS, protocol, published_bicubic

DATA = Path(os.environ.get("SRGAN_STUDY_TEST_DATA", "unset"))
real = pytest.mark.skipif(not (DATA/"test").is_dir(), reason="SRGAN_STUDY_TEST_DATA doesn't name a folder with test/Set5 and test/BSD100")


# By hand: of srgan_study, only the functions under test are used below

def plain_y(image): return np.rint(16 + (65.481*image[..., 0] + 128.553*image[..., 1] + 24.966*image[..., 2])/255)

def plain_psnr(a, b): return 20*math.log10(255) - 10*math.log10(((a.astype(float) - b)**2).mean())

def plain_ssim(a, b):
    "Wang's ssim_index.m, written out: fspecial('gaussian', 11, 1.5), filter2(..., 'valid')."
    y, x = np.mgrid[-5:6, -5:6]
    window = np.exp(-(x*x + y*y)/(2*1.5**2)); window /= window.sum()
    a, b = a.astype(float), b.astype(float)
    mean = lambda v: convolve2d(v, window, mode="valid")
    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a*a) - ma*ma, mean(b*b) - mb*mb, mean(a*b) - ma*mb
    c1, c2 = (0.01*255)**2, (0.03*255)**2
    return ((2*ma*mb + c1)*(2*cov + c2)/((ma*ma + mb*mb + c1)*(va + vb + c2))).mean()

@pytest.fixture(scope="module")
def pair():
    hr = skimage.data.astronaut()[40:244, 100:316]
    return imresize(imresize(hr, 1/4), 4), hr

@pytest.mark.parametrize("crop", [0, 1, 4, 7])
def test_against_plain_numpy(pair, crop):
    inner = [image[crop:image.shape[0] - crop, crop:image.shape[1] - crop] for image in pair]
    luma = [plain_y(image) for image in inner]
    assert psnr(*pair, crop=crop) == pytest.approx(plain_psnr(*inner), abs=1e-9)
    assert psnr(*pair, "y", crop) == pytest.approx(plain_psnr(*luma), abs=1e-5) # 194 of 2**24 colours are on a tie
    assert ssim(*pair, "y", crop) == pytest.approx(plain_ssim(*luma), abs=2e-6)
    assert ssim(*pair, crop=crop) == pytest.approx(np.mean([plain_ssim(*(i[..., c] for i in inner)) for c in range(3)]), abs=2e-6)

def test_against_scikit_image(pair):
    sr, hr = (image[4:-4, 4:-4] for image in pair)
    assert psnr(*pair, crop=4) == pytest.approx(peak_signal_noise_ratio(hr, sr), abs=1e-9)
    theirs = structural_similarity(hr.astype(float), sr.astype(float), channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5,
                                   use_sample_covariance=False)
    assert ssim(*pair, crop=4) == pytest.approx(theirs, abs=1e-6)
    assert abs(ssim(*pair, crop=4) - structural_similarity(hr, sr, channel_axis=2)) > 0.003 # its defaults are a different metric

def test_on_small_arrays():
    a, b = np.zeros((3, 5, 3), np.uint8), np.zeros((3, 5, 3), np.uint8)
    b[1, 2] = 30, 60, 90 # one pixel of fifteen, so the mean square is (900 + 3600 + 8100)/45
    assert psnr(a, b) == pytest.approx(10*math.log10(255**2/280), abs=1e-9)
    assert psnr(a, b, crop=1) == pytest.approx(10*math.log10(255**2/(12600/9)), abs=1e-9) # of three pixels that remain
    above = (65.481*30 + 128.553*60 + 24.966*90)/255 # 46.76 above black's 16, 47 in whole levels
    assert psnr(a, b, "y") == pytest.approx(10*math.log10(255**2/(47**2/15)), abs=1e-9)
    assert psnr(a, b, "y", round_y=False) == pytest.approx(10*math.log10(255**2/(above**2/15)), abs=1e-9)
    assert psnr(a, a) == math.inf

def test_every_protocol_says_what_it_does(pair):
    texts = [str(protocol(name)) for name in PROTOCOLS]
    assert len(set(texts)) == len(texts)
    figures = {name: (protocol(name).psnr(*pair), protocol(name).ssim(*pair)) for name in PROTOCOLS}
    assert figures.pop("padded")[0] == figures["paper"][0] # only its SSIM differs
    assert len({round(p, 6) for p, _ in figures.values()}) == len(figures)


# (data set, scale): PSNR, SSIM; VDSR, arXiv 1511.04587, its benchmark table; the x4 rows also in ESRGAN's supplement, table 2
PUBLISHED = {("Set5", 4): (28.42, 0.8104), ("BSD100", 4): (25.96, 0.6675), ("Set5", 2): (33.66, 0.9299), ("BSD100", 2): (29.56, 0.8431)}
# SRGAN paper, table 2
SRGAN_PAPER = {"Set5": (28.43, 0.8211), "BSD100": (25.94, 0.6935)}

def hr_images(name):
    files = sorted((DATA/"test"/name/"HR").iterdir())
    assert len(files) == {"Set5": 5, "BSD100": 100}[name]
    return files

def bicubic(file, name):
    "SR, HR and LR of one image, from the LR file that MATLAB made."
    lr = read_rgb(DATA/"test"/name/"LRx4"/file.name)
    sr = imresize(lr, 4)
    return sr, read_rgb(file)[:sr.shape[0], :sr.shape[1]], lr

@real
@pytest.mark.parametrize("name, scale", PUBLISHED)
def test_the_published_way_gives_the_published_figures(name, scale):
    rows = [published_bicubic(read_rgb(file), scale) for file in hr_images(name)]
    psnr, ssim = PUBLISHED[name, scale]
    assert abs(np.mean([row["psnr"] for row in rows]) - psnr) < 0.005
    assert abs(np.mean([row["ssim"] for row in rows]) - ssim) < 0.0001

@real
@pytest.mark.parametrize("name", ["Set5", "BSD100"])
def test_from_the_8_bit_lr_files_psnr_is_published_and_ssim_a_little_lower(name):
    paper, rows = protocol("paper", 4, "files"), []
    for file in hr_images(name):
        sr, hr, lr = bicubic(file, name)
        assert lr_consistency(hr, lr, 4) == np.inf # LR is imresize's, value for value
        rows.append((paper.psnr(sr, hr), paper.ssim(sr, hr)))
    psnr, ssim = np.mean(rows, axis=0)
    assert abs(psnr - PUBLISHED[name, 4][0]) < 0.005
    assert 0.0002 < PUBLISHED[name, 4][1] - ssim < 0.0004 # the effect of rounding the LR image

@real
@pytest.mark.parametrize("name", SRGAN_PAPER)
def test_the_srgan_papers_row_comes_out_of_daalas_protocol_and_of_no_other(name):
    def means(protocol_name):
        under = protocol(protocol_name, 4, "files")
        return np.mean([(under.psnr(sr, hr), under.ssim(sr, hr)) for sr, hr, _ in (bicubic(file, name) for file in hr_images(name))], axis=0)
    psnr, ssim = means("daala")
    assert abs(psnr - SRGAN_PAPER[name][0]) < 0.005 and abs(ssim - SRGAN_PAPER[name][1]) < 0.0003
    assert SRGAN_PAPER[name][1] - means("paper")[1] > 0.01

@real
def test_set5_by_plain_numpy():
    rows = []
    for file in hr_images("Set5"):
        sr, hr = (plain_y(image.astype(float))[4:-4, 4:-4] for image in bicubic(file, "Set5")[:2])
        rows.append((plain_psnr(sr, hr), plain_ssim(sr, hr)))
    psnr, ssim = np.mean(rows, axis=0)
    assert abs(psnr - 28.418) < 0.001 and abs(ssim - 0.8101) < 0.0001

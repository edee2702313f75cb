"The page of `srgan-study demo`, used as a person would: in a real browser, with a mouse."
import getpass
import io
import re
import time

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from demo_page import MISSING, browser, opened, served
from srgan_study.esrgan import RRDBNet
from srgan_study.images import imresize, read_rgb, write_rgb
from srgan_study.srgan import SRResNet
from srgan_study.upscaling import upscale_files
from srgan_study.weights import interpolate, save

in_chromium = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    "Pictures, and networks that can't be mistaken: one reddens, its GAN makes blue, one is slow."
    folder = tmp_path_factory.mktemp("page")
    cat = skimage.data.chelsea()
    write_rgb(folder/"my cat.png", cat[60:180, 100:260])
    write_rgb(folder/"large.png", cat)
    (folder/"broken.png").write_bytes((folder/"my cat.png").read_bytes()[:9000])
    torch.manual_seed(0)
    for name, colour in (("srresnet", (0.7, -0.7, -0.7)), ("srgan", (-0.7, -0.7, 0.7))):
        network = SRResNet(blocks=1, channels=8)
        network.conv_last.bias.data = torch.tensor(colour)
        save(folder/f"{name}.safetensors", network)
    save(folder/"slow.safetensors", RRDBNet(blocks=8))
    return folder


@pytest.fixture(scope="module")
def place(files, tmp_path_factory):
    "A started page, and its temporary folder, which must be empty when it has ended."
    temporary = tmp_path_factory.mktemp("temporary")
    words = [w for name in ("srresnet", "srgan", "slow") for w in ("--weights", files/f"{name}.safetensors")]
    nowhere = dict(http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9") # the page is not looked for through a proxy
    with served(*words, "--max-megapixels", "0.1", TMPDIR=str(temporary), **nowhere) as (address, server):
        assert len(list(temporary.glob("srgan-study-demo-*"))) == 1
        yield address
        errors = server.errors()
    assert "Traceback" not in errors, errors
    assert server.returncode == 0
    assert [p for p in temporary.iterdir() if p.name != f"torchinductor_{getpass.getuser()}"] == [] # that is PyTorch's own


@pytest.fixture(scope="module")
def chromium():
    with browser() as chromium: yield chromium


@pytest.fixture
def page(chromium, place):
    "The page; whatever a test does, it must have asked nobody else for anything."
    page = opened(chromium, place)
    yield page
    page.context.close()
    assert len(page.asked_for) > 10
    assert [url for url in page.asked_for if not url.startswith((place, "data:", "blob:"))] == []


def drop(page, path):
    page.locator("input[type=file]").first.set_input_files(path)

def choose(page, label):
    page.get_by_label("Weights").click()
    page.get_by_role("option", name=label).click()

def expect_said(page, words: str) -> None:
    "Wait until the page says these words, and close what says them."
    message = page.locator(".toast-body").filter(has_text=words)
    message.wait_for()
    message.locator(".toast-close").click()
    message.wait_for(state="detached")

def mean_colour(page, across: float) -> np.ndarray:
    "The colour of a small square at this part of the comparison's width, a third above its lower edge."
    box = page.locator("#compare").bounding_box()
    square = dict(x=box["x"] + across*box["width"] - 8, y=box["y"] + 0.7*box["height"], width=16, height=16)
    return np.asarray(Image.open(io.BytesIO(page.screenshot(clip=square))).convert("RGB")).mean((0, 1))

def same_picture(one, other) -> bool:
    "The same but for rounding: two processes may choose different ways to compute."
    one, other = read_rgb(one).astype(int), read_rgb(other).astype(int)
    return one.shape == other.shape and abs(one - other).max() <= 1

def is_red(colour) -> bool: return colour[0] > 100 + colour[1:].max()


@in_chromium
def test_upload_wait_compare_download(page, files):
    page.get_by_text("fp32", exact=True).click()
    drop(page, files/"my cat.png")
    page.locator("img[src*='my%20cat'], img[src*='my cat']").first.wait_for()
    page.get_by_role("button", name="Upscale").click()
    page.get_by_text("160 x 120 became 640 x 480 with srresnet").wait_for()
    page.wait_for_function("[...document.querySelectorAll('#compare img')].filter(i => i.complete && i.naturalWidth == 640).length == 2")
    page.wait_for_timeout(500)
    assert [is_red(mean_colour(page, across)) for across in (0.25, 0.45, 0.55, 0.75)] == [False, False, True, True]

    box = page.locator("#compare").bounding_box()                      # the slider, by its handle
    at = lambda across: (box["x"] + across*box["width"], box["y"] + 0.5*box["height"])
    page.mouse.move(*at(0.5)); page.mouse.down(); page.mouse.move(*at(0.3), steps=4); page.mouse.move(*at(0.15), steps=4); page.mouse.up()
    page.wait_for_timeout(500)
    assert [is_red(mean_colour(page, across)) for across in (0.05, 0.25, 0.45, 0.75)] == [False, True, True, True]

    with page.expect_download() as download: page.get_by_text("Download PNG").click()
    assert download.value.suggested_filename == "my cat_x4_srresnet.png"
    by_command, = upscale_files([files/"my cat.png"], files/"command.png", files/"srresnet.safetensors", precision="fp32", force=True)
    assert same_picture(download.value.path(), by_command)


@in_chromium
def test_blend(page, files):
    choose(page, "slow (RRDBNet x4)")
    page.get_by_label("Blend").first.wait_for(state="hidden")          # nothing to blend it with
    choose(page, f"{files.name}/srgan (SRResNet x4)")                  # not the one in the package
    share = page.locator("input[type=number]")
    share.wait_for()
    assert share.input_value() == "1"
    share.fill("0.25"); share.press("Enter")
    page.get_by_text("fp32", exact=True).click()
    page.locator(".gallery-item").first.click()
    page.get_by_role("button", name="Upscale").click()
    page.get_by_text("113 x 75 became 452 x 300 with srresnet-srgan-0.25").wait_for()
    with page.expect_download() as download: page.get_by_text("Download PNG").click()
    interpolate(files/"srresnet.safetensors", files/"srgan.safetensors", files/"between.safetensors", 0.25)
    write_rgb(files/"chelsea.png", imresize(skimage.data.chelsea(), 1/4))
    by_command, = upscale_files([files/"chelsea.png"], files/"command.png", files/"between.safetensors", precision="fp32", force=True)
    assert same_picture(download.value.path(), by_command)


@in_chromium
def test_what_is_refused_is_said(page, files):
    page.get_by_role("button", name="Upscale").click()
    expect_said(page, "Drop a picture first")
    for name, words in (("broken.png", "damaged or cut short"), ("large.png", "451 x 300 pixels are 0.14 megapixels, more than the limit of 0.1")):
        drop(page, files/name)
        expect_said(page, f"{name}: {words}")
        page.get_by_text("Drop Image Here").wait_for()                 # it is not kept
    page.locator(".gallery-item").first.click()                        # and the page goes on
    page.get_by_role("button", name="Upscale").click()
    page.get_by_text("became").wait_for()


@in_chromium
def test_progress_and_stop(page, files):
    choose(page, "slow (RRDBNet x4)")
    page.get_by_text("bf16", exact=True).click()                       # by ncnn, fp32 is told of by the tile only
    drop(page, files/"my cat.png")
    page.locator("img[src*='my%20cat'], img[src*='my cat']").first.wait_for()
    page.get_by_role("button", name="Upscale").click()
    page.get_by_text(re.compile(r"Upscaling - [1-9][\d.]*%")).wait_for()
    began = time.monotonic()
    page.get_by_role("button", name="Stop").click()
    expect_said(page, "Stopped, as you asked.")
    assert time.monotonic() - began < 10
    page.get_by_role("button", name="Stop").wait_for(state="hidden")
    assert page.get_by_role("button", name="Upscale").is_enabled() and not page.get_by_text("became").count()

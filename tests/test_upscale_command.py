"The upscale command as people use it: files of every kind, and what goes wrong while it runs."
import hashlib
import io
import os
import resource
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from fractions import Fraction

import imagecodecs
import numpy as np
import pytest
import skimage.data
import tifffile
import torch
from PIL import Image, ImageCms, features

from srgan_study import cli, upscaling
from srgan_study.images import imresize
from srgan_study.pictures import read_picture
from srgan_study.srgan import SRResNet
from srgan_study.weights import interpolate, save

COMMAND = [sys.executable, "-c", "from srgan_study.cli import main; main()"]
PHOTO = Image.fromarray(skimage.data.chelsea()[80:120, 140:200]) # 60 x 40
PIXELS = np.asarray(PHOTO)
DEEP = PIXELS.astype(np.uint16)*257 - np.arange(60, dtype=np.uint16)[None, :, None]*(PIXELS > 0)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    "A network that is bilinear enlargement, so that every result is known."
    net = SRResNet(blocks=1, channels=8, batch_norm=False, output="linear", skip="bilinear")
    for p in net.conv_last.parameters(): torch.nn.init.zeros_(p)
    path = tmp_path_factory.mktemp("weights")/"bilinear.safetensors"
    save(path, net)
    return path

@pytest.fixture
def upscale(weights, capfd, monkeypatch):
    "Run the command in this process: (status, standard error)."
    def run(*words):
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["srgan-study", "upscale", *map(str, words), "--weights", str(weights), "--precision", "fp32"])
        with pytest.raises(SystemExit) as end: cli.main()
        return end.value.code or 0, capfd.readouterr().err
    return run

def png_chunk(name, data): return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

def interlaced(pixels):
    "8-bit RGB in the seven passes of PNG's interlacing, which Pillow reads and doesn't write."
    raw = b"".join(b"\0" + row.tobytes() for x, y, dx, dy in
                   ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
                   for row in pixels[y::dy, x::dx])
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", zlib.compress(raw)) + png_chunk(b"IEND", b"")

def saved(picture, form, **options):
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()

def tiff(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()

def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif

GRAY, PALETTE, GRAY16 = PHOTO.convert("L"), PHOTO.quantize(32), np.ascontiguousarray(DEEP[..., 0])
CLEAR = PHOTO.convert("RGBA")
CLEAR.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 60).astype(np.uint8), (40, 1))))
KINDS = { # name: (content, gray, alpha, 16 bit, mode of the result)
    "a b.PNG": (saved(PHOTO, "png"), False, False, False, "RGB"),
    "Größe 照片.jpg": (saved(PHOTO, "jpeg", icc_profile=SRGB), False, False, False, "RGB"),
    "progressive.jpeg": (saved(PHOTO, "jpeg", progressive=True), False, False, False, "RGB"),
    "cmyk.jpg": (saved(PHOTO.convert("CMYK"), "jpeg"), False, False, False, "RGB"),
    "gray.JPG": (saved(GRAY, "jpeg"), True, False, False, "L"),
    "two views.jpg": (saved(PHOTO, "mpo", save_all=True, append_images=[PHOTO.rotate(180)]), False, False, False, "RGB"),
    "interlaced.png": (interlaced(PIXELS), False, False, False, "RGB"),
    "palette.png": (saved(PALETTE, "png"), False, False, False, "RGB"),
    "palette, one clear.png": (saved(PALETTE, "png", transparency=3), False, True, False, "RGBA"),
    "palette, soft.png": (saved(PALETTE, "png", transparency=bytes([0, 99] + [255]*30)), False, True, False, "RGBA"),
    "gray palette.png": (saved(GRAY.quantize(16), "png"), True, False, False, "L"),
    "gray alpha.png": (saved(CLEAR.convert("LA"), "png"), True, True, False, "LA"),
    "gray, one clear.png": (saved(GRAY, "png", transparency=int(np.asarray(GRAY)[0, 0])), True, True, False, "LA"),
    "rgb, one clear.png": (saved(PHOTO, "png", transparency=tuple(PIXELS[0, 0].tolist())), False, True, False, "RGBA"),
    "one bit.png": (saved(PHOTO.convert("1"), "png"), True, False, False, "L"),
    "fax.tif": (saved(PHOTO.convert("1"), "tiff", compression="group4"), True, False, False, "L"),
    "alpha.png": (saved(CLEAR, "png"), False, True, False, "RGBA"),
    "alpha.webp": (saved(CLEAR, "webp", lossless=True), False, True, False, "RGBA"),
    "alpha.tif": (saved(CLEAR, "tiff"), False, True, False, "RGBA"),
    "gray.webp": (saved(GRAY, "webp", lossless=True), True, False, False, "RGB"), # WebP has no gray of its own
    "moving.webp": (saved(PHOTO, "webp", lossless=True, save_all=True, append_images=[PHOTO.rotate(180)]), False, False, False, "RGB"),
    "moving.png": (saved(PHOTO, "png", save_all=True, append_images=[PHOTO.rotate(180)]), False, False, False, "RGB"),
    "pages.tiff": (tiff(np.stack([PIXELS, PIXELS[::-1]]), photometric="rgb"), False, False, False, "RGB"),
    "plain.bmp": (saved(PHOTO, "bmp"), False, False, False, "RGB"),
    "deep.png": (imagecodecs.png_encode(DEEP), False, False, True, "RGB"),
    "deep gray.png": (saved(Image.fromarray(GRAY16), "png"), True, False, True, "I;16"),
    "deep gray, one clear.png": (saved(Image.fromarray(GRAY16), "png", transparency=int(GRAY16[0, 0])), True, True, True, "RGBA"),
    "deep.tif": (tiff(DEEP, photometric="rgb", compression="zlib"), False, False, True, "RGB"),
    "deep, other order.tif": (tiff(DEEP, photometric="rgb", byteorder=">"), False, False, True, "RGB"),
    "deep gray.tif": (tiff(GRAY16), True, False, True, "I;16"),
    "turned.png": (saved(PHOTO, "png", exif=turned(6)), False, False, False, "RGB"),
    "turned.webp": (saved(PHOTO, "webp", lossless=True, exif=turned(8)), False, False, False, "RGB"),
}

@pytest.mark.parametrize("name", KINDS)
def test_kind(name, upscale, tmp_path):
    content, gray, alpha, deep, mode = KINDS[name]
    (tmp_path/name).write_bytes(content)
    status, said = upscale(tmp_path/name, "--out", tmp_path/"out"/name)
    assert status == 0
    assert ("the first is taken" in said) == name.startswith(("moving", "pages"))
    assert said.count("\n") == (1 if name.startswith(("moving", "pages", "cmyk")) else 0), said # nothing else is said
    before, after = read_picture(tmp_path/name), read_picture(tmp_path/"out"/name)
    assert (after.gray, after.alpha is not None, after.colour.dtype == np.uint16) == (gray, alpha, deep)
    with Image.open(tmp_path/"out"/name) as file: assert file.mode == mode and file.info.get("icc_profile") == before.icc
    size = (160, 240) if not name.startswith("turned") else (240, 160)
    assert after.colour.shape[:2] == size
    # and it is the picture: reduced again, what was there
    visible = np.ones(before.colour.shape[:2], bool) if not alpha else before.alpha == np.iinfo(before.alpha.dtype).max
    small = after.colour.reshape(size[0]//4, 4, size[1]//4, 4, 3).mean((1, 3))
    if "bit" not in name and "fax" not in name: # dots of black and white are averaged away
        off = np.abs(small - before.colour)[visible]/(257 if deep else 1)
        assert np.median(off) < 3 and off.mean() < 5

def test_animated_gif_becomes_png(upscale, tmp_path):
    PALETTE.save(tmp_path/"moving.gif", save_all=True, append_images=[PALETTE.rotate(180)])
    status, said = upscale(tmp_path/"moving.gif", "--out", tmp_path/"out")
    assert status == 0 and "the first is taken" in said and os.listdir(tmp_path/"out") == ["moving.png"]

@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp", "bmp"])
def test_cut_short_is_one_line(suffix, upscale, tmp_path):
    "The decoders' own complaints, which go past Python, don't come on top."
    bad = tmp_path/f"cut.{suffix}"
    content = tiff(PIXELS, photometric="rgb", compression="zlib") if suffix == "tif" else saved(PHOTO, {"jpg": "jpeg"}.get(suffix, suffix))
    bad.write_bytes(content[:len(content)//2])
    status, said = upscale(bad, "--out", tmp_path/f"out.{suffix}")
    assert status == 1 and said.count("\n") == 1 and said.startswith(f"srgan-study: {bad}: damaged or cut short"), said
    assert os.listdir(tmp_path) == [bad.name]

@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp", "bmp"])
def test_a_full_disk_leaves_nothing(suffix, weights, tmp_path):
    "A limit on the size of files stands in for the full disk."
    PHOTO.resize((150, 100)).save(tmp_path/"in.png")
    limit = lambda: (signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000)))
    done = subprocess.run([*COMMAND, "upscale", tmp_path/"in.png", "--out", tmp_path/f"out.{suffix}", "--weights", weights],
                          capture_output=True, text=True, preexec_fn=limit, timeout=120)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and f"out.{suffix}: can't be written" in done.stderr, done.stderr
    assert os.listdir(tmp_path) == ["in.png"]

@pytest.mark.parametrize("suffix", ["safetensors", "pth", "onnx"])
def test_a_full_disk_and_weights(suffix, weights, tmp_path):
    save(tmp_path/"in.safetensors", SRResNet(blocks=4, channels=16))
    limit = lambda: (signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000)))
    done = subprocess.run([*COMMAND, "weights", "export", tmp_path/"in.safetensors", tmp_path/f"out.{suffix}"],
                          capture_output=True, text=True, preexec_fn=limit, timeout=120, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and f"out.{suffix}: can't be written" in done.stderr, done.stderr
    assert os.listdir(tmp_path) == ["in.safetensors"]

def test_ctrl_c_in_a_folder_run(weights, tmp_path):
    "What was finished stays, what was begun goes, in one line."
    (tmp_path/"in").mkdir()
    PHOTO.resize((300, 200)).save(tmp_path/"in/000.png")
    for i in range(1, 300): os.link(tmp_path/"in/000.png", tmp_path/f"in/{i:03}.png") # more than it can do in a moment
    process = subprocess.Popen([*COMMAND, "upscale", tmp_path/"in", "--out", tmp_path/"out", "--weights", weights, "--precision", "fp32"],
                               stderr=subprocess.PIPE, text=True)
    for _ in range(1200):
        if (tmp_path/"out").is_dir() and len(list((tmp_path/"out").glob("*.png"))) >= 2: break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and said.count("\n") == 1 and "Ctrl-C" in said, said
    written = sorted(p.name for p in (tmp_path/"out").iterdir())
    assert 2 <= len(written) < 300 and all(name.endswith(".png") and not name.startswith(".") for name in written)
    for name in written: assert Image.open(tmp_path/"out"/name).convert("RGB").size == (1200, 800)

def test_folder_with_bad_files(upscale, tmp_path):
    (tmp_path/"in/sub dir").mkdir(parents=True)
    PHOTO.save(tmp_path/"in/good.png"); PHOTO.save(tmp_path/"in/sub dir/good.webp")
    (tmp_path/"in/page.png").write_text("<html></html>"); (tmp_path/"in/empty.jpg").touch()
    (tmp_path/"in/lost.png").symlink_to(tmp_path/"nowhere.png")
    status, said = upscale(tmp_path/"in", "--out", tmp_path/"out")
    found = sorted(str(p.relative_to(tmp_path/"out")) for p in (tmp_path/"out").rglob("*") if p.is_file())
    assert status == 1 and found == ["good.png", "sub dir/good.webp"]
    lines = said.splitlines()
    assert len(lines) == 3 and "2 of 4 images were not upscaled, the others were" in lines[-1], said
    status, said = upscale(tmp_path/"in", "--out", tmp_path/"out")
    assert status == 1 and "4 of 4 images were not upscaled;" in said and said.count("--force") == 2

@pytest.mark.parametrize("place", ["/proc/out.png", "in.png/out.png", "n"*300 + ".png"])
def test_places_that_cant_be(place, upscale, tmp_path):
    PHOTO.save(tmp_path/"in.png")
    status, said = upscale(tmp_path/"in.png", "--out", tmp_path/place)
    assert status == 1 and said.count("\n") == 1 and place.split("/")[-1] in said and said.startswith("srgan-study: /"), said
    assert os.listdir(tmp_path) == ["in.png"]

def pixels(path):
    "What is in a file, read by Pillow, or by imagecodecs if it has 16 bits a channel."
    if path.suffix == ".png" and path.read_bytes()[24] == 16: return imagecodecs.png_decode(path.read_bytes())
    with Image.open(path) as file: return np.asarray(file)

SIZES = { # options: (the result's size/the input's, width, height) for 60 x 40
    ("--outscale", 2.5): (Fraction(5, 2), 150, 100), ("--outscale", 1.25): (Fraction(5, 4), 75, 50),
    ("--outscale", 0.37): (Fraction(37, 100), 23, 15), ("--outscale", 6): (Fraction(6), 360, 240),
    ("--width", 97): (Fraction(97, 60), 97, 65), ("--height", 333): (Fraction(333, 40), 500, 333),
    ("--width", 240): (Fraction(4), 240, 160)}

@pytest.mark.parametrize("options", SIZES, ids=lambda options: " ".join(map(str, options)))
@pytest.mark.parametrize("name", ["a b.PNG", "alpha.png", "deep.png", "deep gray, one clear.png", "gray.JPG", "alpha.tif"])
def test_any_size_is_imresize_of_the_networks_result(name, options, upscale, tmp_path):
    scale, width, height = SIZES[options]
    (tmp_path/name).write_bytes(KINDS[name][0])
    suffix = ".tif" if name.endswith("tif") else ".png"
    for out, more in (("x4", ()), ("sized", options)):
        assert upscale(tmp_path/name, "--out", tmp_path/(out + suffix), "--tile", 16, *more) == (0, "")
    x4, sized = pixels(tmp_path/("x4" + suffix)), pixels(tmp_path/("sized" + suffix))
    assert sized.shape[:2] == (height, width) and sized.dtype == x4.dtype and sized.shape[2:] == x4.shape[2:]
    whole = imresize(x4 if x4.dtype == np.uint8 else x4.astype(np.float64), scale/4)
    if x4.dtype == np.uint16: whole = np.floor(whole + 0.5).clip(0, 65535).astype(np.uint16)
    assert np.array_equal(sized, whole)

@pytest.mark.parametrize("scale", [2, 6])
def test_any_size_against_pillows_bicubic(scale, upscale, tmp_path):
    PHOTO.save(tmp_path/"in.png")
    upscale(tmp_path/"in.png", "--out", tmp_path/"x4.png")
    upscale(tmp_path/"in.png", "--out", tmp_path/"sized.png", "--outscale", scale)
    theirs = Image.open(tmp_path/"x4.png").resize((60*scale, 40*scale), Image.Resampling.BICUBIC)
    off = np.abs(pixels(tmp_path/"sized.png").astype(int) - np.asarray(theirs))
    assert off.max() <= 2 and off.mean() < 0.2 # Pillow computes with integers, and begins with the other axis

def test_memory_for_any_size_stays_bounded():
    "3 million pixels come in bands; of their 72 MB in float64 only a few are held."
    bands = (np.full((64, 150, 3), 128, np.uint8) for _ in range(20_000//64))
    tracemalloc.start()
    rows = sum(len(band) for band in upscaling.resized(bands, (20_000//64*64, 150), Fraction(1, 2)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 20_000//64*32 and peak < 20e6

avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
FORMATS = ["png", "jpg", "webp", "tiff", pytest.param("avif", marks=avif)]

@pytest.mark.parametrize("form", FORMATS)
def test_format_of_a_folder(form, upscale, tmp_path):
    (tmp_path/"in/sub").mkdir(parents=True)
    PHOTO.save(tmp_path/"in/one.png"); GRAY.save(tmp_path/"in/sub/two.jpg")
    assert upscale(tmp_path/"in", "--out", tmp_path/"out", "--format", form, "--suffix", "_x4") == (0, "")
    assert sorted(str(p.relative_to(tmp_path/"out")) for p in (tmp_path/"out").rglob("*.*")) == [f"one_x4.{form}", f"sub/two_x4.{form}"]
    plain = imresize(PIXELS, 4).astype(int)
    with Image.open(tmp_path/f"out/one_x4.{form}") as file:
        assert file.format == {"jpg": "JPEG"}.get(form, form.upper()) and file.size == (240, 160)
        assert np.abs(np.asarray(file.convert("RGB")) - plain).mean() < 5 # bilinear, then perhaps lossy, against bicubic

@pytest.mark.parametrize("form", ["jpg", "webp", pytest.param("avif", marks=avif)])
def test_quality(form, upscale, tmp_path):
    PHOTO.save(tmp_path/"in.png")
    upscale(tmp_path/"in.png", "--out", tmp_path/"exact.png")
    exact, sizes, errors = pixels(tmp_path/"exact.png").astype(int), [], []
    for words in (("--quality", 20), ("--quality", 80), ()):
        out = tmp_path/f"{len(words)}{words[-1:]}.{form}"
        assert upscale(tmp_path/"in.png", "--out", out, *words) == (0, "")
        sizes.append(out.stat().st_size); errors.append(np.square(pixels(out) - exact).mean())
    assert sizes == sorted(sizes) and errors == sorted(errors, reverse=True) and len({*sizes}) == 3
    assert errors[2] == 0 or form != "webp" # lossless

def test_pillow_without_avif(upscale, tmp_path, monkeypatch):
    PHOTO.save(tmp_path/"in.png")
    known = {k: v for k, v in Image.registered_extensions().items() if v != "AVIF"}
    monkeypatch.setattr(Image, "registered_extensions", lambda: known)
    for words in (("--out", tmp_path/"out.avif"), ("--out", tmp_path/"out", "--format", "avif")):
        status, said = upscale(tmp_path/"in.png", *words)
        assert status == 1 and said.count("\n") == 1 and "install Pillow 11.3" in said

def test_a_stopped_folder_continues(upscale, tmp_path):
    (tmp_path/"in").mkdir()
    for name in "abcd": PHOTO.save(tmp_path/f"in/{name}.png")
    words = tmp_path/"in", "--out", tmp_path/"out", "--format", "webp", "--suffix", "_x4"
    upscale(*words)
    whole = {p.name: p.read_bytes() for p in (tmp_path/"out").iterdir()}
    for name in "bd": (tmp_path/f"out/{name}_x4.webp").unlink()
    os.utime(tmp_path/"out/a_x4.webp", (1, 1))
    status, said = upscale(*words, "--skip-existing")
    assert (status, said) == (0, "2 of 4 results were there already\n")
    assert {p.name: p.read_bytes() for p in (tmp_path/"out").iterdir()} == whole
    assert (tmp_path/"out/a_x4.webp").stat().st_mtime == 1
    assert upscale(*words, "--skip-existing")[0] == 0 # nothing is left to do

def test_results_next_to_their_sources(upscale, tmp_path):
    "With a suffix a folder can hold both, and a second run takes no result for a source. A source is never done."
    PHOTO.save(tmp_path/"a.png"); PHOTO.save(tmp_path/"b_x4.png") # the second is no result
    for _ in range(2): assert upscale(tmp_path, "--out", tmp_path, "--suffix", "_x4", "--skip-existing")[0] == 0
    assert sorted(os.listdir(tmp_path)) == ["a.png", "a_x4.png", "b_x4.png", "b_x4_x4.png"]
    for words in ((), ("--skip-existing",), ("--force",)):
        status, said = upscale(tmp_path/"a.png", "--out", tmp_path, *words)
        assert status == 1 and "is the source" in said

def test_an_input_given_twice_is_done_once(upscale, tmp_path, monkeypatch):
    (tmp_path/"in/sub").mkdir(parents=True)
    PHOTO.save(tmp_path/"in/a.png"); PHOTO.save(tmp_path/"in/sub/b.png")
    (tmp_path/"in/link.png").symlink_to("a.png"); (tmp_path/"other").symlink_to("in")
    monkeypatch.chdir(tmp_path)
    status, said = upscale("in", "in/", "./in/*.png", tmp_path/"in/sub/../a.png", "other/a.png", "in/sub/b.png", "--out", "out")
    assert (status, said) == (0, "")
    assert sorted(str(p.relative_to("out")) for p in upscaling.Path("out").rglob("*.png")) == ["a.png", "link.png", "sub/b.png"]
    assert upscale("in/a.png", "in/a.p*", "--out", "one.png") == (0, "")

@pytest.mark.parametrize("form", [*FORMATS, "bmp"])
def test_metadata_says_what_made_it(form, upscale, weights, tmp_path):
    exif = turned(1); exif[0x010F] = "Camera & Sons"; exif[0x0131] = "Firmware 2"
    PHOTO.save(tmp_path/"camera.jpg", exif=exif, icc_profile=SRGB); PHOTO.save(tmp_path/"plain.png")
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    for name, words in (("camera.jpg", ()), ("plain.png", ("--width", 100))):
        out = tmp_path/f"{name}.{form}"
        assert upscale(tmp_path/name, "--out", out, *words)[0] == 0
        with Image.open(out) as file:
            if form == "bmp": continue # it has no place for it
            found = file.getexif()
            assert f"bilinear x4, SHA-256 of the weights {sha256}" in found[0x0131]
            assert found[0x0131].startswith("srgan-study ") or name == "camera.jpg"
            assert found[0x0131].startswith("Firmware 2; srgan-study ") or name == "plain.png"
            assert found[0x0131].endswith(", resized to 100 x 67") == (name == "plain.png")
            assert found.get(0x010F) == ("Camera & Sons" if name == "camera.jpg" else None)
            if form == "png": assert file.text["Software"] == found[0x0131]
        if form == "tiff":
            with tifffile.TiffFile(out) as file: assert file.pages[0].tags["Software"].value == found[0x0131]

def test_metadata_of_a_blend(weights, tmp_path):
    save(tmp_path/"other.safetensors", SRResNet(blocks=1, channels=8, batch_norm=False, output="linear", skip="bilinear"))
    PHOTO.save(tmp_path/"in.png")
    blend = upscaling.blended(weights, tmp_path/"other.safetensors", 0.75)
    upscaling.upscale_files([tmp_path/"in.png"], tmp_path/"out.png", blend)
    interpolate(weights, tmp_path/"other.safetensors", tmp_path/"kept.safetensors", 0.75)
    sha256 = hashlib.sha256((tmp_path/"kept.safetensors").read_bytes()).hexdigest()
    assert f"0.25 bilinear + 0.75 other x4, SHA-256 of the weights {sha256}" in Image.open(tmp_path/"out.png").text["Software"]

WRONG = { # options: what is said; wrong use, found before anything is read
    ("--out", "-"): "can't be standard output", ("--out", ""): "is empty", ("--out", "out.png", "--weights", ""): "is empty",
    ("--out", "out.png", ""): "is empty", ("--out", "out.png", "--width", 0): "width is between 1 and 1000000, not 0",
    ("--out", "out.png", "--height", -3): "height is between", ("--out", "out.png", "--outscale", 0): "outscale is between",
    ("--out", "out.png", "--outscale", "nan"): "outscale is between", ("--out", "out.png", "--outscale", "inf"): "outscale is between",
    ("--out", "out.png", "--width", "1e3"): "'--width'", ("--out", "out.png", "--outscale", "x4"): "'--outscale'",
    ("--out", "out.png", "--width", 9, "--height", 9): "give one of them", ("--out", "out.png", "--width", 9, "--outscale", 2): "give one of them",
    ("--out", "out.png", "--quality", 80): "PNG has no quality", ("--out", "out", "--format", "tiff", "--quality", 80): "TIFF has no quality",
    ("--out", "out", "--quality", 80): "PNG has no quality", ("--out", "out.jpg", "--quality", 0): "quality is between 1 and 100, not 0",
    ("--out", "out.png", "--format", "webp"): "is not webp", ("--out", "out.png", "--suffix", "_x4"): "results in a folder",
    ("--out", "out", "--suffix", "/../.."): "can't be a part of a file's name", ("--out", "out", "--format", "gif"): "'gif' is not one of",
    ("--out", "out", "--force", "--skip-existing"): "exclude each other"}

@pytest.mark.parametrize("words", WRONG, ids=lambda words: " ".join(map(str, words)))
def test_wrong_use_is_status_2(words, upscale, weights, tmp_path, monkeypatch, capfd):
    PHOTO.save(tmp_path/"in.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["srgan-study", "upscale", "in.png", "--weights", str(weights), *map(str, words)])
    with pytest.raises(SystemExit) as end: cli.main()
    *usage, said = capfd.readouterr().err.splitlines()
    assert end.value.code == 2 and said.startswith("Error: ") and WRONG[words] in said and "Traceback" not in str(usage)
    assert os.listdir(tmp_path) == ["in.png"]

@pytest.mark.parametrize("form, options, limit", [("webp", ("--width", 16384), 16383), ("jpg", ("--height", 65501), 65500),
                                                  ("webp", (), 16383), pytest.param("avif", ("--width", 32769), 32768, marks=avif)])
def test_a_formats_limit_is_named_before_the_computation(form, options, limit, upscale, tmp_path, monkeypatch):
    Image.new("RGB", (5000, 10)).save(tmp_path/"in.png")
    monkeypatch.setattr(upscaling, "write_picture", lambda *arguments: pytest.fail("the computation has begun"))
    status, said = upscale(tmp_path/"in.png", "--out", tmp_path/f"out.{form}", *options)
    assert status == 1 and said.count("\n") == 1 and f"has at most {limit} pixels a side, the result" in said

def test_the_largest_sides_can_be_written(upscale, tmp_path):
    Image.new("L", (2000, 1)).save(tmp_path/"in.png")
    for name, width in (("out.webp", 16383), ("out.jpg", 65500)):
        assert upscale(tmp_path/"in.png", "--out", tmp_path/name, "--width", width) == (0, "")
        assert Image.open(tmp_path/name).width == width

def test_imported_twice(weights, tmp_path):
    "A file of ours that was imported, exported and imported again says where it comes from."
    from srgan_study.weights import export, import_checkpoint, load
    net = SRResNet(blocks=1, channels=8, output="linear")
    renamed = {k.replace("conv_first", "conv1").replace("body.0.body", "trunk.0.rcb").replace("conv_body", "conv2")
               .replace("upsample.0", "upsampling.0.upsample_block").replace("upsample.1", "upsampling.1.upsample_block")
               .replace("conv_last", "conv3"): v for k, v in net.state_dict().items()}
    torch.save({"state_dict": renamed}, tmp_path/"theirs.pth.tar")
    import_checkpoint(tmp_path/"theirs.pth.tar", tmp_path/"once.safetensors")
    export(tmp_path/"once.safetensors", tmp_path/"once.pth")
    import_checkpoint(tmp_path/"once.pth", tmp_path/"twice.safetensors")
    story = load(tmp_path/"twice.safetensors").metadata["imported_from"]
    assert story["file"] == "once.pth" and story["before"]["file"] == "theirs.pth.tar"

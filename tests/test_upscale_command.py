"The upscale command as people use it: files of every kind, and what goes wrong while it runs."
import io
import os
import resource
import signal
import struct
import subprocess
import sys
import time
import zlib

import imagecodecs
import numpy as np
import pytest
import skimage.data
import tifffile
import torch
from PIL import Image, ImageCms

from srgan_study import cli
from srgan_study.pictures import read_picture
from srgan_study.srgan import SRResNet
from srgan_study.weights import save

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

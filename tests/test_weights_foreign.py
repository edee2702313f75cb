"Checkpoints of RRDBNet's variants and of other architectures, compared with spandrel; and what goes out to ONNX in 16 bit and to ncnn."
import re
from pathlib import Path

import ncnn
import numpy as np
import onnxruntime
import pytest
import skimage.data
import spandrel
import torch
from PIL import Image
from spandrel.architectures.Compact import Compact
from spandrel.architectures.DAT import DAT
from spandrel.architectures.ESRGAN import ESRGAN
from spandrel.architectures.HAT import HAT
from spandrel.architectures.SPAN import SPAN
from spandrel.architectures.Swin2SR import Swin2SR
from spandrel.architectures.SwinIR import SwinIR

from srgan_study import foreign
from srgan_study.esrgan import RRDBNet
from srgan_study.images import to_batch
from srgan_study.weights import load, save

PHOTO = np.ascontiguousarray(skimage.data.chelsea()[100:121, 140:163]) # 21 x 23, both odd


def theirs(scale=4, fold=None, inputs=3, outputs=3, plus=False, filters=16, blocks=2):
    "Random weights of spandrel's RRDBNet, as the first release of ESRGAN names them."
    torch.manual_seed(scale + 10*inputs)
    state = ESRGAN(scale=scale*(fold or 1), in_nc=inputs*(fold or 1)**2, out_nc=outputs, num_filters=filters,
                   num_blocks=blocks, plus=plus, shuffle_factor=fold).state_dict()
    # numbers of a size that makes every layer count in the result
    return {key: torch.randn_like(v)*(2/v[0].numel())**0.5 if v.ndim > 1 else 0.1*torch.randn_like(v) for key, v in state.items()}

def renamed(state, style):
    "A state dict of the first release, as the second release and Real-ESRGAN name it."
    last = max(int(m[1]) for key in state if (m := re.match(r"model\.(\d+)\.", key)))
    blocks = max(int(m[1]) for key in state if (m := re.match(r"model\.1\.sub\.(\d+)\.", key)))
    block, body, up, hr = {"new": (r"RRDB_trunk.\1.RDB\2.conv\3", "trunk_conv", "upconv", "HRconv"),
                           "Real-ESRGAN": (r"body.\1.rdb\2.conv\3", "conv_body", "conv_up", "conv_hr")}[style]
    def name(key):
        key = re.sub(r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\w+)", block, key).replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        key = key.replace(f"model.1.sub.{blocks}.", f"{body}.").replace(f"model.{last}.", "conv_last.").replace(f"model.{last - 2}.", f"{hr}.")
        return re.sub(r"^model\.(\d+)", lambda m: f"{up}{int(m[1])//3}", key) if "model.0" not in key else key
    return {("conv_first." + key.split(".")[-1] if key.startswith(("model.0.", "model.weight", "model.bias")) else name(key)): value
            for key, value in state.items()}

VARIANTS = {f"x{scale}": dict(scale=scale) for scale in (1, 2, 4, 8, 16)} | {
    "x2, unshuffle": dict(scale=2, fold=2), "x1, unshuffle 2": dict(scale=1, fold=2), "x1, unshuffle 4": dict(scale=1, fold=4),
    "gray x4": dict(inputs=1, outputs=1), "gray x1": dict(scale=1, inputs=1, outputs=1), "gray x2, unshuffle": dict(scale=2, fold=2, inputs=1, outputs=1),
    "RGBA x4": dict(inputs=4, outputs=4), "RGBA x2, unshuffle": dict(scale=2, fold=2, inputs=4, outputs=4), "RGBA to RGB": dict(inputs=4),
    "RGB to RGBA": dict(outputs=4), "gray to RGB": dict(inputs=1), "RGB to gray x2": dict(scale=2, outputs=1), "5 to 2 channels": dict(inputs=5, outputs=2),
    "6 channels x1": dict(scale=1, inputs=6), "32 filters, 3 blocks": dict(filters=32, blocks=3)}
PLUS = {"ESRGAN+ x4": dict(plus=True), "ESRGAN+ x2": dict(scale=2, plus=True), "ESRGAN+ gray x1": dict(scale=1, inputs=1, outputs=1, plus=True)}
CASES = [(name, style) for name in VARIANTS for style in ("old", "new", "Real-ESRGAN")] + [(name, "old") for name in PLUS]

@pytest.mark.parametrize("name, style", CASES)
def test_the_same_pixels_as_spandrel(name, style, tmp_path):
    "To 1e-5 in the same memory layout. `load` chooses a faster layout, which adds up in another order: 1e-5 of the largest value."
    options = (VARIANTS | PLUS)[name]
    state = theirs(**options)
    torch.save(state if style == "old" else renamed(state, style), tmp_path/"x.pth")
    x, ours, their = torch.rand(1, options.get("inputs", 3), 9, 14), load(tmp_path/"x.pth"), spandrel.ModelLoader("cpu").load_from_file(tmp_path/"x.pth")
    assert (ours.scale, getattr(ours, "inputs", 3), getattr(ours, "outputs", 3)) == (their.scale, their.input_channels, their.output_channels)
    with torch.inference_mode():
        expected = their.model.eval()(x)
        assert (ours(x) - expected).abs().max() <= 1e-5*expected.abs().max()
        assert (ours.to(memory_format=torch.contiguous_format)(x) - expected).abs().max() <= 1e-5

@pytest.mark.parametrize("style", ["new", "Real-ESRGAN"])
def test_plus_in_newer_names(style, tmp_path):
    "spandrel drops the 1x1 convolutions of these files; here they count."
    state = theirs(plus=True)
    torch.save(state, tmp_path/"old.pth"); torch.save(renamed(state, style), tmp_path/"new.pth")
    x = torch.rand(1, 3, 8, 9)
    assert torch.equal(load(tmp_path/"old.pth")(x), load(tmp_path/"new.pth")(x))

WRAPPED = {"params": lambda s: {"params": s}, "params_ema": lambda s: {"params": {}, "params_ema": s}, "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model": lambda s: {"model": s}, "generator": lambda s: {"generator": s, "discriminator": {"a.weight": torch.rand(1)}}, "net_g": lambda s: {"net_g": s},
    "model_state_dict": lambda s: {"model_state_dict": s}, "ema": lambda s: {"params": {k: 0*v for k, v in s.items()}, "ema": s},
    "two deep": lambda s: {"state_dict": {"generator": s}}, "generator.": lambda s: {f"generator.{k}": v for k, v in s.items()} | {"vgg.0.weight": torch.rand(1)},
    "net_g.": lambda s: {"state_dict": {f"net_g.{k}": v for k, v in s.items()}}, "module.": lambda s: {f"module.{k}": v for k, v in s.items()},
    "module.generator.": lambda s: {f"module.generator.{k}": v for k, v in s.items()}}

@pytest.mark.parametrize("way", WRAPPED)
@pytest.mark.parametrize("style", ["old", "new", "Real-ESRGAN"])
def test_wrappings_and_prefixes(way, style, tmp_path):
    state = theirs(filters=8, blocks=1)
    state = state if style == "old" else renamed(state, style)
    torch.save(state, tmp_path/"bare.pth"); torch.save(WRAPPED[way](state), tmp_path/"x.pth")
    x = torch.rand(1, 3, 6, 7)
    assert torch.equal(load(tmp_path/"x.pth")(x), load(tmp_path/"bare.pth")(x))

def written(path): return np.asarray(Image.open(path))

def through_spandrel(file, image):
    "The 8-bit result of spandrel for an image (H, W, C). Of RRDBNet, the network is called: the descriptor pads to multiples of 4, even if 2 is enough."
    found = spandrel.ModelLoader("cpu").load_from_file(file)
    network = found.model.eval() if found.architecture.id == "ESRGAN" else found
    x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()/255
    with torch.inference_mode(): return (network(x)[0].clamp(0, 1).permute(1, 2, 0)*255).round().numpy().astype(np.uint8)

def brightened(state):
    "Random weights whose result is a visible image, not black."
    last = max((key for key in state if re.fullmatch(r"model\.\d+\.bias", key)), key=lambda key: int(key.split(".")[1]))
    return state | {last: torch.full_like(state[last], 0.5), last.replace("bias", "weight"): 0.2*state[last.replace("bias", "weight")]}

def close(a, b): # another order of the same sums can round a value to the next level
    assert a.shape == b.shape and np.ptp(b) > 5
    return np.abs(a.astype(int) - b).max() <= 1 and (a != b).mean() < 1e-2

@pytest.mark.parametrize("options", [dict(scale=1), dict(scale=16), dict(scale=2, fold=2), dict(scale=1, fold=4), dict(plus=True), dict(outputs=4)], ids=str)
def test_upscale_rgb(options, command, tmp_path):
    torch.save(brightened(theirs(**options)), tmp_path/"x.pth")
    Image.fromarray(PHOTO).save(tmp_path/"in.png")
    for tile in (None, 16):
        done = command("upscale", tmp_path/"in.png", "--out", tmp_path/f"out{tile}.png", "--weights", tmp_path/"x.pth", "--precision", "fp32", *(["--tile", tile] if tile else []))
        assert done[0] == 0, done
        assert close(written(tmp_path/f"out{tile}.png"), through_spandrel(tmp_path/"x.pth", PHOTO)[..., :3])

@pytest.mark.parametrize("fold", [None, 2])
def test_upscale_with_a_gray_network(fold, command, tmp_path):
    torch.save(brightened(theirs(2, fold, 1, 1)), tmp_path/"x.pth")
    Image.fromarray(PHOTO).save(tmp_path/"colour.png"); Image.fromarray(PHOTO[..., 1]).save(tmp_path/"gray.png")
    for name in ("colour", "gray"):
        assert command("upscale", tmp_path/f"{name}.png", "--out", tmp_path/f"{name}2.png", "--weights", tmp_path/"x.pth", "--precision", "fp32")[0] == 0
    each = [through_spandrel(tmp_path/"x.pth", PHOTO[..., c:c + 1]) for c in range(3)]
    assert close(written(tmp_path/"colour2.png"), np.concatenate(each, 2))
    assert written(tmp_path/"gray2.png").ndim == 2 and close(written(tmp_path/"gray2.png"), each[1][..., 0])

@pytest.mark.parametrize("fold", [None, 2])
def test_upscale_with_an_rgba_network(fold, command, tmp_path):
    torch.save(brightened(theirs(2, fold, 4, 4)), tmp_path/"x.pth")
    alpha = np.linspace(0, 255, PHOTO[..., 0].size).reshape(PHOTO.shape[:2]).astype(np.uint8)
    rgba, opaque = np.dstack([PHOTO, alpha]), np.dstack([PHOTO, np.full_like(alpha, 255)])
    Image.fromarray(rgba).save(tmp_path/"rgba.png"); Image.fromarray(PHOTO).save(tmp_path/"rgb.png")
    for name, expected in {"rgba": through_spandrel(tmp_path/"x.pth", rgba), "rgb": through_spandrel(tmp_path/"x.pth", opaque)[..., :3]}.items():
        assert command("upscale", tmp_path/f"{name}.png", "--out", tmp_path/f"{name}2.png", "--weights", tmp_path/"x.pth", "--precision", "fp32", "--tile", 16)[0] == 0
        assert close(written(tmp_path/f"{name}2.png"), expected)

def test_channels_that_no_image_has(command, tmp_path):
    torch.save(theirs(inputs=5), tmp_path/"x.pth")
    Image.fromarray(PHOTO).save(tmp_path/"in.png")
    status, _, error = command("upscale", tmp_path/"in.png", "--out", tmp_path/"out.png", "--weights", tmp_path/"x.pth")
    assert status == 1 and "x.pth: takes 5 channels and gives 3" in error and error.count("\n") == 1

@pytest.mark.parametrize("options", [dict(scale=16), dict(scale=2, fold=2, inputs=1, outputs=1), dict(inputs=4, outputs=4, plus=True)], ids=str)
def test_in_and_out_again(options, command, tmp_path):
    torch.save(theirs(**options), tmp_path/"x.pth")
    x, ours = torch.rand(1, options.get("inputs", 3), 9, 8), tmp_path/"x.safetensors"
    assert command("weights", "import", tmp_path/"x.pth", ours)[0] == 0
    for out in ("again.pth", "again.safetensors", "folder", "x.onnx"):
        assert command("weights", "export", ours, tmp_path/out, *(["--format", "hub"] if out == "folder" else []))[0] == 0
    for again in ("again.pth", "again.safetensors", "folder"): assert torch.equal(load(tmp_path/again)(x), load(tmp_path/"x.pth")(x))
    sr = onnxruntime.InferenceSession(tmp_path/"x.onnx", providers=["CPUExecutionProvider"]).run(["sr"], {"lr": x.numpy()})[0]
    assert np.abs(sr - load(ours)(x).numpy()).max() < 1e-4

OTHERS = {"Compact": lambda: Compact(num_feat=8, num_conv=2, upscale=2), "SPAN": lambda: SPAN(num_in_ch=3, num_out_ch=3, feature_channels=48, upscale=2),
    "SwinIR": lambda: SwinIR(upscale=2, img_size=16, window_size=8, embed_dim=12, depths=[2, 2], num_heads=[2, 2], mlp_ratio=2, upsampler="pixelshuffle"),
    "Swin2SR": lambda: Swin2SR(upscale=2, img_size=16, window_size=8, embed_dim=12, depths=[2, 2], num_heads=[2, 2], mlp_ratio=2, upsampler="pixelshuffle"),
    "HAT": lambda: HAT(upscale=2, img_size=16, window_size=8, embed_dim=12, depths=[2], num_heads=[2], mlp_ratio=2, upsampler="pixelshuffle", squeeze_factor=4),
    "DAT": lambda: DAT(upscale=2, img_size=16, embed_dim=32, split_size=[4, 8], depth=[2], num_heads=[2], expansion_factor=2)}

@pytest.mark.parametrize("with_spandrel", [True, False])
@pytest.mark.parametrize("name", OTHERS)
def test_another_architecture_is_named(name, with_spandrel, command, tmp_path, monkeypatch):
    if not with_spandrel: monkeypatch.setattr(foreign, "spandrel_is_here", lambda: False)
    torch.manual_seed(0)
    torch.save({"params_ema": OTHERS[name]().state_dict()}, tmp_path/"x.pth")
    Image.fromarray(PHOTO).save(tmp_path/"in.png")
    lines = [("weights", "import", tmp_path/"x.pth", tmp_path/"y.safetensors"), ("weights", "export", tmp_path/"x.pth", tmp_path/"y.onnx")]
    upscale = ("upscale", tmp_path/"in.png", "--out", tmp_path/"out.png", "--weights", tmp_path/"x.pth")
    for line in [*lines, *([] if with_spandrel else [upscale])]:
        status, _, error = command(*line)
        assert status == 1 and error.count("\n") == 1, error
        assert f"x.pth: is a {name}" in error and "spandrel and chaiNNer read it" in error
    if with_spandrel:
        assert command(*upscale)[0] == 0
        assert close(written(tmp_path/"out.png"), through_spandrel(tmp_path/"x.pth", PHOTO))

def test_spandrels_networks_in_tiles(command, tmp_path):
    "The margin of 32 pixels hides the tiles of a network that does not look further."
    torch.manual_seed(0)
    torch.save(Compact(num_feat=8, num_conv=3, upscale=2).state_dict(), tmp_path/"x.pth")
    Image.fromarray(skimage.data.chelsea()[:90, :130]).save(tmp_path/"in.png")
    for tile in (1000, 20):
        assert command("upscale", tmp_path/"in.png", "--out", tmp_path/f"{tile}.png", "--weights", tmp_path/"x.pth", "--tile", tile)[0] == 0
    assert close(written(tmp_path/"20.png"), written(tmp_path/"1000.png"))

def test_nothing_is_overwritten(command, tmp_path):
    torch.save(theirs(filters=8, blocks=1), tmp_path/"x.pth")
    first = [("import", tmp_path/"x.pth", tmp_path/"y.safetensors"), ("export", tmp_path/"x.pth", tmp_path/"y.pth"), ("export", tmp_path/"x.pth", tmp_path/"y", "--format", "ncnn"),
             ("export", tmp_path/"x.pth", tmp_path/"folder", "--format", "hub"), ("interpolate", tmp_path/"x.pth", tmp_path/"x.pth", tmp_path/"z.safetensors")]
    for line in first:
        assert command("weights", *line)[0] == 0
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        status, _, error = command("weights", *line)
        assert status == 1 and "is there already" in error and "--force" in error and error.count("\n") == 1
        assert before == {path: path.read_bytes() for path in before}
        assert command("weights", *line, "--force")[0] == 0

@pytest.mark.parametrize("name", ["srgan", "esrgan"])
def test_onnx_in_16_bit(name, command, tmp_path):
    "It halves the file, and onnxruntime stays within 0.005 of the network in float32, about one grey level."
    assert command("weights", "export", name, tmp_path/"x.onnx", "--precision", "fp16")[0] == 0
    sr = onnxruntime.InferenceSession(tmp_path/"x.onnx", providers=["CPUExecutionProvider"]).run(["sr"], {"lr": to_batch(PHOTO).numpy()})[0]
    with torch.no_grad(): assert sr.dtype == np.float32 and np.abs(sr - load(name)(to_batch(PHOTO)).numpy()).max() < 5e-3
    numbers = sum(value.numel() for value in load(name).parameters())
    assert (tmp_path/"x.onnx").stat().st_size < 0.6*4*numbers

def with_ncnn(stem: Path, image: np.ndarray) -> np.ndarray:
    "What ncnn computes in float32."
    net = ncnn.Net()
    net.opt.num_threads, net.opt.use_fp16_packed, net.opt.use_fp16_storage, net.opt.use_bf16_storage = 1, False, False, False
    assert net.load_param(f"{stem}.param") == 0 and net.load_model(f"{stem}.bin") == 0
    extractor = net.create_extractor()
    x = np.ascontiguousarray(to_batch(image)[0].numpy()) # ncnn.Mat neither copies it nor keeps it alive
    extractor.input("data", ncnn.Mat(x))
    return np.array(extractor.extract("output")[1])

@pytest.mark.parametrize("name", ["srresnet", "srgan", "rrdb", "esrgan"])
def test_ncnn_computes_the_released_networks(name, command, tmp_path):
    for precision, most in {"fp32": 1e-4, "fp16": 5e-3}.items():
        status, told, _ = command("weights", "export", name, tmp_path/precision, "--format", "ncnn", "--precision", precision)
        assert status == 0 and told.split() == [str(tmp_path/f"{precision}.{suffix}") for suffix in ("param", "bin")]
        with torch.no_grad(): expected = load(name)(to_batch(PHOTO))[0].numpy()
        assert np.abs(with_ncnn(tmp_path/precision, PHOTO) - expected).max() < most

@pytest.mark.parametrize("options", [dict(scale=1), dict(scale=3), dict(scale=16)], ids=str)
def test_ncnn_and_back(options, command, tmp_path):
    net = (RRDBNet if options["scale"] == 3 else foreign.ForeignRRDBNet)(**options, blocks=1, channels=8, growth=4)
    save(tmp_path/"x.safetensors", net)
    assert command("weights", "export", tmp_path/"x.safetensors", tmp_path/"y.param")[0] == 0
    x = to_batch(PHOTO)
    with torch.no_grad(): assert np.abs(with_ncnn(tmp_path/"y", PHOTO) - net(x)[0].numpy()).max() < 1e-4
    assert command("weights", "import", tmp_path/"y.bin", tmp_path/"z.safetensors", "--scale", options["scale"])[0] == 0
    assert torch.equal(load(tmp_path/"z.safetensors")(x), load(tmp_path/"x.safetensors")(x))

"Every bad weights file through every command that takes weights: one line that names the file, nothing run, nothing half-written."
import collections
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import safetensors.torch
import skimage.data
import torch

from srgan_study import weights
from srgan_study.esrgan import RRDBNet
from srgan_study.images import write_rgb
from srgan_study.adversarial import Discriminator
from srgan_study.srgan import SRResNet
from srgan_study.weights import save


class Trap:
    "A pickle that makes a file when it is opened by a reader that runs code."
    def __init__(self, made): self.made = str(made)
    def __reduce__(self): return os.mkdir, (self.made,)

def saved(content, **options):
    out = io.BytesIO()
    torch.save(content, out, **options)
    return out.getvalue()

def bomb():
    "A checkpoint of 5 MB that unpacks to more than 1 GB."
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        with archive.open("archive/data/0", "w", force_zip64=True) as file:
            for _ in range(65): file.write(bytes(2**24))
    return out.getvalue()

def liar(state, **changes):
    about = dict(format_version=1, architecture="RRDBNet", scale=4, config=dict(scale=4, blocks=1, channels=8, growth=4)) | changes
    return safetensors.torch.save(state, {"srgan_study": json.dumps(about)})

torch.manual_seed(0)
GOOD = RRDBNet(blocks=1, channels=8, growth=4).state_dict()
HEADER = b'{"a":{"dtype":"F32","shape":[1000000000,1000000000],"data_offsets":[0,4000000000000000000]}}'
BAD = { # name: (content, or what makes it of the trap's target; words that the line has)
    "empty.pth": (b"", "empty"),
    "page.pth": (b"<!DOCTYPE html>\n<html><title>Sign in</title></html>", "web page"),
    "page.safetensors": (b"\xef\xbb\xbf \n<html></html>", "web page"),
    "cut.pth": (saved(GOOD)[:-5000], "cut short"),
    "cut.safetensors": (safetensors.torch.save(GOOD)[:-100], "cut short"),
    "header only.safetensors": (struct.pack("<Q", 2**40) + b"{", "cut short"),
    "four exabytes.safetensors": (struct.pack("<Q", len(HEADER)) + HEADER, "cut short"),
    "noise.pth": (bytes(range(256))*40, "no weights"),
    "picture.pth": (b"\x89PNG\r\n\x1a\n" + bytes(1000), "no weights"),
    "trap.pth": (lambda made: saved({"params": GOOD, "trap": Trap(made)}), "refused"),
    "old trap.pth": (lambda made: saved({"params": GOOD, "trap": Trap(made)}, _use_new_zipfile_serialization=False), "refused"),
    "bare trap.pth": (lambda made: pickle.dumps(Trap(made), 2), "refused"),
    "newest trap.pth": (lambda made: pickle.dumps(Trap(made), 5), "no weights"),
    "trap.safetensors": (lambda made: saved(Trap(made)), "refused"),
    "trap.bin": (lambda made: saved(Trap(made)), "refused"),
    "whole module.pth": (saved(RRDBNet(blocks=1, channels=8, growth=4)), "save only its state_dict"),
    "bomb.pth": (bomb, "unpacks to more than"),
    "list.pth": (saved([1, 2]), "not a state dict"),
    "numbers.pth": (saved({"conv_first.weight": 3, "body.0.rdb1.conv1.weight": 4}), "no plain tensor"),
    "expanded.pth": (saved(GOOD | {"conv_hr.bias": torch.rand(1).expand(10**12)}), "no plain tensor"),
    "critic.pth": (saved(Discriminator(patch=32, channels=4).state_dict()), "not a generator"),
    "classifier.pth": (saved({"layer1.0.conv1.weight": torch.rand(4, 4, 3, 3), "fc.weight": torch.rand(4, 4)}), "not a generator"),
    "missing.pth": (saved({k: v for k, v in GOOD.items() if k != "conv_hr.bias"}), "missing"),
    "more.pth": (saved(GOOD | {"spare": torch.rand(1)}), "unknown"),
    "another shape.pth": (saved(GOOD | {"conv_hr.bias": torch.rand(9)}), "shape"),
    "nan.pth": (saved(GOOD | {"conv_hr.bias": torch.full((8,), torch.nan)}), "NaN"),
    "folded too far.pth": (saved({k: v for k, v in GOOD.items() if "conv_up" not in k} | {"conv_first.weight": torch.rand(8, 12, 3, 3)}), "not 0*2"),
    "compact.pth": (saved({"body.0.weight": torch.rand(8, 3, 3, 3), "body.1.weight": torch.rand(8)}), "is a Compact"),
    "many blocks.safetensors": (liar(GOOD, config=dict(scale=4, blocks=10**9, channels=8, growth=4)), "its tensors are"),
    "another scale.safetensors": (liar(GOOD, config=dict(scale=2, blocks=1, channels=8, growth=4)), "its tensors are"),
    "another class.safetensors": (liar(GOOD, architecture="Transformer"), "unknown network"),
    "tomorrow.safetensors": (liar(GOOD, format_version=9), "update srgan_study"),
    "ncnn without its list.bin": (struct.pack("<I", 0x01306B47) + bytes(100), "needs"),
}

@pytest.mark.parametrize("name", BAD)
def test_refused_in_one_line(name, command, tmp_path):
    content, words = BAD[name]
    sprung, bad, out = tmp_path/"sprung", tmp_path/name, tmp_path/"out"
    bad.write_bytes(content() if content is bomb else content(sprung) if callable(content) else content)
    write_rgb(tmp_path/"photos/small.png", skimage.data.chelsea()[:32, :32])
    for line in [("weights", "import", bad, out/"x.safetensors"), ("weights", "export", bad, out/"x.pth"),
                 ("weights", "interpolate", bad, bad, out/"x.safetensors"),
                 ("evaluate", bad, "--hr", tmp_path/"photos", "--csv", out/"x.csv"),
                 ("upscale", tmp_path/"photos/small.png", "--out", out/"x.png", "--weights", bad)]:
        status, _, error = command(*line)
        assert status == 1 and error.startswith(f"srgan-study: {bad}: ") and error.count("\n") == 1 and words in error, (line, error)
    assert not sprung.exists() and not out.exists()

def test_the_trap_is_real(tmp_path):
    "Else the test above would prove nothing."
    pickle.loads(pickle.dumps(Trap(tmp_path/"sprung")))
    assert (tmp_path/"sprung").is_dir()

def test_too_large_is_refused_unread(command, tmp_path):
    with open(tmp_path/"huge.pth", "wb") as file: file.truncate(2**40) # a hole of a terabyte
    status, _, error = command("weights", "import", tmp_path/"huge.pth", tmp_path/"x.safetensors")
    assert status == 1 and "larger than 1024 MB" in error and error.count("\n") == 1

def test_old_pickle_that_claims_gigabytes_costs_no_memory(tmp_path):
    "In the format before zip the sizes stand in the pickle; memory is bounded by the file's own size."
    data = saved(collections.OrderedDict(a=torch.zeros(1000)), _use_new_zipfile_serialization=False)
    number = lambda n: pickle.dumps(n, 2)[2:-1]
    assert data.count(number(1000)) >= 1
    (tmp_path/"claim.pth").write_bytes(data.replace(number(1000), number(10**9)))
    code = ("import resource, sys; from srgan_study.weights import load; from srgan_study.images import StudyError\n"
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "try: load(sys.argv[1])\nexcept StudyError as e: print(e)\n"
            "assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000 # KB")
    done = subprocess.run([sys.executable, "-c", code, tmp_path/"claim.pth"], capture_output=True, text=True)
    assert done.returncode == 0 and "claim.pth: " in done.stdout, done.stderr

def test_of_another_scale(command, tmp_path):
    save(tmp_path/"x2.safetensors", SRResNet(2, blocks=1, channels=8))
    torch.save(RRDBNet(3, blocks=1, channels=8, growth=4).state_dict(), tmp_path/"one step.pth")
    write_rgb(tmp_path/"photos/small.png", skimage.data.chelsea()[:64, :64])
    save(tmp_path/"x4.safetensors", SRResNet(4, blocks=1, channels=8))
    for line in [("weights", "import", tmp_path/"x2.safetensors", tmp_path/"out.safetensors", "--scale", 4),
                 ("evaluate", tmp_path/"x2.safetensors", "--hr", tmp_path/"photos", "--csv", tmp_path/"out.csv")]:
        status, _, error = command(*line)
        assert status == 1 and "by 2, not by 4" in error and error.count("\n") == 1
    status, _, error = command("weights", "interpolate", tmp_path/"x2.safetensors", tmp_path/"x4.safetensors", tmp_path/"out.safetensors")
    assert status == 1 and "different networks" in error and error.count("\n") == 1
    assert not list(tmp_path.glob("out*"))
    status, *_ = command("weights", "import", tmp_path/"one step.pth", tmp_path/"x3.safetensors", "--scale", 3)
    assert status == 0
    assert command("upscale", tmp_path/"photos/small.png", "--out", tmp_path/"x3.png", "--weights", tmp_path/"x3.safetensors")[0] == 0
    assert np.asarray(__import__("PIL.Image").Image.open(tmp_path/"x3.png")).shape == (192, 192, 3)

@pytest.mark.parametrize("line, words", [(("import", "{}/good.pth", "{}/out.pth"), "end the name in .safetensors"), (("import", "{}/good.pth", "{}/good.pth/x.safetensors"), "can't be written"),
                                         (("export", "{}/good.pth", "{}/out.tflite"), "unknown format"), (("export", "{}/good.pth", "{}/out.pth", "--format", "onnx"), "change one"),
                                         (("export", "{}/good.pth", "{}/good.pth", "--format", "hub"), "change one of the two"), (("export", "{}", "{}/out.pth"), "without model.safetensors"),
                                         (("import", "{}/nowhere.pth", "{}/out.safetensors"), "no such file"), (("get", "nothing"), "neither a known name"),
                                         (("get", "https://example.org/a.pth"), "needs its SHA-256"), (("get", "https://example.org/a.pth", "--sha256", "123"), "64 hexadecimal"),
                                         (("get", "esrgan"), "not published"), (("get", "realesrgan-x4plus", "--sha256", "1"), "leave out --sha256")])
def test_wrong_arguments(line, words, command, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_PLACES", ()) # as if nothing came with this copy
    (tmp_path/"good.pth").write_bytes(saved(GOOD))
    status, _, error = command("weights", *(word.format(tmp_path) for word in line))
    assert status == 1 and words in error and error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["good.pth"]

@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is where a disk is always full, and this system has none")
def test_a_full_disk(command, tmp_path, monkeypatch):
    (tmp_path/"good.pth").write_bytes(saved(GOOD))
    def full(handle): raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", full)
    for line in [("import", tmp_path/"good.pth", tmp_path/"x.safetensors"), ("export", tmp_path/"good.pth", tmp_path/"x.pth")]:
        status, _, error = command("weights", *line)
        assert status == 1 and "No space left" in error and error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["good.pth"]

"Real processes, really killed: what they leave behind is whole, and what resumes ends in the same bits."
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import skimage.data
import torch

from srgan_study.datasets import pack
from srgan_study.images import read_rgb, write_rgb

COMMAND = [sys.executable, "-c", "from srgan_study.cli import main; main()"]
SMALL = ["generator.blocks=1", "generator.channels=8", "adversarial.discriminator.channels=4", "stage1.iterations=12",
         "stage2.iterations=12", "batch=2", "patch=32", "perceptual.weight=0"]
HOW = ["--checkpoint-every", "2", "--log-every", "3", "--validate-every", "5", "--precision", "fp32"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_rgb(folder/"photos"/"astronaut.png", skimage.data.astronaut()[:256, :256])
    write_rgb(folder/"photos"/"coffee.png", skimage.data.coffee()[:256, :256])
    pack(folder/"photos", folder/"store", progress=False)
    return folder


def train(photos, run, *more, **options):
    words = ["train", "esrgan-demo", "--data", photos/"store", "--val", photos/"photos", "--run", run, *HOW, *more]
    for setting in SMALL: words += ["--set", setting]
    return subprocess.Popen([*COMMAND, *map(str, words)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)


def finished(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, err


@pytest.fixture(scope="module")
def whole(photos):
    "The run that nobody disturbed."
    status, err = finished(train(photos, photos/"whole"))
    assert status == 0, err
    return photos/"whole"


def same(a, b):
    if isinstance(a, torch.Tensor): return torch.equal(a, b)
    if isinstance(a, dict): return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_same_runs(whole, other):
    last = "checkpoints/1-esrgan-0000012.pt"
    assert same(*(torch.load(run/last, weights_only=True) for run in (whole, other)))
    for name in ("log.csv", "validation.csv", "preview.png"): assert (whole/name).read_bytes() == (other/name).read_bytes(), name


def wait_for(path_glob, run, process):
    "Until a file of that pattern is there."
    for _ in range(2400):
        if list(run.glob(path_glob)): return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError(f"{path_glob} never came")


@pytest.mark.parametrize("signal_, moment", [
    (signal.SIGKILL, "checkpoints/0-*.pt"), (signal.SIGKILL, "checkpoints/.*.part"), (signal.SIGKILL, "checkpoints/1-*.pt"),
    (signal.SIGTERM, "checkpoints/0-*.pt"), (signal.SIGINT, "checkpoints/1-*.pt")])
def test_killed_and_resumed_is_the_same(photos, whole, tmp_path, signal_, moment):
    process = train(photos, tmp_path/"run")
    wait_for(moment, tmp_path/"run", process)
    process.send_signal(signal_)
    status, err = finished(process)
    if signal_ == signal.SIGKILL: assert status == -9
    elif status != 0: # where the signal came before the very end
        assert status == 1 and "--resume" in err.strip().split("\n")[-1] and "Traceback" not in err, err
    status, err = finished(train(photos, tmp_path/"run", "--resume")) # if there is no checkpoint yet, it starts again
    assert status == 0, err
    assert_same_runs(whole, tmp_path/"run")


def test_a_full_disk_is_one_line_and_loses_nothing(photos, tmp_path):
    "No file may grow beyond 20 kB: the checkpoint can't be written, and no half of it stays."
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    status, err = finished(train(photos, tmp_path/"run", preexec_fn=limit))
    assert status == 1 and "Traceback" not in err and "can't be written" in err.strip().split("\n")[-1], err
    assert not list((tmp_path/"run").glob("checkpoints/*")) or all(f.suffix == ".pt" for f in (tmp_path/"run"/"checkpoints").iterdir())


def test_ctrl_c_while_upscaling_leaves_whole_files(photos, whole, tmp_path):
    folder = tmp_path/"in"
    for i in range(40): write_rgb(folder/f"{i:02}.png", skimage.data.astronaut()[:120, :160])
    process = subprocess.Popen([*COMMAND, "upscale", str(folder), "--out", str(tmp_path/"out"), "--weights", str(whole/"rrdb.safetensors")],
                               stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wait_for("out/*.png", tmp_path, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode in (0, 1, 130) and "Traceback" not in err, err
    written = [path for path in (tmp_path/"out").iterdir()]
    assert written and all(read_rgb(path).shape == (480, 640, 3) for path in written)

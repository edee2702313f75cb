"""One training, several processes: `torchrun` starts them, and they learn what one process learns."""
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import skimage.data
import torch
from safetensors.torch import load_file

from srgan_study.datasets import pack
from srgan_study.images import write_rgb

LAUNCH = [str(Path(sys.executable).with_name("torchrun")), "--nproc_per_node", "2", "--standalone", "--no-python", "--"]
SMALL = ["generator.blocks=1", "generator.channels=8", "generator.growth=4", "adversarial.discriminator.channels=4", "batch=4", "patch=32",
         "perceptual.weight=0", "stage1.iterations=8"]
HOW = ["--precision", "fp32", "--log-every", "1", "--checkpoint-every", "4", "--validate-every", "4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    for name in ("astronaut", "coffee"): write_rgb(folder/"photos"/f"{name}.png", getattr(skimage.data, name)()[:200, :200])
    pack(folder/"photos", folder/"store", progress=False)
    return folder


def train(folder, run, *more, processes=1, settings=(), status=0):
    program = [sys.executable, "-c", "from srgan_study.cli import main; main()"]
    words = ["train", "esrgan-demo", "--data", folder/"store", "--val", folder/"photos", "--run", folder/run, *HOW, *more]
    for setting in [*SMALL, *settings]: words += ["--set", setting]
    command = [*(LAUNCH if processes == 2 else []), *program, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == status or status and done.returncode, done.stderr[-3000:]
    return done


def assert_close_runs(folder, one, other, tolerance):
    logs = [pd.read_csv(folder/run/"log.csv") for run in (one, other)]
    assert len(logs[0]) == len(logs[1]) > 0
    for column in ("loss", "gradient_norm"):
        assert ((logs[0][column] - logs[1][column]).abs() <= tolerance*logs[0][column].abs()).all(), column
    weights = [load_file(folder/run/"rrdb.safetensors") for run in (one, other)]
    for name in weights[0]: torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-3, atol=1e-5)


ONE_STAGE = ["stage2.iterations=0"]


@pytest.fixture(scope="module")
def alone(folder):
    train(folder, "alone", settings=ONE_STAGE)
    return "alone"


def test_two_processes_learn_what_one_learns(folder, alone):
    "RRDB's first stage: the same patches, so the same losses and weights, but for the order of sums."
    train(folder, "two", processes=2, settings=ONE_STAGE)
    assert_close_runs(folder, alone, "two", 1e-4)
    environment = pd.read_json(folder/"two"/"environment.json", typ="series")
    assert environment.processes == 2


def test_a_batch_in_parts_learns_the_same(folder, alone):
    train(folder, "parts", "--accumulate", "2", settings=ONE_STAGE)
    assert_close_runs(folder, alone, "parts", 1e-4)


def test_two_processes_train_the_gan_and_resume(folder):
    "Both stages and their boundary; batch norm sees half a batch in each process, so only the run itself is compared."
    how, stages = ["--accumulate", "2"], ["batch=8", "stage1.iterations=2", "stage2.iterations=6"]
    train(folder, "gan", *how, processes=2, settings=stages)
    train(folder, "gan-in-parts", *how, "--max-minutes", "0", processes=2, settings=stages) # one iteration
    train(folder, "gan-in-parts", *how, "--resume", processes=2, settings=stages)
    for name in ("log.csv", "validation.csv"):
        assert (folder/"gan"/name).read_bytes() == (folder/"gan-in-parts"/name).read_bytes(), name
    assert pd.read_csv(folder/"gan"/"log.csv").discriminator_norm.iloc[-1] > 0


def test_a_batch_that_cannot_be_shared_is_refused_once(folder):
    done = train(folder, "odd", processes=2, settings=["batch=3"], status=1)
    ours = [line for line in done.stderr.splitlines() if line.startswith("srgan-study:")]
    assert len(ours) == 1 and "processes" in ours[0], done.stderr[-2000:]

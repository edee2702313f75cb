"Weights in the package: built into a wheel by way of an sdist, installed elsewhere, used by name without a network."
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from srgan_study.srgan import SRResNet
from srgan_study.weights import load, save

ROOT = Path(__file__).resolve().parent.parent
OFFLINE = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
CODE = """
import sys; sys.path.insert(0, "site")
import srgan_study, srgan_study.cli as cli
from srgan_study import weights
assert weights.resolve("srgan").as_posix().endswith("site/srgan_study/zoo/srgan.safetensors"), weights.resolve("srgan")
sys.argv = ["srgan-study", *sys.argv[1:]]; cli.main()
"""

def test_weights_in_the_wheel(tmp_path):
    copy, elsewhere = tmp_path/"copy", tmp_path/"elsewhere"
    shutil.copytree(ROOT/"srgan_study", copy/"srgan_study", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("settings.ini", "setup.py", "README.md", "LICENSE", "MANIFEST.in"): shutil.copy(ROOT/name, copy/name)
    (copy/"results/weights").mkdir(parents=True)
    shutil.copy(ROOT/"results/weights/README.md", copy/"results/weights")
    torch.manual_seed(0)
    net = SRResNet(blocks=1, channels=8).eval()
    save(copy/"results/weights/srgan.safetensors", net, recipe="test")
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", elsewhere/"dist"], cwd=copy, check=True, capture_output=True)
    wheel, = (elsewhere/"dist").glob("*.whl") # `build` makes the sdist, and the wheel from that
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", elsewhere/"site", wheel], check=True, capture_output=True)
    shutil.rmtree(copy)

    def run(*words):
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | OFFLINE | {"SRGAN_STUDY_WEIGHTS": str(elsewhere/"own")}
        done = subprocess.run([sys.executable, "-c", CODE, *words], cwd=elsewhere, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout
    row, = (line for line in run("weights", "list").splitlines() if line.split()[:1] == ["srgan"])
    assert row.endswith("in the package")
    run("weights", "export", "srgan", "own/mine.safetensors")
    assert "mine" in run("weights", "list") and load(elsewhere/"own/mine.safetensors").metadata["recipe"] == "test"
    run("weights", "export", "mine", "out.pth") # a name of one's own works like the book's
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in load(elsewhere/"out.pth").state_dict().items())

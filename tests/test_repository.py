"Notebooks, modules and README say the same, and the package installs elsewhere."
import configparser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from readme import readme

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
NOTEBOOKS = sorted(p for p in (ROOT/"nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


@pytest.fixture
def copy(tmp_path):
    "What a checkout holds, without results."
    for name in ("nbs", "srgan_study"):
        shutil.copytree(ROOT/name, tmp_path/name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name in ("settings.ini", "setup.py", "README.md", "LICENSE", "MANIFEST.in"): shutil.copy(ROOT/name, tmp_path/name)
    (tmp_path/"results/weights").mkdir(parents=True) # where setup.py looks for the weights of the package
    return tmp_path


def test_modules_are_what_the_notebooks_export(copy):
    for module in (copy/"srgan_study").glob("*.py"): module.unlink()
    subprocess.run([BIN/"nbdev_export"], cwd=copy, check=True, capture_output=True)
    ours, theirs = ({p.name: p.read_text() for p in (root/"srgan_study").glob("*.py")} for root in (ROOT, copy))
    assert sorted(ours) == sorted(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == [], "run `make export`"


def test_notebooks_are_clean(copy):
    subprocess.run([BIN/"nbdev_clean"], cwd=copy, check=True, capture_output=True)
    places = [p.relative_to(ROOT) for p in NOTEBOOKS]
    assert [str(p) for p in places if (ROOT/p).read_text() != (copy/p).read_text()] == [], "run `make export`"


def test_readme_is_what_index_gives():
    assert (ROOT/"README.md").read_text(encoding="utf-8") == readme(), "run `make export`"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_notebook_can_be_shown(notebook):
    "No error output, no path or address of a machine, less than 1 MB."
    text = notebook.read_text(encoding="utf-8")
    assert len(text) < 1_000_000
    for cell in json.loads(text)["cells"]:
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error", "".join(cell["source"])
            shown = "".join(output.get("text", [])) + "".join("".join(v) for k, v in output.get("data", {}).items() if k.startswith("text/"))
            assert not re.search(r"Warning:|Traceback", shown), shown[:300]
            assert not re.search(r"(?:^|[\s'\"(=])(?:/(?:home|root|work|tmp|usr|opt|Users|var)/|[A-Z]:\\)", shown), shown[:300]
        source = "".join(cell["source"])
        assert not re.search(r"['\"](?:/(?:home|root|work|usr|opt|Users|var)/|[A-Z]:\\+Users)", source), source


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_notebook_uses_public_names_and_short_cells(notebook):
    "No private name of another module; in the chapters on the papers and the results no cell above 30 lines."
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code": continue
        for names in re.findall(r"from srgan_study[\w.]* import \(?([\w, \n]+)", source):
            private = [name for name in re.findall(r"\b_\w+", names.split("\n#")[0]) if not name.startswith("__")]
            assert not private, private
        lines = sum(bool(line.strip()) for line in source.splitlines())
        if notebook.parent.name[:1] in "12": assert lines <= 30, f"{lines} lines: {source[:80]}"


INTRODUCED = { # a name as the modules write it: the package, and the release that first had it
    "torch.optim.Muon": ("torch", "2.9"),
    "dynamo=True": ("torch", "2.5"), # of torch.onnx.export, together with dynamic_shapes
    "torch.amp.is_autocast_available": ("torch", "2.4"),
    "torch.get_autocast_dtype": ("torch", "2.4"),
    "torch.OutOfMemoryError": ("torch", "2.4"),
    "fused=True": ("torch", "2.4"), # of torch.optim.Adam on a CPU
    "torch.amp.GradScaler": ("torch", "2.3"),
    "csr_array": ("scipy", "1.8"),
    "file.tile": ("pillow", "11.0"), # before, its parts are plain tuples without `args`
    "get_ifd": ("pillow", "11.1"), # before, an Exif block that is written into its result is lost
    "iccprofile": ("tifffile", "2024.5.22"), # of TiffWriter.write
}


def lower_bounds() -> dict[str, Version]:
    "The lowest release of each package that settings.ini accepts."
    settings = configparser.ConfigParser(delimiters=["="])
    settings.read(ROOT/"settings.ini", encoding="utf-8")
    needed = map(Requirement, settings["DEFAULT"]["requirements"].split())
    return {r.name: Version(s.version) for r in needed for s in r.specifier if s.operator == ">="}


def test_requirements_have_what_the_modules_use():
    "If this fails, raise the lower bound in settings.ini, or use an older function."
    modules = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT/"srgan_study").glob("*.py"))
    used = {name for name in INTRODUCED if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", modules)}
    assert used, "the table names nothing that a module uses"
    bounds = lower_bounds()
    too_low = [f"{name} needs {package}>={release}, settings.ini accepts {bounds[package]}"
               for name, (package, release) in INTRODUCED.items() if name in used and bounds[package] < Version(release)]
    assert too_low == []


def test_wheel_installs_and_runs_elsewhere(copy, tmp_path_factory):
    "Built from a clean copy, unpacked elsewhere, used from a third place."
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", elsewhere/"dist"], cwd=copy, check=True, capture_output=True)
    wheel, = (elsewhere/"dist").glob("*.whl")
    subprocess.run([BIN/"pip", "install", "--quiet", "--no-deps", "--target", elsewhere/"site", wheel], check=True, capture_output=True)
    code = ("import sys; sys.path.insert(0, 'site'); import srgan_study, srgan_study.cli as c; assert '/site/' in srgan_study.__file__.replace(chr(92), '/'); "
            "sys.argv = ['srgan-study', 'data', 'list']; c.main()")
    done = subprocess.run([sys.executable, "-c", code], cwd=elsewhere, capture_output=True, text=True)
    assert done.returncode == 0 and "div2k-train" in done.stdout, done.stderr


def test_a_run_names_its_commit(copy):
    "A change beside the modules leaves the commit as it is, a changed module marks it, without a checkout it's the version."
    def commit():
        asked = "from srgan_study import runs; print(runs.commit())"
        return subprocess.run([sys.executable, "-c", asked], cwd=copy, check=True, capture_output=True, text=True).stdout.strip()
    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *who, *words], cwd=copy, check=True, capture_output=True, text=True).stdout.strip()
    assert re.fullmatch(r"version \d[\w.]*", commit())
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "all")
    here = git("rev-parse", "--short=12", "HEAD")
    (copy/"README.md").write_text("something else")
    assert commit() == here
    with open(copy/"srgan_study/images.py", "a") as module: module.write("\n")
    assert commit() == f"{here}-dirty"

"Every notebook is a test: run by nbdev, one process each, with a time limit."
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(p for p in (ROOT/"nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def nbdev_test(notebook: Path, timeout: int = 300) -> subprocess.CompletedProcess:
    "Run a notebook's cells as nbdev does."
    command = [Path(sys.executable).parent/"nbdev_test", "--path", notebook, "--n_workers", "0", "--do_print"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, env=os.environ | {"MPLBACKEND": "agg"})


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_notebook(notebook):
    done = nbdev_test(notebook)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    assert notebook.name in done.stdout + done.stderr, "nbdev found no such notebook"


def test_a_failing_cell_fails(tmp_path):
    "The net has no hole: nbdev's status is what the tests above look at."
    cell = '{"cell_type": "code", "execution_count": null, "id": "0", "metadata": {}, "outputs": [], "source": ["assert 1 == 2"]}'
    broken = tmp_path/"broken.ipynb"
    broken.write_text('{"cells": [' + cell + '], "metadata": {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}, "nbformat": 4, "nbformat_minor": 5}')
    assert nbdev_test(broken).returncode != 0

"""The data sets `photos` and `photos-valid`, from the real files on a local server: downloaded, verified, reduced and packed."""
import csv, shutil
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from srgan_study.datasets import CATALOGUE, Store, data_list, get, hr_images, open_store, read_hr
from srgan_study.images import StudyError, imresize, read_rgb
from test_download import REAL, Server, hasty # noqa: F401, `hasty` is a fixture that shortens all pauses

FOLDERS = {"photos": REAL/"photos/train", "photos-valid": REAL/"photos/valid"}
pytestmark = pytest.mark.skipif(not (REAL/"photos.csv").exists(), reason="SRGAN_STUDY_TEST_DATA names no folder with the photos")
CUT, DAMAGED = "jpg/Apple iPhone 6.jpg", "13:15.jpg" # how two paths end; both have characters that an address must quote


def path_of(file): return "/" + quote(file.remote)

@pytest.fixture(scope="module")
def content():
    return {path_of(f): (FOLDERS[name]/f.local.removeprefix("HR/")).read_bytes() for name in FOLDERS for f in CATALOGUE[name].files}

@pytest.fixture
def server(content):
    server = Server(dict(content))
    yield server
    server.shutdown()

@pytest.fixture(scope="module")
def root(content, tmp_path_factory):
    "A data root with both sets, after one broken connection and one damaged answer."
    root, server = tmp_path_factory.mktemp("root"), Server(dict(content))
    cut, damaged = (next(path for path in content if path.endswith(quote(end))) for end in (CUT, DAMAGED))
    server.faults = {cut: ["cut"], damaged: ["flip"]}
    for name in FOLDERS: get(name, root=root, mirror=server.address + "/", progress=False)
    server.shutdown()
    assert server.begins(cut) == [0, len(content[cut])//2] and server.begins(damaged) == [0, 0]
    assert len(server.requests) == 75 and {path for path, _ in server.requests} == set(content)
    yield root
    shutil.rmtree(root) # with the stores 800 MB


def test_catalogue_is_the_table():
    rows = list(csv.DictReader((REAL/"photos.csv").open(newline="", encoding="utf-8")))
    files = {f.local: f for name in FOLDERS for f in CATALOGUE[name].files}
    assert len(rows) == len(files) == 73
    for row in rows:
        f = files["HR/" + row["file"]]
        assert (f.bytes, f.sha256, f.licence) == (int(row["bytes"]), row["sha256"], row["licence"])
        assert f.remote == f"{row['repository']}/{row['commit']}/{row['path']}"

def test_downloaded(root):
    for name, folder in FOLDERS.items():
        images = hr_images(name, root)
        assert [p.name for p in images] == sorted(p.name for p in folder.iterdir())
        assert all(p.read_bytes() == (folder/p.name).read_bytes() for p in images)
    assert list(data_list(root).set_index("name").here[list(FOLDERS)]) == ["yes", "yes"]

def test_attribution_travels_with_the_files(root):
    for name, dataset in ((name, CATALOGUE[name]) for name in FOLDERS):
        rows = list(csv.DictReader((root/name/"LICENCES.csv").open(newline="", encoding="utf-8")))
        assert [(row["file"], row["licence"]) for row in rows] == [(f.local, f.licence) for f in dataset.files]
        assert all(row["licence"] and row["origin"].startswith("https://raw.githubusercontent.com/") and " " not in row["origin"] for row in rows)

def test_an_interrupted_download_goes_on(server, root, tmp_path):
    gone = path_of(CATALOGUE["photos-valid"].files[4])
    kept = server.content.pop(gone)
    with pytest.raises(StudyError, match="404"): get("photos-valid", root=tmp_path, mirror=server.address, progress=False, jobs=1)
    assert data_list(tmp_path).set_index("name").here["photos-valid"] == "in part"
    done = [path_of(f) for f in CATALOGUE["photos-valid"].files if (tmp_path/"photos-valid"/f.local).exists()]
    server.content[gone] = kept
    get("photos-valid", root=tmp_path, mirror=server.address, progress=False)
    assert len(hr_images("photos-valid", tmp_path)) == 10
    assert len(done) >= 4 and all(len(server.begins(path)) == 1 for path in done) # what had arrived was not fetched again

def test_a_damaged_file_is_refused(server, tmp_path):
    file = CATALOGUE["photos-valid"].files[0]
    server.faults[path_of(file)] = ["flip", "flip"]
    with pytest.raises(StudyError, match="SHA-256"): get("photos-valid", root=tmp_path, mirror=server.address, progress=False)
    assert not (tmp_path/"photos-valid"/file.local).exists()
    with pytest.raises(StudyError, match="srgan-study data get photos-valid"): hr_images("photos-valid", tmp_path)


def assert_packed(store, i, path):
    "Image `i` of a store is this photo, reduced as `read_hr` does it; LR is made from that."
    hr, entry = read_hr(path, 2040), store.manifest["images"][i]
    assert [entry["source_height"], entry["source_width"]] == list(read_rgb(path).shape[:2]) and entry["longest"] == 2040
    assert max(hr.shape) == min(2040, max(entry["source_height"], entry["source_width"]))
    hr = hr[:len(hr)//4*4, :hr.shape[1]//4*4]
    assert store.names[i] == path.name and (store.hr(i) == hr).all() and (store.lr(i) == imresize(hr, 1/4)).all()

def test_validation_photos_are_packed_as_they_are_measured(root):
    store = open_store("photos-valid", root=root, progress=False)
    assert len(store) == 10
    for i, path in enumerate(hr_images("photos-valid", root)): assert_packed(store, i, path)
    assert open_store("photos-valid", root=root, progress=False).path == store.path

def test_training_photos(root):
    "All are packed. Looked at: two turned by EXIF, a side for which 2040 is no exact fraction, and a photo that is small enough."
    store = open_store("photos", root=root, progress=False)
    sizes = [(max(store.hr(i).shape), max(e["source_height"], e["source_width"])) for i, e in enumerate(store.manifest["images"])]
    assert len(sizes) == 63 and all(packed == min(2040, whole)//4*4 for packed, whole in sizes)
    for kind in ("blackberry-z10", "nikon-d40", "alpine-lake", "microsoft-10"):
        i, path = next((i, p) for i, p in enumerate(hr_images("photos", root)) if kind in p.name)
        assert_packed(store, i, path)
        if kind == "blackberry-z10": assert Image.open(path).size == (3264, 1836) and store.hr(i).shape == (2040, 1148, 3)

def test_together_with_other_data(root, tmp_path):
    few, valid = tmp_path/"few", hr_images("photos-valid", root)
    few.mkdir()
    for path in valid[:2]: (few/path.name).symlink_to(path)
    store = open_store([few, "photos-valid"], root=root, progress=False)
    assert store.names == [f"few/{p.name}" for p in valid[:2]] + [f"photos-valid/{p.name}" for p in valid]
    assert max(store.hr(0).shape) == 3072 and max(store.hr(2).shape) == 2040 # a folder's images are not reduced
    alone = open_store("photos-valid", root=root, progress=False)
    assert all(np.array_equal(store.hr(i + 2), alone.hr(i)) and np.array_equal(store.lr(i + 2), alone.lr(i)) for i in range(10))
    assert Store(store.path).sha256 == store.sha256 != alone.sha256

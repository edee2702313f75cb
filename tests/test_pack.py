"""Packing when it is killed, runs twice, or can't write; and patches across processes and real data.

What a notebook can show stands in nbs/3_tools/01_datasets.ipynb and nbs/1_papers/02_patches.ipynb; here is what needs kills, other users and several processes."""
import errno, hashlib, json, os, shutil, signal, subprocess, sys, tempfile, time
from pathlib import Path

import numpy as np
import pytest
import torch

from srgan_study import datasets
from srgan_study.datasets import Store, list_images, open_store, pack
from srgan_study.images import StudyError, imresize, read_rgb, write_rgb
from srgan_study.patches import Patches

REAL = Path(os.environ.get("SRGAN_STUDY_TEST_DATA", "/nowhere"))
needs_real = pytest.mark.skipif(not REAL.exists(), reason="SRGAN_STUDY_TEST_DATA names no folder")


def photo(i, height=130, width=170):
    y, x, c = np.ogrid[:height, :width, :3]
    return ((x*7 + y*13 + c*29 + i*31 + x*y//16) % 256).astype(np.uint8)

@pytest.fixture
def photos(tmp_path):
    for i in range(24): write_rgb(tmp_path/f"photos/{i:02}.png", photo(i))
    return tmp_path/"photos"

def right(store):
    return len(store) == 24 and all((store.hr(i) == photo(i)[:128, :168]).all() and (store.lr(i) == imresize(photo(i)[:128, :168], 1/4)).all() for i in range(24))

def child(photos, store, slow=0.0, go=None, workers=2):
    "Another process that packs, as slowly as asked for, and reads no photo before `go` is there."
    code = ("import os, sys, time; from srgan_study import datasets\n"
            f"real, go = datasets.read_rgb, {go and str(go)!r}\n"
            "def slow(path):\n"
            "    while go and not os.path.exists(go): time.sleep(0.02)\n"
            f"    time.sleep({slow}); return real(path)\n"
            f"datasets.read_rgb = slow\ndatasets.pack({str(photos)!r}, {str(store)!r}, workers={workers}, progress=False)")
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, start_new_session=True)

def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)

def noted(store):
    journal = store.with_name(f"{store.name}.part")/"journal"
    lines = journal.read_text().split("\n")[:-1] if journal.exists() else [] # the last one may be cut short by the kill
    return sum(map(bool, lines))


def nobody_left(group):
    "Whether all processes of a group are gone (zombies don't count)."
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try: fields = stat.read_text().rpartition(")")[2].split()
        except OSError: continue
        if int(fields[2]) == group and fields[0] not in "ZX": return False
    return True

@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_kill_and_continue(photos, tmp_path, monkeypatch):
    store = tmp_path/"store"
    process = child(photos, store, slow=0.1)
    wait_for(lambda: noted(store) >= 5)
    process.kill(); process.wait(); process.stderr.close()
    assert not store.exists()
    wait_for(lambda: nobody_left(process.pid)) # its workers went with it
    done, decoded, real = noted(store), [], datasets._pack_image
    monkeypatch.setattr(datasets, "_pack_image", lambda *args: decoded.append(1) or real(*args))
    assert right(pack(photos, store, workers=1, progress=False))
    assert len(decoded) <= 24 - done and not store.with_name("store.part").exists()

def test_ctrl_c(photos, tmp_path):
    store = tmp_path/"store"
    process = child(photos, store, slow=0.1)
    wait_for(lambda: noted(store) >= 3)
    os.killpg(process.pid, signal.SIGINT) # as a terminal does: to the workers too
    message = process.communicate(timeout=30)[1]
    assert process.returncode and message.rstrip().endswith("KeyboardInterrupt") and message.count("Traceback") == 1
    assert not store.exists() and noted(store) >= 3
    assert right(pack(photos, store, progress=False))

def test_three_at_once(photos, tmp_path):
    store, go = tmp_path/"store", photos/"go"
    first = child(photos, store, go=go)
    wait_for(store.with_name("store.part").exists) # it has the right to write, and can't be done yet
    others = [child(photos, store) for _ in range(2)]
    said = [process.stderr.readline() for process in others] # each says so, and then waits
    go.touch()
    messages = [process.communicate(timeout=60)[1] for process in [first, *others]]
    assert [p.returncode for p in [first, *others]] == [0, 0, 0], messages
    assert all("waiting" in line for line in said) and not any(messages) and right(Store(store))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photos", "store"]

def test_a_worker_that_dies(photos, tmp_path, monkeypatch):
    real = datasets.read_rgb
    def deadly(path):
        if Path(path).name == "11.png": os._exit(9) # as the kernel does to who takes too much memory
        return real(path)
    with monkeypatch.context() as broken:
        broken.setattr(datasets, "read_rgb", deadly)
        with pytest.raises(StudyError, match="workers=1"): pack(photos, tmp_path/"store", workers=2, progress=False)
    assert right(pack(photos, tmp_path/"store", progress=False))

def full(*_): raise OSError(errno.ENOSPC, "No space left on device")

def test_full_disk_is_seen_before(photos, tmp_path, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(datasets.os, "posix_fallocate", full)
        broken.setattr(datasets, "_pack_image", lambda *_: pytest.fail("decoded before the space was there"))
        with pytest.raises(StudyError, match="No space left.*free some space"): pack(photos, tmp_path/"store", workers=1, progress=False)
    assert right(pack(photos, tmp_path/"store", progress=False))

@pytest.mark.parametrize("workers", [1, 2])
def test_full_disk_in_the_middle(photos, tmp_path, monkeypatch, workers):
    part = tmp_path/"store.part"
    part.mkdir(); (part/"lr.bin").symlink_to("/dev/full") # a real ENOSPC at the first write
    with monkeypatch.context() as broken:
        broken.setattr(datasets, "_allocate", lambda path, size: path.is_symlink() or path.write_bytes(bytes(size)))
        with pytest.raises(StudyError, match="No space left.*free some space"): pack(photos, tmp_path/"store", workers=workers, progress=False)
    assert not (tmp_path/"store").exists()
    (part/"lr.bin").unlink()
    assert right(pack(photos, tmp_path/"store", progress=False))

def test_a_file_system_that_cannot_reserve(photos, tmp_path, monkeypatch):
    def cannot(*_): raise OSError(errno.EOPNOTSUPP, "not supported")
    monkeypatch.setattr(datasets.os, "posix_fallocate", cannot)
    assert right(pack(photos, tmp_path/"store", progress=False))

def test_read_only_folder():
    with tempfile.TemporaryDirectory() as folder: # not tmp_path, which only its owner may enter
        folder = Path(folder)
        for i in range(4): write_rgb(folder/f"photos/{i}.png", photo(i))
        stored = pack(folder/"photos", folder/"ready", progress=False)
        (folder/"closed").mkdir()
        for path in (folder, folder/"photos", folder/"ready", folder/"closed"): path.chmod(0o555)
        child = os.fork()
        if child == 0: # root may write everywhere, so become nobody
            try:
                if os.getuid() == 0: os.setuid(65534)
                assert open_store(folder/"ready").sha256 == stored.sha256                     # reading needs no lock
                assert pack(folder/"photos", folder/"ready", progress=False).sha256 == stored.sha256
                for attempt in (lambda: pack(folder/"photos", folder/"closed/store", progress=False), lambda: open_store(folder/"photos", root=folder/"closed", progress=False),
                                lambda: datasets.get("set5", root=folder/"closed", mirror="http://127.0.0.1:9", progress=False)):
                    try: attempt()
                    except StudyError as e: assert "choose a place that you may write to" in str(e), e
                    else: raise AssertionError("wrote into a read-only folder")
                os._exit(0)
            except BaseException as e:
                print(type(e), e, file=sys.stderr); os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        for path in (folder, folder/"photos", folder/"ready", folder/"closed"): path.chmod(0o755)

def test_unicode_and_spaces(tmp_path):
    for i in range(3): write_rgb(tmp_path/f"Ürlaub am Meer/Bild {i} ö 写真.png", photo(i))
    store = pack(tmp_path/"Ürlaub am Meer", tmp_path/"ein Lager ß", progress=False)
    assert store.names == [f"Bild {i} ö 写真.png" for i in range(3)] and (store.hr(2) == photo(2)[:128, :168]).all()

def test_all_bad_images_are_named(photos, tmp_path):
    for i in (3, 7): (photos/f"{i:02}.png").write_bytes((photos/f"{i:02}.png").read_bytes()[:-400])
    with pytest.raises(StudyError, match="2 images.*03.png: damaged.*07.png: damaged"): pack(photos, tmp_path/"store", progress=False)
    (photos/"05.png").write_text("no image")
    with pytest.raises(StudyError, match="05.png: not an image"): pack(photos, tmp_path/"store", progress=False)

@pytest.mark.parametrize("low, works", [((32, 42), True), ((33, 43), True), ((32, 43), True), ((33, 44), False), ((31, 42), False)])
def test_lr_sizes(tmp_path, low, works):
    write_rgb(tmp_path/"HR/a.png", photo(0)); write_rgb(tmp_path/"LR/a.png", photo(1, *low)) # 130 x 170: 32.5 x 42.5
    if works: assert (pack(tmp_path/"HR", tmp_path/"s", tmp_path/"LR", progress=False).lr(0) == photo(1, *low)[:32, :42]).all()
    else:
        with pytest.raises(StudyError, match="a.png: .*check the folder"): pack(tmp_path/"HR", tmp_path/"s", tmp_path/"LR", progress=False)

def test_turned_photos(tmp_path):
    from PIL import Image
    turned = Image.Exif(); turned[0x0112] = 6
    (tmp_path/"HR").mkdir()
    for suffix in ("jpg", "png", "webp"): Image.fromarray(photo(0)).save(tmp_path/f"HR/{suffix}.{suffix}", exif=turned)
    store = pack(tmp_path/"HR", tmp_path/"store", progress=False)
    assert [store.hr(i).shape for i in range(3)] == [(168, 128, 3)]*3

def test_changed_photo_is_packed_again(photos, tmp_path):
    (photos/"05.png").write_bytes((photos/"05.png").read_bytes()[:-400])
    with pytest.raises(StudyError): pack(photos, tmp_path/"store", progress=False)
    write_rgb(photos/"05.png", photo(5)); write_rgb(photos/"06.png", photo(99))
    store = pack(photos, tmp_path/"store", progress=False)
    assert (store.hr(6) == photo(99)[:128, :168]).all() and (store.hr(5) == photo(5)[:128, :168]).all()


# Patches

def test_same_patches_in_spawned_workers(photos, tmp_path):
    patches = Patches(pack(photos, tmp_path/"store", progress=False), seed=3)
    first = torch.utils.data.Subset(patches, range(40))
    loaded = list(torch.utils.data.DataLoader(first, batch_size=8, num_workers=2, multiprocessing_context="spawn"))
    hr, lr = patches.gather(range(40))
    assert (torch.cat([a for a, _ in loaded]).numpy() == hr).all() and (torch.cat([b for _, b in loaded]).numpy() == lr).all()

def test_store_swapped_under_a_worker(photos, tmp_path):
    import pickle
    sent = pickle.dumps(pack(photos, tmp_path/"store", progress=False))
    shutil.rmtree(tmp_path/"store"); pack(list_images(photos)[:5], tmp_path/"store", progress=False)
    with pytest.raises(StudyError, match="another store"): pickle.loads(sent)

@needs_real
def test_real_pairs_are_aligned(tmp_path):
    store = pack(REAL/"test/Set5/HR", tmp_path/"store", lr=REAL/"test/Set5/LRx4", progress=False)
    patches = Patches(store, symmetries=False)
    for hr, lr in map(patches.__getitem__, range(50)): assert (imresize(hr, 1/4)[2:-2, 2:-2] == lr[2:-2, 2:-2]).all() # lr is MATLAB's

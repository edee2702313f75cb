"""Downloads against a local server that does everything servers do: cuts, stalls, ignores Range, serves wrong bytes, refuses.

What a notebook can show stands in nbs/3_tools/01_datasets.ipynb; here is what needs faults, kills and several processes."""
import hashlib, http.server, io, json, os, signal, subprocess, sys, threading, time, zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srgan_study import datasets
from srgan_study.datasets import CATALOGUE, Dataset, RemoteFile, data_list, get, hr_images, lr_images, open_store
from srgan_study.images import StudyError

SIZE = 600_000
REAL = Path(os.environ.get("SRGAN_STUDY_TEST_DATA", "/nowhere"))
needs_real = pytest.mark.skipif(not REAL.exists(), reason="SRGAN_STUDY_TEST_DATA names no folder")


class Server(http.server.ThreadingHTTPServer):
    "Serves `content`; `faults[path]` is a list of what goes wrong, one for each request to come."
    daemon_threads = True
    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.faults, self.requests, self.ranges, self.pause = content, {}, [], True, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server_port}"

    def begins(self, path): return [begin for p, begin in self.requests if p == path]


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_): pass

    def do_GET(self):
        server, path = self.server, self.path
        asked = self.headers.get("Range")
        begin = int(asked[6:-1]) if asked else 0
        server.requests.append((path, begin))
        fault = server.faults[path].pop(0) if server.faults.get(path) else None
        if path not in server.content: return self.send_error(404)
        if isinstance(fault, tuple): # (status, headers)
            self.send_response(fault[0])
            for name, value in fault[1].items(): self.send_header(name, value)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        whole = server.content[path]
        if fault == "page": whole = b"<html>please log in</html>"
        if fault == "flip": whole = whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:]
        ranges = server.ranges and asked and fault not in ("page", "no length, too long")
        if ranges and begin >= len(whole):
            self.send_response(416); self.send_header("Content-Length", "0"); return self.end_headers()
        if fault == "other range": begin += 10
        body = whole[begin:] if ranges else whole
        self.send_response(206 if ranges else 200)
        if ranges: self.send_header("Content-Range", f"bytes {begin}-{len(whole) - 1}/{len(whole)}")
        if fault == "no length, too long": body = body + b"more"
        else: self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        end = {"cut": len(body)//2, "cut early": 5000, "stall": len(body)//2}.get(fault, len(body))
        try:
            for at in range(0, end, 20_000):
                self.wfile.write(body[at:min(at + 20_000, end)])
                self.wfile.flush()
                if server.pause: time.sleep(server.pause)
            if fault == "stall": time.sleep(3)
        except (BrokenPipeError, ConnectionResetError): pass


def noise(n, seed=0): return np.random.default_rng(seed).bytes(n)

def png(i):
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8)).save(out, "png")
    return out.getvalue()

def entry(local, remote, content): return RemoteFile(local, remote, len(content), hashlib.sha256(content).hexdigest())

def offer(monkeypatch, name, content, locals_=None):
    "Put a data set of these files into the catalogue, and start a server that has them."
    files = tuple(entry((locals_ or {}).get(remote, remote), remote, c) for remote, c in content.items())
    monkeypatch.setitem(CATALOGUE, name, Dataset(name, "made up", 1, "none", "https://example.org/sets/", files))
    return Server({f"/sets/{remote}": c for remote, c in content.items()})

@pytest.fixture(autouse=True)
def hasty(monkeypatch): monkeypatch.setattr(datasets, "_PAUSE", 0.01)

@pytest.fixture
def one(monkeypatch, tmp_path):
    "A data set of one file, and a function that gets it."
    server = offer(monkeypatch, "one", {"HR/a.png": noise(SIZE)})
    server.get = lambda **options: get("one", root=tmp_path, mirror=server.address, **{"timeout": 0.5, "progress": False} | options)
    server.path, server.target = "/sets/HR/a.png", tmp_path/"one/HR/a.png"
    server.part = server.target.with_name(".a.png.part")
    server.whole = lambda: server.target.read_bytes() == server.content[server.path]
    yield server
    server.shutdown()


@pytest.mark.parametrize("faults", [["cut"], ["cut early"]*20, ["stall"], ["cut", "stall", "cut"], [(503, {})]*3, [(429, {"Retry-After": "0"})]*3,
                                    [(500, {}), "cut", (502, {}), (504, {}), "cut early"]], ids=str)
def test_goes_on_after(one, faults):
    one.faults[one.path] = list(faults)
    one.get()
    assert one.whole() and not one.part.exists()
    begins = one.begins(one.path)
    assert begins == sorted(begins), "an attempt lost what an earlier one had brought"
    if any(f in ("cut", "cut early", "stall") for f in faults): assert begins[-1] > 0

def test_a_server_that_ignores_range(one):
    one.ranges, one.faults[one.path] = False, ["cut early", "cut", "cut"]
    one.get()
    assert one.whole() and one.begins(one.path)[1:3] == [5000, SIZE//2] # asked for the rest, got everything, and skipped

def test_waits_as_long_as_asked(one):
    one.faults[one.path] = [(429, {"Retry-After": "1"}), (503, {"Retry-After": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 3))})]
    began = time.monotonic()
    one.get()
    assert one.whole() and time.monotonic() - began > 1.9

@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_not_asked_twice(one, code):
    one.faults[one.path] = [(code, {})]
    with pytest.raises(StudyError, match=f"{code}.*mirror"): one.get()
    assert len(one.requests) == 1 and not one.target.exists()

def test_gives_up_and_keeps_what_it_has(one):
    one.faults[one.path] = ["cut"] + [(503, {})]*datasets._ATTEMPTS
    with pytest.raises(StudyError, match="503.*kept"): one.get()
    assert one.part.stat().st_size == SIZE//2 and not one.target.exists()
    one.get()
    assert one.whole() and one.begins(one.path)[-1] == SIZE//2

def test_nobody_there(one):
    one.shutdown(); one.server_close()
    with pytest.raises(StudyError, match="no connection"): one.get()

def test_flipped_bit_is_fetched_again(one):
    one.faults[one.path] = ["flip"]
    one.get()
    assert one.whole() and one.begins(one.path) == [0, 0]

def test_flipped_bit_twice(one):
    one.faults[one.path] = ["flip", "flip"]
    with pytest.raises(StudyError, match="SHA-256"): one.get()
    assert not one.target.exists() and not one.part.exists()

def test_damaged_part(one):
    one.part.parent.mkdir(parents=True); one.part.write_bytes(bytes(1000))
    one.get()
    assert one.whole() and one.begins(one.path) == [1000, 0]

@pytest.mark.parametrize("size", [SIZE, SIZE + 5])
def test_part_that_is_too_long_or_wrong(one, size):
    one.part.parent.mkdir(parents=True); one.part.write_bytes(bytes(size))
    one.get()
    assert one.whole()

@pytest.mark.parametrize("fault, says", [("page", "26 bytes instead"), ("no length, too long", "longer than")])
def test_another_file(one, fault, says):
    one.faults[one.path] = [fault]
    with pytest.raises(StudyError, match=says): one.get()
    assert not one.target.exists()

def test_another_range(one):
    one.faults[one.path] = ["cut", "other range"]
    with pytest.raises(StudyError, match="another range"): one.get()
    assert one.part.read_bytes() == one.content[one.path][:SIZE//2]

def test_the_bar_says_what_it_waits_for(one, capsys):
    one.faults[one.path] = ["cut", (503, {})]
    one.get(progress=True)
    bar = capsys.readouterr().err
    assert "a.png: the connection broke" in bar and "503" in bar and "100%" in bar

def test_second_get_asks_nothing(one):
    one.get(); one.get()
    assert len(one.requests) == 1

def test_full_disk(one):
    one.part.parent.mkdir(parents=True); one.part.symlink_to("/dev/full") # a real ENOSPC at the first write
    with pytest.raises(StudyError, match="No space left.*free some space"): one.get()
    assert not one.target.exists() and len(one.requests) == 1
    one.part.unlink(); one.get()
    assert one.whole()

def test_full_disk_is_seen_before(one, monkeypatch):
    monkeypatch.setattr(datasets.shutil, "disk_usage", lambda _: type("Usage", (), dict(free=1000)))
    with pytest.raises(StudyError, match="GB are still to come"): one.get()
    assert not one.requests

def test_ctrl_c_keeps_what_has_arrived(one):
    one.pause = 0.05
    threading.Timer(0.6, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt): one.get()
    assert 0 < one.part.stat().st_size < SIZE
    one.pause = 0; one.get()
    assert one.whole() and one.begins(one.path)[-1] > 0

def test_unknown_names(tmp_path):
    with pytest.raises(StudyError, match="known names: embedded-train"): get("div2k")
    with pytest.raises(StudyError, match="http://"): get("set5", mirror="mirror.org")
    with pytest.raises(StudyError, match="--mirror"): get("set5", root=tmp_path, mirror="http://", progress=False)


# Sets of many files, and archives

def test_many_files_and_a_missing_one(monkeypatch, tmp_path):
    content = {f"HR/a photo {i} ü.png": noise(3000, i) for i in range(40)}
    server = offer(monkeypatch, "many", content)
    server.content = {("/sets/" + datasets.urllib.parse.quote(remote)): c for remote, c in content.items()}
    gone = list(server.content)[20]
    kept = server.content.pop(gone)
    options = dict(root=tmp_path, mirror=server.address, progress=False)
    with pytest.raises(StudyError, match="404"): get("many", **options)
    with pytest.raises(StudyError, match="not wholly here; srgan-study data get many"): hr_images("many", tmp_path)
    assert data_list(tmp_path).set_index("name").here["many"] == "in part"
    server.content[gone] = kept
    done = ["/sets/" + datasets.urllib.parse.quote(remote) for remote in content if (tmp_path/"many"/remote).exists()]
    get("many", **options)
    assert all((tmp_path/"many"/remote).read_bytes() == c for remote, c in content.items())
    assert done and all(len(server.begins(path)) == 1 for path in done) # what had arrived before the error was not fetched twice
    assert len(hr_images("many", tmp_path)) == 40 and lr_images("many", 4, tmp_path) is None

def archive(**members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, content in members.items(): z.writestr(name, content)
    return out.getvalue()

def like_div2k(monkeypatch, name="small"):
    "Two archives laid out as DIV2K's."
    return offer(monkeypatch, name, {
        "DIV2K_valid_HR.zip": archive(**{"DIV2K_valid_HR/": b"", **{f"DIV2K_valid_HR/080{i}.png": png(i) for i in range(1, 6)}}),
        "DIV2K_valid_LR_bicubic_X4.zip": archive(**{f"DIV2K_valid_LR_bicubic/X4/080{i}x4.png": png(i) for i in range(1, 6)})},
        {"DIV2K_valid_HR.zip": "HR/", "DIV2K_valid_LR_bicubic_X4.zip": "LRx4/"})

def test_archives(monkeypatch, tmp_path):
    server = like_div2k(monkeypatch)
    server.faults = {path: ["cut", "flip"] for path in server.content}
    get("small", root=tmp_path, mirror=server.address, progress=False)
    assert [p.name for p in hr_images("small", tmp_path)] == [f"080{i}.png" for i in range(1, 6)]
    assert [p.name for p in lr_images("small", 4, tmp_path)] == [f"080{i}x4.png" for i in range(1, 6)]
    assert sorted(p.name for p in (tmp_path/"small").iterdir()) == ["HR", "LRx4"] # no archive, no beginnings
    assert data_list(tmp_path).set_index("name").here["small"] == "yes"
    asked = len(server.requests)
    get("small", root=tmp_path, mirror=server.address, progress=False)
    assert len(server.requests) == asked
    (tmp_path/"small/HR/0803.png").unlink()
    with pytest.raises(StudyError, match="not here"): hr_images("small", tmp_path)
    get("small", root=tmp_path, mirror=server.address, progress=False)
    assert len(hr_images("small", tmp_path)) == 5 and server.requests[-1][0].endswith("HR.zip")

def test_only_one_scale(monkeypatch, tmp_path):
    server = like_div2k(monkeypatch)
    get("small", root=tmp_path, mirror=server.address, progress=False, scales=[2])
    assert {path for path, _ in server.requests} == {"/sets/DIV2K_valid_HR.zip"}

def test_archive_that_leads_outside(monkeypatch, tmp_path):
    server = offer(monkeypatch, "bad", {"a.zip": archive(**{"HR/1.png": png(1), "../../outside.png": png(2)})}, {"a.zip": "HR/"})
    with pytest.raises(StudyError, match="leads outside"): get("bad", root=tmp_path/"root", mirror=server.address, progress=False)
    assert not list(tmp_path.rglob("*.png"))

def test_full_disk_while_unpacking(monkeypatch, tmp_path):
    server = like_div2k(monkeypatch)
    real = datasets.shutil.copyfileobj
    def full(source, target, *rest):
        if target.name.endswith("0803.png"): raise OSError(28, "No space left on device")
        real(source, target, *rest)
    with monkeypatch.context() as broken:
        broken.setattr(datasets.shutil, "copyfileobj", full)
        with pytest.raises(StudyError, match="No space left"): get("small", root=tmp_path, mirror=server.address, progress=False)
    assert not (tmp_path/"small/HR").exists()
    get("small", root=tmp_path, mirror=server.address, progress=False)
    assert len(hr_images("small", tmp_path)) == 5 and len(server.begins("/sets/DIV2K_valid_HR.zip")) == 1 # the archive was kept


# Several processes

CHILD = """
import json, sys
from srgan_study.datasets import CATALOGUE, Dataset, RemoteFile, get
name, root, mirror, files = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
CATALOGUE[name] = Dataset(name, "", 1, "", "https://example.org/sets/", tuple(RemoteFile(*f) for f in files))
get(name, root=root, mirror=mirror, progress=False)
"""

def child(name, root, server):
    files = [[f.local, f.remote, f.bytes, f.sha256] for f in CATALOGUE[name].files]
    return subprocess.Popen([sys.executable, "-c", CHILD, name, str(root), server.address, json.dumps(files)], stderr=subprocess.PIPE, text=True)

def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)

def test_kill_and_continue(one, tmp_path):
    one.pause = 0.05
    process = child("one", tmp_path, one)
    wait_for(lambda: one.part.exists() and one.part.stat().st_size > 100_000)
    process.kill(); process.wait()
    process.stderr.close()
    assert not one.target.exists()
    have, one.pause = one.part.stat().st_size, 0
    one.get() # the lock of the killed process is gone
    assert one.whole() and one.begins(one.path)[-1] == have

def test_two_at_once(monkeypatch, tmp_path):
    server = offer(monkeypatch, "many", {f"HR/{i}.png": noise(50_000, i) for i in range(20)})
    server.pause = 0.02
    processes = [child("many", tmp_path, server) for _ in range(3)]
    for process in processes: assert process.communicate(timeout=60)[1].count("Traceback") == 0 and process.returncode == 0
    assert len(server.requests) == 20 and len({path for path, _ in server.requests}) == 20


# The real catalogue, with real files

@needs_real
@pytest.mark.parametrize("name, folder, local", [("set5", "test/Set5/HR", "HR"), ("set5", "test/Set5/LRx2", "LRx2"), ("set5", "test/Set5/LRx4", "LRx4"),
                                                  ("bsd100", "test/BSD100/HR", "HR"), ("bsd100", "test/BSD100/LRx4", "LRx4"), ("bsds400", "train/bsds400", "HR")])
def test_catalogue_holds_the_real_files(name, folder, local):
    files = {f.local: f for f in CATALOGUE[name].files if f.local.startswith(f"{local}/")}
    real = [p for p in (REAL/folder).iterdir() if not p.name.startswith(".")]
    assert len(files) == len(real)
    for path in real:
        f = files[f"{local}/{path.name}"]
        assert (f.bytes, f.sha256) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())

@needs_real
def test_set5_from_a_mirror(tmp_path):
    server, set5 = Server({}), CATALOGUE["set5"]
    path = datasets.urllib.parse.urlsplit(set5.address).path
    assert path == "/jbhuang0604/SelfExSR/8f6dd8c1d20cb7e8792a7177b4f6fd677633f598/data/"
    server.content = {path + f.remote: (REAL/"test/Set5"/f.local).read_bytes() for f in set5.files if f.local.startswith(("HR/", "LRx4/"))}
    get("set5", root=tmp_path, mirror=server.address, progress=False, scales=[4])
    store = open_store("set5", root=tmp_path, progress=False)
    made = datasets.pack(hr_images("set5", tmp_path), tmp_path/"made", progress=False)
    assert len(store) == 5 and store.manifest["lr"] == "given"
    for i in range(5): assert (store.lr(i) == made.lr(i)).all() # MATLAB's LR and ours

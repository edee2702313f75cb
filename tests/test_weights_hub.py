"`from_pretrained` against a Hub on this machine, and without one."
import hashlib
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from srgan_study.esrgan import RRDBNet
from srgan_study.weights import load, save_pretrained

CODE = """
import sys, torch
from srgan_study.images import StudyError
from srgan_study.weights import from_pretrained
try: net = from_pretrained(sys.argv[1])
except StudyError as e: sys.exit(str(e))
print(type(net).__name__, net.config["unshuffle"], net.conv_hr.bias.sum().item())
"""

@pytest.fixture
def hub(tmp_path):
    "A server that answers for somebody/small as the Hub does, and a function that runs `from_pretrained` against it."
    torch.manual_seed(0)
    net = RRDBNet(2, blocks=1, channels=8, growth=4, unshuffle=2)
    save_pretrained(net, tmp_path/"folder", recipe="test")
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_): pass
        def do_HEAD(self): self.do_GET()
        def do_GET(self):
            place = self.path.split("?")[0].removeprefix("/somebody/small/resolve/main/")
            if place not in ("config.json", "model.safetensors", "README.md"):
                self.send_response(404); self.send_header("X-Error-Code", "RepoNotFound"); self.send_header("Content-Length", "0")
                return self.end_headers()
            data = (tmp_path/"folder"/place).read_bytes()
            self.send_response(200)
            for name, value in {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": "a"*40, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET": self.wfile.write(data)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    def run(name, **more):
        environment = os.environ | {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path/"cache"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"} | more
        return subprocess.run([sys.executable, "-c", CODE, name], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=120)
    yield net, tmp_path/"folder", run, server
    server.shutdown()

def test_by_name_by_cache_and_by_folder(hub):
    net, folder, run, server = hub
    expected = f"RRDBNet 2 {net.conv_hr.bias.sum().item()}\n"
    done = run("somebody/small")
    assert done.stdout == expected, done.stderr
    server.shutdown(); server.server_close()
    assert run("somebody/small", HF_HUB_OFFLINE="1").stdout == expected # from the Hub's cache
    assert run("folder", HF_HUB_OFFLINE="1").stdout == expected         # never asks
    assert load(str(folder)).metadata["recipe"] == "test"

@pytest.mark.parametrize("name, offline, says", [("somebody/else", "0", "not to be had from the Hub"), ("somebody/small", "1", "not to be had from the Hub"),
                                                 ("small", "0", "OWNER/NAME"), ("../small", "0", "check")])
def test_refused_in_one_line(hub, name, offline, says):
    done = hub[2](name, HF_HUB_OFFLINE=offline)
    assert done.returncode == 1 and says in done.stderr and "Traceback" not in done.stderr and done.stderr.strip().count("\n") == 0, done.stderr

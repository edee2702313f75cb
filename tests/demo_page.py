"The page of `srgan-study demo` in a real Chromium; as a script: `python tests/demo_page.py PICTURE.png [WEIGHTS...]` photographs it."
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

PROGRAM = Path(sys.executable).parent/"srgan-study"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = ("" if CHROMIUM and importlib.util.find_spec("playwright") else
           "no playwright; pip install 'srgan_study[dev]'" if CHROMIUM else "no Chromium; Debian, Ubuntu: apt install chromium")


@contextlib.contextmanager
def served(*words, patience: float = 240, **environment):
    "Start `srgan-study demo`; gives its address and its process, and ends it as `kill` does."
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryFile("w+") as errors:
        server = subprocess.Popen([PROGRAM, "demo", "--port", str(port), *map(str, words)], stdout=subprocess.PIPE, stderr=errors,
                                  text=True, env=os.environ | {"OMP_NUM_THREADS": "2"} | environment)
        clock = threading.Timer(patience, server.kill)
        clock.start()
        try:
            told = next((line for line in server.stdout if "http://" in line), "")
            clock.cancel()
            server.errors = lambda: (errors.seek(0), errors.read())[1]
            assert f"http://127.0.0.1:{port}" in told, f"the page did not start: {server.errors()}"
            yield f"http://127.0.0.1:{port}", server
        finally:
            clock.cancel()
            server.send_signal(signal.SIGTERM)
            try: server.wait(90)
            finally:
                server.kill()
                server.stdout.close()


@contextlib.contextmanager
def browser():
    "A Chromium with a profile of its own that talks to nobody by itself."
    from playwright.sync_api import sync_playwright
    quiet = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=quiet.split())
        try: yield chromium
        finally: chromium.close()


def opened(chromium, address: str):
    "The page, ready to be used; `asked_for` gets every address that it asks for."
    page = chromium.new_context(viewport=dict(width=960, height=800), accept_downloads=True).new_page()
    page.set_default_timeout(60_000)
    page.asked_for = []
    page.on("request", lambda request: page.asked_for.append(request.url))
    page.goto(address)
    page.get_by_role("button", name="Upscale").wait_for()
    page.locator(".gallery-item img").last.wait_for()
    page.wait_for_timeout(500) # the wires are tied after the page is drawn
    return page


def photograph(target: Path, weights: list[str]) -> None:
    "The page with the cat enlarged, as a PNG."
    from PIL import Image
    with served(*(word for name in weights for word in ("--weights", name))) as (address, _), browser() as chromium:
        page = opened(chromium, address)
        page.locator(".gallery-item").first.click()
        page.get_by_role("button", name="Remove Image").or_(page.get_by_label("Clear")).first.wait_for()
        page.get_by_role("button", name="Upscale").click()
        page.get_by_text("became").wait_for()
        page.mouse.move(950, 790)
        page.wait_for_timeout(2000)
        with tempfile.TemporaryDirectory() as folder:
            page.screenshot(path=f"{folder}/page.png")
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.open(f"{folder}/page.png").convert("RGB").save(target, optimize=True)
    print(f"{target}: {target.stat().st_size/1e3:.0f} kB")


if __name__ == "__main__": sys.exit(MISSING or photograph(Path(sys.argv[1]), sys.argv[2:]))

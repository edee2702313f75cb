"Settings and fixtures of all tests."
import signal

import pytest

from srgan_study import cli

# A job in a shell's background ignores Ctrl-C, and so would the processes that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def command(capfd, monkeypatch, tmp_path):
    "Run the command line in this process: (status, standard output, standard error)."
    monkeypatch.setenv("SRGAN_STUDY_WEIGHTS", str(tmp_path/"own"))
    def run(*words):
        capfd.readouterr()
        monkeypatch.setattr("sys.argv", ["srgan-study", *map(str, words)])
        with pytest.raises(SystemExit) as end: cli.main()
        return end.value.code or 0, *capfd.readouterr()
    return run

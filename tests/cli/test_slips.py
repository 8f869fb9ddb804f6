"""What a person mistypes is one sentence: what, got, expected, next step."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from tests.cli.command_line import mtgpt


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lake", "status", "--limit", "abc"], "--limit: not a value that it takes (got abc, expected a whole number)"),
        (["lake", "status", "--limit", "0"], "--limit: not a value that it takes (got 0, expected at least 1)"),
        (["lake", "status", "--limt", "3"], "no such option (got --limt, expected perhaps --city, --limit)"),
        (["forecast", "demo", "--format", "x"], "--format: not one of its values (got x, expected 'table', 'json'"),
        (["ingest"], "ingest: an argument is missing (expected CIT"),
        (["lake", "show", "spot", "more"], "lake show: an argument too many (got more)"),
        (["lake", "show", "spot", "--limit"], "an option without its value (got --limit)"),
        (["lake", "nonsense"], "lake: no such command (got nonsense, expected status, show"),
        (["watch", "demo", "--every", "soon"], "--every: not a length of time (got soon, expected such as 30s"),
        (["watch", "demo", "--for", "-5s"], "--for: not a length of time"),
    ],
)
def test_a_slip_is_one_sentence_with_what_was_got_and_expected(words: list[str], says: str) -> None:
    done = mtgpt(*words)
    assert says in done.sentence()
    assert done.code == 2


def test_a_group_without_a_command_still_shows_its_help() -> None:
    done = mtgpt("lake")
    assert done.code == 2
    assert "Usage:" in done.err + done.out


@pytest.mark.parametrize("after_s", [0.05, 0.15, 0.3, 0.5])
def test_ctrl_c_while_the_program_is_still_being_loaded_is_one_quiet_line(after_s: float) -> None:
    # The interpreter's own start is not ours: the clock begins with our first line.
    code = "import sys; print('@', flush=True); sys.argv = ['mtgpt', 'watch', 'demo', '--help']; from mtgpt.__main__ import run; run()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(after_s)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode in {130, 0}  # it may have been done before
    assert err.strip() in {"", "Stopped.", "Stopped. Nothing is half-written: the same command goes on from there."}
    assert (err != "") == (process.returncode == 130)

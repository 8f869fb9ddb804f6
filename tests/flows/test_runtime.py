import logging
import os
import subprocess
import sys

import pytest

from flows import runtime
from mtgpt.errors import FeedError, SourceUnavailable


def test_preparing_keeps_prefect_in_the_workspace_and_leaves_what_a_person_set(home, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ) | {"PREFECT_SERVER_ANALYTICS_ENABLED": "true"})
    os.environ.pop("PREFECT_HOME", None)
    runtime.prepare()
    assert os.environ["PREFECT_HOME"] == str(home / "prefect")
    assert os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "true"


def test_a_workspace_that_cannot_be_made_is_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MTGPT_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(SystemExit) as stop:
        runtime.prepare()
    assert stop.value.code == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_an_error_with_a_sentence_is_logged_without_its_traceback(caplog):
    log = logging.getLogger("tests.sentences")
    log.addFilter(runtime.without_traceback)
    try:
        raise FeedError("truncated gzip", where="trips.csv.gz")
    except FeedError as error:
        log.exception("Encountered exception during execution: %r", error)
    assert caplog.records[-1].getMessage() == "trips.csv.gz: truncated gzip."
    assert caplog.records[-1].exc_info is None


def test_a_slip_is_a_sentence_before_any_server_is_started(repo, home):
    done = subprocess.run(
        [sys.executable, "-m", "flows.ingest", "no_such_city"],
        check=False, cwd=repo, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "no_such_city" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "tries"), [(SourceUnavailable("down", where="u"), 3), (FeedError("torn", where="f"), 1)]
)
def test_only_what_may_go_through_later_is_tried_again(prefect_api, error, tries):
    from prefect import flow, task

    calls = []

    @task(retries=2, retry_condition_fn=runtime.is_transient)
    def pull():
        calls.append(1)
        raise error

    @flow
    def road():
        pull()

    with pytest.raises(type(error)):
        road()
    assert len(calls) == tries

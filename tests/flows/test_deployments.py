"""``flows/prefect.yaml`` deploys on a real server, and every entrypoint loads as a worker would load it."""

import os
import subprocess
import sys

import pytest
import yaml

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def deployments(repo):
    return yaml.safe_load((repo / "flows" / "prefect.yaml").read_text("utf-8"))["deployments"]


def test_every_entrypoint_loads_and_takes_its_parameters(prefect_api, deployments, repo, monkeypatch):
    from prefect.flows import load_flow_from_entrypoint

    monkeypatch.chdir(repo)
    for deployment in deployments:
        flow = load_flow_from_entrypoint(deployment["entrypoint"])
        assert flow.validate_parameters(deployment["parameters"]).items() >= deployment["parameters"].items()


@pytest.mark.timeout(300)
def test_all_flows_deploy_on_a_server(prefect_api, deployments, repo):
    import httpx

    def prefect(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
            check=False, cwd=repo, env=os.environ | {"PREFECT_API_URL": prefect_api}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    prefect("work-pool", "create", "mtgpt", "--type", "process")
    prefect("deploy", "--all", "--prefect-file", "flows/prefect.yaml")
    found = httpx.post(f"{prefect_api}/deployments/filter", json={}, timeout=30).raise_for_status().json()
    assert sorted(one["entrypoint"] for one in found) == sorted(one["entrypoint"] for one in deployments)
    assert not any(schedule["active"] for one in found for schedule in one["schedules"])

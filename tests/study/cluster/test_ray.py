"""A study on real Ray workers, on this machine: the same table, whatever dies."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pandas as pd
import psutil
import pytest

import impasto
from impasto.error import UserError
from impasto.study import Cluster, Results, Study
from impasto.study.cluster.schedule import Patience
from impasto.study.following.status import status
from impasto.study.running import answering

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

TEXT = """\
model: demo
tasks: [{name: capitals, limit: 64}, {name: arithmetic, terms: 2, limit: 64}]
plans: [freeze: {k: [0, 3, 6]}, gaussian: {k: [2, 4], seed: [0, 1]}, inject: {k: [0, 6]}]
"""
UNITS = 16
MEMORY = 2**30


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the folder of a run in one process, and one of the same study, divided but not run."""
    one, divided = (tmp_path_factory.mktemp("whole") / name for name in ("one", "divided"))
    study = Study.from_text(TEXT, name="study")
    with pytest.MonkeyPatch.context() as patch:
        seconds = {"capitals": 8.0, "arithmetic-2": 8.0}
        patch.setattr(answering, "expected_seconds", lambda *given: seconds)

        def leave(standing):
            if standing.of:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            study.run(divided, save_every=1.0, memory=MEMORY, progress=leave)
        shutil.copytree(divided, one)
        study.run(one, memory=MEMORY)
    return one, divided


@pytest.fixture
def out(whole, tmp_path):
    """Return a folder with the divided study, to be run."""
    return shutil.copytree(whole[1], tmp_path / "runs" / "study")


def same(out, whole):
    found, expected = Results.read(out), Results.read(whole[0])
    pd.testing.assert_frame_equal(found.table, expected.table, check_exact=True)
    return found.answers == expected.answers


@pytest.fixture
def machines():
    """Return what starts a cluster of machines, all of them this one, the first its head."""
    from ray.cluster_utils import Cluster as Machines

    started = []

    def start(*nodes):
        head, *rest = nodes
        head = {"include_dashboard": False, **head}
        cluster = Machines(initialize_head=True, head_node_args=head)
        started.append(cluster)
        return cluster, [cluster.add_node(**node) for node in rest]

    yield start
    for cluster in started:
        cluster.shutdown()


def workers():
    """Return the processes of workers that this test's clusters have started."""
    below = psutil.Process().children(recursive=True)
    return [process for process in below if "ray::Actor" in " ".join(process.cmdline())]


def once(cells, act):
    """Return progress that acts once, as soon as so many cells are saved."""
    left = [act]

    def progress(standing):
        if left and standing.cells >= cells:
            left.pop()()

    return progress


def test_a_worker_is_killed_and_a_machine_lost_and_the_table_is_that_of_one_process(
    whole, out, machines
):
    cluster, [second] = machines({"num_cpus": 1}, {"num_cpus": 1})
    study, said = Study.from_text(TEXT, name="study"), []
    first = once(10, lambda: workers()[0].kill())
    later = once(60, lambda: cluster.remove_node(second))

    def progress(standing):
        first(standing)
        later(standing)

    wanted = Cluster(cluster.address)
    study.run(out, memory=MEMORY, cluster=wanted, progress=progress, say=said.append)
    assert same(out, whole)
    assert sum("is gone" in notice for notice in said) == 2


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGTERM])
def test_a_worker_that_is_stopped_is_replaced(number, whole, out, machines):
    cluster, _ = machines({"num_cpus": 2})
    study, said, struck = Study.from_text(TEXT, name="study"), [], []

    def strike():
        struck.append(workers()[0])
        struck[0].send_signal(number)

    wanted = Cluster(cluster.address, patience=Patience(silent=5))
    study.run(out, memory=MEMORY, cluster=wanted, progress=once(10, strike), say=said.append)
    assert same(out, whole)
    [gone] = [notice for notice in said if "is gone" in notice]
    assert str(struck[0].pid) in gone
    if struck[0].is_running():  # a process that was stopped cannot end itself when it is told to
        struck[0].kill()


def cli(*words, cwd, **more):
    environment = {**os.environ, "PYTHONPATH": str(Path(impasto.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-m", "impasto.cli", *map(str, words)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **more,
    )


@pytest.fixture
def file(tmp_path, out):
    (tmp_path / "study.yaml").write_text(TEXT)
    return tmp_path / "study.yaml"


ON_CLUSTER = ("run", "study.yaml", "--memory", MEMORY, "--cluster")


def left_over(process):
    """Return what is left of the processes that a command started, in its session."""
    time.sleep(1)
    found = []
    for other in psutil.process_iter(["pid"]):
        try:
            if os.getsid(other.pid) == process.pid and other.status() != psutil.STATUS_ZOMBIE:
                found.append(other)
        except (ProcessLookupError, psutil.Error):
            continue
    return found


def test_the_command_starts_a_ray_of_its_own_and_prints_nothing_of_ray_s(whole, out, file):
    process = cli(*ON_CLUSTER, "--workers", 2, cwd=file.parent)
    printed, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert same(out, whole)
    assert "results  runs/study/results.csv" in printed
    for line in told.splitlines():
        assert re.match(r" *\d+ %  |\d+ of \d+ cells are there already", line), told
    assert any("2 workers" in line for line in told.splitlines())
    assert left_over(process) == []


def test_an_interrupt_saves_what_runs_and_the_printed_command_goes_on(whole, out, file):
    process = cli(*ON_CLUSTER, cwd=file.parent)
    told = ""
    assert process.stderr is not None
    for line in process.stderr:
        told += line
        if re.search(r"[1-9]\d* of \d+ cells", line):
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all of them
            break
    _, rest = process.communicate(timeout=120)
    assert process.returncode == 130, told + rest
    assert "stopping after what is running" in rest
    assert "is gone" not in rest
    [again] = re.findall(r"to go on:  (impasto .*)", rest)
    assert "--cluster local" in again
    assert left_over(process) == []
    process = cli(*again.split()[1:], cwd=file.parent)
    _, rest = process.communicate(timeout=300)
    assert process.returncode == 0, rest
    assert same(out, whole)


def test_a_run_that_is_killed_leaves_no_process_behind_and_goes_on(whole, out, file):
    process = cli(*ON_CLUSTER, cwd=file.parent)
    assert process.stderr is not None
    next(line for line in process.stderr if re.search(r"[1-9]\d* of \d+ cells", line))
    process.kill()
    process.communicate()
    began = time.monotonic()
    while (left := left_over(process)) and time.monotonic() - began < 120:
        if time.monotonic() - began > 20:  # some of Ray's own look for their master for a minute
            assert not any("Actor" in " ".join(other.cmdline()) for other in left)
    assert left == []
    Study.from_text(TEXT, name="study").run(out, memory=MEMORY)
    assert same(out, whole)


def test_a_cluster_whose_head_is_gone_is_one_message_and_what_was_saved_is_there(
    whole, out, file, machines
):
    cluster, _ = machines({"num_cpus": 2})
    process = cli(*ON_CLUSTER, cluster.address, cwd=file.parent)
    assert process.stderr is not None
    next(line for line in process.stderr if re.search(r"[1-9]\d* of \d+ cells", line))
    cluster.remove_node(cluster.head_node, allow_graceful=False)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 2, told
    assert told.splitlines()[-1].startswith("impasto: the Ray cluster is gone")
    assert status(out).cells > 0
    Study.from_text(TEXT, name="study").run(out, memory=MEMORY)
    assert same(out, whole)


def test_a_ray_client_s_address_works(whole, out, file, machines):
    port = free_port()
    machines({"num_cpus": 2, "ray_client_server_port": port})
    address = f"ray://127.0.0.1:{port}"
    process = cli(*ON_CLUSTER, address, cwd=file.parent)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert same(out, whole)


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.mark.parametrize("client", ["", "ray://"])
@pytest.mark.parametrize("answers", [False, True])
def test_an_address_without_ray_is_one_message_and_soon(client, answers, file):
    server = HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) if answers else None
    port = free_port() if server is None else server.server_port
    if server is not None:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    began = time.monotonic()
    process = cli(*ON_CLUSTER, f"{client}127.0.0.1:{port}", cwd=file.parent)
    _, told = process.communicate(timeout=100)
    if server is not None:
        server.shutdown()
    assert process.returncode == 2
    said = "is no Ray cluster" if answers else "no Ray cluster can be reached"
    [message] = [line for line in told.splitlines() if not line.startswith("  0 %")]
    assert message.startswith("impasto: ")
    assert said in message
    assert time.monotonic() - began < 60


def test_where_no_ray_runs_auto_says_so(file):
    process = cli(*ON_CLUSTER, "auto", cwd=file.parent)
    _, told = process.communicate(timeout=100)
    assert process.returncode == 2
    [message] = [line for line in told.splitlines() if not line.startswith("  0 %")]
    assert message.startswith("impasto: no Ray cluster can be reached at auto: ")


def test_a_worker_of_another_version_is_refused(out, machines, tmp_path):
    other = shutil.copytree(Path(impasto.__file__).parent, tmp_path / "other" / "impasto")
    (other / "engine_version.py").open("a").write("\nENGINE_VERSION = 2\n")
    cluster, _ = machines(
        {"num_cpus": 0}, {"num_cpus": 1, "env_vars": {"PYTHONPATH": str(other.parent)}}
    )
    study = Study.from_text(TEXT, name="study")
    with pytest.raises(UserError) as raised:
        study.run(out, cluster=Cluster(cluster.address))
    told = "it has another version, impasto 0.1.0 (impasto's engine is 2 there and 1 here)"
    assert f"is refused: {told}" in str(raised.value)


def test_a_machine_without_impasto_is_refused(out, machines, tmp_path):
    broken = tmp_path / "broken" / "impasto"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("")
    cluster, _ = machines(
        {"num_cpus": 0}, {"num_cpus": 1, "env_vars": {"PYTHONPATH": str(broken.parent)}}
    )
    with pytest.raises(UserError, match=r"No module named .*install the same impasto"):
        Study.from_text(TEXT, name="study").run(out, cluster=Cluster(cluster.address))


def test_a_cluster_without_memory_for_the_model_is_one_message(out, machines):
    cluster, _ = machines({"num_cpus": 2, "memory": 16 * 2**20})
    with pytest.raises(UserError, match=r"takes 1 CPU, 0\.02 GiB of memory: 1 with 2 CPUs"):
        Study.from_text(TEXT, name="study").run(out, cluster=Cluster(cluster.address))


def test_a_ray_that_this_process_is_connected_to_is_used_and_left(whole, out, machines):
    cluster, _ = machines({"num_cpus": 2})
    ray.init(cluster.address, log_to_driver=False)
    try:
        Study.from_text(TEXT, name="study").run(out, memory=MEMORY, cluster=Cluster("auto"))
        assert ray.is_initialized()
        assert same(out, whole)
    finally:
        ray.shutdown()


def test_several_models_are_run_one_after_the_other(tmp_path):
    short = str(tmp_path / "short")
    impasto.export("demo", impasto.Plan.parse("0-3 8-11"), short)
    text = f"""\
models: [demo, {short}]
tasks: [{{name: capitals, limit: 8}}]
plans: [freeze: {{k: [0, 100%]}}]
"""
    study = Study.from_text(text, name="two")
    here = study.run(tmp_path / "here", memory=MEMORY)
    there = study.run(tmp_path / "there", memory=MEMORY, cluster=Cluster(workers=1))
    assert list(there.models) == ["demo", short]
    pd.testing.assert_frame_equal(there.table, here.table, check_exact=True)
    assert list(there.answers) == list(here.answers)

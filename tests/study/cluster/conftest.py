"""Studies on workers that are no processes, by a clock that does not wait."""

from contextlib import contextmanager

import pytest

from fake_workers import PATIENCE
from impasto.study import Cluster
from impasto.study.cluster import hiring
from impasto.study.cluster.crew import Crew
from impasto.study.cluster.wanted import ClusterNode


@pytest.fixture
def run_on(monkeypatch, model):
    """Return what runs a study with a fake cluster's workers."""

    def run(study, pool, out=None, workers=2, patience=PATIENCE, **more):
        @contextmanager
        def connected(cluster, log):
            yield [ClusterNode("a", cpus=8, gpus=0, memory=2**40)]

        monkeypatch.setattr(hiring, "reach", lambda cluster: None)
        monkeypatch.setattr(hiring, "connected", connected)
        monkeypatch.setattr(hiring, "RayPool", lambda room: pool)
        monkeypatch.setattr(hiring, "load_tokenizer", lambda name, **options: None)
        monkeypatch.setattr(hiring, "weight_bytes", lambda name, **options: 1000)
        monkeypatch.setattr(hiring, "Crew", lambda *given: Crew(*given, clock=pool.clock))
        cluster = Cluster(workers=workers, patience=patience)
        return study.run(out, cluster=cluster, **more)

    return run

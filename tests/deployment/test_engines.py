"""The pipeline's engines as they ship: dagster.yaml against Dagster's own schemas, manifests against Kubernetes'.

No database, broker or cluster is asked; a server on loopback takes the job that a run would be. What really runs is
`make scale-test`; what a cluster does with all this is not tested.
"""

from __future__ import annotations

import importlib
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import dagster as dg
import kubernetes_validate
import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type, validate_config
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.test_utils import create_run_for_test
from dagster._serdes import ConfigurableClassData
from dagster_celery.cli import get_validated_config
from dagster_k8s import K8sRunLauncher
from kubernetes.client import Configuration

ROOT = Path(__file__).parents[2]
DAGSTER, KUBERNETES = ROOT / "deployment" / "dagster", ROOT / "deployment" / "kubernetes"
ENGINES = {"one machine": ["one-machine.yaml"], "postgres": ["postgres.yaml"],
           "celery": ["postgres.yaml", "celery.yaml"], "kubernetes": ["postgres.yaml", "kubernetes.yaml"]}
DOCUMENTS = [(path.name, number, document) for path in sorted(KUBERNETES.glob("*.yaml"))
             for number, document in enumerate(yaml.safe_load_all(path.read_text()))]
IDS = [f"{name}-{number}" for name, number, _ in DOCUMENTS]
VERSIONS = ("1.30", "1.37")
"""The oldest and the newest Kubernetes that the manifests are held against."""
BY_HAND = {"ConfigMap p33-dagster-instance", "Secret p33-dagster-postgres", "Secret p33-pipeline"}
"""What docs/scaling.md has the operator make."""


def joined(engine: str) -> str:
    """dagster.yaml of an engine, put together as the configurations say."""
    return "".join((DAGSTER / name).read_text() for name in ENGINES[engine])


@pytest.mark.parametrize("engine", ENGINES)
def test_dagster_takes_the_configuration(engine, tmp_path):
    """The whole file, and what each class it names is given: an unknown word is an error in both."""
    (tmp_path / "dagster.yaml").write_text(joined(engine))
    named = [part for part in InstanceRef.from_dir(str(tmp_path)) if isinstance(part, ConfigurableClassData)]
    assert len(named) >= 7
    for said in named:
        made = getattr(importlib.import_module(said.module_name), said.class_name)
        outcome = validate_config(made.config_type(), said.config_dict)
        assert outcome.success, outcome.errors


def test_a_word_that_no_launcher_knows_is_found(tmp_path):
    """The test above can fail."""
    said = yaml.safe_load(joined("kubernetes"))["run_launcher"]["config"] | {"job_imagge": "x"}
    assert not validate_config(K8sRunLauncher.config_type(), said).success


def test_no_engine_says_a_thing_twice():
    """Files are put behind each other: a key in both would silently win."""
    for files in ENGINES.values():
        keys = [key for name in files for key in yaml.safe_load((DAGSTER / name).read_text())]
        assert len(keys) == len(set(keys))


def test_a_celery_worker_gets_its_broker(tmp_path, monkeypatch):
    """Nested wrongly it would ask amqp on localhost and say nothing."""
    monkeypatch.setenv("DAGSTER_CELERY_BROKER", "redis://broker:6379/1")
    monkeypatch.setenv("DAGSTER_CELERY_BACKEND", "redis://broker:6379/2")
    found = get_validated_config(str(DAGSTER / "celery-worker.yaml"))
    assert (found["broker"], found["backend"]) == ("redis://broker:6379/1", "redis://broker:6379/2")


# -- Kubernetes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", [document for _, _, document in DOCUMENTS], ids=IDS)
def test_a_manifest_is_what_kubernetes_expects(document, version):
    """Strictly: an unknown field is an error."""
    kubernetes_validate.validate(document, version, strict=True)


def test_an_unknown_field_is_found():
    """The test above can fail, deep within too."""
    document = next(found for _, _, found in DOCUMENTS if found["kind"] == "Deployment")
    odd = yaml.safe_load(yaml.safe_dump(document))
    odd["spec"]["template"]["spec"]["containers"][0]["comand"] = ["x"]
    with pytest.raises(kubernetes_validate.ValidationError, match="comand"):
        kubernetes_validate.validate(odd, VERSIONS[-1], strict=True)


def names(value: Any) -> set[str]:
    """Every object that a manifest refers to, as `Kind name`."""
    if isinstance(value, list):
        return {name for item in value for name in names(item)}
    if not isinstance(value, dict):
        return set()
    found = {name for item in value.values() for name in names(item)}
    for key, kind in (("configMapRef", "ConfigMap"), ("configMap", "ConfigMap"), ("secretRef", "Secret"),
                      ("secretKeyRef", "Secret"), ("roleRef", "Role")):
        if key in value:
            found.add(f"{kind} {value[key]['name']}")
    if "serviceAccountName" in value:
        found.add(f"ServiceAccount {value['serviceAccountName']}")
    return found


def test_whatever_a_manifest_refers_to_is_there():
    """Shipped, or named as made by hand."""
    there = {f"{found['kind']} {found['metadata']['name']}" for _, _, found in DOCUMENTS} | BY_HAND
    assert names([found for _, _, found in DOCUMENTS]) <= there
    page = (ROOT / "docs" / "scaling.md").read_text()
    assert all(name.split()[1] in page for name in BY_HAND)


def test_every_object_lies_in_one_namespace():
    """The one that the launcher makes its jobs in."""
    wanted = yaml.safe_load(joined("kubernetes"))["run_launcher"]["config"]["job_namespace"]
    for _, _, document in DOCUMENTS:
        assert document["metadata"].get("namespace", wanted) == wanted
        assert document["kind"] != "Namespace" or document["metadata"]["name"] == wanted


def test_the_workspace_asks_where_the_code_is_served():
    """The service's name and port."""
    there = {found["metadata"]["name"]: found for _, _, found in DOCUMENTS if found["kind"] == "Service"}
    text = next(found for _, _, found in DOCUMENTS if found["metadata"]["name"] == "p33-dagster-workspace")
    server, = yaml.safe_load(text["data"]["workspace.yaml"])["load_from"]
    asked = server["grpc_server"]
    assert there[asked["host"]]["spec"]["ports"][0]["port"] == asked["port"]


class ApiServer(BaseHTTPRequestHandler):
    """Takes what is sent to a cluster, and says yes."""

    sent: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.sent.append((self.path, json.loads(body)))
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def launched(monkeypatch, tmp_path) -> dict[str, Any]:
    """The job that the launcher of the configuration that ships sends to a cluster for a run of ours."""
    ApiServer.sent.clear()
    monkeypatch.setenv("P33_IMAGE", "registry.example/p33:0.1.0")
    with (HTTPServer(("127.0.0.1", 0), ApiServer) as server,
          dg.DagsterInstance.local_temp(str(tmp_path)) as instance):
        Thread(target=server.serve_forever, daemon=True).start()
        at = Configuration(host=f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr("kubernetes.config.load_incluster_config", lambda: Configuration.set_default(at))
        said = yaml.safe_load(joined("kubernetes"))["run_launcher"]["config"]
        known = resolve_to_config_type(K8sRunLauncher.config_type())
        launcher = K8sRunLauncher.from_config_value(None, process_config(known, said).value)
        launcher.register_instance(instance)
        code = ModuleCodePointer("p33_pipeline.definitions", "defs", str(ROOT))
        origin = JobPythonOrigin("audit_hour", RepositoryPythonOrigin("python", code))
        run = create_run_for_test(instance, job_name="audit_hour", job_code_origin=origin)
        launcher.launch_run(LaunchRunContext(run, None))
        server.shutdown()
    (path, job), = ApiServer.sent
    assert path == "/apis/batch/v1/namespaces/p33/jobs"
    return job


@pytest.mark.parametrize("version", VERSIONS)
def test_a_runs_own_job_is_what_kubernetes_expects(launched, version):
    """As it was sent, strictly."""
    kubernetes_validate.validate(launched, version, strict=True)


def test_a_runs_own_job_has_what_the_manifests_ship(launched, tmp_path):
    """Image, account, settings, secrets and a limit; the instance as an argument; a day later it is cleared away."""
    pod = launched["spec"]["template"]["spec"]
    container, = pod["containers"]
    assert container["image"] == "registry.example/p33:0.1.0" and container["resources"]["limits"]["memory"] == "3Gi"
    assert names(launched) == {"ServiceAccount p33-dagster", "ConfigMap p33-pipeline", "Secret p33-pipeline",
                               "Secret p33-dagster-postgres"}
    assert str(tmp_path) in " ".join(container["args"])
    assert launched["spec"]["ttlSecondsAfterFinished"] == 86_400

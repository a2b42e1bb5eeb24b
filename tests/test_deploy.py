"""The files of a deployment say what the code does: its variables, commands, ports, paths and probes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from ihp_backend.cli import COMMANDS
from ihp_backend.commands.serve import GRACEFUL_STOP_S, check
from ihp_backend.serving.supervisor import GRACE_S
from ihp_backend.settings import Settings

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
KUBERNETES = [ROOT / "deploy" / name for name in ("kubernetes.yaml", "autoscaler.yaml")]
MANIFESTS = [manifest for path in KUBERNETES for manifest in yaml.safe_load_all(path.read_text())]
WITH_S3 = ROOT / "deploy" / "compose-s3.yaml"
LOCKS = [ROOT / "deploy" / f"requirements-{device}.lock" for device in ("cpu", "cuda")]


def image_environment() -> dict[str, str]:
    (line,) = re.findall(r"^ENV (.+)$", DOCKERFILE, re.MULTILINE)
    return dict(pair.split("=", 1) for pair in line.split())


def read(environment: dict[str, Any], secrets: dict[str, str], tmp_path: Path) -> Settings:
    """What the container's settings are, with secret files that hold something."""
    values = {name: str(value) for name, value in (image_environment() | environment).items()}
    for name, value in values.items():
        if name.startswith("IHP_") and name.endswith("_FILE"):
            assert value in secrets, f"{name}: nothing is mounted at {value}"
            path = tmp_path / secrets[value]
            path.write_text("s3cret\n")
            values[name] = str(path)
        values[name] = re.sub(r"\$\{\w+:-(.*)\}", r"\1", values[name])
    return Settings.from_environment(values)


def services() -> Iterator[tuple[str, dict[str, Any]]]:
    yield from ((name, s) for name, s in COMPOSE["services"].items() if s["image"].startswith("ihp-backend"))


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {found["metadata"]["name"]: found for found in MANIFESTS if found["kind"] == kind}


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    yield from ((name, found["spec"]["template"]["spec"]) for name, found in of_kind("Deployment").items())


def routes() -> set[str]:
    from ihp_backend.serving.application import create_app
    from ihp_backend.serving.runtime import Runtime

    return {rule.rule for rule in create_app(runtime=Runtime(Settings())).url_map.iter_rules()}


# Dockerfile


def test_the_image_copies_what_there_is_and_nothing_else_is_sent() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = re.findall(r"^COPY (?!--from)(\S+)", DOCKERFILE, re.MULTILINE)
    assert len(copied) == len(allowed) == 4
    for path in copied:
        pattern = path.replace("${DEVICE}", "*")
        assert pattern in allowed
        assert list(ROOT.glob(pattern))
    assert (ROOT / "model_weights" / image_environment().get("IHP_WEIGHTS", Settings().weights)).is_dir()


def test_the_image_runs_a_command_of_ours_as_somebody_without_rights() -> None:
    entrypoint, command = (json.loads(found) for found in re.findall(r"^(?:ENTRYPOINT|CMD) (\[.*\])", DOCKERFILE, re.M))
    assert entrypoint == ["python", "-m", "ihp_backend"]
    assert command[0] in COMMANDS
    (user,) = re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE)
    assert f"--uid {user}" in DOCKERFILE
    assert int(user) > 0
    environment = image_environment()
    assert f"EXPOSE {environment['IHP_PORT']}\n" in DOCKERFILE
    assert f'VOLUME ["{environment["IHP_DATA_DIR"]}"]' in DOCKERFILE
    assert int(environment["IHP_PORT"]) == Settings().port


def test_the_health_check_asks_a_route_that_wants_no_password() -> None:
    (path,) = re.findall(r"IHP_PORT'\] \+ '(/\w+)'", DOCKERFILE)
    assert path == "/ready"
    assert path in routes()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_a_lock_pins_what_the_requirements_say_with_hashes(lock: Path) -> None:
    entries = re.findall(r"^(\S+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", lock.read_text(), re.M)
    locked = {name: version for name, version, _ in entries}
    lines = [line for line in lock.read_text().splitlines() if line and not line.startswith(("#", "    --hash"))]
    assert len(lines) == len(entries), "each with its hashes"
    for file in ("requirements.txt", "requirements-sdk.txt"):
        for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / file).read_text(), re.MULTILINE):
            assert locked[name.lower()].partition("+")[0] == version, f"{name}: make lock"
    assert ("+cpu" in locked["torch"]) == ("cpu" in lock.stem)
    assert any(name.startswith("nvidia-") for name in locked) == ("cuda" in lock.stem)


# docker compose


def test_the_compose_files_are_what_the_specification_allows() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, ROOT / "docker-compose.yml", WITH_S3], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_photos_in_s3_are_fetched_where_label_studio_sends_the_backend(tmp_path: Path) -> None:
    """Label Studio signs with boto3 and version 4 of its signatures: the bucket's name is the host's first part."""
    more = yaml.safe_load(WITH_S3.read_text())["services"]
    assert set(more) == {"labelstudio", *dict(services())}, "whoever fetches photos"
    for name, service in services():
        environment = service["environment"] | more[name]["environment"]
        assert not service["environment"].keys() & more[name]["environment"].keys()
        text = environment["IHP_ALLOWED_HOSTS"]
        environment["IHP_ALLOWED_HOSTS"] = re.sub(r"\$\{S3_BUCKET:\?[^}]*\}", "my-photos", text)
        settings = read(environment, {f"/run/secrets/{s}": s for s in service["secrets"]}, tmp_path)
        assert settings.allowed_hosts == ("my-photos.s3.amazonaws.com",)
    guide = (ROOT / "docs" / "deploy.md").read_text()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "S3_BUCKET"):
        assert f"{name}=" in guide
        assert f"${{{name}:?" in WITH_S3.read_text()


def test_compose_starts_everything_on_either_device() -> None:
    by_profile: dict[str, set[str]] = {"cpu": set(), "gpu": set()}
    for _, service in services():
        for profile in service["profiles"]:
            by_profile[profile].add(service["command"][0])
    assert by_profile == {"cpu": {"serve", "trainer"}, "gpu": {"serve", "trainer"}}
    assert "COMPOSE_PROFILES=cpu" in (ROOT / ".env").read_text()
    assert {"labelstudio", "redis"} <= {name for name, s in COMPOSE["services"].items() if "profiles" not in s}
    for name, service in services():
        device = "cuda" if name.endswith("gpu") else "cpu"
        assert service["build"]["args"]["DEVICE"] == device
        assert (ROOT / "deploy" / f"requirements-{device}.lock").is_file()
        assert bool(service.get("deploy")) == (device == "cuda")
        assert service["environment"].get("IHP_THREADS", "0") == ("16" if device == "cuda" else "0")


@pytest.mark.parametrize(("name", "service"), list(services()))
def test_a_service_of_compose_can_start(name: str, service: dict[str, Any], tmp_path: Path) -> None:
    assert service["command"][0] in COMMANDS
    secrets = {f"/run/secrets/{secret}": secret for secret in service["secrets"]}
    settings = read(service["environment"], secrets, tmp_path)
    check(settings)  # as `ihp serve` does
    assert not settings.trainer, "the trainer is a service of its own"
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    (volume,) = service["volumes"]
    assert volume.split(":")[1] == str(settings.data_dir)
    assert settings.queue_url.split("//")[1].split(":")[0] in COMPOSE["services"]
    assert settings.label_studio_url.split("//")[1] == "labelstudio:8080"
    assert int(service["stop_grace_period"].removesuffix("s")) >= GRACEFUL_STOP_S + GRACE_S
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:")
        assert port.endswith(f":{settings.port}")


def test_label_studio_takes_the_backends_address_that_the_documentation_names() -> None:
    """Its rule for addresses of webhooks is Django's: a name needs a dot."""
    guide = (ROOT / "docs" / "deploy.md").read_text()
    in_compose, in_kubernetes = (urlsplit(url) for url in re.findall(r"--backend (\S+)", guide))
    for name, service in services():
        if service["command"] == ["serve"]:
            assert in_compose.hostname in service["networks"]["default"]["aliases"], name
            assert in_compose.port == int(image_environment()["IHP_PORT"])
    assert "." in str(in_compose.hostname)
    name, _, rest = str(in_kubernetes.hostname).partition(".")
    assert rest == "default.svc"
    assert in_kubernetes.port in {port["port"] for port in of_kind("Service")[name]["spec"]["ports"]}


def test_label_studio_is_told_what_the_backend_needs() -> None:
    service = COMPOSE["services"]["labelstudio"]
    pinned = (ROOT / "requirements-label-studio.txt").read_text()
    assert f"label-studio=={service['image'].rpartition(':')[2]}\n" in pinned
    environment = service["environment"]
    assert environment["ML_BLOCK_LOCAL_IP"] == environment["SSRF_PROTECTION_ENABLED"] == "false"
    assert set(service["secrets"]) <= set(COMPOSE["secrets"])
    for secret in service["secrets"]:
        assert f"/run/secrets/{secret}" in service["command"][-1]
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("./secrets/")
        assert "secrets/" in (ROOT / ".gitignore").read_text().split()


def test_every_service_of_compose_is_watched() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["restart"] == "unless-stopped"
        if "ihp-backend" not in service["image"]:
            assert service["healthcheck"]["test"], name  # the image of ours has its own


@pytest.mark.parametrize("age_s", [0, 70, None])
def test_a_trainer_is_alive_while_it_touches_its_file(age_s: int | None, tmp_path: Path) -> None:
    trainers = {name: s for name, s in services() if s["command"][0] == "trainer"}
    pod = dict(pods())["human-parsing-trainer"]["containers"][0]
    probes = [(s["command"], [word.replace("$$", "$") for word in s["healthcheck"]["test"]]) for s in trainers.values()]
    assert len(probes) == 2
    beat = tmp_path / "alive"
    if age_s is not None:
        beat.touch()
        os.utime(beat, (time.time() - age_s,) * 2)
    started = pod["startupProbe"]["exec"]["command"]
    for arguments, probe in [*probes, (pod["args"], ["CMD", *pod["livenessProbe"]["exec"]["command"]])]:
        assert arguments[1] == "--heartbeat"
        assert probe[0] == "CMD"
        assert started == ["test", "-e", arguments[2]]
        command = [word.replace(arguments[2], str(beat)) for word in probe[1:]]
        assert str(beat) in command[-1]
        done = subprocess.run(command, check=False, capture_output=True)
        assert (done.returncode == 0) is (age_s == 0)


# Kubernetes


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda m: f"{m['kind']}-{m['metadata']['name']}")
def test_a_manifest_is_what_kubernetes_takes(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("name", [name for name, pod in pods() if "ihp-backend" in pod["containers"][0]["image"]])
def test_a_pod_of_kubernetes_can_start(name: str, tmp_path: Path) -> None:
    pod = dict(pods())[name]
    (container,) = pod["containers"]
    assert container["args"][0] in COMMANDS
    (source,) = container["envFrom"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert {mount: v for v in pod["volumes"] for mount in [v["name"]]}.keys() == mounts.keys()
    secrets = {f"{mounts['secrets']}/{key}": key for key in ("label-studio-token", "password")}
    settings = read(of_kind("ConfigMap")[source["configMapRef"]["name"]]["data"], secrets, tmp_path)
    check(settings)
    assert mounts["data"] == str(settings.data_dir)
    assert mounts["tmp"] == "/tmp"
    assert not settings.trainer
    assert settings.queue_url.split("//")[1].split(":")[0] in of_kind("Service")
    assert pod["terminationGracePeriodSeconds"] >= GRACEFUL_STOP_S + GRACE_S
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if container["args"] == ["serve"]:
            assert container[probe]["httpGet"]["path"] == ("/live" if probe == "livenessProbe" else "/ready")
    for port in container.get("ports", ()):
        assert port["containerPort"] == settings.port


def test_pods_have_no_rights_and_get_no_variables_from_services() -> None:
    for name, pod in pods():
        # A service that is called ihp-... would put IHP_..._PORT into the environment, which the settings refuse.
        assert pod["enableServiceLinks"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            locked = container["securityContext"]
            assert locked["readOnlyRootFilesystem"] is True
            assert locked["allowPrivilegeEscalation"] is False
            assert locked["capabilities"] == {"drop": ["ALL"]}


def test_the_autoscaler_scales_the_backend_by_what_its_pods_request() -> None:
    (scaler,) = of_kind("HorizontalPodAutoscaler").values()
    target = scaler["spec"]["scaleTargetRef"]
    deployment = of_kind(target["kind"])[target["name"]]
    assert target["apiVersion"] == deployment["apiVersion"]
    assert scaler["spec"]["minReplicas"] == deployment["spec"]["replicas"]
    (metric,) = scaler["spec"]["metrics"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert metric["resource"]["name"] in container["resources"]["requests"], "utilization is a share of the request"
    (budget,) = of_kind("PodDisruptionBudget").values()
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]


def test_prometheus_reads_every_replica_with_the_password_that_it_asks_for() -> None:
    jobs = yaml.safe_load((ROOT / "deploy" / "prometheus.yaml").read_text())["scrape_configs"]
    in_kubernetes, in_compose = jobs
    user = of_kind("ConfigMap")["human-parsing"]["data"]["IHP_BASIC_AUTH_USER"]
    for job in jobs:
        assert job["metrics_path"] in routes()
        assert job["basic_auth"]["username"] == user
        assert "password" not in job["basic_auth"]
    (found,) = in_kubernetes["kubernetes_sd_configs"]
    (selector,) = found["selectors"]
    assert found["role"] == selector["role"] == "pod"
    wanted = dict(pair.split("=") for pair in selector["label"].split(","))
    template = of_kind("Deployment")["human-parsing"]["spec"]["template"]
    assert wanted == template["metadata"]["labels"]
    port, _ = in_kubernetes["relabel_configs"]
    assert port["regex"] in {p["name"] for c in template["spec"]["containers"] for p in c["ports"]}
    (target,) = in_compose["static_configs"][0]["targets"]
    published = [port for _, service in services() for port in service.get("ports", ())]
    assert all(port.startswith(f"{target}:") for port in published)


def test_replicas_share_a_folder_and_services_find_their_pods() -> None:
    deployments = of_kind("Deployment")
    assert deployments["human-parsing"]["spec"]["replicas"] > 1
    assert of_kind("PersistentVolumeClaim")["human-parsing"]["spec"]["accessModes"] == ["ReadWriteMany"]
    for service in of_kind("Service").values():
        selector = service["spec"]["selector"]
        (found,) = [
            d for d in deployments.values() if selector.items() <= d["spec"]["template"]["metadata"]["labels"].items()
        ]
        names = {port["name"] for c in found["spec"]["template"]["spec"]["containers"] for port in c.get("ports", ())}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    for deployment in deployments.values():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"] == labels

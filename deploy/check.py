"""Checks what is in this folder, without a cluster and without a container engine.

    python3 -m venv target/deploy-venv
    target/deploy-venv/bin/pip install --requirement deploy/requirements.txt
    cargo build
    target/deploy-venv/bin/python deploy/check.py

Manifests and the rendered chart against Kubernetes's own schemas; the chart by Helm's own engine and linter; the
configurations in them, and the examples, by `llmux-server check` (LLMUX_SERVER names another binary than
target/debug/llmux-server), and those with a schema for editors against it; the compose file against the specification's schema; the Dockerfile by hadolint. The last line
is `N passed, N failed`.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import traceback

import helm_python
import jsonschema
import kubernetes_validate
import yaml
from helm_python import chart as helm

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy/helm/llmux"
MANIFESTS = sorted((ROOT / "deploy/k8s").glob("*.yaml"))
REPLICAS = sorted((ROOT / "deploy/k8s/replicas").glob("*.yaml"))
# The oldest that the chart takes, one in between, and the newest that the validator knows.
KUBERNETES = ["1.25", "1.31", "1.37"]
SERVER = os.environ.get("LLMUX_SERVER", str(ROOT / "target/debug/llmux-server"))
# What a configuration may ask of its surroundings.
VARIABLES = {
    "LLMUX_MASTER_KEY": "sk-0123456789abcdef0123456789abcdef",
    "AZURE_EAST_KEY": "k",
    "AZURE_WEST_KEY": "k",
    "AZURE_OPENAI_API_KEY": "k",
    "AZURE_OPENAI_ENDPOINT": "https://x.openai.azure.com",
    "ANTHROPIC_API_KEY": "k",
    "GOOGLE_API_KEY": "k",
    "OPENAI_API_KEY": "k",
    "SILICONFLOW_API_KEY": "k",
}


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


def values(name):
    return yaml.safe_load((CHART / "ci" / f"{name}.yaml").read_text())


def render(given=None, **options):
    chart = helm.Chart.load(str(CHART))
    chart.validate_schema(given)
    options = {"name": "r", "namespace": "n", "is_install": True, **options}
    rendered = chart.render(given, **options)
    return [
        document
        for path, text in sorted(rendered.items())
        if path.endswith(".yaml")
        for document in documents(text)
    ]


def one(found, kind, name=None):
    found = [d for d in found if d["kind"] == kind and name in (None, d["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} objects of the kind {kind}"
    return found[0]


def validate(found, version):
    for document in found:
        # The schemas are Kubernetes's: what the Prometheus operator adds is not among them.
        if document["apiVersion"].startswith("monitoring.coreos.com/"):
            continue
        kubernetes_validate.validate(document, version, strict=True)


def refused(given):
    try:
        render(given)
    except helm_python.HelmError as error:
        return str(error)
    raise AssertionError(f"the chart takes {given}")


def check_pod(pod):
    """A pod as the profile `restricted` wants it, with time enough to end."""
    assert pod["automountServiceAccountToken"] is False
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True and context["runAsUser"] == 65532
    assert context["fsGroup"] == 65532, "the volume would be root's"
    assert context["seccompProfile"]["type"] == "RuntimeDefault"
    (container,) = pod["containers"]
    own = container["securityContext"]
    assert own["allowPrivilegeEscalation"] is False and own["readOnlyRootFilesystem"] is True
    assert own["capabilities"]["drop"] == ["ALL"]
    variables = {v["name"]: v.get("value") for v in container.get("env", [])}
    grace = int(variables.get("LLMUX_SERVER__SHUTDOWN_GRACE", "60s").removesuffix("s"))
    before = container.get("lifecycle", {}).get("preStop", {}).get("exec", {})
    before = int(before["command"][1]) if before else 0
    assert pod["terminationGracePeriodSeconds"] > before + 2 * grace, "killed before its end"
    assert variables["LLMUX_SERVER__HOST"] == "0.0.0.0" and variables["LLMUX_DATA_DIR"] == "/data"
    mounts = {m["mountPath"]: m for m in container["volumeMounts"]}
    assert "subPath" not in mounts["/config"], "changes would not arrive"
    assert "/data" in mounts
    for probe, path in {"startup": "live", "liveness": "live", "readiness": "ready"}.items():
        assert container[f"{probe}Probe"]["httpGet"]["path"] == f"/health/{path}"
    return variables


def check_selectors(found):
    """Everything that selects pods selects those of the workload."""
    labels = one(found, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    for document in found:
        spec = document.get("spec", {})
        selector = {
            "Service": lambda: spec["selector"],
            "StatefulSet": lambda: spec["selector"]["matchLabels"],
            "PodDisruptionBudget": lambda: spec["selector"]["matchLabels"],
            "NetworkPolicy": lambda: spec["podSelector"]["matchLabels"],
        }.get(document["kind"])
        if selector:
            assert selector().items() <= labels.items(), document["kind"]
    names = {d["metadata"]["name"] for d in found if d["kind"] == "Service"}
    assert one(found, "StatefulSet")["spec"]["serviceName"] in names


def configuration_ok(path, **more):
    environment = {"PATH": os.environ["PATH"], **VARIABLES, **more}
    done = subprocess.run(
        [SERVER, "check", "--config", str(path)],
        env={**environment, "LLMUX__STRICT_ENV": "true"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def configuration_in(found):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "config.yaml"
        path.write_text(one(found, "ConfigMap")["data"]["config.yaml"])
        configuration_ok(path)


def plain_manifests():
    return [d for path in MANIFESTS for d in documents(path.read_text())]


def manifests_fit_kubernetes_schemas():
    found = plain_manifests() + [d for path in REPLICAS for d in documents(path.read_text())]
    assert len(found) >= 9
    for version in KUBERNETES:
        validate(found, version)


def the_first_apply_of_the_manifests_works():
    found = plain_manifests()
    assert found[0]["kind"] == "Namespace", "kubectl takes files by name"
    assert not [d for d in found if d["kind"] == "Secret"], "a real secret would be overwritten"
    assert {d["metadata"].get("namespace") for d in found[1:]} == {"llmux"}
    workload = one(found, "StatefulSet")
    assert "replicas" not in workload["spec"], "one, or what an autoscaler says"
    pod = workload["spec"]["template"]["spec"]
    check_pod(pod)
    for source in pod["containers"][0]["envFrom"]:
        assert source["secretRef"]["optional"] is True
    check_selectors(found)


def the_manifests_configuration_is_right():
    configuration_in(plain_manifests())


def the_autoscaler_means_the_manifests_workload():
    (autoscaler,) = [d for path in REPLICAS for d in documents(path.read_text())]
    workload = one(plain_manifests(), "StatefulSet")
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == workload["metadata"]["name"]
    assert autoscaler["spec"]["scaleTargetRef"]["kind"] == "StatefulSet"


def helm_lints_the_chart():
    for given in [None, *(yaml.safe_load(p.read_text()) for p in sorted((CHART / "ci").glob("*.yaml")))]:
        report = helm.lint(str(CHART), given, strict=True, kube_version="v1.34.0")
        # Severity 1 is a hint, such as that of a missing icon.
        bad = [m for m in report["messages"] if m["severity"] > 1] + report["errors"]
        assert not bad, bad


def the_rendered_chart_fits_kubernetes_schemas():
    for given in [None, *(yaml.safe_load(p.read_text()) for p in sorted((CHART / "ci").glob("*.yaml")))]:
        found = render(given)
        for version in KUBERNETES:
            validate(found, version)
        workload = one(found, "StatefulSet")
        check_pod(workload["spec"]["template"]["spec"])
        check_selectors(found)


def the_default_chart_is_one_gateway_with_a_volume():
    found = render()
    kinds = sorted(d["kind"] for d in found)
    assert kinds == [
        "ConfigMap",
        "NetworkPolicy",
        "Pod",
        "PodDisruptionBudget",
        "Service",
        "Service",
        "ServiceAccount",
        "StatefulSet",
    ], kinds
    workload = one(found, "StatefulSet")
    assert workload["spec"]["replicas"] == 1
    assert workload["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] == "data"
    configuration_in(found)


def a_chart_with_everything_has_it():
    found = render(values("several"))
    workload = one(found, "StatefulSet")
    assert "replicas" not in workload["spec"]
    pod = workload["spec"]["template"]["spec"]
    variables = check_pod(pod)
    assert variables["LLMUX_DATABASE__ALLOW_REPLICAS"] == "true"
    assert variables["LLMUX_DATABASE__SSL_MODE"] == "verify-full"
    assert variables["DB_HOST"] == "postgres.data.svc" and variables["REDIS_ADDR"]
    assert pod["containers"][0]["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    sources = pod["containers"][0]["envFrom"]
    assert {"secretRef": {"name": "llmux-env", "optional": True}} in sources
    (endpoint,) = one(found, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["port"] == "admin" and endpoint["path"] == "/prom"
    assert endpoint["authorization"]["credentials"] == {"name": "llmux-metrics", "key": "token"}
    selected = one(found, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    matching = [
        d["metadata"]["name"]
        for d in found
        if d["kind"] == "Service" and selected.items() <= d["metadata"]["labels"].items()
    ]
    assert matching == ["r-llmux-admin"], matching
    rules = one(found, "Ingress")["spec"]["rules"]
    assert [rule["http"]["paths"][0]["path"] for rule in rules] == ["/", "/v1"]
    assert one(found, "HorizontalPodAutoscaler")["spec"]["minReplicas"] == 3


def the_values_in_the_documentation_work():
    text = (ROOT / "docs/deployment.md").read_text().split("```yaml\nexistingSecret")[1]
    found = render(yaml.safe_load("existingSecret" + text.split("```")[0]))
    for version in KUBERNETES:
        validate(found, version)
    configuration_in(found)
    assert one(found, "HorizontalPodAutoscaler")["spec"]["minReplicas"] == 2
    assert one(found, "Ingress")["spec"]["rules"][0]["host"] == "llm.example.com"


def secrets_of_the_chart_reach_the_gateway_and_restart_it():
    def annotations(given):
        template = one(render(given), "StatefulSet")["spec"]["template"]
        return template["metadata"]["annotations"]["checksum/secret"]

    given = values("throwaway")
    assert set(one(render(given), "Secret")["data"]) == {"OPENAI_API_KEY", "LLMUX_MASTER_KEY"}
    changed = {**given, "secrets": {**given["secrets"], "OPENAI_API_KEY": "sk-y"}}
    assert annotations(given) != annotations(changed)


def values_that_cannot_work_are_refused():
    assert "database.enabled" in refused({"replicaCount": 2})
    assert "database.enabled" in refused({"autoscaling": {"enabled": True}})
    assert "LLMUX_MASTER_KEY" in refused({"database": {"enabled": True, "host": "db"}})
    assert "existingSecret" in refused({"existingSecret": "a", "secrets": {"A": "b"}})
    claim = {"replicaCount": 2, "database": {"enabled": True}, "existingSecret": "a"}
    assert "existingClaim" in refused({**claim, "persistence": {"existingClaim": "c"}})
    # By the schema.
    refused({"replicas": 2})
    refused({"image": {"tga": "x"}})
    refused({"service": {"port": "80"}})
    refused({"ingress": {"enabled": True}})
    refused({"adminPort": 8080})


def configurations_are_right():
    for path in sorted((ROOT / "config").rglob("*.yaml")):
        configuration_ok(path)


def configurations_fit_the_schema_that_they_name():
    known = ROOT / "config/config.schema.json"
    schema = json.loads(known.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert list(validator.iter_errors({"server": {"prot": 1}})), "the schema refuses nothing"
    for path in [*sorted((ROOT / "config").rglob("*.yaml")), ROOT / "deploy/docker/config/config.yaml"]:
        text = path.read_text()
        first = text.splitlines()[0]
        mark = "# yaml-language-server: $schema="
        assert first.startswith(mark), f"{path} names no schema"
        assert (path.parent / first.removeprefix(mark)).resolve() == known, path
        found = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(yaml.safe_load(text))]
        assert not found, f"{path}: {found}"


def the_configuration_of_compose_is_right():
    services = yaml.safe_load((ROOT / "deploy/docker/compose.yaml").read_text())["services"]
    variables = {
        name: value.split("?")[0].replace("${", "x") if value else "x"
        for name, value in services["llmux"]["environment"].items()
    }
    variables.update(VARIABLES, LOG_LEVEL="info", LLMUX_SERVER__HOST="0.0.0.0")
    configuration_ok(ROOT / "deploy/docker/config/config.yaml", **variables)


def the_compose_file_fits_its_schema():
    tool = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    path = ROOT / "deploy/docker/compose.yaml"
    subprocess.run([sys.executable, *tool, str(path)], check=True, capture_output=True)
    for service in yaml.safe_load(path.read_text())["services"].values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (path.parent / source).exists(), source


def hadolint_finds_nothing_in_the_dockerfile():
    hadolint = pathlib.Path(sys.executable).parent / "hadolint"
    subprocess.run([hadolint, str(ROOT / "Dockerfile")], check=True)


CHECKS = [
    manifests_fit_kubernetes_schemas,
    the_first_apply_of_the_manifests_works,
    the_manifests_configuration_is_right,
    the_autoscaler_means_the_manifests_workload,
    helm_lints_the_chart,
    the_rendered_chart_fits_kubernetes_schemas,
    the_default_chart_is_one_gateway_with_a_volume,
    a_chart_with_everything_has_it,
    the_values_in_the_documentation_work,
    secrets_of_the_chart_reach_the_gateway_and_restart_it,
    values_that_cannot_work_are_refused,
    configurations_are_right,
    configurations_fit_the_schema_that_they_name,
    the_configuration_of_compose_is_right,
    the_compose_file_fits_its_schema,
    hadolint_finds_nothing_in_the_dockerfile,
]


def main():
    failed = 0
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        try:
            check()
            print(f"ok      {name}")
        except Exception:
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}")
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Holds what the chart renders, and the compose file, to Kubernetes' schemas and to rules of our own.

    check.py schema VERSION FILE   every object of Kubernetes' own, strictly: no unknown field
    check.py rules ROOT FILE       what the schemas cannot know
    check.py compose ROOT FILE     the service in the compose file

Custom resources (ServiceMonitor, PrometheusRule) have no schema at hand: only the rules look at them.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

CUSTOM = "monitoring.coreos.com/"
WRONG = []


def need(holds, sentence):
    if not holds:
        WRONG.append(sentence)


def objects(path):
    return [found for found in yaml.safe_load_all(Path(path).read_text()) if found]


def schema(version, path):
    import kubernetes_validate

    checked = 0
    for found in objects(path):
        if found["apiVersion"].startswith(CUSTOM):
            continue
        name = f"{found['kind']} {found['metadata']['name']}"
        try:
            kubernetes_validate.validate(found, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            need(False, f"{name}: {'.'.join(map(str, error.path))}: {error.message}")
        checked += 1
    need(checked > 5, "there is little to check")
    print(f"{path}: {checked} objects are as Kubernetes {version} has them", file=sys.stderr)


def known_variables(root):
    """The variables that the configuration's page names."""
    return set(re.findall(r"`(OMS__[A-Z0-9_]+)`", (root / "docs/CONFIGURATION.md").read_text()))


def is_known(name, known):
    return name in known or (name.endswith("_FILE") and name.removesuffix("_FILE") in known)


def config_check(env, files, what):
    """Asks the service itself what it thinks of its configuration, where there is a binary to ask."""
    binary = os.environ.get("OMS_BINARY")
    if not binary:
        print("OMS_BINARY is not set: THE SERVICE WAS NOT ASKED ABOUT ITS CONFIGURATION", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as folder:
        for path, text in files.items():
            place = Path(folder + path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        env = {name: folder + value if value in files else value for name, value in env.items()}
        arguments = [binary, "config", "check"]
        if "/etc/oms/oms.toml" in files:
            arguments += ["--config", folder + "/etc/oms/oms.toml"]
        answer = subprocess.run(arguments, env=env, cwd=folder, capture_output=True, text=True, timeout=60)
    need(answer.returncode == 0, f"{what}: the service refuses its configuration: {answer.stderr}")
    need("embedded" not in answer.stdout, f"{what}: runs parts of its own: {answer.stdout}")


def secret_files(env):
    """Something plausible in each file that a variable names."""
    tokens = [{"name": "ops", "roles": ["admin"], "sha256": "0" * 64}]
    special = {
        "OMS__AUTH__TOKENS_FILE": json.dumps(tokens),
        "OMS__POSTGRES__URL_FILE": "postgres://oms:secret@db.example/oms",
        "OMS__KAFKA__OPTIONS_FILE": json.dumps({"client.id": "oms"}),
    }
    paths = {n: v for n, v in env.items() if n.startswith("OMS__") and v.startswith("/run/secrets/")}
    return {path: special.get(name, "secret") for name, path in paths.items()}


def container_rules(name, pod, container, known, paths, probes):
    security = container["securityContext"]
    need(security["readOnlyRootFilesystem"] is True, f"{name}: the root can be written")
    need(security["allowPrivilegeEscalation"] is False, f"{name}: may gain privileges")
    need(security["capabilities"] == {"drop": ["ALL"]}, f"{name}: has capabilities")
    need(pod["securityContext"]["runAsNonRoot"] is True, f"{name}: may be root")
    need(pod["securityContext"]["runAsUser"] == 10001, f"{name}: is not the image's account")
    need(pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, f"{name}: has no seccomp profile")
    need(pod["automountServiceAccountToken"] is False, f"{name}: has a token of the cluster")
    need(pod["enableServiceLinks"] is False, f"{name}: gets variables of services")
    need("memory" in container["resources"]["limits"], f"{name}: has no limit of memory")
    if probes:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            path = container[probe]["httpGet"]["path"]
            need(path in paths, f"{name}: {probe} asks {path}, which the service does not have")
        need(container["lifecycle"]["preStop"]["sleep"]["seconds"] < pod["terminationGracePeriodSeconds"],
             f"{name}: sleeps for all of its grace")
    mounts = {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", [])}
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    need(set(mounts) == volumes, f"{name}: mounts {sorted(mounts)}, has {sorted(volumes)}")
    for variable in container.get("env", []):
        need(is_known(variable["name"], known), f"{name}: {variable['name']} is no variable of the service")
        need("secretKeyRef" not in str(variable), f"{name}: {variable['name']} has a secret in the environment")
        value = variable.get("value", "")
        if value.startswith(("/run/", "/etc/")):
            need(any(value.startswith(path + "/") for path in mounts.values()), f"{name}: {value} is not mounted")


def selects(selector, labels):
    return selector.items() <= labels.items()


def rules(root, path):
    found = objects(path)
    by_kind = {}
    for one in found:
        by_kind.setdefault(one["kind"], []).append(one)
    need("Secret" not in by_kind, "the chart makes a secret")
    known = known_variables(root)
    paths = json.loads((root / "docs/openapi.json").read_text())["paths"]
    config = by_kind["ConfigMap"][0]["data"]["oms.toml"]
    pods = {}
    for deployment in by_kind["Deployment"]:
        name = deployment["metadata"]["name"]
        template = deployment["spec"]["template"]
        labels, pod = template["metadata"]["labels"], template["spec"]
        pods[name] = labels
        need(selects(deployment["spec"]["selector"]["matchLabels"], labels), f"{name}: does not select its pods")
        need(deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0, f"{name}: takes pods away first")
        container = pod["containers"][0]
        container_rules(name, pod, container, known, paths, probes=True)
        env = {variable["name"]: variable.get("value", "") for variable in container["env"]}
        arguments = container["args"]
        roles = arguments[arguments.index("--roles") + 1].split(",")
        need(("oms-api" in labels) == ("api" in roles), f"{name}: the label oms-api does not say its roles")
        files = secret_files(env) | {"/etc/oms/oms.toml": config}
        files |= {env[n]: "" for n in ("OMS__HTTP__TLS_CERT", "OMS__HTTP__TLS_KEY") if n in env}
        config_check(env, files, name)
        spread = {c["topologyKey"]: c["labelSelector"]["matchLabels"] for c in pod["topologySpreadConstraints"]}
        need(len(spread) == 2 and all(selects(s, labels) for s in spread.values()), f"{name}: is not spread")
        budgets = [b for b in by_kind["PodDisruptionBudget"] if selects(b["spec"]["selector"]["matchLabels"], labels)]
        need(len(budgets) == 1, f"{name}: has {len(budgets)} budgets of disruption")
    for pod in by_kind.get("Pod", []):
        container_rules(pod["metadata"]["name"], pod["spec"], pod["spec"]["containers"][0], known, paths, probes=False)
    services = {s["metadata"]["name"]: s["spec"]["selector"] for s in by_kind["Service"]}
    api, metrics = sorted(services, key=len)
    for name, labels in pods.items():
        need(selects(services[api], labels) == ("oms-api" in labels), f"{api} and {name} do not go together")
        need(selects(services[metrics], labels), f"{metrics} does not reach {name}")
        for policy in by_kind["NetworkPolicy"]:
            need(selects(policy["spec"]["podSelector"]["matchLabels"], labels), f"{name} is free of the policy")
    for scaler in by_kind.get("HorizontalPodAutoscaler", []):
        target = scaler["spec"]["scaleTargetRef"]["name"]
        need(target in pods, f"{target}, which is to be scaled, is not there")
        scaled = next(d for d in by_kind["Deployment"] if d["metadata"]["name"] == target)
        need("replicas" not in scaled["spec"], f"{target}: an upgrade would undo its scaling")
        need(scaler["spec"]["metrics"], f"{target}: is scaled by nothing")
    for monitor in by_kind.get("ServiceMonitor", []):
        selected = [s for s in by_kind["Service"]
                    if selects(monitor["spec"]["selector"]["matchLabels"], s["metadata"]["labels"])]
        need([s["metadata"]["name"] for s in selected] == [metrics], "the monitor does not find the processes")
        job = monitor["spec"]["endpoints"][0]["relabelings"][0]["replacement"]
        need(re.fullmatch("oms|oms-.*", job), f"no alert watches the job {job}")
        need(monitor["spec"]["endpoints"][0]["path"] in paths, "the monitor scrapes what is not there")
    own = yaml.safe_load((root / "deploy/alerts.yml").read_text())
    for rule in by_kind.get("PrometheusRule", []):
        need(len(rule["spec"]["groups"]) == len(own["groups"]), "rules are missing")
        need("docs.oms.example" not in str(rule), "rules point at nobody's runbook")
        names = [[r["alert"] for r in g["rules"]] for g in rule["spec"]["groups"]]
        need(names == [[r["alert"] for r in g["rules"]] for g in own["groups"]], "rules differ from deploy/alerts.yml")
    if "PrometheusRule" in by_kind:
        boards = [c for c in by_kind["ConfigMap"] if "grafana_dashboard" in c["metadata"]["labels"]]
        need(len(boards) == len(list((root / "deploy/grafana").glob("oms-*.json"))), "dashboards are missing")
        for board in boards:
            for text in board["data"].values():
                need(json.loads(text)["uid"].startswith("oms-"), "a dashboard is not whole")
    print(f"{path}: {len(found)} objects keep the rules", file=sys.stderr)


def compose(root, path):
    service = yaml.safe_load(Path(path).read_text())["services"]["oms"]
    known = known_variables(root)
    env = service["environment"]
    for name in env:
        need(is_known(name, known) or name in ("OMS_TOKEN_FILE", "OMS_URL"), f"{name} is no variable of the service")
    need(service["read_only"] and service["cap_drop"] == ["ALL"], "the service may write or do what it need not")
    published = yaml.safe_load(Path(path).read_text())["services"].values()
    ports = [port for one in published for port in one.get("ports", [])]
    need(all(port.startswith("127.0.0.1:") for port in ports), f"reached from other machines: {ports}")
    folder = Path(path).parent / "compose"
    files = secret_files(env) | {"/run/secrets/tokens": (folder / "tokens.json").read_text()}
    config_check(env | {"OMS__HTTP__HOST": "0.0.0.0"}, files, "compose")
    print(f"{path}: keeps the rules", file=sys.stderr)


def main():
    what, first, path = sys.argv[1:]
    if what == "schema":
        schema(first, path)
    else:
        {"rules": rules, "compose": compose}[what](Path(first), path)
    for sentence in WRONG:
        print(f"{path}: {sentence}", file=sys.stderr)
    sys.exit(bool(WRONG))


main()

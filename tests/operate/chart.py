"""Renders the chart for several values, validates what comes out, and leaves the configurations in it in a folder:
chart.py CHART OUT. The last line of its output is one of JSON: what each values file makes, by kind.
"""
import json
import pathlib
import re
import sys

import helm_python as helm
import kubernetes_validate
import yaml

OLDEST, NEWEST = "1.25", "1.37"

# None of these may pass the schema, and each must be named.
WRONG = {
    "an unknown key": ({"controls": {}}, "controls"),
    "replicas, which there are none of": ({"control": {"replicas": 3}}, "replicas"),
    "a tag that is a number": ({"image": {"tag": 1.2}}, "tag"),
    "nodes without a PoP": ({"edge": {"enabled": True}}, "pops"),
    "a PoP that is no name": ({"edge": {"pops": [{"name": "FRA 1"}]}}, "name"),
    "an endpoint without TLS": ({"edge": {"endpoints": ["http://control:7443"]}}, "endpoints"),
    "a size without a unit": ({"control": {"storage": {"size": "10"}}}, "size"),
    "a collector without a port": ({"traces": {"endpoint": "https://collector"}}, "endpoint"),
    "a share that is none": ({"traces": {"ratio": 2}}, "ratio"),
    "a setting that is no key": ({"control": {"settings": {"listen": "x"}}}, "listen"),
}

# None of these may be rendered, though each value by itself is one; and the key must be named.
UNFIT = {
    "a token for everybody to read": {"traces": {"endpoint": "http://collector:4317", "headersSecret": "token"}},
    "a token for nobody": {"traces": {"headersSecret": "token"}},
    "an authority without TLS": {"traces": {"endpoint": "http://collector:4317", "caSecret": "ca"}},
}


def documents(rendered):
    for name, text in rendered.items():
        if name.endswith(".yaml"):
            yield from (document for document in yaml.safe_load_all(text) if document)


def check(document):
    """Against the published schemas of Kubernetes; what an operator of another one defines, they do not know."""
    if document["apiVersion"].startswith("monitoring.coreos.com/"):
        assert document["spec"]["endpoints"], document
        return
    for version in (OLDEST, NEWEST):
        kubernetes_validate.validate(document, version, strict=True)


def volumes_are_there(document):
    """Each mount has its volume, and each file of a ConfigMap that is mounted by its name is in it."""
    spec = document["spec"]["template"]["spec"]
    known = {volume["name"] for volume in spec["volumes"]}
    known |= {claim["metadata"]["name"] for claim in document["spec"].get("volumeClaimTemplates", [])}
    for container in spec["containers"] + spec.get("initContainers", []):
        for mount in container.get("volumeMounts", []):
            assert mount["name"] in known, f"{container['name']}: no volume {mount['name']}"


def main():
    chart, out = map(pathlib.Path, sys.argv[1:])
    loaded = helm.Chart.load(str(chart))
    version = re.search(r'^version = "(.*)"', (chart / "../../Cargo.toml").resolve().read_text(), re.M).group(1)
    metadata = loaded.metadata() if callable(loaded.metadata) else loaded.metadata
    assert loaded.version() == version if callable(loaded.version) else loaded.version == version, metadata
    assert (metadata.get("app_version") or metadata.get("appVersion")) == version, metadata
    made = {}
    for file in [None, *sorted((chart / "examples").glob("*.yaml"))]:
        values = helm.values_from_yaml(file.read_text()) if file else {}
        name = file.stem if file else "defaults"
        report = helm.lint(str(chart), values, strict=True)
        assert not report.get("errors"), report
        loaded.validate_schema(values)
        kinds = made.setdefault(name, {})
        for document in documents(loaded.render(values, name="purge", namespace="cdn")):
            check(document)
            kinds.setdefault(document["kind"], []).append(document)
            if document["kind"] in ("StatefulSet", "DaemonSet"):
                volumes_are_there(document)
            if document["kind"] == "ConfigMap":
                folder = out / name / document["metadata"]["name"]
                folder.mkdir(parents=True)
                for key, text in document["data"].items():
                    (folder / key).write_text(text)
    for what, (values, named) in WRONG.items():
        try:
            loaded.validate_schema(values)
        except helm.HelmValuesError as error:
            assert named in str(error), f"{what}: {error}"
        else:
            raise AssertionError(f"{what} passes the schema")
    for what, values in UNFIT.items():
        loaded.validate_schema(values)
        named = [key for key in values["traces"] if key != "endpoint"][0]
        try:
            loaded.render(values, name="purge", namespace="cdn")
        except Exception as error:  # Whatever the renderer calls it.
            assert f"traces.{named}" in str(error), f"{what}: {error}"
        else:
            raise AssertionError(f"{what} is rendered")
    print(json.dumps(made))


main()

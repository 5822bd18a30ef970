"""What programs on the Python client do: typed and dynamic objects, pages, a watch that goes on, logs, exec, port-forward,
apply from YAML, a leader election, errors. NAMESPACE is the client's own."""

import json
import os
import time

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import portforward, stream

namespace = os.environ["NAMESPACE"]
config.load_kube_config()
core = client.CoreV1Api()
apps = client.AppsV1Api()
batch = client.BatchV1Api()


def until(what, check, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            print(what)
            return
        time.sleep(0.2)
    raise AssertionError(f"{what}: not in time")


def pod(name, script):
    container = {"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]}
    return {"metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}


def is_running(name):
    return core.read_namespaced_pod(name, namespace).status.phase == "Running"


def pages():
    for i in range(25):
        body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=f"page-{i}", labels={"page": "yes"}))
        core.create_namespaced_config_map(namespace, body)
    names, token = set(), None
    while True:
        page = core.list_namespaced_config_map(namespace, label_selector="page=yes", limit=10, _continue=token)
        names |= {item.metadata.name for item in page.items}
        token = page.metadata._continue
        if not token:
            break
    assert len(names) == 25, names


def watches():
    seen = []
    follower = watch.Watch()
    first = core.list_namespaced_pod(namespace).metadata.resource_version
    core.create_namespaced_pod(namespace, pod("followed", "echo said; sleep 3600"))
    for event in follower.stream(core.list_namespaced_pod, namespace, resource_version=first, timeout_seconds=60):
        seen.append(event["type"])
        if event["type"] == "MODIFIED" and event["object"].status.phase == "Running" and "again" not in seen:
            seen.append("again")
            core.delete_namespaced_pod("followed", namespace)
        if event["type"] == "DELETED":
            follower.stop()
    assert seen[0] == "ADDED" and seen[-1] == "DELETED", seen


def streams():
    core.create_namespaced_pod(namespace, pod("serves", "mkdir /w; echo welcome >/w/index.html; echo ready; exec httpd -f -p 8080 -h /w"))
    until("it serves", lambda: is_running("serves"))
    until("it said so", lambda: core.read_namespaced_pod_log("serves", namespace) == "ready\n")
    ask = core.connect_get_namespaced_pod_exec
    out = stream(ask, "serves", namespace, command=["sh", "-c", "echo out; echo err >&2"], stdout=True, stderr=True)
    assert sorted(out.split()) == ["err", "out"], out
    running = stream(ask, "serves", namespace, command=["sh"], stdin=True, stdout=True, stderr=True, _preload_content=False)
    running.write_stdin("echo given; exit 3\n")
    running.run_forever(timeout=20)
    assert running.read_stdout() == "given\n" and running.returncode == 3, running.returncode
    forward = portforward(core.connect_get_namespaced_pod_portforward, "serves", namespace, ports="8080")
    socket = forward.socket(8080)
    socket.settimeout(20)
    socket.sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = b""
    while chunk := socket.recv(4096):
        answer += chunk
    assert answer.endswith(b"welcome\n"), answer
    text = core.connect_get_namespaced_pod_proxy_with_path("serves:8080", namespace, "index.html")
    assert text == "welcome\n", text


def from_yaml():
    path = os.path.join(os.getcwd(), "job.yaml")
    body = {"apiVersion": "batch/v1", "kind": "Job", **pod("counts", "seq 3")}
    body["spec"] = {"completions": 2, "template": {"spec": {**body["spec"], "restartPolicy": "Never"}}}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(body, file)
    utils.create_from_yaml(client.ApiClient(), path, namespace=namespace)
    until("the Job is done", lambda: batch.read_namespaced_job("counts", namespace).status.succeeded == 2)
    batch.delete_namespaced_job("counts", namespace, propagation_policy="Foreground")

    def is_gone():
        return not core.list_namespaced_pod(namespace, label_selector="job-name=counts").items

    until("its Pods are gone", is_gone)


def dynamic_objects():
    objects = dynamic.DynamicClient(client.ApiClient())
    maps = objects.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "1"}}
    maps.server_side_apply(body=body, name="applied", namespace=namespace, field_manager="python")
    found = maps.get(name="applied", namespace=namespace)
    assert found.data.a == "1" and found.metadata.managedFields[0].operation == "Apply"
    maps.patch(body={"data": {"b": "2"}}, name="applied", namespace=namespace, content_type="application/merge-patch+json")
    assert maps.get(name="applied", namespace=namespace).data.to_dict() == {"a": "1", "b": "2"}
    maps.delete(name="applied", namespace=namespace)


def scales():
    spec = {"selector": {"matchLabels": {"app": "scaled"}}, "template": pod("", "sleep 3600")}
    spec["template"]["metadata"] = {"labels": {"app": "scaled"}}
    apps.create_namespaced_deployment(namespace, {"metadata": {"name": "scaled"}, "spec": spec})
    apps.patch_namespaced_deployment_scale("scaled", namespace, {"spec": {"replicas": 2}})
    until("two are there", lambda: apps.read_namespaced_deployment_status("scaled", namespace).status.ready_replicas == 2)


def errors():
    try:
        core.read_namespaced_pod("none", namespace)
        raise AssertionError("found what is not there")
    except ApiException as error:
        assert error.status == 404 and json.loads(error.body)["reason"] == "NotFound"
    access = client.V1SelfSubjectAccessReview(
        spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=client.V1ResourceAttributes(verb="get", resource="pods"))
    )
    assert client.AuthorizationV1Api().create_self_subject_access_review(access).status.allowed


for part in [pages, watches, streams, from_yaml, dynamic_objects, scales, errors]:
    part()
    print("ok", part.__name__)

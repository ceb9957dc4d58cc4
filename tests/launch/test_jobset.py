"""jobset.yaml: fields that JobSet and Kubernetes have, numbers that fit each other and grm.

The fields are those of the OpenAPI documents that Kubernetes and JobSet publish, as the models of
kubeflow-trainer-api carry them. The API server's further rules (enumerations, CEL) are not in them.
"""

import copy
import math
from pathlib import Path

import jsonschema
import pytest
import yaml
from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet

from grm_jax.cli import main
from grm_jax.cli.commands import STAGES
from grm_jax.cli.options import read_options

ROOT = Path(__file__).resolve().parents[2]
JOBSET = yaml.safe_load((ROOT / "launch" / "jobset.yaml").read_text())
POD = ("spec", "replicatedJobs", 0, "template", "spec", "template", "spec")
# Plain values, which the models wrap in a class of their own.
PLAIN = {
    "IoK8sApimachineryPkgApiResourceQuantity": {"type": ["string", "number"]},
    "IoK8sApimachineryPkgUtilIntstrIntOrString": {"type": ["string", "integer"]},
}


@pytest.fixture(scope="module")
def jobset():
    """Strict, as `kubectl apply` is: a field that is not there is refused."""
    schema = JobsetV1alpha2JobSet.model_json_schema(by_alias=True)
    for definition in (schema, *schema["$defs"].values()):
        definition["additionalProperties"] = False
    assert PLAIN.keys() <= schema["$defs"].keys()
    schema["$defs"] |= PLAIN
    return jsonschema.Draft202012Validator(schema)


def at(document, path):
    for key in path:
        document = document[key]
    return document


def test_every_field_is_one_of_jobset_or_kubernetes(jobset):
    jobset.validate(JOBSET)


@pytest.mark.parametrize(
    ("path", "right", "wrong"),
    [
        (("spec", "failurePolicy"), "maxRestarts", "maxRestart"),
        (("spec", "replicatedJobs", 0), "replicas", "replica"),
        (POD[:5], "backoffLimit", "backOffLimit"),
        (POD, "terminationGracePeriodSeconds", "terminationGracePeriod"),
        ((*POD, "containers", 0), "volumeMounts", "volumeMount"),
        ((*POD, "containers", 0, "resources"), "limits", "limit"),
    ],
)
def test_a_misspelt_field_is_refused(jobset, path, right, wrong):
    document = copy.deepcopy(JOBSET)
    place = at(document, path)
    place[wrong] = place.pop(right)
    with pytest.raises(jsonschema.ValidationError, match=wrong):
        jobset.validate(document)


def test_a_value_of_another_type_is_refused(jobset):
    document = copy.deepcopy(JOBSET)
    document["spec"]["failurePolicy"]["maxRestarts"] = "often"
    with pytest.raises(jsonschema.ValidationError, match="often"):
        jobset.validate(document)


def test_hosts_chips_and_the_mesh_are_of_one_slice():
    [job] = JOBSET["spec"]["replicatedJobs"]
    spec, pod = job["template"]["spec"], at(JOBSET, POD)
    [container] = pod["containers"]
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = math.prod(map(int, topology.split("x")))
    assert spec["parallelism"] == spec["completions"]
    assert spec["parallelism"] * container["resources"]["limits"]["google.com/tpu"] == chips

    command, stage, *options = container["args"]
    assert (command, stage) == ("train", "spct")
    config = next(word.partition("=")[2] for word in options if word.startswith("--config="))
    options[options.index(f"--config={config}")] = f"--config={ROOT / config}"
    _, config = read_options(STAGES["spct"], options, "train spct")
    mesh = config.grpo.compute.mesh
    assert mesh.data * mesh.fsdp * mesh.tensor == job["replicas"] * chips


def test_runs_lie_on_the_mounted_volume():
    pod = at(JOBSET, POD)
    [container] = pod["containers"]
    [mount] = container["volumeMounts"]
    assert mount["name"] in {volume["name"] for volume in pod["volumes"]}
    folders = [word.partition("=")[2] for word in container["args"] if "--output=" in word]
    folders += [variable["value"] for variable in container["env"]]
    assert len(folders) == 2
    assert all(Path(folder).is_relative_to(mount["mountPath"]) for folder in folders)


def test_bad_input_ends_the_job_and_a_signal_restarts_it():
    job = JOBSET["spec"]["replicatedJobs"][0]["template"]["spec"]
    [rule] = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["containerName"] == at(JOBSET, POD)["containers"][0]["name"]
    # Kubernetes takes a podFailurePolicy only with this.
    assert at(JOBSET, POD)["restartPolicy"] == "Never"
    assert rule["onExitCodes"]["operator"] == "In"
    unknown_option = main(["train", "spct", "--nonsense", "1"])
    missing_file = main(["judge", "--input", "/nowhere.jsonl"])
    assert rule["onExitCodes"]["values"] == [unknown_option] == [missing_file]

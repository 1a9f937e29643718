"""The pod of a stage, as it would be sent to Kubernetes; no cluster is there to run it."""

import json
from pathlib import Path

import pytest
from kubernetes.client import ApiClient

from auterity_dagster.errors import ConfigurationInvalid
from auterity_dagster.neuroweaver.recipe import load_recipe
from auterity_dagster.neuroweaver.stage import Stage, StageSpec
from auterity_dagster.resources.pod_settings import PodSettings
from auterity_dagster.resources.training_pod import GRACE_S, pod_command, pod_of
from auterity_dagster.resources.training_process import command_of

RECIPES = Path(__file__).parents[2] / "config" / "recipes"
DATA = "/srv/auterity"
SETTINGS = PodSettings(image="registry.example/auterity:1", namespace="models", volume_claim="auterity-data")


def stage_spec(recipe: str, **hardware: object) -> StageSpec:
    values = load_recipe(RECIPES / f"{recipe}.yaml").model_dump(mode="json", by_alias=True)
    values["hardware"] |= hardware
    return StageSpec.model_validate(
        {
            "stage": Stage.SFT,
            "stage_key": "ab" * 32,
            "recipe": values,
            "inputs": {},
            "store": f"{DATA}/objects",
            "workdir": f"{DATA}/training/{'ab' * 32}",
            "cap_s": 7200,
        }
    )


def sent(spec: StageSpec) -> dict:
    path = spec.workdir / "spec.json"
    command = pod_command(spec, path, module="auterity_dagster.training")
    pod = pod_of(spec, command, settings=SETTINGS, data_dir=DATA, environment={"DAGSTER_PIPES_CONTEXT": "x"})
    return json.loads(json.dumps(ApiClient().sanitize_for_serialization(pod)))


def test_the_pod_is_named_by_its_stage_and_asks_for_what_the_recipe_says() -> None:
    pod = sent(stage_spec("qwen2_5_7b_qlora"))

    assert pod["metadata"]["name"] == f"nw-sft-{'ab' * 20}"
    assert pod["metadata"]["annotations"]["auterity/stage-key"] == "ab" * 32
    assert len(pod["metadata"]["name"]) <= 63
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "registry.example/auterity:1"
    assert container["resources"]["limits"] == {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "1"}
    assert container["env"] == [{"name": "DAGSTER_PIPES_CONTEXT", "value": "x"}]


def test_the_pod_sees_the_data_folder_where_the_specification_says() -> None:
    pod = sent(stage_spec("qwen2_5_7b_qlora"))

    (container,) = pod["spec"]["containers"]
    assert container["volumeMounts"] == [{"name": "data", "mountPath": DATA}]
    assert pod["spec"]["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "auterity-data"}}]
    assert container["command"][-2:] == ["--spec", f"{DATA}/training/{'ab' * 32}/spec.json"]


def test_the_pod_is_not_restarted_and_has_time_to_save() -> None:
    pod = sent(stage_spec("qwen2_5_7b_qlora"))

    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["spec"]["terminationGracePeriodSeconds"] == GRACE_S
    assert pod["spec"]["activeDeadlineSeconds"] == 7200 + 2 * GRACE_S
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_every_launcher_runs_the_same_stage_on_the_same_specification() -> None:
    path = Path("spec.json")
    alone = command_of(stage_spec("tiny_cpu"), path, module="auterity_dagster.training")
    shared = command_of(
        stage_spec("tiny_cpu", launcher="accelerate", processes=2), path, module="auterity_dagster.training"
    )
    pod = pod_command(stage_spec("tiny_cpu", launcher="kubernetes"), path, module="auterity_dagster.training")
    pods = pod_command(
        stage_spec("tiny_cpu", launcher="kubernetes", processes=2), path, module="auterity_dagster.training"
    )

    assert {tuple(command[-5:]) for command in (alone, shared, pod, pods)} == {tuple(alone[-5:])}
    assert shared[1:-5] == pods[1:-5]
    assert pod == ["python", *alone[-5:]]


def test_a_pod_without_an_image_is_refused() -> None:
    with pytest.raises(ConfigurationInvalid, match="AUTERITY_TRAINING_IMAGE"):
        pod_of(stage_spec("tiny_cpu"), [], settings=PodSettings(), data_dir=DATA, environment={})

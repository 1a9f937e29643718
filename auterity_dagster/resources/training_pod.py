"""One training process in a Kubernetes pod: the same specification, on a volume that Dagster and the pod share.

The pod's own exit code is not read: as everywhere, `outcome.json` says how the stage ended, and silence ends the pod.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import dagster as dg
from dagster_k8s import PipesK8sClient
from dagster_k8s.client import DagsterKubernetesClient
from dagster_k8s.pipes import build_pod_body
from kubernetes.client import ApiException, CoreV1Api, V1Pod

from auterity_dagster.errors import ConfigurationInvalid
from auterity_dagster.neuroweaver.stage import StageSpec
from auterity_dagster.resources.pod_settings import PodSettings
from auterity_dagster.resources.training_process import POLL_S, Watch, command_of, is_silent
from auterity_dagster.storage.workdir import Workdir

GRACE_S = 300
"""What a pod that must go has to finish its longest step and save a checkpoint."""

STARTING_LIMIT_S = 1800.0
"""How long a pod may wait for a machine and its image before it says a word."""


class StagePods(PipesK8sClient):
    """Runs stages as pods over Dagster Pipes, each named by its stage key, so that none runs twice at a time."""

    def run_stage(
        self,
        context: dg.AssetExecutionContext,
        spec: StageSpec,
        command: Sequence[str],
        *,
        settings: PodSettings,
        data_dir: str,
        watch: Watch,
        silence_limit_s: float,
    ) -> None:
        """Create the pod and return when it is gone; a pod of this stage that is there already is waited for."""
        self._load_k8s_config()
        pods = DagsterKubernetesClient.production_client().core_api
        with dg.open_pipes_session(
            context=context,
            context_injector=self.context_injector,
            message_reader=dg.PipesFileMessageReader(str(spec.workdir / "messages")),
        ) as session:
            pod = pod_of(
                spec, command, settings=settings, data_dir=data_dir, environment=session.get_bootstrap_env_vars()
            )
            try:
                pods.create_namespaced_pod(settings.namespace, pod)
            except ApiException as error:
                if error.status != 409:
                    raise
                context.log.info(f"the pod {pod_name(spec)} is there already; its result is waited for")
            try:
                _wait(pods, spec, settings.namespace, watch=watch, silence_limit_s=silence_limit_s)
            finally:
                _delete(pods, spec, settings.namespace)


def pod_of(
    spec: StageSpec,
    command: Sequence[str],
    *,
    settings: PodSettings,
    data_dir: str,
    environment: Mapping[str, str],
) -> V1Pod:
    """Return the pod of a stage: one container, its resources by the recipe's hardware, the data folder mounted.

    Raises `ConfigurationInvalid` where the image or the volume's claim is not set.
    """
    if not settings.image or not settings.volume_claim:
        raise ConfigurationInvalid(
            "the launcher kubernetes needs AUTERITY_TRAINING_IMAGE and AUTERITY_TRAINING_VOLUME_CLAIM"
        )
    hardware = spec.recipe.hardware
    is_cuda = hardware.device_class.startswith("cuda")
    used = {"cpu": str(hardware.threads), "memory": settings.memory}
    limits = used | ({"nvidia.com/gpu": str(hardware.processes)} if is_cuda else {})
    pod = build_pod_body(
        pod_name=pod_name(spec),
        image=settings.image,
        command=list(command),
        env_vars=environment,
        base_pod_meta={
            "namespace": settings.namespace,
            "labels": {"auterity/stage": spec.stage.value, "auterity/hardware": hardware.device_class},
            "annotations": {"auterity/stage-key": spec.stage_key, "auterity/recipe-digest": spec.recipe.digest},
        },
        base_pod_spec={
            "restart_policy": "Never",
            "service_account_name": settings.service_account,
            "automount_service_account_token": False,
            "termination_grace_period_seconds": GRACE_S,
            "active_deadline_seconds": spec.cap_s + 2 * GRACE_S,
            "containers": [
                {
                    "name": "training",
                    "resources": {"requests": used, "limits": limits},
                    "volume_mounts": [{"name": "data", "mount_path": data_dir}],
                }
            ],
            "volumes": [{"name": "data", "persistent_volume_claim": {"claim_name": settings.volume_claim}}],
        },
    )
    return cast(V1Pod, pod)


def pod_name(spec: StageSpec) -> str:
    """Return the pod's name: equal for equal stages, so that Kubernetes itself refuses a second one."""
    return f"nw-{spec.stage.value}-{spec.stage_key[:40]}"


def pod_command(spec: StageSpec, path: Path, *, module: str) -> list[str]:
    """Return what the container runs: the command of a process of its own, by the image's interpreter."""
    return ["python", *command_of(spec, path, module=module)[1:]]


def _wait(pods: CoreV1Api, spec: StageSpec, namespace: str, *, watch: Watch, silence_limit_s: float) -> None:
    workdir, since, is_running = Workdir(spec.workdir), time.time(), False
    while (phase := _phase(pods, spec, namespace)) in ("Pending", "Running"):
        watch()
        if phase == "Running" and not is_running:
            since, is_running = time.time(), True
        limit_s = silence_limit_s if is_running else STARTING_LIMIT_S
        if is_silent(workdir, since=since, now=time.time(), limit_s=limit_s):
            return
        time.sleep(POLL_S)


def _phase(pods: CoreV1Api, spec: StageSpec, namespace: str) -> str | None:
    try:
        pod: Any = pods.read_namespaced_pod_status(pod_name(spec), namespace)
    except ApiException as error:
        if error.status == 404:
            return None
        raise
    return str(pod.status.phase)


def _delete(pods: CoreV1Api, spec: StageSpec, namespace: str) -> None:
    try:
        pods.delete_namespaced_pod(pod_name(spec), namespace)
    except ApiException as error:
        if error.status != 404:
            raise

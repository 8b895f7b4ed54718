"""The files that start a cluster, as far as they can be checked without one."""

import copy
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import sweeps

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
ROOT = Path(sweeps.__file__).parent.parent
CLUSTERS = ROOT / "sweeps" / "clusters"
LAUNCHED = (ROOT / "cluster.yaml", CLUSTERS / "on_premises.yaml")


def launcher_config(path: Path) -> dict[str, Any]:
    """The file as Ray's cluster launcher completes and validates it; the schema is the one that Ray
    ships.
    """
    from ray.autoscaler._private.util import prepare_config, validate_config

    config: dict[str, Any] = prepare_config(yaml.safe_load(path.read_text()))
    validate_config(config)
    return config


@pytest.mark.parametrize("path", LAUNCHED, ids=lambda path: path.name)
def test_rays_launcher_accepts_the_file(path: Path) -> None:
    config = launcher_config(path)
    assert not any(
        "nightly" in command or "3.0.0.dev" in command for command in config["setup_commands"]
    )
    assert config["file_mounts"]["~/.ray/auth_token"].endswith("auth_token")


def test_every_head_bounds_the_tries_of_a_stage_that_needs_too_much_memory() -> None:
    for path in LAUNCHED:
        (start,) = [
            line for line in launcher_config(path)["head_start_ray_commands"] if "--head" in line
        ]
        assert "RAY_task_oom_retries=2 " in start
    for name in ("slurm.sh", "Dockerfile"):
        assert "RAY_task_oom_retries=2" in (CLUSTERS / name).read_text()


@pytest.mark.parametrize("path", LAUNCHED, ids=lambda path: path.name)
def test_every_way_into_ray_names_token_authentication(path: Path) -> None:
    config = launcher_config(path)
    started = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    starts = [command for command in started if "ray start" in command]
    assert len(starts) == 2
    assert all(command.startswith("RAY_AUTH_MODE=token ") for command in starts)


def test_on_aws_the_head_runs_no_stage_and_workers_are_spot_machines() -> None:
    types = launcher_config(ROOT / "cluster.yaml")["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0, "GPU": 0}
    assert types["gpu"]["resources"]["GPU"] == 1
    assert types["cpu"]["resources"]["GPU"] == 0
    markets = {
        name: kind["node_config"].get("InstanceMarketOptions", {}) for name, kind in types.items()
    }
    assert markets == {"head": {}, "gpu": {"MarketType": "spot"}, "cpu": {"MarketType": "spot"}}


def test_aws_machines_have_a_driver_credentials_and_no_open_port() -> None:
    types = launcher_config(ROOT / "cluster.yaml")["available_node_types"]
    assert all("ImageId" in kind["node_config"] for kind in types.values())
    # Ray adds a group that admits ssh from everywhere to each type without one
    assert all("SecurityGroupIds" in kind["node_config"] for kind in types.values())
    assert "nvidia-smi" in types["gpu"]["worker_setup_commands"][0]
    assert all("IamInstanceProfile" in kind["node_config"] for kind in types.values())


def test_shell_commands_of_the_launcher_parse() -> None:
    for path in LAUNCHED:
        config = launcher_config(path)
        for key in ("initialization_commands", "setup_commands", "head_start_ray_commands"):
            for command in config[key]:
                subprocess.run(["bash", "-n", "-c", command], check=True, capture_output=True)


def mlflow_allowed_hosts(text: str) -> list[str]:
    found = re.search(r"--allowed-hosts[ ,]+['\"]?([^'\" ]+)", text)
    assert found, "the tracking server's allowed hosts are not set"
    return found[1].rstrip(",").split(",")


@pytest.mark.parametrize("path", [*LAUNCHED, CLUSTERS / "kuberay.yaml"], ids=lambda path: path.name)
def test_the_tracking_server_admits_the_host_names_that_clients_use(path: Path) -> None:
    from mlflow.server.security_utils import is_allowed_host_header

    text = path.read_text()
    allowed = mlflow_allowed_hosts(text)
    service = "mlflow:5000" if path.name == "kuberay.yaml" else "127.0.0.1:5000"
    assert is_allowed_host_header(allowed, service)
    assert is_allowed_host_header(allowed, "localhost:5000")  # through a forwarded port
    assert not is_allowed_host_header(allowed, "attacker.example:5000")


def test_the_kubernetes_objects_fit_together() -> None:
    documents = list(yaml.safe_load_all((CLUSTERS / "kuberay.yaml").read_text()))
    objects = {document["kind"]: document for document in documents}
    spec = objects["RayJob"]["spec"]
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert yaml.safe_load(spec["runtimeEnvYAML"]) == {"env_vars": {"RAY_AUTH_MODE": "token"}}
    groups = [spec["rayClusterSpec"]["headGroupSpec"], *spec["rayClusterSpec"]["workerGroupSpecs"]]
    assert groups[0]["rayStartParams"]["num-cpus"] == "0"
    pods = [group["template"]["spec"] for group in groups] + [
        objects["Deployment"]["spec"]["template"]["spec"]
    ]
    assert len({container["image"] for pod in pods for container in pod["containers"]}) == 1
    for pod in pods:
        mounted = {
            mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]
        }
        assert mounted == {volume["name"] for volume in pod["volumes"]}
    service = objects["Service"]
    assert (
        objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
        == service["spec"]["selector"]
    )
    tracking = re.search(r"--tracking (\S+)", spec["entrypoint"])
    assert tracking
    assert (
        tracking[1] == f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    )


def test_images_and_cluster_run_the_ray_that_the_project_allows() -> None:
    import ray

    release = ray.__version__.rpartition(".")[0]
    named = [
        path.read_text()
        for path in (*LAUNCHED[:1], CLUSTERS / "Dockerfile", CLUSTERS / "kuberay.yaml")
    ]
    for text in named:
        assert re.findall(r"(?:rayproject/ray:|rayVersion: \")(\d+\.\d+)", text) == [release]


def test_the_jobs_environment_is_one_that_ray_takes() -> None:
    from ray.runtime_env import RuntimeEnv

    values = yaml.safe_load((CLUSTERS / "runtime_env.yaml").read_text())
    environment = RuntimeEnv(**copy.deepcopy(values))
    assert environment["env_vars"] == {"RAY_AUTH_MODE": "token"}
    assert "runs" in environment["excludes"]


def test_the_slurm_script_starts_a_cluster_and_ends_with_the_sweeps_exit_code(
    tmp_path: Path,
) -> None:
    """Slurm's two commands are stood in for by what they do on one machine: run the rest of the
    line, name the node.
    """
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {
        "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
        "scontrol": "echo here",
        "sleep": "exit 0",
        "python": (
            'case "$*" in *ray.nodes*) echo 1;; *sweeps*) echo "sweep: $*"; exit 7;; '
            '*) echo "ray: $*"; exec /bin/sleep 60;; esac'
        ),
    }.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (folder / name).chmod(0o755)
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "here",
        "SLURM_JOB_ID": "17",
        "SLURM_CPUS_PER_TASK": "16",
        "OCCSE_PYTHON": str(folder / "python"),
        "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"),
    }
    (tmp_path / "token").write_text("0" * 64)
    command = ["bash", str(CLUSTERS / "slurm.sh"), "spec.yaml", "--store", "here"]
    result = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 7, result.stderr
    assert "ray: -m ray.scripts.scripts start --head --block" in result.stdout
    assert "--num-cpus=16 --num-gpus=0" in result.stdout
    assert re.search(
        r"sweep: -m sweeps run spec.yaml --store here --address \S+:20017", result.stdout
    )

#!/usr/bin/env bash
# One sweep as a Slurm job, with any further arguments of `sweeps run`:
#   sbatch sweeps/clusters/slurm.sh sweeps/specs/SPEC.yaml [ARGUMENT ...]
#
# Submit it from the checkout, which all nodes must see, with its virtual environment in .venv. The
# store and MLflow's database are in runs/, the job's log is beside it. Five minutes before the time
# limit running stages stop at their checkpoints and the job queues itself again; it then goes on
# from the store.
# Change the #SBATCH lines to what your cluster has. OCCSE_PYTHON names a Python other than .venv's.
#SBATCH --job-name=occse
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --signal=B:INT@300
#SBATCH --output=occse-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
set -euo pipefail
if [ $# -eq 0 ]; then
  echo "usage: sbatch sweeps/clusters/slurm.sh SPEC.yaml [arguments of sweeps run]" >&2
  exit 2
fi

python=${OCCSE_PYTHON:-.venv/bin/python}
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
# A stage that needs more memory than a node has is tried three times; Ray's default is no limit.
export RAY_task_oom_retries=2
# The token that all nodes share: made once, readable by you alone, in a home that all nodes see.
export RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
  (umask 077 && mkdir -p "${RAY_AUTH_TOKEN_PATH%/*}" &&
    "$python" -c 'import secrets; print(secrets.token_hex(32))' > "$RAY_AUTH_TOKEN_PATH")
fi

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
# Debian gives a machine's own name a loopback address, which the other nodes cannot reach.
on_head=(srun --overlap --nodes=1 --ntasks=1 --nodelist="$head")
address=$("${on_head[@]}" bash -c 'hostname --ip-address; hostname --all-ip-addresses' |
  tr ' ' '\n' | awk '/^[0-9.]+$/ && !/^127\./ && !found {found = 1; print}')
address=${address:-127.0.0.1}              # a machine without a network, for a job on it alone
port=$((20000 + SLURM_JOB_ID % 20000))     # two jobs may share a node
cpus=${SLURM_CPUS_PER_TASK:-1} gpus=${SLURM_GPUS_ON_NODE:-0}

steps=()
# Never `ray stop`: Ray processes of other users may run on the same nodes.
trap 'kill "${steps[@]}" 2>/dev/null || true; wait' EXIT
"${on_head[@]}" "$python" -m ray.scripts.scripts start --head --block \
  --node-ip-address="$address" --port="$port" --num-cpus="$cpus" --num-gpus="$gpus" \
  --include-dashboard=false &
steps+=($!)

# Wait until the given number of nodes is in the cluster. Ray takes seconds to minutes to start from
# a busy file system.
wait_for_nodes() {
  for _ in $(seq 60); do
    alive=$("$python" -c '
import sys, ray
ray.init(address=sys.argv[1], logging_level="error", log_to_driver=False)
print(sum(node["Alive"] for node in ray.nodes()))' "$address:$port" 2>/dev/null) || true
    [ "${alive:-0}" -ge "$1" ] && return 0
    sleep 5
  done
  echo "after 5 minutes $alive of $1 nodes are in the cluster; see the lines of ray above" >&2
  return 1
}
wait_for_nodes 1
for node in "${nodes[@]:1}"; do
  srun --overlap --nodes=1 --ntasks=1 --nodelist="$node" \
    "$python" -m ray.scripts.scripts start --block \
    --address="$address:$port" --num-cpus="$cpus" --num-gpus="$gpus" &
  steps+=($!)
done
wait_for_nodes "${#nodes[@]}"

# The signal that Slurm sends five minutes before the end lets running stages reach a checkpoint.
"$python" -m sweeps run "$@" --address "$address:$port" &
sweep=$!
out_of_time=
trap 'out_of_time=yes; kill -INT "$sweep"' INT
code=0
wait "$sweep" || code=$?
while kill -0 "$sweep" 2>/dev/null; do   # the signal ended the waiting, not the sweep
  code=0
  wait "$sweep" || code=$?
done
# The sweep did not end by itself: the same job goes on where this one stops.
[ -z "$out_of_time" ] || [ "$code" -eq 0 ] || scontrol requeue "$SLURM_JOB_ID"
exit "$code"

#!/usr/bin/env bash
# Trains on the GPUs of one or several machines, and goes back into the queue two minutes before its time is up.
# A job that is preempted is put back by SLURM itself (--requeue). Either way it goes on after its last finished epoch.
#
# Usage: sbatch [--nodes=N] scripts/slurm/fit.sh configs/1-photons/caloman.yaml runs/photons [--KEY=VALUE ...]
#
# The run folder has to be on a disk that all machines see. As many tasks as GPUs; their numbers have to agree here.
#SBATCH --job-name=caloman-fit
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=caloman-fit-%j.log
#SBATCH --signal=B:USR1@120
set -euo pipefail
config=$1 run=$2
shift 2

requeue() {
  trap '' USR1
  kill -TERM "$!" || true # ends at once: the last finished epoch is on disk
  wait "$!" || true
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
}
trap requeue USR1 # not TERM, which scancel sends

srun --kill-on-bad-exit=1 caloman fit "$config" --output "$run" --trainer configs/trainer/ddp.yaml \
  --hardware.devices="${SLURM_NTASKS_PER_NODE:-1}" --hardware.num_nodes="${SLURM_NNODES:-1}" "$@" &
wait "$!"

#!/usr/bin/env bash
#SBATCH --job-name=caloman
#SBATCH --array=0-15
#SBATCH --cpus-per-task=1
#SBATCH --mem=3G
#SBATCH --time=12:00:00
#SBATCH --requeue
# Generates shard i of N in array task i:
#   sbatch --array=0-15 scripts/slurm/generate.sh RUN FOLDER 16 --n 1000000 --energies log-uniform:1GeV:1TeV --seed 1
# and joins them when all have succeeded:
#   sbatch --dependency=afterok:JOB --wrap "caloman merge showers.hdf5 FOLDER/shard-*.hdf5"
# A task that was stopped goes on where it was when it is queued again, such as with --array=3,7.
set -euo pipefail
run=$1 folder=$2 shards=$3
shift 3
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
mkdir -p "$folder"
exec caloman generate "$run" "$folder/shard-$SLURM_ARRAY_TASK_ID.hdf5" --shard "$SLURM_ARRAY_TASK_ID/$shards" "$@"

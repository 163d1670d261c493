"""Searches values of a pipeline's keys with Optuna, offline; the same command goes on after an interruption.

    pip install 'caloman[sweep]'
    python scripts/sweep.py configs/1-photons/caloman.yaml --output runs/sweep --trials 20 --stage autoencoder \
        --search model.shape.autoencoder.latent_dim=8:32 stages.autoencoder.task.learning_rate=1e-4:1e-2:log \
        model.shape.residual.flow.mixing=permutation,lu

Each trial is a run folder, `caloman runs runs/sweep` lists them. Losses of models with different likelihoods, such as
other values of beta, cannot be compared; there, minimize `--objective separation`.
"""

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

import optuna
import yaml

from caloman.errors import CalomanError
from caloman.run_folders import METRICS, read_metrics
from caloman.training import fit


def suggest(trial: optuna.Trial, search: str) -> str:
    """One override such as ``--seed=3`` from a search such as ``seed=0:9``, ``rate=1e-4:1e-2:log`` or ``key=a,b``."""
    key, _, values = search.partition("=")
    low, *rest = values.split(":")
    if not rest:
        return f"--{key}={trial.suggest_categorical(key, values.split(','))}"
    low, high = yaml.safe_load(low), yaml.safe_load(rest[0])
    log = rest[1:] == ["log"]
    if isinstance(low, int) and isinstance(high, int):
        return f"--{key}={trial.suggest_int(key, low, high, log=log)}"
    return f"--{key}={trial.suggest_float(key, float(low), float(high), log=log)}"


def objective(options: argparse.Namespace) -> Callable[[optuna.Trial], float]:
    """Trains one pipeline and returns the lowest value that a stage logged on the validation showers."""

    def run(trial: optuna.Trial) -> float:
        overrides = [suggest(trial, search) for search in options.search]
        folder = fit(options.config, options.output / f"{trial.number:04d}", overrides=overrides)
        rows = read_metrics(folder / "stages" / options.stage / METRICS)
        return min(row[options.objective] for row in rows if options.objective in row)

    return run


def main() -> None:
    """Goes on with the study until it has so many trials, and prints the best."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--output", type=Path, required=True, help="folder of the study and of its runs")
    parser.add_argument("--stage", required=True, help="stage that is judged")
    parser.add_argument("--search", nargs="+", required=True, help="KEY=LOW:HIGH[:log] or KEY=A,B,...")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--objective", default="validation_loss", help="logged quantity, lower is better")
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    options.output.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{options.output / 'study.db'}",
        study_name="sweep",
        load_if_exists=True,
    )
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))  # which goes on, and does not start anew
    done = sum(trial.state == optuna.trial.TrialState.COMPLETE for trial in study.trials)
    study.optimize(objective(options), n_trials=max(0, options.trials - done), catch=CalomanError)
    print(f"best of {len(study.trials)}: trial {study.best_trial.number:04d}, {study.best_value:.5g}")
    print("\n".join(f"  {key} = {value}" for key, value in study.best_params.items()))


if __name__ == "__main__":
    main()

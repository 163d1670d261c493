"""An ensemble: the same pipeline with several seeds, and one bundle of all of them."""

import logging
from collections.abc import Sequence
from pathlib import Path

from pytorch_lightning.utilities.rank_zero import rank_zero_only

from caloman import bundle
from caloman.errors import CalomanError
from caloman.files import write
from caloman.models import EnsembleShowerModel
from caloman.run_folders import MEMBERS, PIPELINE, STAGES, read_manifest
from caloman.specification import to_yaml
from caloman.training.config import load_pipeline
from caloman.training.folders import remove
from caloman.training.manifest import refuse_changed_data
from caloman.training.pipeline import fit

logger = logging.getLogger(__name__)


def fit_ensemble(
    config: str | Path,
    output: str | Path,
    count: int,
    stage: str | None = None,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
) -> Path:
    """Trains the members of an ensemble one after the other, as `fit` trains a run, and returns the run folder.

    Member i is a run of its own in ``members/i``, with the seed of the pipeline plus i. It splits the showers anew
    unless the files record their split, starts from other weights and sees the showers in another order. The bundle
    of all members is written when they are finished. Overwriting also deletes members beyond `count`.

    Raises:
        CalomanError: see `fit`; also if `count` is not positive, or the folder holds a single run or more members.
    """
    run = Path(output)
    if count < 1:
        raise CalomanError(f"--ensemble {count}: not a number of members; give 2 or more")
    if (run / STAGES).is_dir():
        raise CalomanError(f"{run}: holds a single run, not an ensemble; choose another --output")
    surplus = [folder for folder in _members(run) if int(folder.name) >= count]
    if surplus and not overwrite:
        raise CalomanError(
            f"{run}: --ensemble {count} would leave out member {surplus[0].name}; choose another --output, or "
            "--overwrite to lose it"
        )
    pipeline, resolved = load_pipeline(config, overrides)
    members = [run / MEMBERS / str(i) for i in range(count)]
    for i, folder in enumerate(members):
        logger.info("member %d of 0 to %d", i, count - 1)
        fit(config, folder, stage, [*overrides, f"--seed={pipeline.seed + i}"], overwrite)
    rank_zero_only(_finish)(run, members, surplus, to_yaml(resolved))
    return run


def repeat(run: Path) -> tuple[Path, int | None]:
    """The pipeline of an older run and its number of members, None if it is no ensemble.

    Raises:
        CalomanError: if it is not a run folder, or one of its training files is not what it was.
    """
    if not (run / PIPELINE).is_file():
        raise CalomanError(f"{run}: holds no {PIPELINE}; name the run folder of an older `caloman fit`")
    members = _members(run)
    refuse_changed_data(members[0] if members else run)
    return run / PIPELINE, len(members) or None


def _members(run: Path) -> list[Path]:
    """Folders of the members, by number."""
    found = [path for path in (run / MEMBERS).glob("*") if path.is_dir() and path.name.isdecimal()]
    return sorted(found, key=lambda path: int(path.name))


def _finish(run: Path, members: Sequence[Path], surplus: Sequence[Path], pipeline: str) -> None:
    """Writes what belongs to all members, once none of them has refused the pipeline."""
    for folder in surplus:
        remove(folder, PIPELINE, "run")
    write(run / PIPELINE, pipeline)
    if all((folder / "bundle").is_dir() for folder in members):
        _write_bundle(members, run / "bundle")


def _write_bundle(members: Sequence[Path], folder: Path) -> None:
    first = bundle.read_config(members[0])
    spec = {
        "class_path": "caloman.models.EnsembleShowerModel",
        "init_args": {"member": first["model"], "count": len(members)},
    }
    models = [bundle.load(member) for member in members]
    ensemble = bundle.build_model(spec, models[0].geometry, models[0].conditions, members[0])
    assert isinstance(ensemble, EnsembleShowerModel)  # it was just specified
    for i, model in enumerate(models):
        ensemble.member(i).load_state_dict(model.state_dict())
    manifests = [read_manifest(member) for member in members]
    record = {"members": [{key: value for key, value in m.items() if key != "process"} for m in manifests]}
    bundle.save(ensemble, spec, first["training"], folder, record)
    logger.info("bundle of %d members written to %s", len(members), folder)

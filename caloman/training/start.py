"""A training that starts from the weights of a finished generator, such as that of another detector."""

import logging

from caloman import bundle
from caloman.errors import CalomanError
from caloman.models import ShowerModel

logger = logging.getLogger(__name__)
NAMED = 5  # most tensors that are named


def take_over(model: ShowerModel, start: str) -> list[str]:
    """Gives a generator the weights of another one where names and shapes agree.

    Args:
        model: the new generator.
        start: bundle or run folder of the other one.

    Returns:
        Names of the tensors that it keeps as they are.

    Raises:
        CalomanError: if there is no bundle, or nothing agrees.
    """
    known, own = bundle.load(start).state_dict(), model.state_dict()
    agreeing = {name: known[name] for name in own if name in known and known[name].shape == own[name].shape}
    if not agreeing:
        raise CalomanError(f"start_from: {start}: has no weights of the shapes of this model; configure them alike")
    model.load_state_dict(agreeing, strict=False)
    new = [name for name in own if name not in agreeing]
    rest = f"; new are {', '.join(new[:NAMED])}{', ...' if len(new) > NAMED else ''}" if new else ""
    logger.info("%d of %d tensors taken over from %s%s", len(agreeing), len(own), start, rest)
    return new

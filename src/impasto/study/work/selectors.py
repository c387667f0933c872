"""What is asked of a model to choose the layers that a study's selectors leave out."""

from impasto import strategies
from impasto.error import UserError
from impasto.plan import Plan
from impasto.study.file.entries import PART, PlanEntry, at
from impasto.study.file.study import WrittenStudy
from impasto.study.work.asking import KnownModel
from impasto.tasks.texts import Texts

INFLUENCE = "block_influence"


def is_open(study: WrittenStudy) -> bool:
    """Say whether there is anything to measure."""
    return any(entry.texts is not None for entry in study.plans)


def plans_asked(entry: PlanEntry, layers: int) -> list[Plan]:
    """Return the plans that an entry's texts are put to: of influence the full model alone."""
    if entry.strategy == INFLUENCE:
        return [Plan.identity(layers)]
    part = entry.choices[PART]
    return [strategies.one_shot(layers, part, 1, str(layer)) for layer in range(layers)]


def texts_of(entry: PlanEntry, model: KnownModel) -> Texts:
    """Return an entry's texts as a model reads them; raises StudyError where it reads none."""
    from impasto.run import Encoder

    assert entry.texts is not None
    with at(entry.where):
        if isinstance(model, Encoder):
            raise UserError(
                f"{entry.strategy} chooses layers by texts that decoders read, and {model.name} is "
                'an encoder: name the layers that go first (order: "7 5 3")'
            )
        [task] = entry.texts.load().read_by(model).tasks
    assert isinstance(task, Texts)
    return task

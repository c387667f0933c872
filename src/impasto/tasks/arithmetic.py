"""Paper A's math exercises: sums and differences of two or three digits (arXiv 2409.03621).

The exercises are all of `a ± b` (110) or `a ± b ± c` (1,210) with operands 0 to 9 whose result is a
single non-negative digit, for three terms after the first operation too. Each is asked after one
solved exercise.
"""

from functools import cache
from itertools import product

from impasto.error import UserError, shown
from impasto.tasks.questions import Question, SubjectQuestions, as_text

TEMPLATE = "{exercise} ="
SHOTS = {2: ("2 + 3", "7 - 4"), 3: ("2 + 3 - 1", "7 - 4 + 5")}  # the first that gives nothing away
MAX_NEW_TOKENS = 4  # a digit, perhaps after a space, and the newline


@cache
def exercises(terms: int) -> dict[str, str]:
    """Return every exercise of so many terms with its result, both as text: `4 - 1` gives `3`."""
    if terms == 1:
        return {str(digit): str(digit) for digit in range(10)}
    solved = {}
    for (start, value), sign, digit in product(exercises(terms - 1).items(), "+-", range(10)):
        result = int(value) + digit if sign == "+" else int(value) - digit
        if 0 <= result <= 9:
            solved[f"{start} {sign} {digit}"] = str(result)
    return solved


def arithmetic(
    terms: int = 2,
    template: str = TEMPLATE,
    shot: str | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> SubjectQuestions:
    """Return the exercises of two or three terms: one solved exercise, then the one that is asked.

    `template` is how an exercise is put, with `{exercise}` where it goes; the example is put the
    same way, followed by its result. `shot` is the example, `2 + 3` for two terms and `2 + 3 - 1`
    for three unless given; where it is or contains the asked exercise, another stands in. Every
    exercise of a task has as many operands and signs as the others, so a donor's is as long. Raises
    UserError for other numbers of terms, a shot that is no exercise, and a template without
    exactly one `{exercise}`.
    """
    if not isinstance(terms, int) or terms not in SHOTS:
        raise UserError(f"terms must be 2 or 3, not {shown(terms)}")
    if not isinstance(template, str) or template.count("{exercise}") != 1:
        raise UserError(f"template must contain {{exercise}} exactly once, not {shown(template)}")
    if shot is not None and (not isinstance(shot, str) or shot not in _all_exercises()):
        raise UserError(f"shot must be an exercise such as {SHOTS[terms][0]!r}, not {shown(shot)}")
    shots = SHOTS[terms] if shot is None else (shot, *SHOTS[terms])
    questions = tuple(_question(exercise, terms, template, shots) for exercise in exercises(terms))
    name, title = f"arithmetic-{terms}", f"Arithmetic, {terms} terms"
    task = SubjectQuestions(name, title, questions, max_new_tokens=MAX_NEW_TOKENS)
    return task.sample(limit, seed)


def _question(exercise: str, terms: int, template: str, shots: tuple[str, ...]) -> Question:
    """Put one exercise after the first example that does not contain it."""
    example = next(shot for shot in shots if exercise not in shot)
    shown, asked = (template.replace("{exercise}", text) for text in (example, exercise))
    turns = (shown, _all_exercises()[example], asked)
    answer = exercises(terms)[exercise]
    return Question(exercise, as_text(turns, "\n"), answer, subject=exercise, turns=turns)


@cache
def _all_exercises() -> dict[str, str]:
    return exercises(2) | exercises(3)

"""What a study file may say: its keys, and one clear error for each thing that cannot be.

This module knows the form (`model` or `models`, `tasks`, `plans`, `name`, `load`), not what a task
or a plan means.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
)

from impasto.error import UserError, near, shown
from impasto.model.loading.quantised import QUANTIZATIONS
from impasto.study.file.document import StudyError, YamlDocument

FORMS = {
    "model": "model: demo",
    "tasks": "tasks: [capitals, {name: arithmetic, terms: 2}]",
    "plans": 'plans: [baseline, freeze: {k: all}, "0-7 freeze 8-11"]',
    "name": "name: attend_first",
    "load": "load: {dtype: float16, device_map: auto}",
    "models": "models: [demo, EleutherAI/pythia-70m]  # in place of model",
}
LOADING = {
    "dtype": "one of auto (the checkpoint's own), float32, float16, bfloat16",
    "device_map": "auto (every GPU there is), or a device such as cuda:0 or cpu",
    "revision": "a branch, a tag or a commit of the model's repository, as text",
    "attn_implementation": "sdpa or eager",
    "max_length": "the most tokens of a request, a whole number from 1 on",
    "add_bos_token": "true or false: whether texts get the tokenizer's special tokens",
    "quantization": f"one of {', '.join(QUANTIZATIONS)}",
    "merge_adapter": "true (merge an adapter's weights into its base's) or false (keep its layers)",
}
FROM = "from"
OF_A_FILE = {FROM: str, "format": str, "layers": int}  # an entry that names another tool's file
HEAL, LINE = "heal", "plan"  # of a plan that is healed, and its line
OF_TASKS = ("enable_thinking", "think_end_token", "apply_chat_template")  # not how a model loads


def _task(entry: object) -> dict[str, Any]:
    """Read `capitals` or `{name: arithmetic, terms: 2}` as a mapping with a name."""
    options = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(options, dict) or not isinstance(options.get("name"), str):
        raise UserError("a task is a name, or a mapping such as {name: arithmetic, terms: 2}")
    return options


def _plans_of_a_file(entry: dict[str, Any]) -> dict[str, Any]:
    """Check the form of an entry `{from: FILE, format: F, layers: N}`, the last two left out."""
    for key, value in entry.items():
        if key not in OF_A_FILE:
            raise UserError(
                f"plans of a file have no {shown(key)}{near(str(key), OF_A_FILE)}; they have "
                f"{', '.join(OF_A_FILE)}"
            )
        if type(value) is not OF_A_FILE[key]:
            raise UserError(
                f"{key} cannot be {shown(value)}; for example\n  {{from: layer_drop_config.txt, "
                "format: evopress}"
            )
    return entry


def _plan(entry: object) -> str | dict[str, Any]:
    """Read a plan line, `baseline`, one strategy with its choices, or another tool's file."""
    if isinstance(entry, str):
        return entry
    if isinstance(entry, dict) and FROM in entry:
        return _plans_of_a_file(entry)
    others = {} if not isinstance(entry, dict) else {k: v for k, v in entry.items() if k != HEAL}
    if not isinstance(entry, dict) or len(others) != 1:
        raise UserError(
            'a plan is a line in quotes ("0-7 freeze 8-11"), baseline, one strategy with its '
            "choices (freeze: {k: all}), or another tool's file (from: FILE); with heal: {…} "
            "beside a line or a strategy, it is healed"
        )
    heal = {HEAL: _heal(entry[HEAL])} if HEAL in entry else {}
    [(strategy, choices)] = others.items()
    if strategy == LINE:
        if not isinstance(choices, str) or not heal:
            raise UserError(
                'plan is a line beside heal, {plan: "0-7 9-11", heal: {…}}; without heal the line '
                "stands alone"
            )
        return {strategy: choices, **heal}
    if choices is not None and not isinstance(choices, dict):
        raise UserError(f"{strategy} takes choices by name, such as {strategy}: {{k: all}}")
    return {strategy: choices or {}, **heal}


def _heal(heal: object) -> dict[str, Any]:
    """Read how a plan is healed: `{method: lora, texts: {file: texts.txt}, steps: 200}`."""
    form = "heal: {method: lora, texts: {file: texts.txt}, steps: 200}"
    if not isinstance(heal, dict) or not isinstance(heal.get("texts"), dict):
        raise UserError(f"heal has a method, texts and the method's settings: {form}")
    if not all(isinstance(key, str) for key in heal):
        raise UserError(f"heal has settings by name: {form}")
    return {"method": "linear", **heal}


def _quantization(name: str) -> str:
    if name not in QUANTIZATIONS:
        raise UserError(f"quantization is {LOADING['quantization']}")
    return name


Name = Annotated[StrictStr, Field(min_length=1)]


class Loading(BaseModel):
    """How a model is loaded; what is not given is as Hugging Face has it, the dtype `auto`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dtype: Literal["auto", "float32", "float16", "bfloat16"] | None = None
    device_map: Annotated[StrictStr, Field(min_length=1)] | None = None
    revision: Annotated[StrictStr, Field(min_length=1)] | None = None
    attn_implementation: Literal["sdpa", "eager"] | None = None
    max_length: Annotated[StrictInt, Field(ge=1)] | None = None
    add_bos_token: StrictBool | None = None
    merge_adapter: StrictBool | None = None
    quantization: Annotated[StrictStr, AfterValidator(_quantization)] | None = None


class StudyFile(BaseModel):
    """A study file's content, as far as its form goes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Name | None = None
    models: Annotated[list[Name], Field(min_length=1)] | None = None
    tasks: Annotated[list[Annotated[dict[str, Any], BeforeValidator(_task)]], Field(min_length=1)]
    plans: Annotated[list[Annotated[Any, BeforeValidator(_plan)]], Field(min_length=1)]
    name: Annotated[StrictStr, Field(pattern=r"^[\w][\w.-]*$", max_length=100)] | None = None
    load: Loading = Loading()

    @property
    def all_models(self) -> tuple[str, ...]:
        """The names of the models, one or several."""
        return tuple(self.models or [str(self.model)])


def read_study_file(document: YamlDocument) -> StudyFile:
    """Return the document's content as a study file; raises StudyError naming the first fault."""
    if not isinstance(document.data, dict):
        raise StudyError(
            f"{document.source}: a study has the keys {', '.join(FORMS)}; for example\n"
            + "\n".join(f"  {form}" for key, form in FORMS.items() if key != "models")
        )
    try:
        written = StudyFile.model_validate(document.data)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        # a slip in a key is an unknown key and a missing one: the unknown one says more
        order = {"extra_forbidden": 0, "missing": 2}
        first = min(faults, key=lambda f: (order.get(f["type"], 1), document.line_of(f["loc"])))
        raise StudyError(f"{document.where(first['loc'])}: {_explain(first)}") from None
    _check_models(written, document)
    return written


def _check_models(written: StudyFile, document: YamlDocument) -> None:
    """Raise StudyError unless a file has one of `model` and `models`, and each name once."""
    models = written.models or []
    if written.model is None and not models:
        raise StudyError(
            f"{document.where(())}: the key 'model' is missing; for example\n  {FORMS['model']}\n"
            f"or, for several,\n  {FORMS['models']}"
        )
    if written.model is not None and models:
        later = max("model", "models", key=lambda key: document.line_of((key,)))
        raise StudyError(
            f"{document.where((later,))}: a study has model (one) or models (several), not both"
        )
    seen: set[str] = set()
    for at, name in enumerate(models):
        if name in seen:
            raise StudyError(f"{document.where(('models', at))}: the model {name!r} is here twice")
        seen.add(name)


def _explain(fault: Any) -> str:
    """Say in a sentence what is wrong and what is allowed."""
    key = str(fault["loc"][0])
    if key == "load" and len(fault["loc"]) > 1:
        return _explain_loading(str(fault["loc"][1]), fault)
    if fault["type"] == "extra_forbidden":
        return f"unknown key {shown(key)}{near(key, FORMS)}\nThe keys are {', '.join(FORMS)}."
    if fault["type"] == "missing":
        return f"the key {key!r} is missing; for example\n  {FORMS[key]}"
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    if key == "model" and isinstance(fault["input"], list):
        return f"several models have a key of their own; for example\n  {FORMS['models']}"
    if fault["type"] == "string_pattern_mismatch":
        return "a study's name is made of letters, digits, '_', '-' and '.'"
    return f"{key!r} cannot be {shown(fault['input'])}; for example\n  {FORMS[key]}"


def _explain_loading(key: str, fault: Any) -> str:
    """Say what is wrong in how the model is to be loaded."""
    if key in OF_TASKS:
        return f"{key} is an option of a task: tasks: [{{name: gsm8k, {key}: …}}]"
    if fault["type"] == "extra_forbidden":
        return f"load has no {shown(key)}{near(key, LOADING)}\nIt has {', '.join(LOADING)}."
    return f"{key} is {LOADING[key]}; not {shown(fault['input'])}"

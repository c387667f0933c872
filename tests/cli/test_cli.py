"""The command line: what the commands print, and one message for each mistake."""

import subprocess
import sys
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

import impasto
from characters import Characters
from impasto.cli import app
from impasto.error import UserError
from impasto.plan import Plan
from special_tokens import random_model, tokenizer_of

STUDY = """\
model: demo
tasks: [{name: arithmetic, terms: 2}]
plans:
  - freeze: {k: all}
  - inject: {k: all}
  - "0-1 [2-3]"
"""


@dataclass
class SilentModel(Characters):
    """Knows the answer to everything that it is asked under no marker, else says nothing."""

    name: str = "demo"
    num_layers: int = 4
    family: str = "silent"
    checked: tuple = (("it says what it says", 1e-7), ("allowed", 1e-4), ("the window of 9", None))
    runs_sequences: None = None
    limits: tuple = ("plans cannot name parts of the layers 2-3: it is silent",)
    tokenizer: None = None
    identity: tuple = (("weights", "silent"),)

    @property
    def baseline(self):
        return Plan.identity(self.num_layers)

    def generate(
        self, plans, prompts, max_new_tokens=16, stop=(), donors=None, progress=lambda share: None
    ):
        for plan in plans:
            plan.check(self.num_layers)
        progress(1.0)
        return [[self._says(plan, prompt) for prompt in self.texts(prompts)] for plan in plans]

    def _says(self, plan, prompt):
        if plan.markers and plan.markers[0][0] < 2:
            return " nothing"
        exercise = prompt.splitlines()[-1].removesuffix(" =")
        return f" {eval(exercise)}" if exercise[0].isdigit() else f" heard {prompt}"


def load(name, tokenizer=None):
    if name != "demo":
        raise UserError(f"model {name!r} cannot be loaded")
    return SilentModel()


@pytest.fixture
def cli(monkeypatch, tmp_path):
    """Run a command in an empty folder; nothing real is loaded."""
    monkeypatch.setattr("impasto.run.load", load)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY)

    def call(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


def test_a_run_ends_with_its_figures_and_findings(cli, tmp_path):
    done = cli("run", "study.yaml")
    assert done.exit_code == 0, done.output
    for name in ("A3-arithmetic-2.png", "A3-arithmetic-2.svg", "A5-arithmetic-2.svg"):
        path = tmp_path / "runs" / "study" / "figures" / name
        assert path.stat().st_size > 0
        assert f"runs/study/figures/{name}" in done.stdout
    assert "freezing earlier tokens stops mattering at depth 2 of 4" in done.stdout
    assert "injecting another subject" in done.stdout
    assert "0-1 [2-3] (Arithmetic, 2 terms, the baseline's accuracy 100 %) loses 0" in done.stdout
    assert (tmp_path / "runs" / "study" / "results.csv").is_file()


def test_without_a_terminal_progress_is_plain_lines_on_stderr(cli):
    done = cli("run", "study.yaml")
    assert "100 %  done" in done.stderr
    assert "\x1b" not in done.output
    assert "%  done" not in done.stdout


def test_quiet_prints_where_the_results_are_and_nothing_else(cli, tmp_path):
    done = cli("run", "study.yaml", "--quiet")
    assert done.exit_code == 0
    assert done.stderr == ""
    assert done.stdout == "results  runs/study/results.csv\n"
    assert (tmp_path / "runs" / "study" / "report.html").exists()


def test_ten_sentences_are_printed_and_the_others_are_in_the_report(cli, tmp_path):
    written = "".join(f'  - "0-1 {i} 3"\n' for i in range(3))
    tasks = "[{name: arithmetic, terms: 2}, {name: arithmetic, terms: 3, limit: 50}, capitals]"
    study = STUDY.replace("[{name: arithmetic, terms: 2}]", tasks) + written
    more = "  - drop_attention_from: {k: all}\n  - gaussian: {k: all, seed: 0}\n"
    (tmp_path / "many.yaml").write_text(study + more)
    done = cli("run", "many.yaml")
    assert done.exit_code == 0, done.output
    told = [line for line in done.stdout.splitlines() if line.startswith("- ")]
    assert len(told) == 10
    last = done.stdout.splitlines()[-1]
    assert last.startswith("… and ")
    assert last.endswith(" more in the report")
    page = (tmp_path / "runs" / "many" / "report.html").read_text()
    assert f"<summary>{int(last.split()[2]) - 1} more</summary>" in page  # one opens the page


def test_a_limit_and_a_folder_are_taken_from_the_command_line(cli, tmp_path):
    done = cli("run", "study.yaml", "--limit", 7, "--out", "elsewhere")
    assert done.exit_code == 0
    assert "limit: 7" in (tmp_path / "elsewhere" / "study.yaml").read_text()
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_same_command_again_gives_the_same_files(cli, tmp_path):
    def files():
        found = [p for p in (tmp_path / "runs").rglob("*") if p.is_file()]
        return {p: p.read_bytes() for p in found if p.suffix in {".csv", ".yaml", ".svg"}}

    cli("run", "study.yaml")
    first = files()
    assert cli("run", "study.yaml").exit_code == 0
    assert files() == first


def test_generate_shows_the_plan_beside_the_baseline(cli):
    done = cli("generate", "--plan", "0 freeze 1-3", "2 + 3 =")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "baseline: 0-3",
        "     5",
        "plan: 0 freeze 1-3",
        "     nothing",
    ]


def test_generate_injects_a_donor_that_it_is_given(cli):
    injects = ("generate", "--plan", "inject(donor) 0-3", "2 + 3 =")
    donor = ("--donor", "4 + 5 =", "--donor-span", "4", "--target-span", "2")
    assert cli(*injects, *donor).exit_code == 0
    assert "needs --donor" in cli(*injects).stderr
    assert "does not" in cli("generate", "--plan", "0-3", "hi", *donor).stderr


def test_generate_puts_a_chat_by_the_model_s_template(monkeypatch):
    tokenizer, asked = tokenizer_of("none"), []
    model = impasto.load(random_model(tokenizer), tokenizer)

    def note(self, plans, prompts, donors=None, **_):
        asked.append((prompts, donors))
        return [[""] for _ in plans]

    def run(*words):
        return CliRunner().invoke(app, ["generate", "2 + 3", *words])

    monkeypatch.setattr("impasto.cli.generate.load_model", lambda *_: model)
    monkeypatch.setattr(type(model), "generate", note)
    assert run("--plan", "0-3", "--chat", "--system", "Be brief.").exit_code == 0
    assert asked == [(["[system] Be brief.\n[user] 2 + 3\n[assistant]"], None)]
    donor = ("--donor", "4 + 5", "--donor-span", "4", "--target-span", "2")
    assert run("--plan", "inject(donor) 0-3", "--chat", *donor).exit_code == 0
    assert asked[1][1]["donor"].prompt == "[user] 4 + 5\n[assistant]"
    assert "--system is the first turn" in run("--plan", "0-3", "--system", "Be brief.").stderr
    model.tokenizer.chat_template = None
    result = run("--plan", "0-3", "--chat")
    assert result.exit_code == 2
    assert "--chat needs a model whose tokenizer has a chat template" in result.stderr


def test_explain_needs_no_weights(cli):
    done = cli("explain", "--layers", 4, "--plan", "0-1 [2-3]*2 freeze 3.mlp")
    assert done.exit_code == 0, done.output
    assert "plan     0-1 [2-3]*2 freeze 3.mlp" in done.stdout
    assert "in full  0 1 [2-3] [2-3] freeze 3.mlp" in done.stdout
    assert "attention 6 times, MLP 7 times" in done.stdout
    assert "  1. layers 0" in done.stdout
    assert "═" in done.stdout  # the diagram's marker


def test_explain_says_the_same_for_every_spelling_of_a_plan(cli):
    spellings = ("0-3", "0 1 2 3", "(0-1) 2-3")
    assert len({cli("explain", "--plan", plan).stdout for plan in spellings}) == 1


def test_the_version_is_told(cli):
    assert cli("--version").stdout.startswith("impasto 0.")


MISTAKES = {
    "a model that does not exist": (("run", "study.yaml", "--model", "nil"), "'nil' cannot be"),
    "a study that does not exist": (("run", "studi.yaml"), "did you mean study.yaml"),
    "a key that a study does not have": (("run", "wrong.yaml"), "line 2: unknown key 'taks'"),
    "a layer that the model lacks": (("run", "deep.yaml"), "line 6: layer 9 does not exist"),
    "a depth that the model lacks": (("run", "depth.yaml"), "line 4: k is a whole number"),
    "a file in place of the folder": (("run", "study.yaml", "--out", "taken"), "is a file"),
    "a file on the way to the folder": (("run", "study.yaml", "--out", "taken/a"), "is a file"),
    "a file in place of the figures": (("run", "study.yaml", "--out", "half"), "is a file"),
    "another study's folder": (("run", "study.yaml", "--out", "other"), "no study wrote"),
    "a plan that does not parse": (("generate", "--plan", "0-", "hi"), "^"),
    "a plan with a missing layer": (("generate", "--plan", "0-9", "hi"), "layers 0..3"),
    "no such model to explain for": (("explain", "--plan", "0", "--model", "nil"), "'nil'"),
    "a layer that does not exist": (("explain", "--plan", "4", "--layers", "4"), "layers 0..3"),
    "two numbers of layers": (("explain", "--plan", "0", "--layers", "4", "--model", "a"), "one"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_message_and_writes_nothing(mistake, cli, tmp_path):
    arguments, message = MISTAKES[mistake]
    (tmp_path / "wrong.yaml").write_text(STUDY.replace("tasks", "taks"))
    (tmp_path / "deep.yaml").write_text(STUDY.replace("[2-3]", "9"))
    (tmp_path / "depth.yaml").write_text(STUDY.replace("freeze: {k: all}", "freeze: {k: [9]}"))
    (tmp_path / "taken").write_text("mine")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "figures").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "study.yaml").write_text(STUDY.replace("demo", "another"))
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    done = cli(*arguments, *(["--quiet"] if arguments[0] == "run" else []))
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.startswith("impasto: ")
    assert done.stderr.count("impasto: ") == 1
    assert "Traceback" not in done.output
    assert done.stdout == ""
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_interrupting_says_how_to_go_on(cli, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(SilentModel, "generate", interrupted)
    done = cli("run", "study.yaml", "--quiet")
    assert done.exit_code == 130
    assert done.stderr == "impasto: interrupted\nto go on:  impasto run study.yaml --quiet\n"


def test_mistakes_are_answered_without_loading_torch(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY + '  - "0-1 ["\n')
    code = (
        "import sys; from impasto.cli import app\n"
        "try: app(['run', 'study.yaml'])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "2 False\n", done.stderr
    assert "study.yaml, line 7" in done.stderr


def test_models_lists_the_families_and_checks_one_model(cli):
    listed = cli("models")
    assert listed.exit_code == 0
    [row] = [line for line in listed.stdout.splitlines() if line.split()[:1] == ["gpt_neox"]]
    assert row.split()[1:7] == ["yes", "yes", "yes", "packed", "checkpoint", "planned"]
    assert row.endswith("by hand: GPT-NeoX, Pythia")
    [row] = [line for line in listed.stdout.splitlines() if line.split()[:2] == ["bart", "yes"]]
    assert row.split()[2] == "no"
    checked = cli("models", "demo")
    assert "demo: silent, 4 layers" in checked.stdout
    assert "but plans cannot name parts of the layers 2-3: it is silent" in checked.stdout
    assert "1.0e-07  it says what it says" in checked.stdout
    assert "not checked: the window of 9" in checked.stdout
    assert cli("models", "nothing").exit_code == 2


def test_lm_evals_command_line_gets_all_that_follows(cli, monkeypatch):
    seen = []
    monkeypatch.setattr("impasto.cli.lm_eval.run_command_line", seen.extend)
    words = ["--model_args", "pretrained=demo,plan=0-3", "--tasks", "a", "-f", "3", "--help"]
    assert cli("lm-eval", *words).exit_code == 0
    assert seen == words


def test_generate_says_of_a_tokenizer_that_appends_special_tokens(monkeypatch):
    tokenizer = tokenizer_of("BOS and EOS")
    model = impasto.load(random_model(tokenizer), tokenizer)
    monkeypatch.setattr("impasto.cli.generate.load_model", lambda *_: model)
    words = ["generate", "2 + 3 =", "--plan", "0-3", "--max-new-tokens", "1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0
    assert result.stderr.startswith("impasto: the tokenizer puts </s> behind every text")
    assert result.stderr.count("behind every text") == 1


def test_explain_says_what_another_tools_file_runs(cli, tmp_path):
    file = tmp_path / "layer_drop_config.txt"
    file.write_text("none\nattn\nattn+mlp\nnone\n")
    result = cli("explain", "--from", str(file))
    assert result.exit_code == 0, result.output
    assert "plan     0 1.mlp 3" in result.output
    file.write_text("[[0, 1], [1], [0, 1]]")
    result = cli("explain", "--from", str(file), "--format", "path", "--layers", "4")
    assert result.exit_code == 0, result.output
    assert "3, 2 of them different" in result.output
    assert result.output.count("0-1") == 2
    for arguments, says in [
        (("--from", str(file), "--layers", "1"), "line 1, [0][1]: layer 1 does not exist"),
        (("--from", str(file), "--plan", "0"), "one of them"),
        (("--plan", "0", "--format", "path"), "give it with --from"),
        (("--from", str(file), "--svg", str(tmp_path / "p.svg")), "has 3"),
    ]:
        result = cli("explain", *arguments)
        assert result.exit_code == 2
        assert says in result.output


@pytest.mark.parametrize(
    "words",
    [
        ("generate", "hello", "--plan", "0-3"),
        ("models", "demo"),
        ("similarity", "--texts", "texts.txt"),
        ("probe", "--texts", "texts.csv", "--label", "label"),
        ("bench", "--plan", "0-3"),
        ("explain", "--plan", "0-3", "--model", "demo"),
        ("doctor",),
        ("run", "study.yaml"),
        ("search", "thinner"),
        ("play",),
        ("heal", "healed", "--plan", "0-3", "--texts", "texts.txt"),
        ("export", "exported", "--plan", "0-3"),
        ("fill", "<mask>", "--plan", "0-3", "--model", "demo"),
    ],
)
def test_wherever_a_model_is_opened_a_device_may_be_named(words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY)
    (tmp_path / "texts.txt").write_text("one\ntwo\n")
    (tmp_path / "texts.csv").write_text("text,label\none,1\ntwo,2\n")
    result = CliRunner().invoke(app, [*words, "--device", "cuda:9"])
    assert result.exit_code == 2
    assert "there is no device 'cuda:9' here" in result.stderr
    assert "there is cpu" in result.stderr
    result = CliRunner().invoke(app, [*words, "--dtype", "float8"])
    assert result.exit_code == 2
    assert "--dtype is float32 or bfloat16 or float16, not 'float8'" in result.stderr

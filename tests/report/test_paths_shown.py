"""A page that is passed on names files as they were typed, not where they lie on this machine."""

from impasto import Study


def test_paths_below_the_working_folder_are_relative_to_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = "\n".join(f"The capital of France is Paris, text {at}." for at in range(20))
    (tmp_path / "notes.txt").write_text(lines)
    study = "model: demo\ntasks: [{name: texts, file: notes.txt, tokens: 100}]\nplans: [0-10]\n"
    (tmp_path / "mine.yaml").write_text(study)
    Study.from_yaml("mine.yaml").run("runs/mine", report=True)
    page = (tmp_path / "runs" / "mine" / "report.html").read_text(encoding="utf-8")
    assert "notes.txt" in page
    assert str(tmp_path) not in page

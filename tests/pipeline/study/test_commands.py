"""`make study` and `make study-results` from end to end. Run: python -m pytest tests/pipeline/study/test_commands.py"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import pipeline.study.__main__ as study
from pipeline.spreadsheets import read_csv
from pipeline.study import power, results, statistics
from pipeline.study.key import Key, read_key
from tests.pipeline.study.made import StudyRun, fill_in, rank_by_method, toss_coins, write_ballot
from tests.pipeline.study.test_stand_in import score

TASTE = rank_by_method("ragar", "pmg", "original")


@pytest.fixture(autouse=True)
def _few_simulations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "NUM_RESAMPLES", 200)
    monkeypatch.setattr(power, "NUM_STUDIES", 20)


@pytest.fixture
def place(tmp_path: Path, made_study: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study where the commands look for it."""
    shutil.copytree(made_study, tmp_path / "data" / "study")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data" / "study"


def run(app: typer.Typer, words: str = "", *paths: str) -> str:
    result = CliRunner().invoke(app, [*words.split(), *paths], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_study_is_pages_a_key_and_a_plan(made_study: Path):
    assert sorted(path.relative_to(made_study).as_posix() for path in made_study.rglob("*.*")) == ["key.json", "pages/group-1.html", "power.csv"]
    key = read_key(made_study / "key.json")
    assert (key.dataset, key.profile, key.methods, key.num_participants) == ("stylemoji", "embedded", ("original", "pmg", "ragar"), 50)
    assert len(key.list_cases()) == 6
    rows = read_csv(made_study / "power.csv", power.PLAN_COLUMNS)
    assert {row["cases"] for row in rows} == {"6"}
    assert {row["participants"] for row in rows} == {"10", "20", "30", "50", "100"}


def test_the_same_run_and_seed_give_the_same_study_and_another_never_takes_its_keys_place(
    finished: StudyRun, tmp_path: Path, monkeypatch, made_study: Path
):
    monkeypatch.chdir(finished.folder)
    out = tmp_path / "study"
    run(study.app, "--cases 6 --out", str(out))
    for name in ("key.json", "pages/group-1.html"):
        assert (out / name).read_bytes() == (made_study / name).read_bytes()
    run(study.app, "--cases 6 --out", str(out))
    before = (out / "pages" / "group-1.html").read_bytes()
    with pytest.raises(ValueError, match=r"key\.json is the key of another study, whose ballots nobody could read without it; choose another folder"):
        run(study.app, "--cases 5 --out", str(out))
    assert (out / "pages" / "group-1.html").read_bytes() == before


def test_groups_methods_and_checks_are_what_is_asked_for(finished: StudyRun, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(finished.folder)
    output = run(study.app, "--groups 3 --cases 4 --checks 1 --method ragar --method pmg --seed 5 --out", str(tmp_path / "study"))
    key = read_key(tmp_path / "study" / "key.json")
    assert (len(key.list_cases()), key.methods, key.seed, list(key.groups)) == (12, ("ragar", "pmg"), 5, ["1", "2", "3"])
    assert "study: 4 cases a group, 10 questions a participant;" in output
    assert len(list((tmp_path / "study" / "pages").iterdir())) == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--method nobody", "--method is 'nobody', but it must be one of: glide, "),
        ("--method ragar --method original", "--method names ragar, original, but two beside `original` are needed"),
        ("--method ragar --method sd", "the run has no picture by sd; draw it first"),
        ("--history all", "--history is 'all', but it must be one of: recent, retrieved."),
        ("--groups 20", "12 cases are too few for 20 groups with cases of their own"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(finished: StudyRun, tmp_path: Path, monkeypatch, words: str, sentence: str):
    monkeypatch.chdir(finished.folder)
    with pytest.raises(ValueError, match=".*") as error:
        run(study.app, f"{words} --out", str(tmp_path / "study"))
    assert sentence in str(error.value)
    assert not (tmp_path / "study").exists()


def test_ballots_become_table_3(place: Path, key: Key):
    for number in range(12):
        write_ballot(place / "ballots", fill_in(key, TASTE, participant=f"p-{number}"))
    write_ballot(place / "ballots", fill_in(key, TASTE, participant="sleeper", passes_checks=False))
    write_ballot(place / "ballots", "{", "broken.json")
    output = run(results.app)
    assert "study-results: mean ranks, Per.: ORI 3.00, PMG 2.00, RAGAR 1.00 (12 participants, 6 cases)" in output
    assert "study-results: broken.json does not count: broken.json is not a readable JSON file" in output
    page = (place / "results" / "table3.md").read_text(encoding="utf-8")
    assert page.startswith("# Table 3: human study, ORI, PMG, RAGAR\n")
    assert "stand-in" not in page
    assert "Ballots that count: 12; set aside for failed attention checks: 1; refused files: 1 (`not_counted.csv`). Median time 2 min." in page
    for row in ("| ORI | 3.00 | / |", "| PMG | 2.00 | 2.00 |", "| RAGAR | **1.00** | **1.00** |"):
        assert row in page
    assert "| Per. | 12 participants | Friedman | 24.00 | < 0.001 | 1.00 |" in page
    assert "Agreement between participants about the same case, as the mean rank correlation of two of them: Per. 1.00, Sem. 1.00 (0: none)." in page
    assert "| Per.: RAGAR and PMG | −1.00 | 100% | < 0.001 |" in page
    assert "| n | 10 | 20 | 30 | 50 | 100 |" in page
    assert "| Per.: RAGAR better than PMG | 0.00 | 0.00 | 0.00 | 0.00 | 0.00 |" in page  # sign flips of 6 cases: 1/32, twice
    figures = [(row["task"], row["method"], row["mean_rank"]) for row in read_csv(place / "results" / "table3.csv")]
    per, sem = "personalisation", "meaning"
    assert figures == [(per, "original", "3"), (per, "pmg", "2"), (per, "ragar", "1"), (sem, "pmg", "2"), (sem, "ragar", "1")]
    assert [row["file"] for row in read_csv(place / "results" / "not_counted.csv")] == ["broken.json", "ballot-sleeper.json"]
    facts = json.loads((place / "results" / "table3.json").read_text(encoding="utf-8"))
    assert (facts["is_stand_in"], facts["study"], facts["turnout"]["num_counted"]) == (False, key.study, 12)
    before = {path.name: path.read_bytes() for path in (place / "results").iterdir()}
    run(results.app, "", str(place / "ballots"))
    assert {path.name: path.read_bytes() for path in (place / "results").iterdir()} == before


def test_coins_tossed_by_many_give_no_difference(place: Path, key: Key):
    rng = random.Random(0)
    for number in range(40):
        write_ballot(place / "ballots", fill_in(key, toss_coins(rng), participant=f"p-{number}"))
    run(results.app)
    pairs = read_csv(place / "results" / "pairs.csv")
    assert len(pairs) == 4
    assert all(float(row["p_holm"]) > 0.05 for row in pairs)
    assert all(0.4 < float(row["share_before"]) < 0.6 for row in pairs)


def test_groups_with_cases_of_their_own_are_one_table(finished: StudyRun, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(finished.folder)
    run(study.app, "--groups 2 --cases 6 --out", str(tmp_path / "study"))
    monkeypatch.chdir(tmp_path)
    key = read_key(tmp_path / "study" / "key.json")
    for group in ("1", "2"):
        for number in range(2):
            write_ballot(tmp_path / "study" / "ballots", fill_in(key, TASTE, participant=f"p-{group}-{number}", group=group))
    output = run(results.app, "--key study/key.json --out out")
    assert (tmp_path / "out" / "table3.md").is_file()
    assert "Per.: ORI 3.00, PMG 2.00, RAGAR 1.00 (4 participants, 12 cases)" in output


def test_if_nothing_counts_the_reasons_are_written_and_it_is_an_error(place: Path):
    write_ballot(place / "ballots", "{}", "a.json")
    with pytest.raises(ValueError, match=r"no ballot counts; the reasons are in data/study/results/not_counted\.csv\."):
        run(results.app)
    assert read_csv(place / "results" / "not_counted.csv") == [{"file": "a.json", "reason": "the ballot.format is missing."}]


def test_a_study_without_a_key_or_with_a_spoiled_one_is_a_sentence(place: Path):
    key = json.loads((place / "key.json").read_text(encoding="utf-8"))
    for spoiled, sentence in (
        ({**key, "format": "study-key/9"}, r"key\.json: format is 'study-key/9', but it must be 'study-key/1'\."),
        ({**key, "groups": {"1": {"a": {"task": "meaning"}}}}, r"key\.json\.groups\.1\.a\.case_id is missing\."),
    ):
        (place / "key.json").write_text(json.dumps(spoiled), encoding="utf-8")
        with pytest.raises(ValueError, match=sentence):
            run(results.app)
    (place / "key.json").unlink()
    with pytest.raises(ValueError, match=r"data/study/key\.json does not exist; `make study` writes it beside the pages"):
        run(results.app)


def test_a_stand_in_fills_the_same_table_and_is_called_so(tmp_path: Path, made_study: Path, monkeypatch):
    finished = StudyRun(tmp_path)
    finished.write_scores(score)
    monkeypatch.chdir(tmp_path)
    shutil.copy(made_study / "key.json", tmp_path / "key.json")
    output = run(results.app, "--stand-in --key key.json")
    assert "Per. (evaluation ranker): ORI 3.00, PMG 2.00, RAGAR 1.00 (a model in the participants' place, 6 cases)" in output
    page = Path("stand-in/table3.md").read_text(encoding="utf-8")
    assert page.startswith(
        "# Table 3: stand-in for the human study, ORI, PMG, RAGAR\n\n**No people have taken part: this is an automatic stand-in.**"
    )
    assert "| | Per. (evaluation ranker) | Per. (judge of styles) | Sem. (judge of concepts) | Sem. (CLIP of the metrics) |" in page
    assert {row["rater"] for row in read_csv(Path("stand-in/table3.csv"))} >= {"evaluation ranker", "judge of concepts"}
    assert json.loads(Path("stand-in/table3.json").read_text(encoding="utf-8"))["is_stand_in"] is True
    with pytest.raises(ValueError, match="--stand-in reads no ballots, but mine is named"):
        run(results.app, "mine --stand-in --key key.json")

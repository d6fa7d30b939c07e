"""The protocol of the MovieLens benchmark, by hand-made ratings. Run: python -m pytest tests/test_movielens.py"""

import math
from pathlib import Path

import pytest
import torch

from tests import movielens
from tests.bench_movielens import build_symmetric_graph, score_item_knn, score_popularity, subtract, train_seeds, write_row
from tests.movielens import Films, measure, read_films


def make_films() -> Films:
    """Two users and 30 films: the first has seen 0 and 1 and held out 2 (validation), 3 and 4 (test), the second has seen 0."""
    return Films(
        num_users=2,
        titles=[f"film {index}" for index in range(30)],
        decades=["199"] * 30,
        genres=[["Drama"]] * 30,
        train_P2=torch.tensor([[0, 0], [0, 1], [1, 0]]),
        validation_P2=torch.tensor([[0, 2]]),
        test_P2=torch.tensor([[0, 3], [0, 4], [1, 5]]),
    )


def test_seen_films_are_no_candidates_and_every_other_film_is() -> None:
    score_UN = -torch.arange(30.0).repeat(2, 1)  # ranks: 0 before 1 before 2, ...
    assert measure(score_UN, make_films(), test=False) == {"R@20": {0: 1.0}, "N@20": {0: 1.0}}  # film 2 is the first that is not seen
    tested = measure(score_UN, make_films(), test=True)
    assert tested["R@20"] == {0: 1.0, 1: 1.0}
    assert tested["N@20"][0] == pytest.approx(1.0)  # 3 and 4 come first: train and validation films are out
    assert tested["N@20"][1] == pytest.approx(1 / math.log2(6))  # film 5 behind 1, 2, 3 and 4


def test_a_film_behind_twenty_others_is_no_hit() -> None:
    score_UN = torch.zeros(2, 30)
    score_UN[0, 3], score_UN[1, 6:26] = 1.0, 1.0
    tested = measure(score_UN, make_films(), test=True)
    assert tested["R@20"] == {0: 0.5, 1: 0.0}  # ties count against film 4


def test_popularity_and_item_knn_worked_by_hand() -> None:
    films = make_films()
    assert score_popularity(films)[1, :3].tolist() == [2.0, 1.0, 0.0]
    score_UN = score_item_knn(films, num_neighbours=1)
    assert score_UN[1, :3].tolist() == pytest.approx([0.0, 0.5**0.5, 0.0])  # films 0 and 1 share one of two viewers: 1 / sqrt(2)
    assert score_UN[0, 0] == pytest.approx(0.5**0.5)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_the_graph_of_lightgcn_is_symmetrically_normalised() -> None:
    dense = build_symmetric_graph(make_films()).to_dense()
    assert torch.equal(dense, dense.T)
    assert dense[0, 2] == pytest.approx(0.5)  # user 0 and film 0 have two edges each
    assert dense[1, 2] == pytest.approx(0.5**0.5)
    assert int((dense > 0).sum()) == 6


def test_the_split_is_of_every_user_and_of_ratings_of_three_and_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "recbole" / "dataset_example" / "ml-100k"
    folder.mkdir(parents=True)
    (tmp_path / "recbole" / "__init__.py").write_text("raise ImportError('only its files are read')\n", encoding="utf-8")
    films = [f'{number}\tFilm "{number}\t1995\tAnimation Comedy' for number in range(1, 25)]
    (folder / "ml-100k.item").write_text(
        "\n".join(["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq", *films]), encoding="utf-8"
    )
    ratings = [f"{user}\t{number}\t{3 if number <= 20 else 2}\t0" for user in (1, 2) for number in range(1, 25)]
    (folder / "ml-100k.inter").write_text("\n".join(["user_id:token\titem_id:token\trating:float\ttimestamp:float", *ratings]), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    read = read_films()
    parts = [[pair for pair in part.tolist() if pair[0] == 1] for part in (read.train_P2, read.validation_P2, read.test_P2)]
    assert [len(part) for part in parts] == [16, 2, 2]
    assert sorted(item for part in parts for _, item in part) == list(range(20))
    assert (read.titles[2], read.decades[2], read.genres[2]) == ('Film "3', "199", ["Animation", "Comedy"])


def test_without_the_package_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movielens.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="recbole, which carries MovieLens 100K, is not installed; make setup EXTRAS=benchmark"):
        read_films()


def test_a_row_has_means_over_users_and_seeds_and_a_difference_its_sign() -> None:
    better, worse = ({metric: dict.fromkeys(range(20), value) for metric in ("R@20", "N@20")} for value in (0.5, 0.25))
    assert write_row("LightGCN", [better, worse]).startswith("| LightGCN | 2 | 0.3750 [0.2500, 0.5000] | 0.3750 [")
    assert (
        write_row("MICRO - LightGCN", [subtract(better, worse)])
        == "| MICRO - LightGCN | 1 | +0.2500 [+0.2500, +0.2500] | +0.2500 [+0.2500, +0.2500] |"
    )


def test_every_seed_is_trained_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    class Film0First:
        def train_epoch(self, epoch: int) -> None:
            assert epoch < 30  # no better after the first look: 25 epochs later it stops

        def score(self) -> torch.Tensor:
            return -torch.arange(30.0).repeat(2, 1)

    runs = train_seeds("first", lambda seed: Film0First(), make_films())
    assert [run["R@20"] for run in runs] == [{0: 1.0, 1: 1.0}] * 5
    assert capsys.readouterr().out.splitlines()[4] == "first, seed 4: R@20 of validation 1.0000, epoch 5"

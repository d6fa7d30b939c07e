"""MovieLens "latest": posters, titles and genres; each person's ratings cut into chunks of 20, a chunk being one user.

    <raw>/ratings.csv   userId,movieId,rating,timestamp          <raw>/movies.csv   movieId,title,genres
    <raw>/links.csv     movieId,imdbId,tmdbId (optional: it says in the list of missing posters where to look)
    <raw>/posters/<movieId>.jpg    which GroupLens does not distribute
    <raw>/posters.csv   movieId,url (optional, your own: what `make fetch-images` may download)

The paper's "ML-latest" decodes as ml-latest-small: its 9,742 items are that set's movies, and its 610 people give 4,769 chunks of
exactly 20 ratings, of which the paper's 4,689 are 98%. Departures: 1. movies without a readable poster are dropped first;
2. a person's ratings are ordered by (timestamp, movieId), since the file is ordered by movie; 3. a chunk's last rating is the
reference, the rest is the history, and what is left at a person's end is dropped; chunks of one person become different users;
4. of the full set, some people are drawn, and only the movies that they rated are items.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import polars as pl
from annotated_types import Ge, Le

from pipeline.config import Count, config_dataclass
from pipeline.data.csv_files import read_csv
from pipeline.data.dataset import Dataset
from pipeline.data.losses import NO_IMAGE, REFERENCES, REPEATED, Losses
from pipeline.data.picture_folder import PictureFolder, PictureNameError
from pipeline.data.problems import NUM_EXAMPLES, DataError, Problems, quote
from pipeline.data.raw_files import read_lines, require_file, require_folder
from pipeline.data.source import RawItem, SplitConfig, UserSequence, build_tables, load_catalogue
from pipeline.data.tables import read_rows
from pipeline.params import load_params

RATINGS_HEADER = ("userId", "movieId", "rating", "timestamp")
COLUMNS = {"person": pl.UInt32, "movie": pl.UInt32, "stars": pl.Float32, "time": pl.Int64}
YEAR = re.compile(r"\s*\(\d{4}(?:[-–]\d{0,4})?\)\s*$")
MOVIE_ID = re.compile(r"[1-9][0-9]{0,8}")
NO_GENRES = "(no genres listed)"
SEPARATOR = "\x1f"  # a character that no line holds: polars then reads whole lines


@config_dataclass
class MlLatestConfig(SplitConfig):
    """Params of MovieLens; explained in conf/dataset/ml_latest.yaml. A chunk holds history_length ratings and the reference."""

    min_rating: Annotated[float, Ge(0), Le(5)]  # stars
    num_people: Count | None


def build_from_params(params: Path, extra: Path, seed: int) -> Dataset:
    """Build the data set that the params' `dataset` block says."""
    return build_ml_latest(load_params(params, "dataset", MlLatestConfig), extra=extra, seed=seed)


def build_ml_latest(config: MlLatestConfig, *, extra: Path, seed: int) -> Dataset:
    """Read the files, load the posters, and cut the ratings into chunks."""
    raw = require_folder(Path(config.raw))
    problems = Problems()
    raw_items = read_movies(raw, problems)
    path = require_file(raw / "ratings.csv")
    losses = Losses()
    try:
        ratings = read_ratings(path, {item.item_id for item in raw_items}, config, problems, losses, seed=seed)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: the file is no readable CSV ({str(error).splitlines()[0]}).") from error
    problems.raise_if_any()
    if config.num_people is not None:
        rated = set(ratings["movie"].to_list())
        raw_items = [item for item in raw_items if int(item.item_id) in rated]
    catalogue = load_catalogue(raw_items, config)
    usable = ratings.filter(pl.col("movie").is_in([int(movie) for movie in catalogue.items]))
    facts = {"people": ratings["person"].n_unique(), "ratings": len(ratings), "ratings_without_poster": len(ratings) - len(usable)}
    losses.count(NO_IMAGE, len(ratings) - len(usable))
    with_poster = set(usable["person"].to_list())
    for person in ratings["person"].unique(maintain_order=True).to_list():
        if person not in with_poster:
            losses.leave_out(str(person), "none of the rated movies has a readable poster")
    sequences = list(cut_chunks(usable, config.history_length + 1, losses))
    return build_tables(catalogue, sequences, config, extra=extra, facts=facts, losses=losses)


def read_movies(raw: Path, problems: Problems) -> list[RawItem]:
    """Read the movies in file order: the title without its year, the genres as category."""
    path, urls, hints = raw / "movies.csv", read_urls(raw, problems), read_links(raw, problems)
    posters = PictureFolder(raw / "posters")
    items: dict[str, RawItem] = {}
    for line, row in read_csv(path, ("movieId", "title", "genres"), (), problems, whole=True):
        movie_id, title = row["movieId"], YEAR.sub("", row["title"]).strip()
        if not MOVIE_ID.fullmatch(movie_id):
            problems.add(path, line, f"the movieId {quote(movie_id)} is no whole number.")
        elif movie_id in items:
            problems.add(path, line, f"the movieId {movie_id} is there twice.")
        else:
            genres = "" if row["genres"] == NO_GENRES else row["genres"].replace("|", ", ")
            try:
                image = posters.locate(movie_id)
            except PictureNameError as error:
                problems.add(path, line, str(error))
                continue
            items[movie_id] = RawItem(movie_id, title, genres, image, urls.get(movie_id, ""), hints.get(movie_id, ""))
    return list(items.values())


def read_urls(raw: Path, problems: Problems) -> dict[str, str]:
    """Read the poster URLs that the user has brought; none without the file."""
    path = raw / "posters.csv"
    return {row["movieId"]: row["url"] for _, row in read_rows(path, ("movieId", "url"), (), problems)} if path.exists() else {}


def read_links(raw: Path, problems: Problems) -> dict[str, str]:
    """Read where each movie can be looked up, e.g. `imdb tt0114709, tmdb 862`; the tmdbId may be empty."""
    path = raw / "links.csv"
    hints = {}
    for line, row in read_csv(path, ("movieId", "imdbId", "tmdbId"), (), problems, whole=True) if path.exists() else ():
        if not re.fullmatch(r"[0-9]{1,9}", row["imdbId"]):
            problems.add(path, line, f"the imdbId {quote(row['imdbId'])} is no whole number.")
            continue
        hints[row["movieId"]] = f"imdb tt{int(row['imdbId']):07d}" + (f", tmdb {row['tmdbId']}" if row["tmdbId"] else "")
    return hints


def read_ratings(path: Path, movies: set[str], config: MlLatestConfig, problems: Problems, losses: Losses, *, seed: int) -> pl.DataFrame:
    """Return the ratings of at least `min_rating` stars (columns person, movie, time), ordered by person, time and movie; others are losses.

    The file is scanned lazily and line by line, so that a bad line has a number; of the full set only `num_people` people are kept.
    """
    check_ends(path, problems)
    ratings = scan_ratings(path)
    valid = pl.all_horizontal(pl.col(name).is_not_null() for name in COLUMNS) & pl.col("rest").is_null() & pl.col("stars").is_between(0.5, 5)
    wrong = ratings.filter(~valid.fill_null(False)).select("number", "line")
    first = wrong.head(NUM_EXAMPLES).collect(engine="streaming").rows()
    others = wrong.select(pl.len()).collect(engine="streaming").item() - len(first) if len(first) == NUM_EXAMPLES else 0
    for number, line in first:
        times = 1 + (others if number == first[-1][0] else 0)
        sentence = f"{quote(line or '')} is no rating; a line is {','.join(RATINGS_HEADER)}, all numbers, 0.5 to 5 stars."
        problems.add(path, number, sentence, times=times)
    problems.raise_if_any()
    if config.num_people is not None:
        people = ratings.select(pl.col("person").unique()).collect(engine="streaming")["person"].to_list()
        ratings = ratings.filter(pl.col("person").is_in(draw_people(people, config.num_people, seed=seed)))
    losses.num_read = ratings.select(pl.len()).collect(engine="streaming").item()
    chosen = ratings.filter(pl.col("stars") >= config.min_rating)
    table = chosen.select("number", "person", "movie", "time").collect(engine="streaming").sort("person", "time", "movie")
    for number, movie in table.filter(~pl.col("movie").is_in([int(movie) for movie in movies])).select("number", "movie").iter_rows():
        problems.add(path, number, f"the movieId {movie} is not in movies.csv.")
    unique = table.unique(["person", "movie"], keep="last", maintain_order=True)
    losses.count("have fewer stars than dataset.min_rating", losses.num_read - len(table))
    losses.count(REPEATED, len(table) - len(unique))
    return unique


def scan_ratings(path: Path) -> pl.LazyFrame:
    """Scan the file as whole lines and split each into numbers; what is no number becomes null, a fifth field and more `rest`."""
    lines = pl.scan_csv(
        path,
        has_header=False,
        skip_rows=1,
        schema={"line": pl.String},
        separator=SEPARATOR,
        quote_char=None,
        encoding="utf8-lossy",
        truncate_ragged_lines=True,
        row_index_name="number",
        row_index_offset=2,
    )
    parts = pl.col("line").str.strip_suffix("\r").str.splitn(",", len(COLUMNS) + 1).struct
    numbers = [parts.field(f"field_{n}").cast(kind, strict=False).alias(name) for n, (name, kind) in enumerate(COLUMNS.items())]
    return lines.with_columns(*numbers, parts.field(f"field_{len(COLUMNS)}").alias("rest"))


def check_ends(path: Path, problems: Problems) -> None:
    """Check the header, and that the last line is whole: a number that was cut off is a number still."""
    header = next((line for _, line in read_lines(path, problems)), b"").decode("utf-8", errors="replace")
    if header != ",".join(RATINGS_HEADER):
        raise DataError(f"{path}, line 1: the header is {quote(header)}, but it must be {quote(','.join(RATINGS_HEADER))}.")
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            problems.add(path, None, "the file ends in the middle of a line, so a part of it is missing.")


def draw_people(people: list[int], num_people: int, *, seed: int) -> list[int]:
    """Draw people by the hash of their id, so that a person's lot does not depend on the others."""
    return sorted(people, key=lambda person: hashlib.sha256(f"ml_latest:{seed}:{person}".encode()).digest())[:num_people]


def cut_chunks(ratings: pl.DataFrame, size: int, losses: Losses) -> Iterator[UserSequence]:
    """Cut every person's ratings into consecutive chunks of `size`, each with its last rating as the reference; a shorter rest is a loss."""
    for (person,), rows in ratings.group_by(["person"], maintain_order=True):
        movies = [str(movie) for movie in rows["movie"]]
        if len(movies) < size:
            reason = f"{len(movies)} rated movies with a readable poster, but history and reference need {size}"
            losses.leave_out(str(person), reason, num_read=len(movies))
            continue
        losses.count(f"are the rest of a person's ratings, too short for a chunk of {size} (dataset.history_length + 1)", len(movies) % size)
        losses.count(REFERENCES, len(movies) // size)
        for chunk in range(len(movies) // size):
            *history, reference = movies[chunk * size : (chunk + 1) * size]
            yield UserSequence(f"{person}_{chunk}", tuple(history), reference)

"""The graphs and photographs that came with the tests are the ones that their READMEs describe."""

import gzip
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from millrace.errors import InvalidRequest
from millrace.traffic.graph import following_of, read_edges, read_graph, zipf_edges
from millrace.traffic.pictures import SIDE_PX, Pictures, posts

DATA = Path(__file__).parents[1] / "data"
PICTURES = DATA / "pictures"
SUMS = {
    "github.follows.gz": "ea56725befb533c616de8bfe4d759ccdfa5aedd651c0f52275550eb289be4273",
    "twitch-pt.follows.gz": "38d79fcb4abbb332a1e7f9d23dec71dfdd7c79dde06bef88f8ad0b5c3019d5c0",
}

edges = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60)


@pytest.mark.parametrize("name", SUMS)
def test_the_graphs_are_those_of_the_readme(name: str) -> None:
    found = hashlib.sha256((DATA / name).read_bytes()).hexdigest()
    assert found == SUMS[name]
    readme = (DATA / "README.md").read_text()
    assert found[:16] in readme
    for said in ("commit", "Licence", "MIT", "Rozemberczki"):
        assert said in readme


def test_the_readme_names_every_photograph() -> None:
    readme = (PICTURES / "README.md").read_text()
    photographs = sorted(PICTURES.glob("*.jpg"))
    assert len(photographs) == 7
    assert all(f"`{photograph.name}`" in readme for photograph in photographs)


@pytest.mark.parametrize(
    ("name", "people", "follows", "most"),
    [("github.follows.gz", 37_700, 578_006, 9_458), ("twitch-pt.follows.gz", 1_912, 62_598, 767)],
)
def test_the_graphs_are_read_whole(name: str, people: int, follows: int, most: int) -> None:
    graph = read_edges(DATA / name)
    assert graph.people == people
    assert graph.follower.size == graph.followee.size == follows
    assert graph.followers_count.max() == most
    assert (graph.followers_count == graph.following_count).all(), "all follows are returned"


@settings(deadline=None)
@given(pairs=edges, packed=st.booleans())
def test_a_graph_is_what_its_lines_say(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, int]], packed: bool
) -> None:
    text = "".join(f"{one} {other}\n" for one, other in pairs).encode()
    file = tmp_path_factory.getbasetemp() / "edges"
    file.write_bytes(gzip.compress(text) if packed else text)
    true = sorted({(one, other) for one, other in pairs if one != other})
    graph = read_edges(file)
    assert list(zip(graph.follower.tolist(), graph.followee.tolist(), strict=True)) == true
    following = read_graph(file)
    assert [(one, other) for one, whom in enumerate(following) for other in whom] == true
    assert len(following) == graph.people
    assert graph.followers_count.sum() == graph.following_count.sum() == len(true)


DAMAGED = gzip.compress(b"1 2\n" * 9)[:10] + b"\xff" * 20


@pytest.mark.parametrize(
    "text", [b"1 2\n3", b"1 -2", b"a b", b"1 99999999999", b"\x1f\x8bjunk", DAMAGED]
)
def test_another_file_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "edges").write_bytes(text)
    with pytest.raises(InvalidRequest):
        read_edges(tmp_path / "edges")


def test_pictures_are_decided_by_seed_and_number() -> None:
    first, second = Pictures(PICTURES), Pictures(PICTURES)
    made = [first.jpeg(7, n) for n in range(12)]
    assert [second.jpeg(7, n) for n in reversed(range(12))] == made[::-1]
    assert len({*made, *(first.jpeg(8, n) for n in range(12))}) == 24


def test_pictures_look_like_something() -> None:
    for data, caption in posts(PICTURES, 12, seed=3):
        image = Image.open(io.BytesIO(data))
        assert image.format == "JPEG"
        assert max(image.size) == SIDE_PX
        assert np.asarray(image).std() > 5
        corners = [image.getpixel((x, y)) for x in (0, image.width - 1) for y in (0, 1)]
        assert len(set(corners)) > 1, "a corner outside the photograph would be one colour"
        assert caption


def test_a_folder_without_photographs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        Pictures(tmp_path)


def test_a_made_graph_is_its_seeds_and_has_stars() -> None:
    graph = zipf_edges(500, 1)
    assert (graph.follower == zipf_edges(500, 1).follower).all()
    assert not (graph.follower == graph.followee).any()
    assert 12 < graph.following_count.mean() <= 20
    ordered = np.sort(graph.followers_count)
    assert ordered[-1] > 10 * np.median(ordered)
    for people in (1, 2, 30):
        assert len(following_of("zipf", people, 1)) == people


def test_of_a_file_the_most_followed_are_taken() -> None:
    file = DATA / "twitch-pt.follows.gz"
    whole = read_graph(file)
    assert following_of(str(file), 0, 1) == whole
    part = following_of(str(file), 50, 1)
    assert len(part) == 50
    assert all(0 <= one < 50 and one != person for person, whom in enumerate(part) for one in whom)
    assert sum(map(len, part)) > 400, "the most followed follow each other"
    with pytest.raises(InvalidRequest):
        following_of("zipf", 0, 1)

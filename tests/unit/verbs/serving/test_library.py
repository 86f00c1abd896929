"""Studies of a folder through the API: what is listed, opened, sent and drawn is what the readers of the house read."""

from __future__ import annotations

import gzip
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
from starlette.testclient import TestClient

from isocenter.core import Image
from isocenter.core.errors import NotFound, TooLarge
from isocenter.data.images import read_study
from isocenter.data.images.dicom import open_dicom
from isocenter.verbs.serving import library as library_module
from isocenter.verbs.serving.library import StudyLibrary
from isocenter.verbs.serving.sources import FolderSource
from isocenter.viewer.ports import Picture
from isocenter.viewer.settings import Limits
from serving_cases import API, opened, ramp, served, studies, voxels, write_folder, write_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("library") / "in")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    with served(folder, folder.parent / "work") as found:
        yield found


def test_the_list(client: TestClient) -> None:
    found = studies(client)
    assert [s["study_date"] for s in found] == ["2024-03-04", "2024-01-01", "2023-01-02", None, None]
    first = found[0]
    assert first["modalities"] == ["CT"] and first["instances"] == 6 and first["description"] == "CT of a ramp"
    assert [s["prior"] for s in found] == [1, 0, 0, 0, 0]
    assert found[0]["patient_key"] == found[2]["patient_key"] != found[1]["patient_key"]
    assert [s["description"] for s in found[3:]] == ["picture.png", "plain.nii.gz"]


@pytest.mark.parametrize(
    ("query", "dates"),
    [
        ({"from": "2024-01-01"}, ["2024-03-04", "2024-01-01"]),
        ({"from": "2024-01-01", "to": "2024-02-01"}, ["2024-01-01"]),
        ({"modality": "ct", "order": "-date"}, ["2023-01-02", "2024-01-01", "2024-03-04"]),
        ({"modality": "MR"}, []),
        ({"q": "RAMP 2023"}, ["2023-01-02"]),
        ({"q": "nothing like it"}, []),
        ({"offset": 1, "limit": 1}, ["2024-01-01"]),
        ({"q": "nii"}, [None]),
    ],
)
def test_filters(client: TestClient, query: dict[str, Any], dates: list[str | None]) -> None:
    assert [s["study_date"] for s in studies(client, **query)] == dates


def test_a_filter_by_patient(client: TestClient) -> None:
    key = studies(client)[0]["patient_key"]
    assert len(studies(client, patient=key)) == 2
    answer = client.get(f"{API}/studies", params={"limit": 0})
    assert answer.status_code == 422 and answer.json()["errors"][0]["where"] == "query.limit"


def test_an_opened_study_is_what_read_study_reads(client: TestClient, folder: Path) -> None:
    item = studies(client)[0]
    detail = opened(client, item["id"])
    assert [p["study_date"] for p in detail["priors"]] == ["2023-01-02"]
    (image,) = detail["images"]
    truth = _read(folder / "b")
    assert image["modality"] == "CT" and image["quantity"] == "HU" and image["unit"] == "[hnsf'U]"
    assert tuple(image["shape_zyx"]) == truth.geometry.shape
    assert tuple(image["spacing_mm"]) == truth.geometry.spacing_mm
    np.testing.assert_array_equal(np.array(image["affine_zyx_to_lps_mm"]), truth.geometry.affine)
    assert image["orientation"] == truth.geometry.orientation and not image["too_large"]
    np.testing.assert_array_equal(voxels(client, image), truth.array)
    np.testing.assert_array_equal(voxels(client, image, 2, 3), truth.array[:, 2:5])
    assert image["bytes"] == len(client.get(f"{API}/images/{image['id']}/pixels").content)
    assert client.get(f"{API}/images/{image['id']}").json() == image
    assert image["windows"][0]["name"] == "soft tissue"


def _read(folder: Path) -> Image:
    """The series that lies in a folder, and not what lies below it."""
    return open_dicom(sorted(folder.glob("*.dcm")), root=folder).images[0].image()


def test_plain_files(client: TestClient, folder: Path) -> None:
    picture, volume = studies(client)[3:]
    (image,) = opened(client, picture["id"])["images"]
    truth = read_study(folder / "picture.png").study.images[0]
    assert image["channels"] == truth.array.shape[0] and image["affine_zyx_to_lps_mm"] is None
    np.testing.assert_array_equal(voxels(client, image), truth.array)
    (image,) = opened(client, volume["id"])["images"]
    truth = read_study(folder / "plain.nii.gz").study.images[0]
    np.testing.assert_array_equal(voxels(client, image), truth.array)
    np.testing.assert_allclose(image["affine_zyx_to_lps_mm"], truth.geometry.affine, atol=1e-5)


def test_planes_outside(client: TestClient) -> None:
    image = opened(client, studies(client)[0]["id"])["images"][0]["id"]
    for query in ({"first": 6}, {"first": 0, "count": 7}, {"first": 5, "count": 2}):
        answer = client.get(f"{API}/images/{image}/pixels", params=query)
        assert (answer.status_code, answer.json()["code"]) == (400, "config"), query
    assert client.get(f"{API}/images/{image}/pixels", params={"first": -1}).status_code == 422


def test_what_was_sent_is_not_sent_again(client: TestClient) -> None:
    image = opened(client, studies(client)[0]["id"])["images"][0]["id"]
    for path in (f"{API}/images/{image}/pixels?first=1&count=2", f"{API}/images/{image}/picture.png"):
        first = client.get(path)
        assert first.headers["cache-control"].startswith("private") and "immutable" in first.headers["cache-control"]
        again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert again.status_code == 304 and not again.content
        assert client.get(path, headers={"If-None-Match": '"other"'}).content == first.content


def test_compressed_where_asked_for(client: TestClient) -> None:
    image = opened(client, studies(client)[0]["id"])["images"][0]["id"]
    path = f"{API}/images/{image}/pixels"
    assert "content-encoding" not in client.get(path).headers  # whatever a browser's Accept-Encoding says
    with client.stream("GET", path, params={"compress": "gzip"}) as packed:
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(b"".join(packed.iter_raw())) == client.get(path).content


def test_pictures_have_the_aspect_of_the_patient(client: TestClient) -> None:
    image = opened(client, studies(client)[0]["id"])["images"][0]
    # 6 x 5 x 7 voxels of 2 x 1 x 0.5 mm.
    for plane, size in (("z", (3.5, 5.0)), ("y", (3.5, 12.0)), ("x", (5.0, 12.0))):
        answer = client.get(f"{API}/images/{image['id']}/picture.png", params={"plane": plane, "width_px": 240})
        assert answer.headers["content-type"] == "image/png"
        drawn = PIL.Image.open(io.BytesIO(answer.content))
        assert max(drawn.size) == 240
        assert drawn.size[0] / drawn.size[1] == pytest.approx(size[0] / size[1], rel=0.02), plane
    answer = client.get(f"{API}/images/{image['id']}/picture.png", params={"index": 6})
    assert (answer.status_code, answer.json()["code"]) == (400, "config")


def test_windows_of_pictures_are_bounded(client: TestClient) -> None:
    path = f"{API}/images/{opened(client, studies(client)[0]['id'])['images'][0]['id']}/picture.png"
    for centre, width in ((1e9, 1e-6), (-1e9, 1e-6), (1e9, 1e9), (0.0, 1e-6), (40.0, 400.0)):
        assert client.get(path, params={"centre": centre, "width": width}).status_code == 200, (centre, width)
    for asked in ({"centre": "1e308"}, {"centre": "nan"}, {"width": "inf"}, {"width": 0}, {"width": "1e-300"}):
        assert client.get(path, params=asked).status_code == 422, asked


def test_a_picture_is_the_same_whether_the_whole_was_read_or_not(folder: Path, tmp_path: Path) -> None:
    library = make(folder, tmp_path)
    for item in library.studies_now():
        for image in library.study(item).images:
            lazily = [library.picture(image.id, Picture("z", z, 0.0, 500.0, 64)) for z in range(image.shape_zyx[0])]
            library.image(image.id)
            assert lazily == [
                library.picture(image.id, Picture("z", z, 0.0, 500.0, 64)) for z in range(image.shape_zyx[0])
            ]


def test_nifti(client: TestClient, folder: Path) -> None:
    image = opened(client, studies(client)[0]["id"])["images"][0]["id"]
    answer = client.get(f"{API}/images/{image}/nifti")
    assert answer.status_code == 200
    found = nib.Nifti1Image.from_bytes(gzip.decompress(answer.content))
    truth = _read(folder / "b")
    np.testing.assert_array_equal(np.asarray(found.dataobj).transpose(2, 1, 0), truth.array[0])
    flat = opened(client, studies(client)[3]["id"])["images"][0]["id"]
    assert client.get(f"{API}/images/{flat}/nifti").status_code in (200, 422)


def test_names_that_there_are_not(client: TestClient) -> None:
    for path in ("studies/0123456789abcdef", "images/0123456789abcdef", "images/0123456789abcdef/pixels", "jobs/x"):
        answer = client.get(f"{API}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_status_follows_the_work(client: TestClient) -> None:
    item = studies(client)[1]
    opened(client, item["id"])
    assert next(s for s in studies(client) if s["id"] == item["id"])["status"] == "open"
    assert item["id"] in [s["id"] for s in studies(client, status="open")]


# --- the library itself ----------------------------------------------------------------------------------------------


class Library(StudyLibrary):
    def studies_now(self) -> list[str]:
        assert self.source.scan.wait(20)  # type: ignore[attr-defined]
        return sorted(self.source.scan.studies)  # type: ignore[attr-defined]


def make(folder: Path, work: Path, **settings: Any) -> Library:
    limits = settings.pop("limits", Limits())
    library = Library(FolderSource(folder, work), work, limits=limits, **{"memory_bytes": 64 << 20} | settings)
    library.source.start()
    return library


def test_ids_last_and_images_are_known_after_a_restart(folder: Path, tmp_path: Path) -> None:
    first = make(folder, tmp_path)
    ids = {study: [i.id for i in first.study(study).images] for study in first.studies_now()}
    first.close()
    second = make(folder, tmp_path)
    assert second.studies_now() == sorted(ids)
    for study, images in ids.items():
        for image in images:  # nobody has opened its study since
            assert second.study_of(image) == study
    with pytest.raises(NotFound):
        second.image_item("0123456789abcdef")


def test_a_second_scan_opens_no_file_that_has_not_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(folder, tmp_path)
    known = first.studies_now()
    first.close()
    monkeypatch.setattr("isocenter.verbs.serving.scan.Scan._look", lambda *_: pytest.fail("a file was opened again"))
    assert make(folder, tmp_path).studies_now() == known


def test_new_and_removed_studies_are_seen(tmp_path: Path) -> None:
    write_study(tmp_path / "in" / "a", ramp(), study="1.2.9.1")
    library = make(tmp_path / "in", tmp_path / "work")
    (one,) = library.studies_now()
    write_study(tmp_path / "in" / "b", ramp(shift=1), study="1.2.9.2")
    for file in (tmp_path / "in" / "a").iterdir():
        file.unlink()
    library.source.scan.start()  # type: ignore[attr-defined]
    (two,) = library.studies_now()
    assert one != two
    with pytest.raises(NotFound):
        library.study(one)


def test_two_people_share_one_read(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = make(folder, tmp_path)
    image = library.study(library.studies_now()[0]).images[0].id
    reads, begun, go = [], threading.Event(), threading.Event()
    plainly = library._read

    def slowly(opened: Any) -> Image:
        reads.append(opened.item.id)
        begun.set()
        assert go.wait(10)
        return plainly(opened)

    monkeypatch.setattr(library, "_read", slowly)
    library._images.clear()
    found: list[Image] = []
    threads = [threading.Thread(target=lambda: found.append(library.image(image))) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    go.set()
    for thread in threads:
        thread.join(10)
    assert reads == [image] and len({id(f) for f in found}) == 1 and len(found) == 4


def test_too_large_is_told_and_planes_are_shown(tmp_path: Path) -> None:
    write_study(tmp_path / "in", ramp((8, 64, 64)), study="1.2.9.1")
    library = make(tmp_path / "in", tmp_path / "work", limits=Limits(image_bytes=40_000, answer_bytes=20_000))
    (study,) = library.studies_now()
    (item,) = library.study(study).images
    assert item.too_large and item.bytes == 8 * 64 * 64 * 2
    for whole in (library.image, library.nifti, lambda i: library.picture(i, Picture("x"))):
        with pytest.raises(TooLarge, match="MiB are allowed"):
            whole(item.id)
    assert library.planes(item.id, 3, 2).array.shape == (2, 64, 64, 1)
    assert library.picture(item.id, Picture("z", 3)).startswith(b"\x89PNG")
    with pytest.raises(TooLarge, match="at most 2 at once"):
        library.planes(item.id, 0, 3)


def test_a_plain_file_that_promises_too_much_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "in"
    root.mkdir()
    header = nib.Nifti1Header()
    header.set_data_shape((1024, 1024, 1024))
    header.set_data_dtype(np.float32)
    header["magic"], header["vox_offset"] = b"n+1\0", 352
    (root / "large.nii").write_bytes(header.binaryblock + b"\0" * 4 + b"\0" * 1000)  # 4 GB, it says
    with gzip.open(root / "packed.nii.gz", "wb") as stream:
        stream.write(header.binaryblock + b"\0" * 4 + b"\0" * 1000)
    monkeypatch.setattr(library_module, "read_file", lambda *_: pytest.fail("it was read"))
    library = make(root, tmp_path / "work")
    for study in library.studies_now():
        detail = library.study(study)
        assert detail.images == ()
        assert "4096 MiB of voxels, and 2048 MiB are allowed" in detail.left_out[0].reason


def test_what_was_made_is_bounded_on_the_disk(tmp_path: Path) -> None:
    for age, name in enumerate(("b", "a", "c")):
        file = tmp_path / f"{name}.nii.gz"
        file.write_bytes(b"x" * 10)
        os.utime(file, ns=(age, age))
    library_module._make_room(tmp_path, 25)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a.nii.gz", "c.nii.gz"]
    library_module._make_room(tmp_path, 5)
    assert list(tmp_path.iterdir()) == []


def test_memory_is_bounded(tmp_path: Path) -> None:
    for number in range(4):
        write_study(tmp_path / "in" / str(number), ramp((8, 64, 64), shift=number), study=f"1.2.9.{number}")
    library = make(tmp_path / "in", tmp_path / "work", memory_bytes=200_000)  # two of four images, some planes
    for _ in range(2):
        for study in library.studies_now():
            (item,) = library.study(study).images
            library.planes(item.id, 0, 8)
            assert library.image(item.id).array.shape == (1, 8, 64, 64)
            assert library._images.bytes <= 140_000 and library._blocks.bytes <= 60_000


def test_what_cannot_be_shown_is_told(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_study(root / "a", ramp(), study="1.2.9.1")
    for file in sorted((root / "a").iterdir()):
        file.write_bytes(file.read_bytes()[:-8])
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 100)
    library = make(root, tmp_path / "work")
    reasons = [library.study(study).left_out[0].reason for study in library.studies_now()]
    assert len(reasons) == 2
    assert any("cut off" in reason for reason in reasons) and any("damaged" in reason for reason in reasons)


def test_an_irregular_series_is_resampled_and_says_so(tmp_path: Path) -> None:
    write_study(tmp_path / "in", ramp(), study="1.2.9.1")
    paths = sorted((tmp_path / "in").iterdir())
    planes = {p: open_dicom([p], root=tmp_path).images[0].stack.planes[0].position for p in paths}
    middle = sorted(paths, key=lambda p: planes[p][2])[2]
    middle.unlink()
    library = make(tmp_path / "in", tmp_path / "work")
    (study,) = library.studies_now()
    (item,) = library.study(study).images
    assert item.shape_zyx == (6, 5, 7)
    assert any("resampled" in note and "missing slice" in note for note in item.notes)
    strict = make(tmp_path / "in", tmp_path / "work2", on_irregular="raise")
    detail = strict.study(strict.studies_now()[0])
    assert detail.images == () and "missing slice" in detail.left_out[0].reason


def test_a_folder_of_work_inside_the_sources_is_left_out(tmp_path: Path) -> None:
    write_study(tmp_path / "in" / "a", ramp(), study="1.2.9.1")
    write_study(tmp_path / "in" / "work" / "readings", ramp(), study="1.2.9.2")
    assert len(make(tmp_path / "in", tmp_path / "in" / "work").studies_now()) == 1


def test_a_table_calls_a_plain_file_by_a_name_that_no_other_study_has(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for place in ("a/12.png", "b/12.png", "b/13.png", "7.png"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(np.full((8, 8), 9, np.uint8)).save(root / place)
    source = FolderSource(root, tmp_path / "work")
    source.start()
    try:
        assert source.scan.wait(20) or source.scan.complete
        names = {f.files[0].name: source.names(study) for study, f in source.scan.studies.items()}
    finally:
        source.close()
    assert names == {
        "a/12.png": {"a/12.png", "a/12"},
        "b/12.png": {"b/12.png", "b/12"},
        "b/13.png": {"b/13.png", "b/13", "13.png", "13"},
        "7.png": {"7.png", "7"},
    }


def test_an_identifier_that_everybody_gets_makes_nobody_s_priors(tmp_path: Path) -> None:
    for number, date in enumerate(("20230102", "20240304")):
        place = tmp_path / "in" / str(number)
        write_study(place, ramp((3, 4, 5)), study=f"1.2.9.{number}", date=date, patient="ANONYMOUS")
    with served(tmp_path / "in", tmp_path / "work") as client:
        found = studies(client)
    assert [s["prior"] for s in found] == [0, 0] and len({s["patient_key"] for s in found}) == 2

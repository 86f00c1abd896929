"""Sessions over the socket, in process: what comes back, who is told, what stands on the disk."""

from __future__ import annotations

import json
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from isocenter.data.images.nifti import read_nifti_mask
from isocenter.tasks.interact.engine import Engine
from isocenter.verbs.serving.interaction import SessionInteractions
from isocenter.viewer.app import create_app
from isocenter.viewer.ports import Change, Interaction, Interactions, Library, Ports
from isocenter.viewer.settings import IDENTITY, Limits, Settings
from isocenter.viewer.wire import decode_levels, pack, unpack
from viewing import AUTH, BALL, DISC, FLAT, OTHER, TOKEN, MemoryLibrary, disc, oblique, talking


@pytest.fixture(scope="module")
def engine():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Engine()
    torch.set_num_threads(threads)


@pytest.fixture
def serve(engine, tmp_path):
    """Start servers over one work folder, one after the other or side by side."""
    open_ = []

    def start(**limits):
        library = MemoryLibrary(tmp_path)
        interactions = SessionInteractions(library, tmp_path / "work", make_engine=lambda: engine)
        assert isinstance(library, Library) and isinstance(interactions, Interactions)
        settings = Settings(TOKEN, names=("testserver",), limits=Limits(**limits))
        client = TestClient(create_app(Ports(library=library, interactions=interactions), settings), headers=AUTH)
        client.__enter__()
        open_.append(client)
        client.interactions = interactions
        return client

    yield start
    for client in open_:
        client.__exit__(None, None, None)


def begin(client, label="disc", reader="AB"):
    answer = client.post("/api/v1/sessions", json={"label": label, "reader": reader})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def centre(inside):
    return np.argwhere(inside).mean(axis=0).round().tolist()


def overlap(a, b):
    return 2 * (a & b).sum() / max(1, a.sum() + b.sum())


def test_click_correct_confirm_and_the_next_case_is_there(serve, tmp_path):
    client = serve()
    session = begin(client)
    _, inside = disc(0)
    with talking(client, session) as talk:
        opened = talk.open(DISC, inside.shape)
        assert opened.head["version"] == 0 and opened.head["taken_by"] is None
        assert not talk.levels.any()
        told = talk.act("prompt", kind="point", points_index_zyx=[centre(inside)], positive=True)
        assert overlap(talk.mask, inside) > 0.8
        assert told["prompts"] == 1 and told["can_undo"] and not told["can_redo"]
        assert 0 < told["expected_dice"] <= 1 and told["milliseconds"]["total"] > 0
        before = talk.levels.copy()
        talk.act("prompt", kind="scribble", points_index_zyx=[[0, 2, 2], [0, 2, 9]], positive=False)
        talk.act("undo")
        np.testing.assert_array_equal(talk.levels, before)
        talk.act("redo")
        talk.act("clear")
        assert not talk.levels.any()
        talk.act("undo")
        final = talk.mask.copy()
        talk.say("confirm", version=0)
        confirmed = talk.hear("confirmed").head
        assert confirmed["clicks"] == 2 and confirmed["case"] == 1 and confirmed["version"] == 1
        assert confirmed["cases"][0]["clicks"] == 2 and confirmed["cases"][0]["first_dice"] > 0
        # It stays open: whoever sees a mistake now corrects it, and confirms a second version.
        talk.act("prompt", kind="point", points_index_zyx=[centre(inside)])
        talk.act("undo")
        talk.open(OTHER, inside.shape)
        assert overlap(talk.mask, disc(3)[1]) > 0.5, "a confirmed case answers the next"
    (item,) = client.get(f"/api/v1/images/{DISC}/masks").json()
    assert (item["label"], item["reader"], item["version"]) == ("disc", "AB", 1)
    sent = unpack(client.get(f"/api/v1/masks/{item['id']}").content)
    z0, z1, y0, y1, x0, x1 = sent.head["box_zyx"]
    whole = np.zeros(inside.shape, dtype=np.uint8)
    whole[z0:z1, y0:y1, x0:x1] = decode_levels(sent.payload, (z1 - z0, y1 - y0, x1 - x0))
    np.testing.assert_array_equal(whole >= 2, final)
    file = client.get(f"/api/v1/masks/{item['id']}/file")
    (tmp_path / "back.nii.gz").write_bytes(file.content)
    np.testing.assert_array_equal(read_nifti_mask(tmp_path / "back.nii.gz").array > 0, final)
    assert client.get(f"/api/v1/masks/{item['id']}/file?form=seg").status_code == 422, "the image is not DICOM"
    assert client.get(f"/api/v1/masks/{'0' * 16}").status_code == 404


def test_a_click_in_patient_millimetres_lands_where_it_was_made(serve):
    client = serve()
    shape = (24, 40, 44)
    geometry = oblique(shape)
    _, inside = disc(1, shape, 9.0, geometry)
    point = geometry.to_world(np.array([centre(inside)]))[0].tolist()
    with talking(client, begin(client)) as talk:
        talk.open(BALL, shape)
        talk.act("prompt", kind="point", points_lps_mm=[point])
        assert overlap(talk.mask, inside) > 0.7
        talk.say("confirm")
        talk.hear("confirmed")
    (item,) = client.get(f"/api/v1/images/{BALL}/masks").json()
    mask = client.interactions.mask_folder.mask(item["id"])
    assert mask.geometry.same_grid(geometry)


def test_alternatives_come_with_the_answer_and_can_be_chosen(serve):
    client = serve()
    _, inside = disc(0)
    with talking(client, begin(client)) as talk:
        talk.open(DISC, inside.shape)
        told = talk.act("prompt", kind="point", points_index_zyx=[centre(inside)])
        others = [talk.hear("alternative") for _ in range(told["alternatives"])]
        assert others and [m.head["number"] for m in others] == list(range(len(others)))
        z0, z1, y0, y1, x0, x1 = others[0].head["box_zyx"]
        whole = np.zeros(inside.shape, dtype=np.uint8)
        whole[z0:z1, y0:y1, x0:x1] = decode_levels(others[0].payload, (z1 - z0, y1 - y0, x1 - x0))
        assert talk.act("choose", number=0)["chosen"] == 0
        np.testing.assert_array_equal(talk.levels, whole)


def test_acts_are_answered_in_order_and_a_replay_brings_them_back(serve):
    client = serve()
    session = begin(client)
    _, inside = disc(1, (24, 40, 44), 9.0)
    z, y, x = centre(inside)
    acts = [
        {"type": "prompt", "kind": "point", "points_index_zyx": [[z, y, x]], "positive": True},
        {"type": "prompt", "kind": "point", "points_index_zyx": [[z, y + 4, x]], "positive": True},
        {"type": "undo"},
        {"type": "prompt", "kind": "point", "points_index_zyx": [[z, y, x - 12]], "positive": False},
        {"type": "propagate", "axis": 0, "first": 2, "last": 20},
    ]
    with talking(client, session) as talk:
        talk.open(BALL, inside.shape)
        sent = [talk.say(act["type"], **{k: v for k, v in act.items() if k != "type"}) for act in acts]
        for seq in sent:
            message = talk.hear("delta")
            assert message.head["seq"] == seq
            talk.take(message)
        before = talk.levels.copy()
    assert before.any()
    with talking(client, session) as talk:
        talk.levels = np.zeros(inside.shape, dtype=np.uint8)
        talk.say("replay", image=BALL, acts=acts)
        talk.hear("opened")
        talk.take(talk.hear("delta"))
        np.testing.assert_array_equal(talk.levels, before)


def test_a_restarted_server_finds_its_sessions_and_cases(serve):
    client = serve()
    session = begin(client)
    _, inside = disc(0)
    act = {"type": "prompt", "kind": "point", "points_index_zyx": [centre(inside)], "positive": True}
    with talking(client, session) as talk:
        talk.open(DISC, inside.shape)
        talk.act("prompt", kind="point", points_index_zyx=[centre(inside)])
        talk.say("confirm")
        talk.hear("confirmed")
        talk.open(OTHER, inside.shape)
        talk.act("prompt", kind="point", points_index_zyx=[centre(disc(3)[1])])
        before = talk.levels.copy()
    again = serve()
    found = again.get(f"/api/v1/sessions/{session}")
    assert found.status_code == 200 and len(found.json()["cases"]) == 1 and found.json()["label"] == "disc"
    act["points_index_zyx"] = [centre(disc(3)[1])]
    with talking(again, session) as talk:
        talk.levels = np.zeros(inside.shape, dtype=np.uint8)
        talk.say("replay", image=OTHER, acts=[act])
        talk.hear("opened")
        talk.take(talk.hear("delta"))
        np.testing.assert_array_equal(talk.levels, before)
    assert len(again.get(f"/api/v1/images/{DISC}/masks").json()) == 1


def test_two_people_on_one_image_are_told_and_nothing_is_overwritten(serve):
    client = serve()
    first, second = begin(client, reader="AB"), begin(client, reader="CD")
    _, inside = disc(0)
    point = {"kind": "point", "points_index_zyx": [centre(inside)]}
    with talking(client, first) as one, talking(client, second) as two:
        one.open(DISC, inside.shape)
        one.act("prompt", **point)
        two.say("open", image=DISC)
        assert two.hear("opened").head["taken_by"] == "AB"
        two.levels = np.zeros(inside.shape, dtype=np.uint8)
        two.take(two.hear("delta"))
        seq = two.say("prompt", **point)
        refused = two.hear("problem").head
        assert (refused["code"], refused["seq"]) == ("taken", seq)
        two.open(DISC, inside.shape, take_over=True)
        assert one.hear("taken").head["by"] == "CD"
        one.say("confirm")
        assert one.hear("problem").head["code"] == "taken"
        two.act("prompt", **point)
        two.say("confirm")
        assert two.hear("confirmed").head["version"] == 1
        two.open(OTHER, inside.shape)
        free = one.hear("opened").head
        assert free["taken_by"] is None, "whoever waited is told that the place is free"
        assert free["version"] == 1, "and what was confirmed meanwhile"
        one.say("confirm", version=0)
        stale = one.hear("problem").head
        assert (stale["code"], stale["image"], stale["version"]) == ("stale", DISC, 1)
        one.say("confirm", version=stale["version"])
        assert one.hear("confirmed").head["version"] == 2
    items = client.get(f"/api/v1/images/{DISC}/masks").json()
    assert [(i["reader"], i["version"]) for i in items] == [("CD", 1), ("AB", 2)]


def test_a_confirm_that_came_too_late_is_taken_when_it_is_said_again(serve):
    client = serve()
    session = begin(client)
    _, inside = disc(0)
    with talking(client, session) as talk:
        talk.open(DISC, inside.shape)
        talk.act("prompt", kind="point", points_index_zyx=[centre(inside)])
        mask = client.interactions.begin("a" * 16, "disc", "CD")
        mask.open(DISC, lambda _what, _done: None)
        mask.confirm(version=0, seconds=1.0)
        talk.say("confirm")
        assert talk.hear("problem").head["version"] == 1
        talk.say("confirm")
        assert talk.hear("confirmed").head["version"] == 2


def test_who_waited_and_was_let_in_while_the_image_opened_is_not_told_that_it_is_taken(serve, monkeypatch):
    client = serve()
    first, second = begin(client, reader="AB"), begin(client, reader="CD")
    _, inside = disc(0)
    with talking(client, first) as one, talking(client, second) as two:
        one.open(DISC, inside.shape)
        read = client.interactions.library.image

        def slow(image):
            if image == DISC:
                one.say("open", image=OTHER)
                one.hear("delta")
            return read(image)

        monkeypatch.setattr(client.interactions.library, "image", slow)
        two.say("open", image=DISC)
        assert two.hear("opened").head["taken_by"] == "AB"
        assert two.hear().head["taken_by"] is None
        assert two.hear().kind == "delta"


def test_a_long_replay_is_done(tmp_path):
    """A replay is one message with all acts on an image, and may be longer than any other."""
    work, interactions = MagicMock(spec=Interaction), MagicMock(spec=Interactions)
    interactions.begin.return_value, interactions.version.return_value = work, 0
    work.cases, work.bytes, work.alternatives.return_value = (), 0, ()
    work.replay.return_value = Change((0, 0, 0, 0, 0, 0), np.zeros((0, 0, 0), dtype=np.uint8), prompts=200)
    line = [[12.125, 30.125, 25.0 + 0.03125 * k] for k in range(350)]
    acts = [{"type": "prompt", "kind": "scribble", "points_index_zyx": line, "positive": True}] * 200
    app = create_app(
        Ports(library=MemoryLibrary(tmp_path), interactions=interactions), Settings(TOKEN, names=("testserver",))
    )
    with TestClient(app, headers=AUTH) as client:
        assert (
            len(json.dumps(acts, separators=(",", ":"))) > client.get("/api/v1/info").json()["limits"]["message_bytes"]
        )
        with talking(client, begin(client)) as talk:
            talk.say("replay", image=DISC, acts=acts)
            talk.hear("opened")
            assert talk.hear("delta").head["prompts"] == 200
    assert len(work.replay.call_args.args[1]) == 200


def with_accounts(app):
    """An app as the layer of accounts calls it: who asks stands in the scope."""

    async def asked(scope, receive, send):
        named = dict(scope.get("headers", ())).get(b"x-test-who", b"").decode()
        who = SimpleNamespace(name=named, role="admin" if named == "root" else "radiologist")
        await app({**scope, IDENTITY: who} if named else scope, receive, send)

    return asked


def account(client, who):
    """Somebody with an account, at the same server."""
    other = TestClient(with_accounts(client.app), headers={**AUTH, "X-Test-Who": who, "X-Isocenter-Reader": who})
    other.portal = client.portal
    return other


def test_with_accounts_a_session_is_its_readers_alone(serve):
    client = serve()
    root, ab, cd = (account(client, who) for who in ("root", "AB", "CD"))
    session, theirs = begin(ab), begin(cd)
    path = f"/api/v1/sessions/{session}"
    assert ab.get(path).status_code == 200
    for refused in (cd.get(path), cd.delete(path), root.get(path)):
        assert (refused.status_code, refused.json()["code"]) == (409, "another_reader")
    with talking(cd, session) as talk:
        assert talk.hear("problem").head["code"] == "another_reader"
        with pytest.raises(WebSocketDisconnect) as end:
            talk.socket.receive_bytes()
        assert end.value.code == 1008
    with talking(ab, session) as talk:
        talk.open(DISC, (1, 60, 64))
    assert [one["id"] for one in cd.get("/api/v1/sessions").json()] == [theirs]
    assert {one["id"] for one in root.get("/api/v1/sessions").json()} == {session, theirs}
    # After a restart too: whoever asks for another's session does not even give it a place again.
    again = serve()
    assert account(again, "CD").get(f"/api/v1/sessions/{session}").status_code == 409
    assert again.get("/api/v1/sessions").json() == []
    assert ab.delete(f"/api/v1/sessions/{session}").status_code == 204


def test_places_are_limited_and_a_lease_runs_out(serve):
    client = serve(sessions=2, lease_seconds=0.0)
    gone = begin(client)
    kept = serve(sessions=1)
    begin(kept)
    full = kept.post("/api/v1/sessions", json={"label": "disc", "reader": "AB"})
    assert (full.status_code, full.json()["code"]) == (503, "at_capacity")
    assert int(full.headers["retry-after"]) > 0
    # A lease of 0 seconds is over when the next person comes.
    begin(client)
    begin(client)
    expired = client.get(f"/api/v1/sessions/{gone}")
    assert (expired.status_code, expired.json()["code"]) == (410, "session_expired")
    assert client.get(f"/api/v1/sessions/{'0' * 16}").status_code == 404
    ours = client.get("/api/v1/sessions").json()[0]["id"]
    assert client.delete(f"/api/v1/sessions/{ours}").status_code == 204
    assert client.get("/api/v1/sessions").json() == []
    with talking(client, gone) as talk:
        assert talk.hear("problem").head["code"] == "session_expired"


def test_memory_that_can_be_made_again_is_given_back(serve):
    client = serve(session_bytes=1)
    first, second = begin(client), begin(client, label="ball")
    _, inside = disc(0)
    with talking(client, first) as one, talking(client, second) as two:
        one.open(DISC, inside.shape)
        one.act("prompt", kind="point", points_index_zyx=[centre(inside)])
        before = one.levels.copy()
        two.open(BALL, (24, 40, 44))
        two.act("prompt", kind="point", points_index_zyx=[[12, 20, 22]])
        two.act("undo")
        told = one.act("undo")
        assert "wake" in told["milliseconds"], "the idle session had let go of its image"
        one.act("redo")
        np.testing.assert_array_equal(one.levels, before)
        one.act("prompt", kind="point", points_index_zyx=[centre(inside)])


WRONG = [
    ({"type": "prompt", "kind": "point", "points_index_zyx": [[0, 1]]}, "config"),
    ({"type": "prompt", "kind": "point", "points_index_zyx": [[0, 1, "2"]]}, "config"),
    ({"type": "prompt", "kind": "point", "points_index_zyx": [[0, 1, True]]}, "config"),
    ({"type": "prompt", "kind": "point", "points_index_zyx": [[0, 1, 10**400]]}, "config"),
    ({"type": "prompt", "kind": "point", "points_index_zyx": [[0, 500, 2]]}, "config"),
    ({"type": "prompt", "kind": "point", "points_lps_mm": [[0, 500, 2]]}, "config"),
    ({"type": "prompt", "kind": "text", "points_index_zyx": [[0, 1, 2]]}, "config"),
    ({"type": "prompt", "kind": "lasso", "points_index_zyx": [[0, 1, 2]] * 30_000}, "config"),
    ({"type": "choose", "number": -1}, "config"),
    ({"type": "choose", "number": 9}, "config"),
    ({"type": "propagate", "axis": 7, "first": 0, "last": 1}, "config"),
    ({"type": "propagate", "axis": 0, "first": 0, "last": 1 << 40}, "config"),
    ({"type": "confirm", "version": "1"}, "config"),
    ({"type": "open"}, "config"),
    ({"type": "open", "image": "../../etc/passwd"}, "not_found"),
    ({"type": "open", "image": FLAT}, "data"),
    ({"type": "replay", "image": DISC, "acts": [{"type": "open"}]}, "config"),
    ({"type": "replay", "image": DISC, "acts": "all"}, "config"),
    ({"type": "sudo"}, "unknown"),
]


def test_what_can_not_be_followed_is_told_and_changes_nothing(serve):
    client = serve(message_bytes=1 << 22)
    _, inside = disc(0)
    with talking(client, begin(client)) as talk:
        for message, code in WRONG:
            talk.open(DISC, inside.shape)
            rest = {k: v for k, v in message.items() if k != "type"}
            seq = talk.say(message["type"], **rest)
            problem = talk.hear("problem").head
            assert (problem["code"], problem["seq"]) == (code, seq), (message, problem)
        talk.open(DISC, inside.shape)
        talk.act("prompt", kind="point", points_index_zyx=[centre(inside)])


def test_who_does_not_listen_is_not_listened_to(serve):
    client = serve()
    session = begin(client)
    with talking(client, session) as talk:
        for _ in range(600):
            talk.say("ping")
        heard = [talk.hear("pong") for _ in range(600)]
        assert len(heard) == 600


def test_only_the_latest_cases_that_fit_are_held_and_a_restart_holds_the_same(serve, monkeypatch):
    _, inside = disc(0)
    monkeypatch.setattr("isocenter.verbs.serving.interaction.KEPT_BYTES", 2 * 60 * 64 * 2)
    client = serve()
    session = begin(client)
    images = (DISC, OTHER, DISC)
    with talking(client, session) as talk:
        for image in images:
            talk.open(image, inside.shape, propose=False)
            talk.act("prompt", kind="point", points_index_zyx=[centre(inside)])
            talk.say("confirm")
            talk.hear("confirmed")
        talk.open(OTHER, inside.shape)
        levels = talk.levels.copy()
    again = serve()
    with talking(again, session) as talk:
        assert len(talk.open(OTHER, inside.shape).head["cases"]) == 3
        np.testing.assert_array_equal(talk.levels, levels)
    work = again.interactions.begin(session, "disc", "AB")
    work.open(OTHER, lambda _what, _done: None)
    assert len(work._session.cases) == 2


def test_a_damaged_session_says_so_and_hides_no_other(serve, tmp_path):
    client = serve()
    good, bad = begin(client), begin(client)
    (tmp_path / "work" / "sessions" / bad / "state.json").write_text("{")
    again = serve()
    assert again.get(f"/api/v1/sessions/{good}").status_code == 200
    assert again.get(f"/api/v1/sessions/{bad}").status_code == 404


LONG = pack({"type": "prompt", "kind": "scribble", "points_index_zyx": [[0.125, 1.125, 2.125]] * 60_000})


@pytest.mark.parametrize(
    ("data", "closed"),
    [
        (b"rubbish", 1007),
        (b"ISO1\xff\xff\xff\xff", 1007),
        ("text", 1007),
        (b"ISO1" * (2 << 20) + b"ISO1", 1009),
        (LONG, 1009),
    ],
    ids=["rubbish", "length", "text", "longest", "long"],
)
def test_what_is_no_message_ends_the_conversation(serve, data, closed):
    client = serve()
    session = begin(client)
    with talking(client, session) as talk:
        if isinstance(data, str):
            talk.socket.send_text(data)
        else:
            talk.socket.send_bytes(data)
        with pytest.raises(WebSocketDisconnect) as end:
            while True:
                talk.socket.receive_bytes()
        assert end.value.code == closed
    assert client.get(f"/api/v1/sessions/{session}").status_code == 200


def test_a_full_disk_loses_nothing(serve, monkeypatch):
    client = serve()
    _, inside = disc(0)
    with talking(client, begin(client)) as talk:
        talk.open(DISC, inside.shape)
        talk.act("prompt", kind="point", points_index_zyx=[centre(inside)])
        before = talk.levels.copy()
        with monkeypatch.context() as full:

            def refuse(*_args, **_kwargs):
                raise OSError(28, "No space left on device")

            full.setattr("isocenter.verbs.serving.masks.write_mask", refuse)
            talk.say("confirm")
            assert talk.hear("problem").head["code"] == "output"
        assert client.get(f"/api/v1/images/{DISC}/masks").json() == []
        talk.say("confirm")
        talk.hear("confirmed")
        assert talk.levels.sum() == before.sum()


def test_propagation_can_be_stopped_and_then_changed_nothing(serve):
    client = serve()
    _, inside = disc(1, (24, 40, 44), 9.0)
    with talking(client, begin(client)) as talk:
        talk.open(BALL, inside.shape)
        talk.act("prompt", kind="point", points_index_zyx=[centre(inside)])
        before = talk.levels.copy()
        seq = talk.say("propagate", axis="z", first=0, last=23)
        talk.hear("progress")
        talk.say("stop")
        ended = talk.hear("problem", "delta")
        if ended.kind == "problem":
            assert (ended.head["code"], ended.head["seq"]) == ("stopped", seq)
            np.testing.assert_array_equal(talk.levels, before)
            assert not talk.act("undo")["can_undo"]
            talk.act("redo")
            np.testing.assert_array_equal(talk.levels, before)


def test_a_page_that_connects_again_replaces_the_one_before(serve):
    client = serve()
    session = begin(client)
    with talking(client, session) as old, talking(client, session) as new:
        assert old.hear("problem").head["code"] == "replaced"
        with pytest.raises(WebSocketDisconnect) as end:
            old.socket.receive_bytes()
        assert end.value.code == 4001
        new.say("ping")
        assert new.hear("pong").kind == "pong"


def test_files_of_a_session_speak_of_nobody(serve, tmp_path):
    client = serve()
    _, inside = disc(0)
    session = begin(client)
    with talking(client, session) as talk:
        talk.open(DISC, inside.shape)
        talk.act("prompt", kind="point", points_index_zyx=[centre(inside)])
        talk.say("confirm")
        talk.hear("confirmed")
    state = json.loads((tmp_path / "work" / "sessions" / session / "state.json").read_text())
    assert state["label"] == "disc" and state["cases"][0]["clicks"] == 1
    (about,) = (tmp_path / "work" / "masks").glob("*/mask.json")
    prompts = json.loads(about.read_text())["prompts"]
    assert prompts == [{"kind": "point", "positive": True, "frame": "index_zyx", "points": [centre(inside)]}]
    assert isinstance(client.interactions.begin(session, "disc", "AB"), Interaction)

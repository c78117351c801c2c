"""Generated rooms: what stands in them, where, and that a seed decides everything."""

from __future__ import annotations

import numpy as np
import pytest

from sas_training.evaluation.labels import SCANNET20
from sas_training.scenes.procedural import (
    Room,
    catalogue,
    clutter,
    make_room,
    model,
    openings,
    scattering,
)
from sas_training.scenes.procedural.placing import Placer
from sas_training.scenes.procedural.plan import draw_plan, overlaps
from sas_training.scenes.procedural.rooms import ROOM_TYPES


@pytest.fixture(scope="module")
def rooms() -> list[Room]:
    return [make_room(np.random.default_rng([5, index])) for index in range(32)]


def test_label_set_matches_the_constants_of_the_world() -> None:
    assert len(SCANNET20) == 20
    assert SCANNET20.names[model.BOOKSHELF] == "bookshelf"
    assert SCANNET20.names[model.SINK] == "sink"
    assert SCANNET20.id_of("otherfurniture") == model.OTHERFURNITURE
    assert SCANNET20.from_nyu40(39) == 19
    assert SCANNET20.from_nyu40(22) == SCANNET20.ignore_id == model.IGNORED


def test_same_seed_gives_the_same_room() -> None:
    first, second = (make_room(np.random.default_rng([1, 2])) for _ in range(2))
    assert first.kind == second.kind and first.names == second.names
    for a, b in zip(first.objects, second.objects, strict=True):
        assert a.mesh.vertices.tobytes() == b.mesh.vertices.tobytes()
        assert (a.label, a.instance, a.name, a.color) == (b.label, b.instance, b.name, b.color)


def test_every_class_appears(rooms: list[Room]) -> None:
    found = {thing.label for room in rooms for thing in room.objects}
    assert found >= set(SCANNET20.ids)
    assert found <= {*SCANNET20.ids, SCANNET20.ignore_id}


def test_instances_have_one_name_and_one_label(rooms: list[Room]) -> None:
    for room in rooms:
        kinds: dict[int, tuple[int, str]] = {}
        for thing in room.objects:
            if thing.instance:
                known = kinds.setdefault(thing.instance, (thing.label, thing.name))
                assert known == (thing.label, thing.name)
        assert sorted(kinds) == list(range(1, len(room.names)))


def test_furniture_stands_on_the_floor(rooms: list[Room]) -> None:
    standing = {model.BED, model.SOFA, model.DESK, model.TOILET, model.BATHTUB, model.REFRIGERATOR}
    for room in rooms:
        lowest: dict[tuple[int, str], float] = {}
        for thing in room.objects:
            if thing.label in standing:
                key = (thing.instance, thing.name)
                lowest[key] = min(lowest.get(key, 9.0), float(thing.bounds[0][2]))
        assert all(-0.03 < z < 0.16 for z in lowest.values()), lowest


def test_furniture_stays_inside_the_walls(rooms: list[Room]) -> None:
    hung = {model.DOOR, model.WINDOW, model.WALL, model.FLOOR, model.IGNORED}
    for room in rooms:
        boxes = np.array(room.areas)
        low, high = boxes[:, :2].min(0) - 0.2, boxes[:, 2:].max(0) + 0.2
        for thing in room.objects:
            if thing.label not in hung:
                near, far = thing.bounds
                assert (near[:2] > low).all() and (far[:2] < high).all(), thing.name
                assert far[2] < room.height + 0.15, thing.name


def test_rooms_are_furnished(rooms: list[Room]) -> None:
    counts = [len(room.names) for room in rooms]
    assert np.median(counts) > 40
    assert min(counts) > 5


@pytest.mark.parametrize("kind", sorted(catalogue.SIZES))
def test_catalogue_pieces_fit_their_sizes(kind: str) -> None:
    for seed in range(4):
        piece = catalogue.make(kind, np.random.default_rng(seed))
        assert piece.parts
        own = [part.mesh.vertices for part in piece.parts if part.name == piece.name]
        points = np.concatenate(own or [part.mesh.vertices for part in piece.parts])
        assert np.isfinite(points).all()
        reach = np.abs(points[:, :2]).max(0)
        assert reach[0] < piece.w / 2 + 0.3 and reach[1] < piece.d / 2 + 0.3  # open drawers
        assert points[:, 2].min() > -0.02


def test_every_room_type_can_be_made() -> None:
    for kind in ROOM_TYPES:
        room = make_room(np.random.default_rng(3), kind)
        assert room.kind == kind and len(room.objects) > 4


def test_furniture_stands_neither_in_furniture_nor_in_doorways(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    placers: list[Placer] = []
    begin = Placer.__init__

    def remembered(self: Placer, *arguments: object) -> None:
        begin(self, *arguments)  # type: ignore[arg-type]
        placers.append(self)

    monkeypatch.setattr(Placer, "__init__", remembered)
    for seed in range(12):
        make_room(np.random.default_rng([9, seed]))
    pieces = clashes = blocked = 0
    for placer in placers:
        solid = [p for p in placer.placed if p.block >= 0 and p.z == 0.0]
        pieces += len(solid)
        boxes = [placer.taken[p.block] for p in solid]
        for first, box in enumerate(boxes):
            blocked += any(overlaps(box[:4], free[:4], 0.06) for free in placer.clear)
            for second in range(first):
                labels = {solid[first].piece.label, solid[second].piece.label}
                if labels & {model.TABLE, model.DESK, model.COUNTER} and len(labels) > 1:
                    continue  # chairs are pushed under tables
                other = boxes[second]
                apart = box[4] >= other[5] - 0.02 or other[4] >= box[5] - 0.02
                clashes += not apart and overlaps(box[:4], other[:4], 0.06)
    assert pieces > 200
    assert clashes <= 0.005 * pieces and blocked <= 0.005 * pieces


def test_small_things_lie_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    lying: list[tuple[int, tuple[float, float, float, float]]] = []
    scatter, put = scattering._scatter_on, Placer.put
    surfaces: list[int] = []

    def scattered(placer: Placer, *arguments: object) -> None:
        surfaces.append(len(surfaces))
        scatter(placer, *arguments)  # type: ignore[arg-type]
        surfaces.append(-1)

    def placed(self: Placer, piece: model.Piece, x: float, y: float, *rest: object, **more: bool):  # type: ignore[no-untyped-def]
        if surfaces and surfaces[-1] >= 0:
            reach = 0.3 * min(piece.w, piece.d)
            lying.append((surfaces[-1], (x - reach, y - reach, x + reach, y + reach)))
        return put(self, piece, x, y, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(scattering, "_scatter_on", scattered)
    monkeypatch.setattr(Placer, "put", placed)
    make_room(np.random.default_rng([9, 3]))
    assert len(lying) > 20
    for number, (surface, rect) in enumerate(lying):
        for other, beside in lying[:number]:
            assert surface != other or not overlaps(rect, beside, 0.005)


def test_colour_does_not_give_wooden_things_away() -> None:
    kinds = ("desk", "table", "cabinet", "bookshelf", "wardrobe")
    rng = np.random.default_rng(0)
    colors = np.array([[catalogue.make(kind, rng).color for _ in range(60)] for kind in kinds])
    rows, truth = colors.reshape(-1, 3).astype(float), np.repeat(np.arange(len(kinds)), 60)
    away = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    np.fill_diagonal(away, np.inf)
    guessed = truth[away.argmin(1)]
    assert np.mean(guessed == truth) < 0.33  # chance is 0.2
    assert colors.reshape(-1, 3).std(0).min() > 40


def test_most_doors_are_shut_in_their_frames() -> None:
    rng = np.random.default_rng(1)
    reach = []
    for _ in range(200):
        door = openings.door(rng, 0.9, 2.0, 0.15)
        y = np.concatenate([part.mesh.vertices[:, 1] for part in door.parts])
        reach.append(float(np.abs(y).max()))
        assert {part.label for part in door.parts} == {model.DOOR}
    shut = np.mean(np.array(reach) < 0.22)
    assert 0.6 < shut < 0.85 and max(reach) > 0.6


def test_walls_have_steps_that_are_walls(rooms: list[Room]) -> None:
    steps = 0
    for room in rooms:
        for thing in room.objects:
            low, high = thing.bounds
            thin = np.sort((high - low)[:2])[0] < 0.5
            steps += int(thing.name == "wall" and thing.label == model.WALL and thin)
            assert thing.name != "wall" or thing.instance == 0
    assert steps > 2 * len(rooms)


def test_l_tables_are_l_shaped_and_tables() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        piece = catalogue.make("L table", rng)
        assert piece.label == model.TABLE and piece.name == "L table"
        points = np.concatenate([part.mesh.vertices for part in piece.parts])
        top = points[points[:, 2] > piece.h - 1e-3]
        corners = [(sx * piece.w / 2, sy * piece.d / 2) for sx in (-1, 1) for sy in (-1, 1)]
        reached = [np.abs(top[:, :2] - corner).max(1).min() < 1e-3 for corner in corners]
        assert sum(reached) == 3  # the fourth corner of the footprint is where one sits


def test_high_tables_have_high_seats() -> None:
    rooms = [make_room(np.random.default_rng([8, k]), "kitchen") for k in range(12)]
    names = [set(room.names) for room in rooms]
    assert any("bar table" in found for found in names)
    with_bar = [found for found in names if "bar table" in found]
    assert sum("bar stool" in found for found in with_bar) >= len(with_bar) / 2


def test_paper_on_a_wall_is_wall_and_flat_on_it(rooms: list[Room]) -> None:
    sheets = [t for room in rooms for t in room.objects if t.name == "wallpaper"]
    assert len(sheets) >= len(rooms) / 2
    for sheet in sheets:
        low, high = sheet.bounds
        assert sheet.label == model.WALL and sheet.instance == 0
        assert min((high - low)[:2]) < 0.03


def test_leaning_boards_and_cables_stand_on_the_floor() -> None:
    rng = np.random.default_rng(6)
    for _ in range(20):
        for make in (clutter.leaning, clutter.cable):
            piece = make(rng)
            points = np.concatenate([part.mesh.vertices for part in piece.parts])
            assert abs(points[:, 2].min()) < 0.02 and piece.label == model.IGNORED
            assert points[:, 2].max() < piece.h + 0.06


def test_hotel_rooms_have_beds_and_mostly_curtains() -> None:
    made = [make_room(np.random.default_rng([6, k]), "hotel") for k in range(6)]
    labels = [{thing.label for thing in room.objects} for room in made]
    assert all(model.BED in there for there in labels)
    assert sum(model.CURTAIN in there for there in labels) >= 4


def test_what_lies_on_a_table_is_sometimes_part_of_it() -> None:
    rng = np.random.default_rng(0)
    plan = draw_plan(rng, "dining", (4.0, 4.0), ())
    placer = Placer(rng, plan)
    table = placer.put(catalogue.make("table", rng), 0.0, 0.0, 0.0, 0.0)
    own = {thing.instance for thing in placer.objects if thing.label == model.TABLE}
    assert table.instance in own and len(own) == 1
    before = len(placer.objects)
    placer.put(clutter.bowl(rng), 0.0, 0.0, 0.75, 0.0, solid=False, host=table)
    for thing in placer.objects[before:]:
        assert (thing.label, thing.instance, thing.name) == (model.TABLE, table.instance, "table")

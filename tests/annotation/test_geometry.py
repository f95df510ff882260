"""The drawing page's pure modules, in the browser that runs them: each rule over many random cases."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import reverse
from playwright.sync_api import Browser, Page

from tests.support.browser import chromium, open_page

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.browser]

RANDOM = """
    let seed = 20260521;
    const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
    const between = (low, high) => low + random() * (high - low);
    const photo = { width: 900, height: 640 };
    const size = { width: 700, height: 500 };
    const anyBox = () => {
        const [x, y] = [between(0, 850), between(0, 600)];
        return { x_min: x, y_min: y, x_max: x + between(2, 900 - x), y_max: y + between(2, 640 - y) };
    };
    const wrong = [];
    const check = (isRight, ...what) => { if (!isRight && wrong.length < 5) wrong.push(JSON.stringify(what)); };
"""


@pytest.fixture(scope="module")
def browser(django_db_setup: None) -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, live_server: Any) -> Iterator[Page]:
    with open_page(browser, live_server.url) as page:
        page.goto(reverse("account_login"))
        yield page


def wrong(page: Page, *modules: str, body: str) -> Any:
    names = [module.replace("-", "_") for module in modules]
    imports = "".join(
        f"const {name} = await import('/static/annotation/draw/{module}.js');"
        for name, module in zip(names, modules, strict=True)
    )
    return page.evaluate(f"async () => {{ {imports} {RANDOM} {body} return wrong; }}")


def test_a_point_keeps_its_place_through_any_zoom(page: Page) -> None:
    found = wrong(
        page, "viewport",
        body="""
        for (let turn = 0; turn < 2000; turn += 1) {
            let view = viewport.fitted(photo, size);
            const point = { x: between(0, 700), y: between(0, 500) };
            view = viewport.zoomedAt(view, between(2, 6), point, photo, size);
            const before = viewport.toPhoto(view, point);
            const isInside = before.x > 60 && before.x < 840 && before.y > 60 && before.y < 580;
            const zoomed = viewport.zoomedAt(view, between(1, 3), point, photo, size);
            const after = viewport.toPhoto(zoomed, point);
            if (isInside) check(Math.hypot(before.x - after.x, before.y - after.y) < 1e-6, before, after);
            const back = viewport.toScreen(zoomed, viewport.toPhoto(zoomed, point));
            check(Math.hypot(back.x - point.x, back.y - point.y) < 1e-6, "there and back");
        }""",
    )  # fmt: skip
    assert found == []


def test_the_middle_of_the_window_never_leaves_the_photo(page: Page) -> None:
    found = wrong(
        page, "viewport",
        body="""
        let view = viewport.fitted(photo, size);
        for (let turn = 0; turn < 3000; turn += 1) {
            view = random() < 0.5
                ? viewport.moved(view, between(-900, 900), between(-900, 900), photo, size)
                : viewport.zoomedAt(view, between(0.2, 5), { x: between(0, 700), y: between(0, 500) }, photo, size);
            const middle = viewport.toPhoto(view, viewport.middleOf(size));
            check(middle.x > -1e-6 && middle.x < 900 + 1e-6 && middle.y > -1e-6 && middle.y < 640 + 1e-6, view);
            check(view.scale >= 0.38 && view.scale <= 40, view.scale);
        }
        const real = viewport.realPixels(view, photo, size, 2);
        check(real.scale === 0.5, real);
        for (let turn = 0; turn < 500; turn += 1) {
            const box = anyBox();
            const seen = viewport.shownPart(viewport.revealing(view, box, photo, size, 0), size);
            check(box.x_min >= seen.x_min - 1e-6 && box.x_max <= seen.x_max + 1e-6, box, seen);
        }""",
    )  # fmt: skip
    assert found == []


def test_boxes_keep_their_area_their_order_and_their_photo(page: Page) -> None:
    found = wrong(
        page, "boxes",
        body="""
        const isSound = (box) => box.x_min >= 0 && box.y_min >= 0 && box.x_max <= 900 && box.y_max <= 640
            && box.x_max - box.x_min >= boxes.LEAST_SIDE_PX - 0.11 && box.y_max - box.y_min >= boxes.LEAST_SIDE_PX - 0.11;
        for (let turn = 0; turn < 4000; turn += 1) {
            const box = boxes.cutTo(photo, anyBox());
            const [dx, dy] = [between(-1500, 1500), between(-1500, 1500)];
            const moved = boxes.movedBy(photo, box, dx, dy);
            check(isSound(moved), "moved", box, moved);
            check(Math.abs(boxes.widthOf(moved) - boxes.widthOf(box)) < 0.11, "keeps its size", box, moved);
            for (const handle of Object.keys(boxes.HANDLES)) check(isSound(boxes.resizedBy(photo, box, handle, dx, dy)), handle, box, dx, dy);
            const drawn = boxes.cutTo(photo, boxes.between({ x: between(-300, 1200), y: between(-300, 900) }, { x: dx, y: dy }));
            check(isSound(drawn), "drawn", drawn);
        }
        const flipped = boxes.resizedBy(photo, { x_min: 100, y_min: 100, x_max: 200, y_max: 200 }, "e", -150, 0);
        check(flipped.x_min === 50 && flipped.x_max === 100 && flipped.y_max === 200, flipped);
        const across = boxes.resizedBy(photo, { x_min: 100, y_min: 100, x_max: 200, y_max: 200 }, "nw", 150, 180);
        check(across.x_min === 200 && across.x_max === 250 && across.y_min === 200 && across.y_max === 280, across);""",
    )  # fmt: skip
    assert found == []


def test_overlap_is_a_share(page: Page) -> None:
    found = wrong(
        page, "boxes",
        body="""
        for (let turn = 0; turn < 3000; turn += 1) {
            const [a, b] = [anyBox(), anyBox()];
            const share = boxes.iou(a, b);
            check(share >= 0 && share <= 1 && Math.abs(share - boxes.iou(b, a)) < 1e-12, a, b, share);
            check(Math.abs(boxes.iou(a, a) - 1) < 1e-12, a);
            // Independently: the share of a fine grid of points that lie in both.
        }
        const half = boxes.iou({ x_min: 0, y_min: 0, x_max: 10, y_max: 10 }, { x_min: 5, y_min: 0, x_max: 15, y_max: 10 });
        check(Math.abs(half - 1 / 3) < 1e-12, half);
        check(boxes.iou({ x_min: 0, y_min: 0, x_max: 10, y_max: 10 }, { x_min: 10, y_min: 0, x_max: 15, y_max: 10 }) === 0);
        check(boxes.iou({ x_min: 5, y_min: 5, x_max: 5, y_max: 5 }, { x_min: 0, y_min: 0, x_max: 9, y_max: 9 }) === 0);""",
    )  # fmt: skip
    assert found == []


def test_handles_and_boxes_are_hit_where_a_person_means_them(page: Page) -> None:
    found = wrong(
        page, "boxes",
        body="""
        for (let turn = 0; turn < 3000; turn += 1) {
            const box = anyBox();
            for (const name of Object.keys(boxes.HANDLES)) {
                if (name.length === 1 && Math.min(boxes.widthOf(box), boxes.heightOf(box)) < 40) continue;
                const at = boxes.handlePoint(box, name);
                check(boxes.handleAt(box, at, 8) === name, name, box, boxes.handleAt(box, at, 8));
            }
            const middle = { x: (box.x_min + box.x_max) / 2, y: (box.y_min + box.y_max) / 2 };
            check(boxes.handleAt(box, middle, 24) === null, "the middle moves", box);
        }
        const large = { x_min: 0, y_min: 0, x_max: 400, y_max: 400 };
        const small = { x_min: 100, y_min: 100, x_max: 140, y_max: 140 };
        check(boxes.boxAt([large, small], { x: 120, y: 120 }, 3) === small, "the smaller one");
        check(boxes.boxAt([large, small], { x: 1, y: 200 }, 3) === large, "the line wins");
        check(boxes.boxAt([large, small], { x: 600, y: 600 }, 3) === null, "nothing");""",
    )  # fmt: skip
    assert found == []


def test_the_index_finds_what_a_search_through_all_finds(page: Page) -> None:
    found = wrong(
        page, "grid-index", "boxes",
        body="""
        const index = new grid_index.GridIndex(photo);
        const all = new Map();
        for (let turn = 0; turn < 3000; turn += 1) {
            const key = `b${Math.floor(between(0, 300))}`;
            if (random() < 0.25) { index.delete(key); all.delete(key); }
            else { const box = anyBox(); index.set(key, box); all.set(key, box); }
            if (turn % 10) continue;
            const part = boxes.between({ x: between(-100, 1000), y: between(-100, 740) }, { x: between(-100, 1000), y: between(-100, 740) });
            const expected = [...all].filter(([, box]) => boxes.overlaps(box, part)).map(([key]) => key).sort();
            check(JSON.stringify(index.near(part).sort()) === JSON.stringify(expected), part);
        }
        for (const key of [...all.keys()]) index.delete(key);
        check(index.cells.size === 0, "nothing is left behind");""",
    )  # fmt: skip
    assert found == []


def test_any_row_of_edits_is_undone_and_done_again_exactly(page: Page) -> None:
    found = wrong(
        page, "answer", "boxes",
        body="""
        for (let round = 0; round < 30; round += 1) {
            const drawing = new answer.Answer(photo, { now: () => round * 1e6 + between(0, 1e9) });
            const start = [anyBox(), anyBox(), anyBox()].map((box, at) => ({ ...box, label: "A", proposal: at + 1, order: at + 1 }));
            drawing.reset(start, false, 4);
            const spell = () => JSON.stringify([drawing.list(), drawing.isEmpty]);
            const states = [spell()];
            for (let turn = 0; turn < 60; turn += 1) {
                const keys = drawing.list().filter(() => random() < 0.3).map((box) => box.key);
                const before = spell();
                const kind = Math.floor(between(0, 6));
                if (kind === 0) drawing.add({ ...anyBox(), label: "B" });
                else if (kind === 1) drawing.remove(keys);
                else if (kind === 2) drawing.change(keys, (box) => boxes.movedBy(photo, box, between(-50, 50), between(-50, 50)), "move");
                else if (kind === 3) drawing.change(keys, () => ({ label: "ABC"[Math.floor(between(0, 3))] }), "relabel");
                else if (kind === 4) drawing.confirmEmpty(random() < 0.5);
                else drawing.change(keys, (box) => ({ note: `${turn}`, is_uncertain: !box.is_uncertain }));
                if (spell() !== before) states.push(spell());
                check(!(drawing.isEmpty && drawing.size), "empty has no boxes");
                check(drawing.index.boxes.size === drawing.size, "the index follows");
            }
            for (let at = states.length - 2; at >= 0; at -= 1) { drawing.undo(); check(spell() === states[at], "undo", at); }
            check(drawing.undo() === null, "nothing before the beginning");
            for (let at = 1; at < states.length; at += 1) { drawing.redo(); check(spell() === states[at], "redo", at); }
        }""",
    )  # fmt: skip
    assert found == []


def test_a_held_arrow_key_is_one_step_back(page: Page) -> None:
    found = wrong(
        page, "answer", "boxes",
        body="""
        let now = 0;
        const drawing = new answer.Answer(photo, { now: () => now });
        drawing.reset([{ x_min: 10, y_min: 10, x_max: 50, y_max: 50, label: "A" }], false);
        const key = drawing.list()[0].key;
        const nudge = () => drawing.change([key], (box) => boxes.movedBy(photo, box, 1, 0), "nudge");
        for (let turn = 0; turn < 40; turn += 1) { now += 30; nudge(); }
        now += 5000;
        nudge();
        check(drawing.done.length === 2, drawing.done.length);
        drawing.undo();
        check(drawing.get(key).x_min === 50, drawing.get(key));
        drawing.undo();
        check(drawing.get(key).x_min === 10, drawing.get(key));""",
    )  # fmt: skip
    assert found == []


def test_what_became_of_the_proposals_is_counted(page: Page) -> None:
    found = wrong(
        page, "answer",
        body="""
        const at = (x) => ({ x_min: x, y_min: 0, x_max: x + 9, y_max: 9 });
        const proposals = new Map([1, 2, 3, 4].map((number) => [number, { number, label: "A", box: at(number * 10), is_weak: number === 4 }]));
        const box = (number, changes) => ({ ...at(number * 10), label: "A", proposal: number, note: "", is_uncertain: false, proposed_label: "", ...changes });
        const counts = answer.differences([box(1), box(2, { x_max: 35, label: "B" }), box(9, { proposal: null })], proposals);
        check(JSON.stringify(counts) === JSON.stringify({ kept: 1, moved: 1, relabelled: 1, deleted: 1, drawn: 1 }), counts);
        const same = { boxes: [box(1), box(2)], is_empty: false };
        check(answer.sameAnswer(same, { boxes: [box(2), box(1)], is_empty: false }), "the order does not matter");
        check(!answer.sameAnswer(same, { boxes: [box(2), box(1, { note: "?" })], is_empty: false }), "a note does");""",
    )  # fmt: skip
    assert found == []


def test_tiles_cover_the_window_once_and_are_sharp_enough(page: Page) -> None:
    found = wrong(
        page, "tile-math", "viewport", "boxes",
        body="""
        const plate = { width: 10001, height: 7333 };
        let [width, height] = [plate.width, plate.height];
        const levels = [];
        for (;;) {
            levels.unshift({ width, height, columns: Math.ceil(width / 512), rows: Math.ceil(height / 512) });
            if (Math.max(width, height) <= 512) break;
            [width, height] = [Math.ceil(width / 2), Math.ceil(height / 2)];
        }
        levels.forEach((level, number) => (level.level = number));
        const tiles = { url: "/t/{level}/{column}_{row}.jpg", tile_px: 512, levels };
        for (let turn = 0; turn < 600; turn += 1) {
            const scale = Math.exp(between(-3.2, 1.5));
            const level = tile_math.levelFor(tiles, plate, scale);
            check(level === levels.at(-1) || level.width >= plate.width * scale * 0.85, scale, level);
            check(level.level === 0 || levels[level.level - 1].width < plate.width * scale * 0.85, "no sharper than needed", scale);
            const [x, y] = [between(0, 9000), between(0, 6000)];
            const part = { x_min: x, y_min: y, x_max: x + 1200 / scale, y_max: y + 800 / scale };
            const found = tile_math.tilesIn(tiles, level, plate, part);
            check(new Set(found.map(tile_math.tileKey)).size === found.length, "each once");
            const point = { x: Math.min(between(part.x_min, part.x_max), 10000.9), y: Math.min(between(part.y_min, part.y_max), 7332.9) };
            const around = found.filter((tile) => boxes.contains(tile_math.tileBox(tiles, plate, tile), point));
            check(around.length >= 1 && around.length <= 4, point, around.length);
            const parent = tile_math.parentOf(tiles, found[0]);
            if (parent) {
                const [outer, inner] = [tile_math.tileBox(tiles, plate, parent), tile_math.tileBox(tiles, plate, found[0])];
                check(outer.x_min <= inner.x_min + 40 && outer.x_max >= inner.x_max - 40, "a parent shows the place", outer, inner);
            }
        }
        check(tile_math.tileUrl(tiles, { level: 3, column: 1, row: 2 }) === "/t/3/1_2.jpg");""",
    )  # fmt: skip
    assert found == []


def test_which_draft_to_go_on_with(page: Page) -> None:
    found = wrong(
        page, "drafts",
        body="""
        const server = { version: 3, boxes: [], is_empty: true };
        const local = (more) => ({ boxes: [], is_empty: false, base: 3, is_dirty: true, ...more });
        const use = (...drafts) => drafts_.chooseDraft(...drafts).use;
        const drafts_ = drafts;
        check(use(null, null) === "none");
        check(use(server, null) === "server");
        check(use(server, local({ is_dirty: false, base: 1 })) === "server", "what was saved is not newer");
        check(use(null, local({ base: 0 })) === "local");
        check(use(server, local()) === "local", "drawn on after the last saving");
        check(use(server, local({ base: 2 })) === "ask", "both went on");
        check(use(server, local({ base: 2, is_empty: true })) === "server", "both say the same");""",
    )  # fmt: skip
    assert found == []


def test_labels_are_found_by_what_is_typed(page: Page) -> None:
    found = wrong(
        page, "labels",
        body="""
        const label = (code, name, vernacular = "") => ({ code, name, vernacular, colour: "#000000", rank: "species" });
        const all = [label("ISO_MIN", "Isotomiella minor"), label("CER", "Ceratophysella sp.", "Collembole à épines"), label("MIN", "Minor thing")];
        const codes = (typed) => labels.matching(all, typed).map((found) => found.code).join();
        check(codes("") === "ISO_MIN,CER,MIN", codes(""));
        check(codes("min") === "MIN,ISO_MIN", codes("min"));
        check(codes("EPINES") === "CER", codes("EPINES"));
        check(codes("zzz") === "", codes("zzz"));
        check(labels.orderedLabels(all, ["MIN", "GONE"]).map((found) => found.code).join() === "MIN,ISO_MIN,CER");""",
    )  # fmt: skip
    assert found == []

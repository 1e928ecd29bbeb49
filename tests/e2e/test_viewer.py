"""The viewer in a real browser: what a person sees of a photo and its segments, in pixels of the screen."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser

from tests.support.chromium import open_browser
from tests.support.viewer_page import ViewerPage, open_viewer, read_picture

# WebGL without a graphics card.
SOFTWARE = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
VIEWPORT = {"width": 600, "height": 400}
RENDERERS = ("webgl", "canvas")
# The photo is shown at twice its size, so a pixel of it is at twice its place.
WIDTH, HEIGHT = 300, 200
ONE, TWO, THREE = (60, 40), (150, 100), (240, 160)  # centres of segments 1, 2 and 3
BESIDE = (60, 160)
COLORS = {1: (220, 40, 40), 2: (40, 200, 60), 3: (40, 80, 230)}
SEGMENTS = [{"id": key, "label": f"thing {key}", "color": list(color)} for key, color in COLORS.items()]
TOLERANCE = 3  # of 255, for rounding and for conversions of colour


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser(*SOFTWARE) as running:
        yield running


@pytest.fixture(scope="module", params=RENDERERS)
def open_page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[ViewerPage]:
    with open_viewer(browser, request.param, viewport=VIEWPORT) as opened:
        assert opened.page.evaluate("document.querySelector('#stage').dataset.renderer") == request.param
        yield opened


@pytest.fixture
def viewer(open_page: ViewerPage) -> Iterator[ViewerPage]:
    """Show three squares of segments on a photo of one colour for each quarter."""
    opened = open_page
    renderer = opened.page.evaluate("document.querySelector('#stage').dataset.renderer")
    opened.page.evaluate("renderer => { open_viewer(renderer); told.hovered = []; told.selected = [] }", renderer)
    opened.page.mouse.move(1, 1)
    opened.show(make_photo(), make_squares(), SEGMENTS)
    yield opened
    assert opened.complaints == []


def make_photo() -> NDArray[np.uint8]:
    """Return (200, 300, 3): smooth, and different everywhere."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([60 + x // 3, 80 + y // 2, 120 + (x + y) // 6], axis=-1).astype(np.uint8)


def make_squares(dtype: type = np.uint8) -> NDArray[Any]:
    """Return (200, 300): three squares of 60 pixels with the ids 1, 2 and 3."""
    label_map = np.zeros((HEIGHT, WIDTH), dtype)
    for label, (x, y) in enumerate((ONE, TWO, THREE), start=1):
        label_map[y - 30 : y + 30, x - 30 : x + 30] = label
    return label_map


def tint(point: tuple[int, int], label: int, opacity: float) -> NDArray[Any]:
    """Return what a segment's colour over the photo is."""
    return (1 - opacity) * make_photo()[point[1], point[0]] + opacity * np.array(COLORS[label])


def at(screen: NDArray[np.uint8], point: tuple[int, int]) -> NDArray[Any]:
    """Return the colour on the screen at a point of the photo."""
    return screen[2 * point[1] : 2 * point[1] + 2, 2 * point[0] : 2 * point[0] + 2].mean(axis=(0, 1))


def assert_color(found: NDArray[Any], expected: Any) -> None:
    assert np.abs(found - np.asarray(expected)).max() <= TOLERANCE, (found, expected)


def own(point: tuple[int, int]) -> NDArray[Any]:
    return make_photo()[point[1], point[0]]


@pytest.mark.parametrize("opacity", [0, 0.3, 1])
def test_segments_have_their_colours_over_the_photo(viewer: ViewerPage, opacity: float) -> None:
    viewer.call(f"viewer.setStyle({{ opacity: {opacity}, outlines: false }})")

    screen = viewer.look()

    for label, point in enumerate((ONE, TWO, THREE), start=1):
        assert_color(at(screen, point), tint(point, label, opacity))
    assert_color(at(screen, BESIDE), own(BESIDE))


def test_sixteen_bit_ids_are_drawn_by_their_own_colours(viewer: ViewerPage) -> None:
    label_map = make_squares(np.uint16)
    label_map[label_map == 3] = 40_000
    colors = [*SEGMENTS[:2], {"id": 40_000, "label": "far", "color": list(COLORS[3])}]

    viewer.show(None, label_map, colors)

    assert_color(at(viewer.look(), THREE), tint(THREE, 3, 0.5))
    assert_color(at(viewer.look(), ONE), tint(ONE, 1, 0.5))


def test_a_small_label_map_covers_the_whole_photo(viewer: ViewerPage) -> None:
    viewer.show(None, np.ascontiguousarray(make_squares()[::2, ::2]), SEGMENTS)

    screen = viewer.look()

    assert_color(at(screen, THREE), tint(THREE, 3, 0.5))
    assert_color(at(screen, BESIDE), own(BESIDE))


def test_an_isolated_segment_is_the_photo_itself_and_the_rest_is_darker(viewer: ViewerPage) -> None:
    viewer.call("viewer.isolate(2)")

    screen = viewer.look()

    assert_color(at(screen, TWO), own(TWO))
    for point in (ONE, THREE, BESIDE):
        assert at(screen, point).sum() < 0.5 * own(point).sum()


def test_only_visible_segments_are_drawn_and_pointed_at(viewer: ViewerPage) -> None:
    viewer.call("viewer.setStyle({ visible: new Set([1]) })")

    screen = viewer.look()

    assert_color(at(screen, ONE), tint(ONE, 1, 0.5))
    assert_color(at(screen, TWO), own(TWO))
    viewer.page.mouse.click(2 * TWO[0], 2 * TWO[1])
    viewer.page.mouse.click(2 * ONE[0], 2 * ONE[1])
    assert viewer.page.evaluate("told.selected") == [None, 1]


def test_a_background_without_colour_is_grey_and_segments_are_not(viewer: ViewerPage) -> None:
    viewer.call("viewer.setStyle({ background: 'gray', opacity: 0, outlines: false })")

    screen = viewer.look()

    assert np.ptp(at(screen, BESIDE)) <= 1
    assert_color(at(screen, TWO), own(TWO))


def test_a_transparent_background_has_checks_of_two_colours(viewer: ViewerPage) -> None:
    viewer.call("viewer.setStyle({ background: 'transparent', opacity: 0, outlines: false })")

    screen = viewer.look()

    beside = screen[270:390, 10:230].reshape(-1, 3)
    assert {tuple(color) for color in np.unique(beside, axis=0)} == {(255, 255, 255), (228, 229, 227)}
    assert_color(at(screen, TWO), own(TWO))


def test_a_blurred_background_has_no_sharp_edges_and_segments_have(viewer: ViewerPage) -> None:
    photo = make_photo()
    photo[:, ::4] = 255
    viewer.show(photo, make_squares(), SEGMENTS)
    viewer.call("viewer.setStyle({ background: 'blur', opacity: 0, outlines: false })")

    screen = viewer.look().astype(int)

    assert np.abs(np.diff(screen[270:390, 20:230], axis=1)).max() < 40
    assert np.abs(np.diff(screen[160:240, 260:340], axis=1)).max() > 60


def test_outlines_are_as_wide_at_every_zoom(viewer: ViewerPage) -> None:
    widths = []
    for factor in (1, 3):
        viewer.call(f"viewer.fit(); viewer.setStyle({{ opacity: 0 }}); viewer.zoomAt({factor}, {{ x: 240, y: 200 }})")
        row = viewer.look()[200].astype(int)
        viewer.call("viewer.setStyle({ outlines: false })")
        plain = viewer.look()[200].astype(int)
        viewer.call("viewer.setStyle({ outlines: true })")
        # The left edge of segment 2 is at x = 240 of the screen.
        widths.append(int((np.abs(row - plain).max(axis=1)[200:280] > 30).sum()))

    assert widths[0] in range(2, 5)
    assert abs(widths[0] - widths[1]) <= 1


def test_a_lit_up_segment_is_stronger_and_the_others_are_weaker(viewer: ViewerPage) -> None:
    viewer.call("viewer.highlight(2)")

    screen = viewer.look()

    assert_color(at(screen, TWO), tint(TWO, 2, 0.75))
    assert_color(at(screen, ONE), tint(ONE, 1, 0.25))
    assert (screen[200, 240:242] > 240).all()


def test_another_result_is_right_of_the_line(viewer: ViewerPage) -> None:
    viewer.files["other.png"] = viewer.files["labels.png"]
    viewer.call("decode('other.png').then(other => viewer.compareWith(other, [{ id: 3, color: [0, 0, 0] }], 0.5))")

    screen = viewer.look()

    assert_color(at(screen, ONE), tint(ONE, 1, 0.5))
    assert_color(at(screen, (TWO[0] - 20, TWO[1])), tint((TWO[0] - 20, TWO[1]), 2, 0.5))
    assert_color(at(screen, (TWO[0] + 20, TWO[1])), own((TWO[0] + 20, TWO[1])))
    assert_color(at(screen, THREE), 0.5 * own(THREE))
    viewer.call("viewer.compareWith(null, [], 1)")
    assert_color(at(viewer.look(), THREE), tint(THREE, 3, 0.5))


def test_segments_are_shown_without_a_photo(viewer: ViewerPage) -> None:
    viewer.call("viewer.setPhoto(null); viewer.setStyle({ outlines: false })")

    screen = viewer.look()

    assert_color(at(screen, TWO), COLORS[2])
    assert_color(at(screen, BESIDE), (236, 236, 233))


def test_the_pointer_finds_segments_after_zoom_and_pan(viewer: ViewerPage) -> None:
    mouse = viewer.page.mouse
    mouse.move(2 * TWO[0], 2 * TWO[1])
    for _ in range(5):
        mouse.wheel(0, -120)
    mouse.down()
    mouse.move(2 * TWO[0] + 40, 2 * TWO[1] + 30, steps=4)
    mouse.up()
    viewer.page.evaluate("settle()")
    view = viewer.page.evaluate("told.views.at(-1)")
    viewer.page.evaluate("told.hovered = []; told.selected = []")

    for x, y in (ONE, TWO, THREE, BESIDE):
        left, top = x * view["scale"] + view["x"], y * view["scale"] + view["y"]
        if 0 <= left < VIEWPORT["width"] and 0 <= top < VIEWPORT["height"]:
            mouse.click(left, top)
    edge = (TWO[0] - 30) * view["scale"] + view["x"]
    mouse.move(edge - 30, 2 * TWO[1])
    mouse.move(edge + 1, 2 * TWO[1])
    mouse.move(edge - 1, 2 * TWO[1])

    assert view["scale"] > 3
    assert viewer.page.evaluate("told.selected") == [2]
    assert viewer.page.evaluate("told.hovered.slice(-2)") == [2, None]


def test_a_drag_is_no_click(viewer: ViewerPage) -> None:
    mouse = viewer.page.mouse
    mouse.move(2 * TWO[0], 2 * TWO[1])
    mouse.down()
    mouse.move(2 * TWO[0] + 30, 2 * TWO[1], steps=3)
    mouse.up()

    assert viewer.page.evaluate("told.selected") == []


def test_keys_move_and_zoom(viewer: ViewerPage) -> None:
    page = viewer.page
    stage = page.locator("#stage")
    stage.focus()
    views = []
    for key in ("+", "+", "ArrowRight", "ArrowDown", "-", "1", "0"):
        page.keyboard.press(key)
        page.evaluate("settle()")
        views.append(page.evaluate("told.views.at(-1)"))

    scales = [view["scale"] for view in views]
    assert scales == pytest.approx([2.5, 3.125, 3.125, 3.125, 2.5, 1, 2])  # pixel by pixel, then the whole photo
    assert views[2]["x"] < views[1]["x"] and views[3]["y"] < views[2]["y"]
    assert views[-1]["isFit"] and not views[0]["isFit"]
    page.keyboard.press("Escape")
    assert page.evaluate("told.selected") == [None]
    assert stage.get_attribute("role") == "application"
    assert "zoom" in stage.get_attribute("aria-label")


def test_a_cut_out_has_the_pixels_of_its_segment_and_no_others(viewer: ViewerPage) -> None:
    label_map = np.random.default_rng(3).integers(0, 4, (HEIGHT, WIDTH), np.uint8)
    viewer.show(None, label_map, SEGMENTS)

    cut = cut_out(viewer, "{ ids: [1, 3], crop: false }")

    is_chosen = np.isin(label_map, [1, 3])
    assert ((cut[:, :, 3] == 255) == is_chosen).all()
    assert set(np.unique(cut[:, :, 3])) == {0, 255}
    assert (cut[is_chosen][:, :3] == make_photo()[is_chosen]).all()


def test_a_cut_out_ends_where_its_segment_does(viewer: ViewerPage) -> None:
    cut = cut_out(viewer, "{ ids: [2] }")

    assert cut.shape == (60, 60, 4)
    assert (cut[:, :, 3] == 255).all()
    assert (cut[:, :, :3] == make_photo()[70:130, 120:180]).all()


def test_a_cut_out_of_nothing_says_so(viewer: ViewerPage) -> None:
    assert viewer.page.evaluate("viewer.cutOut({ ids: [9] }).catch(error => error.name)") == "NothingToCutOut"


def cut_out(viewer: ViewerPage, options: str) -> NDArray[np.uint8]:
    script = f"viewer.cutOut({options}).then(file => file.arrayBuffer()).then(all => [...new Uint8Array(all)])"
    return read_picture(bytes(viewer.page.evaluate(script)))


def test_nothing_is_drawn_while_nothing_changes(viewer: ViewerPage) -> None:
    viewer.page.evaluate("settle()")
    count = "performance.getEntriesByName('frame').length"
    before = viewer.page.evaluate(count)

    viewer.page.evaluate("new Promise(resolve => setTimeout(resolve, 300))")

    assert viewer.page.evaluate(count) == before


def test_what_is_set_again_is_not_drawn_again(viewer: ViewerPage) -> None:
    viewer.call("viewer.isolate(2); viewer.highlight(1)")

    is_busy = viewer.page.evaluate("viewer.isolate(2), viewer.highlight(1), viewer.isBusy")

    assert is_busy is False


def test_other_segments_are_computed_before_the_next_frame(viewer: ViewerPage) -> None:
    """An answer to a slider would otherwise be seen a frame later."""
    viewer.page.evaluate("settle()")

    drawn = viewer.page.evaluate("""async () => {
        const frames = [];
        const request = window.requestAnimationFrame;
        window.requestAnimationFrame = (draw) => frames.push(draw);
        viewer.setLabels({ ...labels });
        const deadline = performance.now() + 10000;
        while (viewer.renderer.isBusy && performance.now() < deadline) await new Promise(next => setTimeout(next, 5));
        window.requestAnimationFrame = request;
        frames[0]();
        return [frames.length, document.querySelector("#stage").dataset.drawn];
    }""")

    assert drawn == [1, "wholly"]


def test_software_that_stands_in_for_a_graphics_card_is_not_used_by_itself(browser: Browser) -> None:
    with open_viewer(browser, "auto", viewport=VIEWPORT) as viewer:
        viewer.show(make_photo(), make_squares(), SEGMENTS)

        assert viewer.page.evaluate("document.querySelector('#stage').dataset.renderer") == "canvas"
        assert viewer.page.locator("canvas").count() == 1
        assert_color(at(viewer.look(), ONE), tint(ONE, 1, 0.5))
        assert viewer.complaints == []


def test_a_lost_context_comes_back(browser: Browser) -> None:
    with open_viewer(browser, "webgl", viewport=VIEWPORT) as viewer:
        viewer.show(make_photo(), make_squares(), SEGMENTS)
        before = viewer.look()

        viewer.page.evaluate("""new Promise(resolve => {
            const loss = viewer.renderer.gl.getExtension("WEBGL_lose_context");
            viewer.canvas.addEventListener("webglcontextrestored", () => setTimeout(resolve));
            viewer.canvas.addEventListener("webglcontextlost", () => setTimeout(() => loss.restoreContext(), 50));
            loss.loseContext();
        })""")

        assert (viewer.look() == before).all()


def test_both_renderers_draw_the_same(browser: Browser) -> None:
    scripts = (
        "viewer.setStyle({ background: 'photo' })",
        "viewer.highlight(2)",
        "viewer.highlight(null); viewer.isolate(3)",
        "viewer.isolate(null); viewer.setStyle({ background: 'gray' })",
        "viewer.setStyle({ background: 'transparent' })",
        "viewer.setStyle({ background: 'blur' }); viewer.zoomAt(5.3, { x: 250, y: 180 })",
    )
    seen = []
    for renderer in RENDERERS:
        with open_viewer(browser, renderer, viewport={"width": 300, "height": 200}, device_scale_factor=2) as viewer:
            viewer.show(make_photo(), make_squares(), SEGMENTS)
            seen.append([viewer.call(script) or viewer.look().astype(int) for script in scripts])
            assert viewer.complaints == []

    for script, one, other in zip(scripts, *seen, strict=True):
        difference = np.abs(one - other).max(axis=2)
        # Edges are smoothed by one of them.
        assert (difference > 8).mean() < 0.015, script


# Frames, and the screen.  Software for WebGL takes seconds for a large screen, though not of the main thread.
PANNED = {"webgl": (8, {"width": 640, "height": 360}), "canvas": (40, {"width": 1920, "height": 1080})}
LARGE = {"24 megapixels": (6000, 4000, np.uint8), "a tower": (400, 8000, np.uint16)}


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("name", LARGE)
def test_a_large_photo_is_shown_to_its_pixels(browser: Browser, renderer: str, name: str) -> None:
    width, height, dtype = LARGE[name]
    photo = Image.new("RGB", (width, height), (90, 110, 130))
    # A line between two tiles, and at the very end of the photo.
    photo.paste((250, 250, 250), (0, 1023, width, 1024))
    photo.paste((250, 250, 250), (0, height - 1, width, height))
    label_map = np.zeros((height, width), dtype)
    label_map[height // 2 :, width // 2 :] = 1
    with open_viewer(browser, renderer, viewport={"width": 800, "height": 800}) as viewer:
        viewer.show(save_jpeg(np.asarray(photo)), label_map, SEGMENTS)
        whole = viewer.look()
        viewer.call("viewer.zoomToPixels(); viewer.panBy(1e6, 1e6); viewer.panBy(0, -900)")
        pixels = viewer.look()
        viewer.call("viewer.panBy(-1e6, -1e6)")
        end = viewer.look()

        assert viewer.complaints == []
    centre = 400 + 12  # of the screen; beside the middle of the photo
    assert_color(whole[centre, 406], 0.5 * np.array((90, 110, 130)) + 0.5 * np.array(COLORS[1]))
    assert_color(whole[400 - 12, 394], (90, 110, 130))
    line = pixels[:, 400].astype(int).min(axis=1)
    assert [int(row) for row in np.flatnonzero(line > 200)] == [123]
    assert end[799, 500].min() > 100
    assert_color(end[790, 590], 0.5 * np.array((90, 110, 130)) + 0.5 * np.array(COLORS[1]))


@pytest.mark.parametrize("renderer", RENDERERS)
def test_panning_takes_little_of_the_main_thread(browser: Browser, renderer: str) -> None:
    """60 segments on a photo of 1920 x 1080 pixels."""
    count, viewport = PANNED[renderer]
    blocks = np.arange(1, 61, dtype=np.uint8).reshape(6, 10)
    label_map = np.ascontiguousarray(blocks.repeat(180, axis=0).repeat(192, axis=1))
    photo = np.random.default_rng(1).integers(0, 255, (1080, 1920, 3), np.uint8)
    segments = [{"id": label, "label": f"thing {label % 20}"} for label in range(1, 61)]
    with open_viewer(browser, renderer, viewport=viewport) as viewer:
        viewer.show(save_jpeg(photo), label_map, segments)
        viewer.call("viewer.zoomBy(2)")
        taken = viewer.page.evaluate("count => pan(count)", count)

    assert len(taken["frames"]) >= count
    # The median, because others may use the processor meanwhile.
    assert np.median(taken["frames"]) <= 8


def save_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=95, subsampling=0)
    return file.getvalue()

"""The page, opened and clicked through in headless Chromium; and the pictures, drawn."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstm_jax as lj
from lstm_jax import diagnostics
from lstm_jax.diagnostics import pictures

TEXT = 'say("one") and </script> <b>&amp; "two"\n\tthen' * 3
CELLS = 12


@pytest.fixture(scope="module")
def seen():
    """A trace of random weights whose cell 7 is made to follow the quotes."""
    params = lj.init_params(jax.random.key(0), 4, CELLS)
    codes = jnp.array([ord(one) % 4 for one in TEXT])
    found = diagnostics.trace(params, jax.nn.one_hot(codes, 4, dtype=jnp.float32))
    return found | {"c": found["c"].at[:, 7].set(jnp.asarray(inside() * 2.0 - 0.5, jnp.float32))}


def inside():
    return np.cumsum([one == '"' for one in TEXT]) % 2 == 1


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    binary, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no chromium and chromedriver on the path: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1300,800"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield opened
    opened.quit()


def open_page(browser, path):
    browser.get(path.as_uri())
    faults = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert not faults, faults


def choose(browser, name, value):
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element("id", name)).select_by_visible_text(value)


def text_of(browser, name):
    return browser.find_element("id", name).text


def test_hovering_ranking_and_searching(browser, seen, tmp_path):
    from selenium.webdriver import ActionChains, Keys

    path, steps = tmp_path / "cells.html", np.arange(len(TEXT))
    features = {"inside a string": inside(), "place": steps, "nothing": 0 * steps}
    diagnostics.write_page(path, seen, list(TEXT), title="A </script> <test>", features=features)
    assert path.read_text().count("http") == 0, "a page that needs nothing from elsewhere"
    open_page(browser, path)
    assert text_of(browser, "title") == browser.title == "A </script> <test>"
    assert browser.find_element("id", "text").get_attribute("textContent") == TEXT

    canvas = browser.find_element("id", "canvas")
    size = browser.execute_script("const b = arguments[0].getBoundingClientRect(); return [b.width, b.height]", canvas)
    step, cell = 5, 3  # columns of 13 pixels from 46 on, rows of 14 from 22 on
    across, down = 46 + (step + 0.5) * 13 - size[0] / 2, 22 + (cell + 0.5) * 14 - size[1] / 2
    ActionChains(browser).move_to_element_with_offset(canvas, across, down).perform()
    assert text_of(browser, "head") == f'cell {cell}, step {step}, "o"'
    shown = dict(line.split()[:2] for line in text_of(browser, "values").splitlines())
    assert shown.keys() == seen.keys()
    for name, value in shown.items():
        assert float(value) == pytest.approx(float(seen[name][step, cell]), abs=2e-4)

    ActionChains(browser).click().move_by_offset(40, 30).perform()
    assert text_of(browser, "head").startswith(f"cell {cell}, step {step}"), "a click holds the place"
    browser.find_element("id", "map").send_keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert text_of(browser, "head").startswith(f"cell {cell + 1}, step {step + 1}")

    choose(browser, "order", "following: inside a string")
    assert browser.find_element("id", "cell").get_attribute("value") == "7"
    want = diagnostics.track(seen["c"], inside())
    assert want.best == 7
    shown = float(text_of(browser, "legend").rsplit(" ", 1)[1])
    assert shown == pytest.approx(want.scores[7], abs=1e-3)
    choose(browser, "order", "following: place")
    best = int(browser.find_element("id", "cell").get_attribute("value"))
    shown = float(text_of(browser, "legend").rsplit(" ", 1)[1])
    want = diagnostics.track(seen["c"], np.arange(len(TEXT)))
    assert (best, shown) == (want.best, pytest.approx(want.scores[best], abs=1e-3))
    choose(browser, "order", "following: nothing")

    browser.find_element("id", "find").send_keys('"\\w+"')
    assert text_of(browser, "status").startswith(f"found {6 * 5} steps")
    assert browser.find_element("id", "cell").get_attribute("value") == "7"
    choose(browser, "field", "f")
    assert "f of cell" in text_of(browser, "legend")
    number = browser.find_element("id", "cell")
    number.clear()
    number.send_keys("99", Keys.ENTER)
    assert text_of(browser, "status") == f"want a cell from 0 to {CELLS - 1}"
    browser.find_element("css selector", "#text span:nth-child(9)").click()
    assert "step 8" in text_of(browser, "head")
    browser.find_element("id", "find").send_keys("[")
    assert text_of(browser, "status") == "not a regular expression yet"
    assert not [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]


def test_words_and_fields_of_other_widths(browser, tmp_path):
    """Words are searched with what stands between them; a narrower field has no value for the last cells."""
    words = ["not", "a", "bad", "film", "<b>"]
    values = np.arange(5.0)[:, None] * [1.0, -1.0, 0.0]
    path = tmp_path / "words.html"
    diagnostics.write_page(path, {"c": values, "<img src=x>": values[:, :1]}, words)
    open_page(browser, path)
    assert browser.find_element("id", "text").get_attribute("textContent").strip() == "not a bad film <b>"
    browser.find_element("id", "find").send_keys("a bad")
    assert text_of(browser, "status").startswith("found 2 steps")
    browser.find_element("id", "find").send_keys("ly")
    assert text_of(browser, "status") == "nothing found"
    number = browser.find_element("id", "cell")
    number.clear()
    number.send_keys("2\n")
    assert text_of(browser, "values").splitlines()[1] == "<img src=x> not there"
    assert not browser.find_elements("css selector", "#values img")


def test_hovering_where_it_is_scrolled(browser, seen, tmp_path):
    from selenium.webdriver import ActionChains

    path = tmp_path / "cells.html"
    diagnostics.write_page(path, seen, list(TEXT))
    open_page(browser, path)
    map_, canvas = browser.find_element("id", "map"), browser.find_element("id", "canvas")
    browser.execute_script("arguments[0].scrollLeft = 260", map_)
    size = browser.execute_script("const b = arguments[0].getBoundingClientRect(); return [b.width, b.height]", canvas)

    def hover(x, y):
        beside = ActionChains(browser).move_to_element_with_offset(canvas, x - size[0] / 2 - 1, y - size[1] / 2)
        beside.move_by_offset(1, 0).perform()
        return text_of(browser, "head").split(",")[:2]

    assert hover(46 + 6, 22 + 14 + 7) == ["cell 1", " step 20"]
    assert hover(20, 22 + 5 * 14) == ["cell 1", " step 20"], "the numbers of the rows are no steps"
    assert hover(100, 10) == ["cell 1", " step 20"], "nor is the text above a cell"


def test_the_map_fills_its_place(browser, seen, tmp_path):
    """All but the scroll bars, of which there is one for the steps, and one for the cells if the window is low."""
    path = tmp_path / "cells.html"
    diagnostics.write_page(path, seen, list(TEXT))
    open_page(browser, path)
    for high, bars in ((800, [False, True]), (300, [True, True]), (700, [False, True])):
        browser.set_window_size(1300, high)
        drawn = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
        browser.execute_async_script(drawn)
        sizes = "return [map, canvas].map(one => [one.clientWidth, one.clientHeight])"
        inside, canvas = browser.execute_script(sizes)
        assert canvas == inside, high
        seen_bars = "return [map.offsetWidth > map.clientWidth, map.offsetHeight > map.clientHeight]"
        assert browser.execute_script(seen_bars) == bars, high
    browser.set_window_size(1300, 800)
    finer = {"width": 0, "height": 0, "deviceScaleFactor": 2, "mobile": False}  # of the same size, so nothing is told
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", finer)
    browser.execute_script("draw()")
    assert browser.execute_script("return [canvas.width, pen.getTransform().a]") == [2 * canvas[0], 2]
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_page_of_a_series(browser, seen, tmp_path):
    path = tmp_path / "series.html"
    diagnostics.write_page(path, seen, jnp.sin(jnp.arange(len(TEXT)) / 5))
    open_page(browser, path)
    assert "step 0, 0.000" in text_of(browser, "head")
    assert not browser.find_element("id", "text").is_displayed()


def test_what_does_not_fit(seen, tmp_path):
    path, cells, words = tmp_path / "page.html", {"c": np.zeros((3, 4))}, ["a", "b", "c"]
    for trace, labels, features, message in (
        (seen, words, None, r"labels: got shape \(3,\), want one for each"),
        ({"c": np.zeros((3, 2, 4))}, words, None, r"want \[T, H\] throughout"),
        ({"c": np.zeros((0, 4))}, [], None, "at least 1"),
        ({"c": np.full((3, 4), np.nan)}, words, None, "c: got numbers that are not finite"),
        (cells, words, {"two": np.zeros((3, 2))}, r"features\['two'\]: got shape \(3, 2\)"),
        (cells, words, {"one": 3.0}, r"features\['one'\]: got shape \(\)"),
    ):
        with pytest.raises(ValueError, match=message):
            diagnostics.write_page(path, trace, labels, features=features)
    with pytest.raises(ValueError, match="labels: got 2, want one for each of the 3 steps"):
        pictures.plot_heat(cells["c"], path, name="c", labels=words[:2])
    with pytest.raises(ValueError, match="want a finite number for each of the 3 labels"):
        pictures.plot_text(words, np.zeros(2), path)
    state = lj.LSTMState(np.zeros((1, 4)), np.zeros((1, 4)))
    found = diagnostics.FixedPoints(state, np.zeros(1), np.zeros((1, 8, 8)), np.ones((1, 8)))
    with pytest.raises(ValueError, match="trajectories: got ndarray, want LSTMState"):
        pictures.plot_fixed_points(found, np.zeros((3, 4)), path)
    with pytest.raises(ValueError, match=r"values: got shape \(3, 2, 4\), want \[T, H\] of one sequence"):
        pictures.plot_heat(np.zeros((3, 2, 4)), path, name="f")
    with pytest.raises(ValueError, match=r"norms: got 'c' of shape \(3, 2\), want \[T\]"):
        pictures.plot_flow({"c": np.zeros((3, 2))}, path)
    seen = {"h": np.random.default_rng(0).normal(size=(9, 4)), "c": np.ones((9, 4)), "f": np.ones((9, 4))}
    pictures.plot_fixed_points(found, seen, tmp_path / "points.png")
    assert (tmp_path / "points.png").read_bytes()[:4] == b"\x89PNG"


def test_every_picture_is_drawn(seen, tmp_path):
    times = iter(range(100))

    def path():
        return Path(tmp_path / f"{next(times)}.png")

    drawn = [path() for _ in range(7)]
    pictures.plot_heat(seen["f"][:60], drawn[0], name="f", labels=list(TEXT[:60]), cells=[7, 1])
    pictures.plot_heat(seen["c"], drawn[1], name="c", series=np.sin(np.arange(len(TEXT))))
    pictures.plot_text(list(TEXT), seen["c"][:, 7], drawn[2], title="cell 7", meaning="memory")
    found = diagnostics.Attribution(jnp.ones((3, 2)), jnp.array([1.0, -2.0, 0.5]))
    pictures.plot_attribution(["not", "very", "good"], found, drawn[3])
    pictures.plot_flow({"simple": jnp.logspace(-9, 0, 50), "LSTM": jnp.ones(50)}, drawn[4])
    pictures.plot_units(diagnostics.unit_stats(seen), drawn[5])
    pictures.plot_spectra(-jnp.outer(jnp.arange(20.0), jnp.arange(1.0, 5)), drawn[6])
    for one in drawn:
        assert one.read_bytes()[:4] == b"\x89PNG"

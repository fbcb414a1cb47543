"""The page, opened and clicked through in headless Chromium; and the plots."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lstm_jax as lj
from lstm_jax import diagnostics
from lstm_jax.diagnostics import plots

TEXT = 'say("one") and </script> <b>&amp; "two"\n\tthen' * 3
UNITS = 12


@pytest.fixture(scope="module")
def trace():
    """A trace of random weights whose unit 7 is made to follow the quotes."""
    params = lj.init_params(jax.random.key(0), 4, UNITS)
    codes = jnp.array([ord(character) % 4 for character in TEXT])
    fields = diagnostics.trace(params, jax.nn.one_hot(codes, 4, dtype=jnp.float32))
    return fields | {"c": fields["c"].at[:, 7].set(jnp.asarray(inside() * 2.0 - 0.5, jnp.float32))}


def inside():
    return np.cumsum([character == '"' for character in TEXT]) % 2 == 1


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


def test_hovering_ranking_and_searching(browser, trace, tmp_path):
    from selenium.webdriver import ActionChains, Keys

    path, steps = tmp_path / "units.html", np.arange(len(TEXT))
    features = {"inside a string": inside(), "place": steps, "nothing": 0 * steps}
    diagnostics.write_page(path, trace, list(TEXT), title="A </script> <test>", features=features)
    assert path.read_text().count("http") == 0, "a page that needs nothing from elsewhere"
    open_page(browser, path)
    assert text_of(browser, "title") == browser.title == "A </script> <test>"
    assert browser.find_element("id", "text").get_attribute("textContent") == TEXT

    canvas = browser.find_element("id", "canvas")
    size = browser.execute_script("const b = arguments[0].getBoundingClientRect(); return [b.width, b.height]", canvas)
    step, unit = 5, 3  # columns of 13 pixels from 46 on, rows of 14 from 22 on
    across, down = 46 + (step + 0.5) * 13 - size[0] / 2, 22 + (unit + 0.5) * 14 - size[1] / 2
    ActionChains(browser).move_to_element_with_offset(canvas, across, down).perform()
    assert text_of(browser, "head") == f'unit {unit}, step {step}, "o"'
    shown = dict(line.split()[:2] for line in text_of(browser, "values").splitlines())
    assert shown.keys() == trace.keys()
    for name, value in shown.items():
        assert float(value) == pytest.approx(float(trace[name][step, unit]), abs=2e-4)

    ActionChains(browser).click().move_by_offset(40, 30).perform()
    assert text_of(browser, "head").startswith(f"unit {unit}, step {step}"), "a click holds the place"
    browser.find_element("id", "map").send_keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert text_of(browser, "head").startswith(f"unit {unit + 1}, step {step + 1}")

    choose(browser, "order", "following: inside a string")
    assert browser.find_element("id", "unit").get_attribute("value") == "7"
    want = diagnostics.track(trace["c"], inside())
    assert want.best_unit == 7
    shown = float(text_of(browser, "legend").rsplit(" ", 1)[1])
    assert shown == pytest.approx(want.scores[7], abs=1e-3)
    choose(browser, "order", "following: place")
    best = int(browser.find_element("id", "unit").get_attribute("value"))
    shown = float(text_of(browser, "legend").rsplit(" ", 1)[1])
    want = diagnostics.track(trace["c"], np.arange(len(TEXT)))
    assert (best, shown) == (want.best_unit, pytest.approx(want.scores[best], abs=1e-3))
    choose(browser, "order", "following: nothing")

    browser.find_element("id", "find").send_keys('"\\w+"')
    assert text_of(browser, "status").startswith(f"found {6 * 5} steps")
    assert browser.find_element("id", "unit").get_attribute("value") == "7"
    choose(browser, "field", "f")
    assert "f of unit" in text_of(browser, "legend")
    number = browser.find_element("id", "unit")
    number.clear()
    number.send_keys("99", Keys.ENTER)
    assert text_of(browser, "status") == f"want a unit from 0 to {UNITS - 1}"
    browser.find_element("css selector", "#text span:nth-child(9)").click()
    assert "step 8" in text_of(browser, "head")
    browser.find_element("id", "find").send_keys("[")
    assert text_of(browser, "status") == "not a regular expression yet"
    assert not [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]


def test_words_and_fields_of_other_widths(browser, tmp_path):
    """Words are searched with what stands between them; a narrower field has no value for the last units."""
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
    number = browser.find_element("id", "unit")
    number.clear()
    number.send_keys("2\n")
    assert text_of(browser, "values").splitlines()[1] == "<img src=x> not there"
    assert not browser.find_elements("css selector", "#values img")


def test_hovering_where_it_is_scrolled(browser, trace, tmp_path):
    from selenium.webdriver import ActionChains

    path = tmp_path / "units.html"
    diagnostics.write_page(path, trace, list(TEXT))
    open_page(browser, path)
    map_, canvas = browser.find_element("id", "map"), browser.find_element("id", "canvas")
    browser.execute_script("arguments[0].scrollLeft = 260", map_)
    size = browser.execute_script("const b = arguments[0].getBoundingClientRect(); return [b.width, b.height]", canvas)

    def hover(x, y):
        beside = ActionChains(browser).move_to_element_with_offset(canvas, x - size[0] / 2 - 1, y - size[1] / 2)
        beside.move_by_offset(1, 0).perform()
        return text_of(browser, "head").split(",")[:2]

    assert hover(46 + 6, 22 + 14 + 7) == ["unit 1", " step 20"]
    assert hover(20, 22 + 5 * 14) == ["unit 1", " step 20"], "the numbers of the rows are no steps"
    assert hover(100, 10) == ["unit 1", " step 20"], "nor is the text above a unit"


def test_the_map_fills_its_place(browser, trace, tmp_path):
    """All but the scroll bars, of which there is one for the steps, and one for the units if the window is low."""
    path = tmp_path / "units.html"
    diagnostics.write_page(path, trace, list(TEXT))
    open_page(browser, path)
    for high, bars in ((800, [False, True]), (300, [True, True]), (700, [False, True])):
        browser.set_window_size(1300, high)
        drawn = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
        browser.execute_async_script(drawn)
        sizes = "return [map, canvas].map(node => [node.clientWidth, node.clientHeight])"
        inside, canvas = browser.execute_script(sizes)
        assert canvas == inside, high
        has_bars = "return [map.offsetWidth > map.clientWidth, map.offsetHeight > map.clientHeight]"
        assert browser.execute_script(has_bars) == bars, high
    browser.set_window_size(1300, 800)
    finer = {"width": 0, "height": 0, "deviceScaleFactor": 2, "mobile": False}  # of the same size: no resize event
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", finer)
    browser.execute_script("draw()")
    assert browser.execute_script("return [canvas.width, pen.getTransform().a]") == [2 * canvas[0], 2]
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_page_of_a_series(browser, trace, tmp_path):
    path = tmp_path / "series.html"
    diagnostics.write_page(path, trace, jnp.sin(jnp.arange(len(TEXT)) / 5))
    open_page(browser, path)
    assert "step 0, 0.000" in text_of(browser, "head")
    assert not browser.find_element("id", "text").is_displayed()


def test_what_does_not_fit(trace, tmp_path):
    path, fields, words = tmp_path / "page.html", {"c": np.zeros((3, 4))}, ["a", "b", "c"]
    for arrays, labels, features, message in (
        (trace, words, None, r"labels: got shape \(3,\), want one for each"),
        ({"c": np.zeros((3, 2, 4))}, words, None, r"want \[T, H\] throughout"),
        ({"c": np.zeros((0, 4))}, [], None, "at least 1"),
        ({"c": np.full((3, 4), np.nan)}, words, None, "c: got numbers that are not finite"),
        (fields, words, {"two": np.zeros((3, 2))}, r"features\['two'\]: got shape \(3, 2\)"),
        (fields, words, {"one": 3.0}, r"features\['one'\]: got shape \(\)"),
    ):
        with pytest.raises(ValueError, match=message):
            diagnostics.write_page(path, arrays, labels, features=features)
    with pytest.raises(ValueError, match="labels: got 2, want one for each of the 3 steps"):
        plots.plot_heatmap(fields["c"], path, name="c", labels=words[:2])
    with pytest.raises(ValueError, match="want a finite number for each of the 3 labels"):
        plots.plot_text(words, np.zeros(2), path)
    state = lj.LSTMState(np.zeros((1, 4)), np.zeros((1, 4)))
    points = diagnostics.FixedPoints(state, np.zeros(1), np.zeros((1, 8, 8)), np.ones((1, 8)))
    with pytest.raises(ValueError, match="trajectories: got ndarray, want LSTMState"):
        plots.plot_fixed_points(points, np.zeros((3, 4)), path)
    with pytest.raises(ValueError, match=r"values: got shape \(3, 2, 4\), want \[T, H\] of one sequence"):
        plots.plot_heatmap(np.zeros((3, 2, 4)), path, name="f")
    with pytest.raises(ValueError, match=r"norms: got 'c' of shape \(3, 2\), want \[T\]"):
        plots.plot_norms({"c": np.zeros((3, 2))}, path)
    trace = {"h": np.random.default_rng(0).normal(size=(9, 4)), "c": np.ones((9, 4)), "f": np.ones((9, 4))}
    plots.plot_fixed_points(points, trace, tmp_path / "points.png")
    assert (tmp_path / "points.png").read_bytes()[:4] == b"\x89PNG"


def test_every_plot_is_drawn(trace, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    plots.plot_heatmap(trace["f"][:60], paths[0], name="f", labels=list(TEXT[:60]), units=[7, 1])
    plots.plot_heatmap(trace["c"], paths[1], name="c", series=np.sin(np.arange(len(TEXT))))
    plots.plot_text(list(TEXT), trace["c"][:, 7], paths[2], title="unit 7", value_label="memory")
    attribution = diagnostics.Attribution(jnp.ones((3, 2)), jnp.array([1.0, -2.0, 0.5]))
    plots.plot_attribution(["not", "very", "good"], attribution, paths[3])
    plots.plot_norms({"simple": jnp.logspace(-9, 0, 50), "LSTM": jnp.ones(50)}, paths[4])
    plots.plot_unit_stats(diagnostics.unit_stats(trace), paths[5])
    plots.plot_spectra(-jnp.outer(jnp.arange(20.0), jnp.arange(1.0, 5)), paths[6])
    for path in paths:
        assert path.read_bytes()[:4] == b"\x89PNG"

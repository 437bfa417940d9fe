"""Images in tests: `build_image` comes with layersmith, for pytest."""

from pathlib import Path

HELLO = Path(__file__).parents[1] / "hello"


def test_it_greets_whom_it_is_told_to(build_image):
    image = build_image(HELLO, build_args={"WHO": "tests"})
    assert image.run().stdout == "Hello from a container, tests\n"


def test_it_has_no_more_than_it_needs(build_image):
    image = build_image(HELLO)
    assert image.read("/etc/greeting").startswith(b"Hello")
    assert image.config.user == ""

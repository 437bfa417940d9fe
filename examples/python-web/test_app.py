import unittest

from app import answer


class Answers(unittest.TestCase):
    def test_health(self) -> None:
        self.assertEqual(answer("/health"), (200, {"status": "ok"}))

    def test_unknown_path(self) -> None:
        self.assertEqual(answer("/nope")[0], 404)

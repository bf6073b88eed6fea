"""The page's texts, without a browser."""

from ddpm.ui.text import AREAS, LANGUAGES, TEXT, say


def test_every_key_stands_in_one_module():
    keys = [key for area in AREAS for key in area.PAIRS]
    assert len(keys) == len(set(keys))
    assert all(set(keys) == TEXT[language].keys() for language in LANGUAGES)


def test_fields_are_filled_in_either_language():
    assert say("rows.calls", calls=5) == "5 network calls"
    assert say("rows.calls", calls=1) == "1 network call"
    assert say("rows.calls", "zh", calls=5) == "5 次网络调用"

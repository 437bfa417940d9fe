"""``--format``: JSON, Go templates, JSON paths."""

from __future__ import annotations

from typing import Any

import pytest

from layersmith.cli.format import formatter
from layersmith.errors import UsageError

VALUE: dict[str, Any] = {
    "Config": {"Env": ["A=1", "B=2"], "Labels": {"a.b": "x", "n": "y"}, "User": "", "Cmd": None},
    "Size": 12_345_678,
    "Layers": [{"Size": 1}, {"Size": 2}],
    "Empty": True,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{.Size}} bytes", "12345678 bytes"),
        ("{{.Config.Env}}", "[A=1 B=2]"),
        ("{{.Config.Labels}}", "map[a.b:x n:y]"),
        ("{{.Config.Cmd}}|{{.Empty}}", "<no value>|true"),
        ("{{json .Config.Labels}}", '{"a.b":"x","n":"y"}'),
        ("{{ .Config.Env | json }}", '["A=1","B=2"]'),
        ('{{join .Config.Env ", "}}', "A=1, B=2"),
        ("{{len .Config.Env}}{{.Config.Cmd | len}}", "20"),
        ('{{index .Config.Labels "a.b"}}{{index .Config.Labels "missing"}}', "x"),
        ("{{index .Config.Env 1}}", "B=2"),
        ("{{range .Layers}}<{{.Size}}/{{$.Size}}>{{end}}", "<1/12345678><2/12345678>"),
        ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
        ("{{if .Config.User}}u{{else}}root{{end}}", "root"),
        ("{{if eq .Size 12345678}}same{{end}}", "same"),
        ("{{with .Config}}{{.User}}{{.Env}}{{end}}", "[A=1 B=2]"),
        ("{{with .Config.Cmd}}x{{else}}y{{end}}", "y"),
        ("a {{- .Size -}} b", "a12345678b"),
        ("{{/* a comment */}}x", "x"),
        ('{{"{{"}}{{`}}`}}', "{{}}"),
        ("{{upper .Config.Labels.n}}{{size .Size}}", "Y12.3MB"),
        ("{{range .Layers}}{{range $.Config.Env}}.{{end}}{{end}}", "...."),
        (".Config.Env[0]", "A=1"),
        ("Layers[-1].Size", "2"),
        ("$", '{"Config"'),
        ("$.Config['Labels'][\"a.b\"]", "x"),
        ("json", '{"Config"'),
    ],
)
def test_formats(text: str, expected: str) -> None:
    """What docker's users write, and JSON paths. (Whole values are compared by their beginning.)"""
    found = formatter(text)(VALUE)
    assert found.startswith(expected) if expected == '{"Config"' else found == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{.Sise}}", "did you mean Size?"),
        (".config.env", "did you mean Config?"),
        ("{{.Size.More}}", "nothing is called 'More'"),
        ("{{nosuch .Size}}", "there is no function 'nosuch'"),
        ("{{.Size", "is not closed"),
        ("{{range .Layers}}", "has no {{end}}"),
        ("{{end}}", "end without a beginning"),
        ("{{if .Size}}{{else}}{{else}}{{end}}", "has no {{end}}"),
        ("{{index .Config.Env 7}}", "can't take these values"),
        ("{{.Size .Size}}", "is not a function"),
        ("{{.Size | | json}}", "makes no sense"),
        ("{{}}", "makes no sense"),
        ("{{range}}{{end}}", "makes no sense"),
        ("{{.Size!}}", "can't read"),
        (".Layers[9]", "there is no element 9"),
        (".Config.", "can't read"),
        ("Config Env", "can't read"),
    ],
)
def test_mistakes_say_what_is_wrong(text: str, said: str) -> None:
    """Always a UsageError: a format comes from the command line."""
    with pytest.raises(UsageError) as error:
        formatter(text)(VALUE)
    assert said in error.value.message + " " + error.value.hint

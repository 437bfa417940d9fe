"""Planning: stages, arguments, the fold of ENV, WORKDIR, USER and SHELL, and what --from may name."""

from __future__ import annotations

import pytest

from layersmith import ops
from layersmith.buildfile.parser import parse
from layersmith.dataclass import replace
from layersmith.errors import BuildfileError, NotFoundError, PlanError
from layersmith.image import SCRATCH, Image
from layersmith.oci.platform import Platform
from layersmith.plan import Plan, PlanOptions, plan

AMD64 = Platform("linux", "amd64")
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class FakeBases:
    """`plan.Bases` from two dicts; it notes what was asked for."""

    def __init__(
        self,
        images: dict[str, Image] | None = None,
        contexts: dict[str, Image | ops.ContextInput] | None = None,
    ) -> None:
        self.images = images or {}
        self.contexts = contexts or {}
        self.asked: list[str] = []

    def image(self, name: str, platform: Platform) -> Image:
        self.asked.append(name)
        if name not in self.images:
            raise NotFoundError(f"no image {name}")
        return self.images[name]

    def context(self, name: str, platform: Platform) -> Image | ops.ContextInput | None:
        return self.contexts.get(name)


def image(**config: object) -> Image:
    base = SCRATCH(AMD64)
    return replace(base, config=replace(base.config, **config))  # type: ignore[arg-type]


def planned(text: str, bases: FakeBases | None = None, **options: object) -> Plan:
    return plan(parse(text), PlanOptions(platform=AMD64, **options), bases or FakeBases())  # type: ignore[arg-type]


def execs(result: Plan) -> list[ops.ExecOp]:
    return [step.op for step in result.steps if isinstance(step.op, ops.ExecOp)]


def test_env_arg_workdir_user_and_shell_are_folded_into_each_run() -> None:
    """A RUN says all that it needs; an instruction sees the environment as it was before it."""
    result = planned(
        'FROM scratch\nENV a=1\nENV a=2 b=$a\nARG c=$b\nWORKDIR /x\nWORKDIR y\nUSER me\nSHELL ["/sh", "-x"]\nRUN go'
    )
    (run,) = execs(result)
    assert dict(run.process.env) == {"PATH": PATH[5:], "a": "2", "b": "1", "c": "1"}
    assert (run.process.cwd, run.process.user) == ("/x/y", "me")
    assert run.process.args == ("/sh", "-x", "go")


def test_unreachable_stages_are_never_looked_at() -> None:
    """A stage that the target does not need may even name an image that does not exist."""
    bases = FakeBases({"a": image()})
    result = planned("FROM missing AS x\nRUN no\nFROM a AS y\nRUN yes\nFROM y\nRUN also\n", bases)
    assert bases.asked == ["a"]
    assert [op.process.args[-1] for op in execs(result)] == ["yes", "also"]


def test_a_later_arg_wins_in_run_and_the_config_keeps_env() -> None:
    """REFERENCE: as BuildKit really does it."""
    result = planned("FROM scratch\nENV v=env\nARG v=arg\nRUN echo $v\nLABEL l=$v\n")
    assert dict(execs(result)[0].process.env)["v"] == "arg"
    assert "v=env" in result.config.env
    assert dict(result.config.labels)["l"] == "arg"


def test_global_args_reach_a_stage_only_when_repeated() -> None:
    """An ARG before FROM is for FROM; a stage has to declare it again."""
    result = planned("ARG v=1\nFROM scratch\nRUN a\nARG v\nRUN b\n", build_args={"v": "2"})
    before, after = (dict(op.process.env) for op in execs(result))
    assert "v" not in before
    assert after["v"] == "2"


@pytest.mark.parametrize("name", ["Build", "build", "0"])
def test_stages_are_found_in_any_case_and_by_number(name: str) -> None:
    """REFERENCE's table: names in any case and indexes, in COPY --from, in mounts, and as target."""
    text = f"FROM scratch AS build\nCOPY a /\nFROM scratch\nCOPY --from={name} /a /\nRUN --mount=from={name},target=/m x\n"
    result = planned(text)
    first = next(i for i, step in enumerate(result.steps) if isinstance(step.op, ops.CopyOp))
    assert result.steps[-1].inputs == (first,)
    assert result.steps[-2].inputs == (first,)
    assert planned(text, target=name).final == planned(text, target="build").final


def test_from_finds_a_stage_in_any_case() -> None:
    """REFERENCE's table: FROM Base naming a stage ``base``."""
    result = planned("FROM scratch AS base\nENV x=1\nFROM Base\nRUN go\n")
    assert dict(execs(result)[0].process.env)["x"] == "1"


def test_a_later_stage_is_an_error_that_says_so() -> None:
    """BuildKit's words, and the place."""
    with pytest.raises(PlanError, match="needs to be defined before current stage") as caught:
        planned("FROM scratch\nCOPY --from=later /a /\nFROM scratch AS later\n", target="0")
    assert caught.value.span is not None
    assert caught.value.span.line == 2


def test_copying_from_oneself_is_an_error() -> None:
    with pytest.raises(PlanError, match="circular"):
        planned("FROM scratch AS me\nCOPY --from=me /a /\n")


def test_an_unknown_target_names_the_nearest_stage() -> None:
    with pytest.raises(PlanError) as caught:
        planned("FROM scratch AS build\n", target="biuld")
    assert caught.value.hint == "did you mean build?"


def test_entrypoint_clears_an_inherited_cmd_but_not_ones_own() -> None:
    """REFERENCE 1.1."""
    bases = FakeBases({"b": image(cmd=("old",))})
    assert planned('FROM b\nENTRYPOINT ["e"]\n', bases).config.cmd is None
    assert planned('FROM b\nCMD ["new"]\nENTRYPOINT ["e"]\n', bases).config.cmd == ("new",)


def test_onbuild_triggers_run_first_and_once() -> None:
    """They run right after the downstream FROM and are not inherited further."""
    bases = FakeBases({"b": image(on_build=("ENV from=trigger", "RUN triggered"))})
    result = planned("FROM b\nRUN own\n", bases)
    assert [op.process.args[-1] for op in execs(result)] == ["triggered", "own"]
    assert result.config.on_build == ()
    assert "from=trigger" in result.config.env


def test_named_contexts_replace_stages_and_images() -> None:
    """--build-context comes before a stage and before an image of that name."""
    bases = FakeBases(contexts={"lib": ops.ContextInput("lib")})
    result = planned("FROM scratch AS lib\nFROM scratch\nCOPY --from=lib /a /\n", bases)
    copy = result.steps[-1].op
    assert isinstance(copy, ops.CopyOp)
    assert copy.sources == (ops.PathSource("/a", ops.ContextInput("lib")),)


def test_the_same_step_twice_is_one_step() -> None:
    """Two stages that begin alike share what is alike."""
    result = planned(
        "FROM scratch AS a\nRUN same\nRUN a\nFROM scratch AS b\nRUN same\nRUN b\nFROM a\nCOPY --from=b /x /\n"
    )
    assert [op.process.args[-1] for op in execs(result)] == ["same", "a", "b"]


def test_extensions_expand_variables_in_from_and_exclude() -> None:
    """REFERENCE's table."""
    result = planned(
        "FROM scratch AS one\nRUN x\nFROM scratch\nARG s=one e=*.pyc\nCOPY --from=$s --exclude=$e / /\n"
    )
    copy = result.steps[-1].op
    assert isinstance(copy, ops.CopyOp)
    assert copy.excludes == ("*.pyc",)
    assert result.steps[result.steps[-1].inputs[0]].stage == "one"


def test_unset_takes_away_what_the_base_set() -> None:
    """UNSET ENV, LABEL, EXPOSE and VOLUME."""
    bases = FakeBases(
        {"b": image(env=("A=1", PATH), labels=(("l", "1"),), exposed_ports=("80/tcp",), volumes=("/v",))}
    )
    result = planned("FROM b\nUNSET ENV A\nUNSET LABEL l\nUNSET EXPOSE 80\nUNSET VOLUME /v\nRUN x\n", bases)
    config = result.config
    assert (config.env, config.labels, config.exposed_ports, config.volumes) == ((PATH,), (), (), ())
    assert "A" not in dict(execs(result)[0].process.env)


def test_proxies_reach_run_but_neither_key_nor_history() -> None:
    """A predefined argument changes no digest until it is declared."""
    plain = planned("FROM scratch\nRUN x\n").steps[-1]
    proxied = planned("FROM scratch\nRUN x\n", build_args={"HTTP_PROXY": "p"}).steps[-1]
    declared = planned("FROM scratch\nARG HTTP_PROXY\nRUN x\n", build_args={"HTTP_PROXY": "p"}).steps[-1]
    assert isinstance(proxied.op, ops.ExecOp)
    assert dict(proxied.op.passed_env) == {"HTTP_PROXY": "p"}
    assert ops.digest(plain.op) == ops.digest(proxied.op) != ops.digest(declared.op)
    assert "HTTP_PROXY" not in proxied.created_by


def test_a_misspelled_build_arg_is_warned_of() -> None:
    result = planned("FROM scratch\nARG version=1\n", build_args={"verson": "2"})
    assert any("verson" in w and "did you mean version?" in w for w in result.warnings)


def test_insecure_needs_the_entitlement() -> None:
    text = "# syntax=x\nFROM scratch\nRUN --security=insecure x\n"
    with pytest.raises(PlanError, match=r"security\.insecure"):
        planned(text)
    assert execs(planned(text, insecure=True))[0].security == "insecure"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("EXPOSE 99999", "invalid port"),
        ("EXPOSE 80/icmp", "invalid proto"),
        ("STOPSIGNAL SIGNOPE", "invalid signal"),
        ('VOLUME [""]', "empty string"),
        ("ADD --checksum=sha256:" + "0" * 64 + " local /", "checksum"),
        ("COPY --from=7 /a /", "invalid stage index"),
        ("RUN echo\nLABEL a=${b?gone}", "gone"),
    ],
)
def test_a_value_that_makes_no_sense_is_an_error_with_its_place(line: str, message: str) -> None:
    with pytest.raises(BuildfileError, match=message) as caught:
        planned(f"FROM scratch\n{line}\n")
    assert caught.value.span is not None


def test_history_shows_arguments_as_buildkit_does() -> None:
    result = planned("FROM scratch\nARG a=1\nARG b\nRUN go\n")
    assert result.history[-1].created_by == "RUN |1 a=1 /bin/sh -c go # buildkit"
    assert [line.step is None for line in result.history] == [True, True, False]


def test_display_names_count_the_steps_of_a_stage() -> None:
    result = planned("FROM scratch AS one\nRUN a\nRUN b\nFROM one\nRUN c\n")
    names = [step.name for step in result.steps if step.created_by]
    assert names == ["[one 1/2] RUN a", "[one 2/2] RUN b", "[stage-1 1/1] RUN c"]


def test_a_misspelled_stage_is_told_where_no_image_is_found() -> None:
    """In FROM and in --from; only stages above can be meant, and the image's own error stays."""
    for use in ("COPY --from=biuld a b", "RUN --mount=from=biuld,target=/x y"):
        with pytest.raises(NotFoundError) as caught:
            planned(f"FROM scratch AS build\nFROM scratch\n{use}")
        assert caught.value.message == "no image biuld"
        assert caught.value.hint == "did you mean the stage build?"
    with pytest.raises(NotFoundError) as caught:
        planned("FROM scratch AS build\nFROM biuld")
    assert caught.value.hint == "did you mean the stage build?"
    with pytest.raises(NotFoundError) as caught:
        planned("FROM biuld AS build")
    assert caught.value.hint == ""


def test_a_base_for_another_platform_is_a_warning() -> None:
    """BuildKit's rule InvalidBaseImagePlatform: an image that is no index is taken as it is."""
    arm = SCRATCH(Platform("linux", "arm64"))
    result = planned("FROM a", FakeBases({"a": arm}))
    assert result.warnings == (
        'Buildfile:1:1: InvalidBaseImagePlatform: Base image a was pulled with platform "linux/arm64", '
        'expected "linux/amd64" for current build',
    )
    assert planned("FROM --platform=linux/arm64 a", FakeBases({"a": arm})).warnings == ()

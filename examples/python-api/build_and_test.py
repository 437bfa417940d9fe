"""Build an image from text, watch it, look into it, run it, and hand it on: all of `import layersmith` on one page.

    layersmith import --host sh cat base
    python examples/python-api/build_and_test.py
"""

import sys
import tempfile
from pathlib import Path

import layersmith
from layersmith import errors, progress

BUILDFILE = """\
FROM base
ARG NAME
RUN --mount=type=secret,id=greeting { cat /run/secrets/greeting; echo ", $NAME"; } >/greeting
CMD cat /greeting
"""


def show(event: progress.Event) -> None:
    """Called for each event of a build."""
    match event:
        case progress.StepFinished(name=name, how=how):
            print(f"{how:>7}  {name}")
        case progress.StepOutput(data=data):
            sys.stdout.write(data.decode())


def main() -> None:
    file = layersmith.Buildfile.parse(BUILDFILE)
    for finding in file.check():
        print(f"{finding.span}: {finding.message}")

    with tempfile.TemporaryDirectory() as context:
        image = layersmith.build(
            context,
            file=file,
            tags=["greeting"],
            build_args={"NAME": "world"},
            secrets={"greeting": b"Good morning"},
            progress=show,
        )
        print(image.names, image.config.cmd, image.read("/greeting"))
        print(image.run().stdout, end="")
        print(image.run(["cat"], input="standard input\n").stdout, end="")

        image.export(Path(context) / "greeting.tar", "docker")
        (again,) = layersmith.load(Path(context) / "greeting.tar", name="again")
        print(again.names)

        # The same, as an iterator; leaving the block early would stop the build.
        with layersmith.start_build(context, file=file, build_args={"NAME": "you"}) as going:
            steps = [event.name for event in going if isinstance(event, progress.StepStarted)]
        print(len(steps), "step ran")

        try:
            layersmith.build(context, file=layersmith.Buildfile.parse("FROM base\nRUN exit 3\n"))
        except errors.CommandError as error:
            print(f"line {error.span.line}: status {error.status}")


if __name__ == "__main__":
    main()

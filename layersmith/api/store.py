"""Building, loading and running from Python. In: what the command line takes, as Python values. Out: `Image`, or a result."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from layersmith.api.buildfile import Buildfile
from layersmith.api.image import Image
from layersmith.api.worker import Worker, output_of
from layersmith.dataclass import dataclass
from layersmith.errors import CommandError, NotFoundError, UsageError
from layersmith.progress import Event, ImageBuilt

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Store:
    """A store: images, the build cache, containers. ``root`` is its directory; by default the one of the command line
    (``$LAYERSMITH_ROOT``, ``/var/lib/layersmith`` for root, ``~/.local/share/layersmith`` for anybody else).

    It holds nothing open, so it may be shared among threads, pickled and kept. It is made when first needed.
    """

    root: Path

    def __init__(self, root: PathLike | None = None) -> None:
        if root is None:
            from layersmith.store import default_root

            root = default_root()
        object.__setattr__(self, "root", Path(root).absolute())

    def build(self, context: PathLike = ".", **options: Any) -> Image:
        """`layersmith.build` into this store."""
        return build(context, store=self, **options)

    def start_build(self, context: PathLike = ".", **options: Any) -> Build:
        """`layersmith.start_build` into this store."""
        return start_build(context, store=self, **options)

    def load(self, source: PathLike, *, name: str | None = None) -> tuple[Image, ...]:
        """`layersmith.load` into this store."""
        return load(source, name=name, store=self)

    def run(
        self, image: Image | str, command: Sequence[str] = (), **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """`layersmith.run` of an image of this store."""
        return run(image, command, store=self, **options)

    def pull(self, name: str, *, platform: str | None = None, options: Sequence[str] = ()) -> Image:
        """Fetch an image from its registry. Raises NotFoundError, TransportError."""
        words = ["-q", *([f"--platform={platform}"] if platform else []), *options, name]
        return self.image(output_of("pull", words, root=self.root).strip())

    def image(self, name: str) -> Image:
        """The image called ``name``, or whose digest begins so. Raises NotFoundError."""
        from layersmith.anatomy.images import names_of
        from layersmith.store import Store as OpenStore

        if not (self.root / "oci-layout").exists():
            raise NotFoundError(f"there is no image {name}", hint=f"there is no store at {self.root} yet")
        with OpenStore.open(self.root, create=False) as store:
            descriptor = store.refs.resolve(name)
            return Image(descriptor.digest, self.root, names_of(store, descriptor))

    def images(self) -> tuple[Image, ...]:
        """All images, each once, by their first name; those without a name last."""
        from layersmith.store import Store as OpenStore

        names: dict[str, list[str]] = {}
        if (self.root / "oci-layout").exists():
            with OpenStore.open(self.root, create=False) as store:
                for name, descriptor in sorted(store.refs.list(), key=lambda pair: (not pair[0], pair[0])):
                    names.setdefault(descriptor.digest, []).extend([name] if name else [])
        return tuple(Image(digest, self.root, tuple(found)) for digest, found in names.items())

    def __contains__(self, name: str) -> bool:
        try:
            self.image(name)
        except NotFoundError:
            return False
        return True


class Build:
    """A build that goes on: iterate for its events (`layersmith.progress`), then take its `image`.

    A context manager: leaving it early stops the build, as does the end of this process.
    """

    def __init__(
        self, words: Sequence[str], *, store: Store, text: bytes | None, secrets: Mapping[str, bytes]
    ) -> None:
        self._store = store
        self._digest = ""
        with ExitStack() as stack:
            opened = {name: _memory(stack, data) for name, data in secrets.items()}
            given = [f"--secret=id={name},src=/dev/fd/{number}" for name, number in opened.items()]
            stdin = subprocess.DEVNULL if text is None else _memory(stack, text)
            self._worker = Worker(
                "build", [*given, *words], root=store.root, stdin=stdin, secrets=tuple(opened.values())
            )

    def __iter__(self) -> Iterator[Event]:
        """What happens, as it happens. Raises what the build fails with, as a LayersmithError of its kind."""
        for event in self._worker:
            if isinstance(event, ImageBuilt):
                self._digest = event.digest
            yield event

    @property
    def image(self) -> Image:
        """The image; waits for the build's end, and raises what it fails with."""
        for _ in self:
            pass
        if not self._digest:
            raise UsageError("this build made no image", hint="it was stopped, or asked for a preview")
        return self._store.image(self._digest)

    def __enter__(self) -> Build:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.stop()


def start_build(
    context: PathLike = ".",
    *,
    file: PathLike | Buildfile | None = None,
    tags: Sequence[str] = (),
    target: str | None = None,
    build_args: Mapping[str, str] | None = None,
    build_contexts: Mapping[str, PathLike] | None = None,
    labels: Mapping[str, str] | None = None,
    platforms: Sequence[str] = (),
    secrets: Mapping[str, bytes] | None = None,
    no_cache: bool = False,
    pull: bool = False,
    outputs: Sequence[str] = (),
    options: Sequence[str] = (),
    store: Store | None = None,
) -> Build:
    """Start a build and return at once; see `build` for the arguments.

    >>> with start_build("examples/hello", tags=["hello"]) as going:    # doctest: +SKIP
    ...     for event in going:
    ...         print(event)
    ...     image = going.image
    """
    words = [f"--tag={tag}" for tag in tags]
    text = None
    if isinstance(file, Buildfile):
        words.append("--file=-")
        text = file.text
    elif file is not None:
        words.append(f"--file={os.fspath(file)}")
    words += [f"--target={target}"] if target is not None else []
    words += [f"--build-arg={name}={value}" for name, value in (build_args or {}).items()]
    words += [f"--build-context={name}={os.fspath(path)}" for name, path in (build_contexts or {}).items()]
    words += [f"--label={name}={value}" for name, value in (labels or {}).items()]
    words += [f"--platform={','.join(platforms)}"] if platforms else []
    words += ["--no-cache"] * no_cache + ["--pull"] * pull
    words += [f"--output={output}" for output in outputs]
    words += [*options, "--", os.fspath(context)]
    for name in secrets or {}:
        if not name or set(name) & set(',"='):
            raise UsageError(f"a secret can't be called {name!r}")
    return Build(words, store=store or Store(), text=text, secrets=secrets or {})


def build(
    context: PathLike = ".",
    *,
    progress: Callable[[Event], object] | None = None,
    file: PathLike | Buildfile | None = None,
    tags: Sequence[str] = (),
    target: str | None = None,
    build_args: Mapping[str, str] | None = None,
    build_contexts: Mapping[str, PathLike] | None = None,
    labels: Mapping[str, str] | None = None,
    platforms: Sequence[str] = (),
    secrets: Mapping[str, bytes] | None = None,
    no_cache: bool = False,
    pull: bool = False,
    outputs: Sequence[str] = (),
    options: Sequence[str] = (),
    store: Store | None = None,
) -> Image:
    """Build an image.

    ``context`` is a directory, a Buildfile, or a URL. ``file`` is the Buildfile if it is not the context's own: a path,
    or a `Buildfile` made of text. ``tags`` name the image. ``target`` is the stage to build. ``build_contexts`` are
    further directories (or ``docker-image://…``) for ``COPY --from``. ``platforms`` such as ``["linux/amd64",
    "linux/arm64"]`` make an index. ``secrets`` are bytes for ``RUN --mount=type=secret``. ``outputs`` are as of ``-o``.
    ``options`` are any further words of ``layersmith build``.

    ``progress`` is called, in this thread, with every event of `layersmith.progress`.

    Raises:
        BuildfileError: the Buildfile is wrong; ``span`` says where.
        StepError: a step failed; of `CommandError`, ``status`` and ``tail`` say how.
        LayersmithError: anything else, see `layersmith.errors`.

    >>> image = build("examples/hello", tags=["hello"], build_args={"WHO": "you"})    # doctest: +SKIP
    >>> image.run().stdout    # doctest: +SKIP
    'Hello from a container, you\\n'
    """
    going = start_build(
        context,
        file=file,
        tags=tags,
        target=target,
        build_args=build_args,
        build_contexts=build_contexts,
        labels=labels,
        platforms=platforms,
        secrets=secrets,
        no_cache=no_cache,
        pull=pull,
        outputs=outputs,
        options=options,
        store=store,
    )
    with going:
        for event in going:
            if progress is not None:
                progress(event)
        return going.image


def load(source: PathLike, *, name: str | None = None, store: Store | None = None) -> tuple[Image, ...]:
    """Take the images of an archive (``docker save``, ``layersmith export``, skopeo …) or an OCI layout into the store.

    ``name``: call the one image that there is so. Raises TransportError: it is no image, or damaged, or hostile.
    """
    store = store or Store()
    words = ["-q", *([f"--name={name}"] if name else []), "--", os.fspath(source)]
    digests = output_of("load", words, root=store.root).split()
    return tuple(store.image(digest) for digest in digests)


def run(
    image: Image | str,
    command: Sequence[str] = (),
    *,
    input: str | bytes = b"",
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    workdir: str | None = None,
    entrypoint: str | None = None,
    volumes: Sequence[str] = (),
    network: str = "default",
    timeout: float | None = None,
    check: bool = True,
    options: Sequence[str] = (),
    store: Store | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``command`` (default: the image's own) in a new container, to its end; the container is then removed.

    ``image`` is an `Image`, or the name of one in the store or at its registry. ``input`` is the command's standard input.
    ``volumes`` are ``SOURCE:TARGET[:ro]``. ``timeout`` is in seconds. ``options`` are any further words of
    ``layersmith run``. Output is decoded as UTF-8; bytes that are none become lone surrogates.

    Returns:
        ``returncode``, ``stdout`` and ``stderr``, as of `subprocess.run`.

    Raises:
        CommandError: it ended with another status than 0, and ``check`` is on.
        NotFoundError: there is no such image. SandboxError: it can't be run here.
        TimeoutError: it took longer than ``timeout``, and was killed.
    """
    store = (Store(image.root) if isinstance(image, Image) else store) or Store()
    name = image.digest if isinstance(image, Image) else image
    if isinstance(image, str) and name not in store:
        name = store.pull(name).digest  # here, so that nothing of it gets into the command's standard error
    words = ["--rm", "--interactive", "--pull=never", f"--network={network}"]
    words += [f"--env={key}={value}" for key, value in (env or {}).items()]
    words += [f"--volume={volume}" for volume in volumes]
    for flag, value in (("user", user), ("workdir", workdir), ("entrypoint", entrypoint)):
        words += [f"--{flag}={value}"] if value is not None else []
    words += [*options, "--", name, *command]
    with ExitStack() as stack:
        given = _memory(stack, input.encode() if isinstance(input, str) else input)
        worker = stack.enter_context(
            Worker("run", words, root=store.root, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )
        try:
            stdout, stderr = worker.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{' '.join(command) or name} took longer than {timeout:g} s") from None
        worker.wait()
    status = worker.process.returncode
    texts = [data.decode("utf-8", "surrogateescape") for data in (stdout, stderr)]
    if check and status:
        what = " ".join(command) or f"the command of {name}"
        raise CommandError(f"{what} ended with status {status}", status=status, tail=texts[1] or texts[0])
    return subprocess.CompletedProcess(list(command), status, *texts)


def _memory(stack: ExitStack, data: bytes) -> int:
    """A file in memory that holds ``data``, at its beginning, until ``stack`` ends; a child has it longer."""
    number = os.memfd_create("layersmith")
    stack.callback(os.close, number)
    with open(number, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(number, 0, os.SEEK_SET)
    return number

"""``-o`` and ``--annotation`` as text: what is understood, and what is refused before anything is built."""

import pytest

from layersmith.errors import UsageError
from layersmith.layer.compress import Compression
from layersmith.oci.platform import Platform
from layersmith.transport.output import Annotation, Output, parse_annotation, parse_output


@pytest.mark.parametrize(
    "text",
    [
        "",
        "type=banana",
        "oci,dest=x",
        "type=oci,flavour=x",
        "type=oci,tar=maybe",
        "type=oci,tar=false",
        "type=oci,push=true",
        "type=oci,annotation.=x",
        "type=oci,annotation-layer.a=b",
        "type=oci,annotation-index[linux/amd64].a=b",
        "type=oci,annotation[banana/].a=b",
        "type=oci,compression=brotli",
        "type=oci,compression=estargz",
        "type=oci,compression=gzip,compression-level=99",
        "type=oci,compression-level=3",
        "type=oci,force-compression=true",
        "type=local",
        "type=local,dest=x,annotation.a=b",
        "type=local,dest=x,compression=gzip",
        "type=layers",
        "type=docker,tar=false",
    ],
)
def test_outputs_that_make_no_sense(text: str) -> None:
    """An unknown type, an attribute that the type does not have, a value that means nothing: all are refused."""
    with pytest.raises(UsageError):
        parse_output(text)


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("out", Output("local", "out")),
        ("-", Output("tar", "-")),
        ('type=oci,"dest=a,b"', Output("oci", "a,b")),
        ("type=oci,dest=x,tar=false", Output("oci", "x", tar=False)),
        ("type=registry,name=r/x", Output("registry", names=("r/x",), push=True)),
        ('type=image,"name=a,b",push=1', Output("image", names=("a", "b"), push=True)),
        (
            "type=image,name=a,push-by-digest=true,registry.insecure=true,store=false,unpack=true",
            Output("image", names=("a",), push_by_digest=True, insecure=True, store=False, unpack=True),
        ),
        (
            "type=oci,dest=x,compression=zstd,compression-level=9,force-compression=true,oci-mediatypes=true",
            Output(
                "oci", "x", compression=Compression("zstd", 9), force_compression=True, oci_media_types=True
            ),
        ),
        ("type=docker,compression=uncompressed", Output("docker", compression=Compression("none"))),
        (
            "type=oci,dest=x,rewrite-timestamp=true,oci-mediatypes=false",
            Output("oci", "x", rewrite_timestamp=True, oci_media_types=False),
        ),
        ("type=tar,dest=x,platform-split=false", Output("tar", "x", platform_split=False)),
        (
            "type=oci,dest=x,annotation.A.b=c=d,annotation-index.e=,annotation-manifest-descriptor[linux/arm64].f=g",
            Output(
                "oci",
                "x",
                annotations=(
                    Annotation("manifest", "A.b", "c=d"),
                    Annotation("index", "e", ""),
                    Annotation("manifest-descriptor", "f", "g", Platform("linux", "arm64")),
                ),
            ),
        ),
    ],
)
def test_outputs(text: str, output: Output) -> None:
    """Types and attributes of docker buildx, in its syntax."""
    assert parse_output(text) == output


def test_annotations_by_flag() -> None:
    """--annotation as docker buildx has it: for the manifest, or for what is named before the colon."""
    assert parse_annotation("a=b:c") == (Annotation("manifest", "a", "b:c"),)
    assert parse_annotation("index,manifest[linux/amd64]:a=b") == (
        Annotation("index", "a", "b"),
        Annotation("manifest", "a", "b", Platform("linux", "amd64")),
    )
    for text in ("a", "=b", "banana:a=b", "index:=b"):
        with pytest.raises(UsageError):
            parse_annotation(text)

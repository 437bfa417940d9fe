"""The main job on a real distribution: Debian in, packages installed, a program compiled and shipped."""

from __future__ import annotations

from pathlib import Path

import pytest
from program import Layersmith

SHIP = """
FROM tools AS build
COPY <<'EOF' /src/hello.c
#include <stdio.h>
#include <gnu/libc-version.h>
int main(int count, char **words)
{
    printf("hello, %s, from glibc %s\\n", count > 1 ? words[1] : "nobody", gnu_get_libc_version());
    return 7;
}
EOF
RUN gcc -O2 -Wall -Werror -o /src/hello /src/hello.c

FROM debian:bookworm
COPY --from=build /src/hello /usr/local/bin/hello
ENTRYPOINT ["hello"]
CMD ["world"]
"""


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.needs_mmdebstrap
def test_a_program_compiled_on_debian(debian: Layersmith, toolchain: str, context: Path) -> None:
    """mmdebstrap | import; apt-get and gcc in one stage; the other runs the program, with its arguments and its status."""
    (context / "Buildfile").write_text(toolchain + SHIP)
    debian("build", "-t", "hello", context, timeout=600)

    assert debian("run", "--rm", "hello", status=7).stdout == "hello, world, from glibc 2.36\n"
    assert debian("run", "--rm", "hello", "you", status=7).stdout == "hello, you, from glibc 2.36\n"

    shipped = debian("diff", "hello").stdout.splitlines()
    assert "A /usr/local/bin/hello" in shipped
    assert not any("gcc" in line for line in shipped), "the first stage's packages are not in the second"
    assert (
        "gcc"
        in debian("run", "--rm", "--entrypoint", "sh", "hello", "-c", "ls /usr/bin/gcc", status=2).stderr
    )

"""Measure the parser: ``python tests/benchmarks/bench_parse.py``.

The first parse in a fresh process (imports, lark's and the tables' included) and 1,000 instructions once all is loaded, in
milliseconds of processor time, which a busy machine falsifies less than time on the clock.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

FIRST = """
import time
begin = time.process_time()
from layersmith.buildfile.parser import parse
parse("FROM alpine AS x\\nRUN echo hi\\nCOPY a b\\nENV a=b\\nCMD [\\"x\\"]\\n")
print((time.process_time() - begin) * 1000)
"""

LINES = (
    "RUN --mount=type=cache,target=/x apt-get update && \\\n    apt-get install -y gcc",
    "COPY --from=a --link --chown=1:1 a b c/",
    "ENV a=b c='d e' f=\"g $h\"",
    'LABEL org.opencontainers.image.title="A title"',
    'CMD ["a", "b"]',
    "EXPOSE 80 443/udp",
    "WORKDIR /app",
    "RUN <<EOF\necho a\nEOF",
    "ARG X=1 Y",
    "HEALTHCHECK --interval=5s CMD curl x",
)


def main() -> None:
    first = [
        float(subprocess.run([sys.executable, "-c", FIRST], cwd=ROOT, capture_output=True, check=True).stdout)
        for _ in range(15)
    ]
    print(f"first parse in a fresh process: {statistics.median(first):.1f} ms (best {min(first):.1f})")
    from layersmith.buildfile.parser import parse

    text = "FROM x\n" + "\n".join(LINES * 100) + "\n"
    parse(text)
    times = []
    for _ in range(10):
        begin = time.process_time()
        parse(text)
        times.append((time.process_time() - begin) * 1000)
    print(f"1,000 instructions: {statistics.median(times):.1f} ms (best {min(times):.1f})")


if __name__ == "__main__":
    main()

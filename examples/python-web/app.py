"""A service with two answers: / greets, /health says that it is well. PORT says where it listens."""

import json
import os
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def answer(path: str) -> tuple[int, dict[str, str]]:
    if path == "/health":
        return 200, {"status": "ok"}
    if path == "/":
        return 200, {"hello": "from a layersmith image", "user": str(os.getuid())}
    return 404, {"error": f"nothing at {path}"}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = answer(self.path)
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> int:
    port = int(os.environ.get("PORT", "8000"))
    if sys.argv[1:] == ["--check"]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as response:
            return 0 if response.status == 200 else 1
    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        print(f"listening on port {port}")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("bye")
    return 0


if __name__ == "__main__":
    sys.exit(main())

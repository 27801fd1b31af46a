"""A greeting, the headers that arrived, and a health check: enough to see a request pass the whole way."""

import argparse
import html
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
  :root {{ color-scheme: light dark; font: 1.125rem/1.6 system-ui, sans-serif }}
  body {{ display: grid; place-content: center; min-height: 90vh; text-align: center }}
</style>
<h1>{title}</h1>
<p>Served from {workspace}, behind Caddy.</p>
</html>
"""


class Handler(BaseHTTPRequestHandler):
    """GET / is the page, /health is for machines, /request shows what reached the application."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        greeting = os.environ.get("HELLO_GREETING", "Hello")
        path = self.path.split("?")[0]
        if path == "/":
            page = PAGE.format(title=html.escape(greeting), workspace=html.escape(os.getcwd()))
            self.reply("text/html; charset=utf-8", page)
        elif path == "/health":
            self.reply("application/json", json.dumps({"status": "ok"}))
        elif path == "/request":
            self.reply("application/json", json.dumps({"path": self.path, "headers": dict(self.headers)}))
        else:
            self.send_error(404)

    def reply(self, kind, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7860)
    arguments = parser.parse_args()
    print(f"listening on {arguments.host}:{arguments.port}", flush=True)
    ThreadingHTTPServer((arguments.host, arguments.port), Handler).serve_forever()


if __name__ == "__main__":
    main()

"""Serves MTA-STS policies over HTTPS on one address, with a certificate for each host. Its argument is a JSON file."""

import http.server
import json
import ssl
import sys

config = json.load(open(sys.argv[1]))
hosts = config["hosts"]


def context(pem):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(pem)
    return made


contexts = {name: context(host["pem"]) for name, host in hosts.items()}
base = context(config["pem"])


def choose(socket, name, _):
    if name in contexts:
        socket.context = contexts[name]


base.sni_callback = choose


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        host = hosts.get(self.headers["Host"])
        known = host and self.path == "/.well-known/mta-sts.txt"
        self.send_response(host["status"] if known else 404)
        body = host["body"].encode() if known else b""
        if known and host["status"] == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        print(self.headers.get("Host"), self.requestline, flush=True)


server = http.server.ThreadingHTTPServer((config["ip"], 443), Handler)
# Whoever doesn't like a certificate must not keep others waiting.
server.socket = base.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()

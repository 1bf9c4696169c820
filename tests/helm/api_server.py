"""As much of an API server as the injector calls, with the rights that the chart gives it and no others."""

import http.server
import json
import re
import ssl
import subprocess
import threading

import yaml


def authority(directory, name, *names):
    """An authority and a certificate that it has signed; the paths of the authority, the certificate and the key."""
    ca, key, cert = directory / f"{name}-ca.pem", directory / f"{name}.key", directory / f"{name}.pem"

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *curve, "-keyout", str(directory / "ca.key"), "-out", str(ca), "-subj", "/CN=authority",
            "-days", "2", "-addext", "keyUsage=critical,keyCertSign")
    request, extensions = directory / f"{name}.csr", directory / f"{name}.ext"
    extensions.write_text(f"subjectAltName={','.join(names)}\nbasicConstraints=critical,CA:FALSE\n")
    openssl("req", *curve, "-keyout", str(key), "-out", str(request), "-subj", f"/CN={name}")
    openssl("x509", "-req", "-in", str(request), "-CA", str(ca), "-CAkey", str(directory / "ca.key"), "-CAcreateserial",
            "-out", str(cert), "-days", "2", "-extfile", str(extensions))
    return ca, cert, key


class ApiServer:
    """Serves on loopback until it is closed; `calls` are (verb, resource, name, status)."""

    def __init__(self, directory, documents):
        self.objects = {(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]): d for d in documents}
        self.rules = [(d["metadata"].get("namespace"), rule)
                      for d in documents if d["kind"] in ("Role", "ClusterRole") for rule in d["rules"]]
        self.calls, self.events, self.ca_bundles = [], [], {}
        self.version = 1
        self.ca, cert, key = authority(directory, "api", "IP:127.0.0.1")
        self.token = directory / "token"
        self.token.write_text("token-of-the-tests")
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                if "websocket" in self.headers.get("Upgrade", "").lower():
                    return outer.upgrade(self)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Transfer-Encoding") == "chunked":
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                status, said = outer.call(self.command, self.path, self.headers, body)
                text = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_PUT = do_POST = do_PATCH = answer

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def may(self, verb, group, resource, namespace, name):
        for where, rule in self.rules:
            names = rule.get("resourceNames")
            if (where in (None, namespace) and verb in rule["verbs"] and group in rule["apiGroups"]
                    and resource in rule["resources"] and (names is None or name in names)):
                return True
        return False

    def upgrade(self, handler):
        handler.send_error(403)

    def call(self, method, path, headers, body):
        path, _, query = path.partition("?")
        match = re.fullmatch(r"/(?:api|apis/([^/]+))/v1(?:/namespaces/([^/]+))?/([^/]+)(?:/([^/]+))?", path)
        assert match, path
        group, namespace, resource, name = match[1] or "", match[2], match[3], match[4]
        verb = {"GET": "get", "PUT": "update", "POST": "create", "PATCH": "patch"}[method]
        status, said = 403, {"message": f"may not {verb} {resource} {name}"}
        if headers.get("Authorization") != "Bearer token-of-the-tests":
            status, said = 401, {"message": "who?"}
        elif self.may(verb, group, resource, namespace, name):
            status, said = self.act(verb, resource, namespace, name, query, body)
        self.calls.append((verb, resource, name, status))
        return status, said

    def act(self, verb, resource, namespace, name, query, body):
        given = yaml.safe_load(body) if body else None
        if resource == "events":
            self.events.append(given)
            return 201, given
        if resource == "secrets":
            secret = self.objects.get(("Secret", namespace, name))
            if secret is None:
                return 404, {"message": "no such secret"}
            if verb == "update":
                if given["metadata"].get("resourceVersion") != str(self.version):
                    return 409, {"message": "changed since"}
                self.version += 1
                self.objects["Secret", namespace, name] = secret = given
            secret["metadata"]["resourceVersion"] = str(self.version)
            return 200, secret
        found = self.objects.get(("MutatingWebhookConfiguration", None, name))
        if found is None:
            return 404, {"message": "no such configuration"}
        # Server-side apply: what is there and not named stays.
        assert "fieldManager=koorde-injector" in query
        there = {webhook["name"] for webhook in found["webhooks"]}
        for webhook in given["webhooks"]:
            assert webhook["name"] in there, "it would make a webhook without rules"
            assert set(webhook) == {"name", "clientConfig"} and set(webhook["clientConfig"]) == {"caBundle"}
            self.ca_bundles[webhook["name"]] = webhook["clientConfig"]["caBundle"]
            (of,) = [one for one in found["webhooks"] if one["name"] == webhook["name"]]
            of["clientConfig"]["caBundle"] = webhook["clientConfig"]["caBundle"]
        return 200, found

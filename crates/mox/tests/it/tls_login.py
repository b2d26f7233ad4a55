"""Logs in over TLS: with client certificates, and with SCRAM bound to the connection.

Arguments: ports of IMAPS, IMAP, submissions and submission, the server's certificate, the registered key and certificate in one file,
and those of another key. `removed` as a further argument: the key isn't registered any more.
"""

import base64
import hashlib
import hmac
import imaplib
import os
import smtplib
import ssl
import sys

imaps, imap, submissions, submission = (int(port) for port in sys.argv[1:5])
server, own, other = sys.argv[5:8]
removed = len(sys.argv) > 8
USER, PASSWORD = "mox@localhost", "moxmoxmox"


def context(certificate=None, version=None):
    made = ssl.create_default_context(cafile=server)
    if certificate:
        made.load_cert_chain(certificate)
    if version:
        made.minimum_version = made.maximum_version = version
    return made


def mail(smtp):
    return smtp.mail(USER)[0]


with imaplib.IMAP4_SSL("localhost", imaps, ssl_context=context(own)) as client:
    assert client.welcome.startswith(b"* OK" if removed else b"* PREAUTH"), client.welcome
    if not removed:
        assert client.select()[0] == "OK"
with smtplib.SMTP_SSL("localhost", submissions, context=context(own)) as client:
    client.ehlo()
    assert mail(client) == (530 if removed else 250)
if removed:
    print("done")
    sys.exit()

# After STARTTLS, the client has to ask.
with imaplib.IMAP4("localhost", imap) as client:
    client.starttls(context(own))
    assert "AUTH=EXTERNAL" in client.capabilities, client.capabilities
    assert client.authenticate("EXTERNAL", lambda _: b"")[0] == "OK"
    assert client.select()[0] == "OK"
with smtplib.SMTP("localhost", submission) as client:
    client.starttls(context=context(own))
    client.ehlo()
    assert client.esmtp_features["auth"].split()[0] == "EXTERNAL", client.esmtp_features
    assert client.docmd("AUTH", "EXTERNAL " + base64.b64encode(USER.encode()).decode())[0] == 235
    assert mail(client) == 250

# Another key is as good as none: a password is still needed, and enough.
with imaplib.IMAP4_SSL("localhost", imaps, ssl_context=context(other)) as client:
    assert client.welcome.startswith(b"* OK"), client.welcome
    try:
        client.authenticate("EXTERNAL", lambda _: b"")
        raise AssertionError("logged in with an unknown key")
    except imaplib.IMAP4.error:
        pass
    assert client.login(USER, PASSWORD)[0] == "OK"
with smtplib.SMTP_SSL("localhost", submissions, context=context(other)) as client:
    client.ehlo()
    assert mail(client) == 530
    assert client.login(USER, PASSWORD)[0] == 235


class Scram:
    """RFC 7677 with tls-server-end-point, RFC 5929: the hash of the certificate, which is signed with SHA-256."""

    def __init__(self, certificate):
        self.gs2 = b"p=tls-server-end-point,,"
        self.channel = base64.b64encode(self.gs2 + hashlib.sha256(certificate).digest())
        self.bare = b"n=" + USER.encode() + b",r=" + base64.b64encode(os.urandom(18))
        self.step = 0

    def respond(self, challenge):
        self.step += 1
        if self.step == 1:
            return self.gs2 + self.bare
        if self.step == 2:
            fields = dict(part.split(b"=", 1) for part in challenge.split(b","))
            salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), base64.b64decode(fields[b"s"]), int(fields[b"i"]))
            final = b"c=" + self.channel + b",r=" + fields[b"r"]
            message = self.bare + b"," + challenge + b"," + final
            key = hmac.digest(salted, b"Client Key", "sha256")
            signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
            proof = bytes(a ^ b for a, b in zip(key, signature))
            self.verifier = b"v=" + base64.b64encode(hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256"))
            return final + b",p=" + base64.b64encode(proof)
        assert challenge == self.verifier or challenge.startswith(b"e="), challenge
        return b""


for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    with imaplib.IMAP4_SSL("localhost", imaps, ssl_context=context(version=version)) as client:
        assert "AUTH=SCRAM-SHA-256-PLUS" in client.capabilities, client.capabilities
        scram = Scram(client.sock.getpeercert(True))
        assert client.authenticate("SCRAM-SHA-256-PLUS", scram.respond)[0] == "OK"
    with imaplib.IMAP4_SSL("localhost", imaps, ssl_context=context(version=version)) as client:
        try:
            client.authenticate("SCRAM-SHA-256-PLUS", Scram(b"another certificate").respond)
            raise AssertionError("bound to another certificate")
        except imaplib.IMAP4.error as error:
            assert "channel bindings" in str(error), error
    with smtplib.SMTP_SSL("localhost", submissions, context=context(version=version)) as client:
        client.ehlo()
        assert "SCRAM-SHA-256-PLUS" in client.esmtp_features["auth"]
        scram = Scram(client.sock.getpeercert(True))
        code, reply = client.docmd("AUTH", "SCRAM-SHA-256-PLUS " + base64.b64encode(scram.respond(b"")).decode())
        while code == 334:
            code, reply = client.docmd(base64.b64encode(scram.respond(base64.b64decode(reply))).decode())
        assert code == 235, reply
# Nothing to bind to, nothing announced.
with imaplib.IMAP4("localhost", imap) as client:
    assert not any("PLUS" in c and "AUTH=" in c for c in client.capabilities), client.capabilities
print("done")

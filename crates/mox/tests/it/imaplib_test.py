"""Drives an IMAP server with Python's own client: PORT USER PASSWORD [CERTIFICATE, for STARTTLS]."""

import imaplib
import ssl
import sys

port, user, password = int(sys.argv[1]), sys.argv[2], sys.argv[3]
imaplib._MAXLINE = 10_000_000


def message(subject, body="The body.\r\n"):
    head = f"From: <mox@localhost>\r\nTo: <mox@localhost>\r\nSubject: {subject}\r\n"
    return (head + "Date: Mon, 02 Nov 2026 10:00:00 +0000\r\nMessage-ID: <x@localhost>\r\n\r\n" + body).encode()


def ok(answer):
    kind, data = answer
    assert kind == "OK", answer
    return data


imap = imaplib.IMAP4("127.0.0.1", port)
if len(sys.argv) > 4:
    context = ssl.create_default_context(cafile=sys.argv[4])
    context.check_hostname = False
    ok(imap.starttls(context))
try:
    imap.login(user, "wrong" + password)
    raise AssertionError("a wrong password is accepted")
except imaplib.IMAP4.error:
    pass
ok(imap.login(user, password))
ok(imap.select("INBOX"))

# Append and fetch.
texts = [message(f"number {n}", f"Body {n}.\r\n") for n in range(10)]
for text in texts:
    ok(imap.append("INBOX", r"(\Seen)" if text == texts[0] else None, None, text))
ok(imap.noop())
for n, text in enumerate(texts):
    data = ok(imap.fetch(str(n + 1), "(RFC822)"))
    assert data[0][1] == text, (data[0][1], text)
assert b"ENVELOPE" in ok(imap.fetch("1", "(ENVELOPE BODYSTRUCTURE)"))[0]

# Flags.
ok(imap.store("2:4", "+FLAGS", r"(\Flagged custom)"))
ok(imap.store("3", "-FLAGS", r"(\Flagged)"))
assert ok(imap.search(None, "FLAGGED"))[0].split() == [b"2", b"4"]
assert ok(imap.search(None, "KEYWORD", "custom"))[0].split() == [b"2", b"3", b"4"]
assert ok(imap.search(None, "SUBJECT", '"number 7"'))[0].split() == [b"8"]
assert ok(imap.search(None, "BODY", '"body 5"', "NOT", "FLAGGED"))[0].split() == [b"6"]

# Mailboxes, copy and move.
ok(imap.create("Work/2026"))
ok(imap.subscribe("Work/2026"))
assert any(b"Work/2026" in line for line in ok(imap.list()))
assert any(b"Work/2026" in line for line in ok(imap.lsub()))
ok(imap.copy("1:2", "Work/2026"))
ok(imap.uid("MOVE", "3", "Work/2026"))
status = ok(imap.status("Work/2026", "(MESSAGES UNSEEN UIDNEXT)"))[0]
assert b"MESSAGES 3" in status and b"UIDNEXT 4" in status, status
ok(imap.rename("Work/2026", "Archive/Work"))
ok(imap.select("Archive/Work"))
assert ok(imap.fetch("3", "(BODY.PEEK[TEXT])"))[0][1] == b"Body 2.\r\n"
assert b"\\Flagged" not in ok(imap.fetch("3", "(FLAGS)"))[0]

# Delete.
ok(imap.select("INBOX"))
ok(imap.store("1:5", "+FLAGS", r"(\Deleted)"))
ok(imap.uid("EXPUNGE", "1"))
ok(imap.expunge())
assert ok(imap.uid("SEARCH", "ALL"))[0].split() == [b"7", b"8", b"9", b"10"]
ok(imap.close())
ok(imap.delete("Archive/Work"))
assert imap.select("Archive/Work")[0] == "NO"

# Two connections: each hears of the other.
other = imaplib.IMAP4("127.0.0.1", port)
ok(other.login(user, password))
ok(other.select("INBOX"))
ok(imap.select("INBOX"))
ok(other.append("INBOX", None, None, message("for both")))
ok(other.store("1", "+FLAGS", r"(\Answered)"))
ok(imap.noop())
assert imap.response("EXISTS")[1][-1] == b"5", "no notice of the new message"
assert b"\\Answered" in ok(imap.fetch("1", "(FLAGS)"))[0]
ok(other.store("1", "+FLAGS", r"(\Deleted)"))
ok(other.expunge())
ok(imap.noop())
assert imap.response("EXPUNGE")[1] == [b"1"], "no notice of the expunged message"
other.logout()
imap.logout()
print("done")

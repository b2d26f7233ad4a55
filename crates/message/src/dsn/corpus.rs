//! DSNs in the forms of well-known servers: which fields they write, in which order, how they spell types, dates and diagnostics, and
//! how they build the message around them. Hosts, recipients and sentences are made up.

use super::parse::report_of;
use super::{Action, smtp_code};
use crate::structure::Structure;

/// A server's way: the message, and of each recipient the final address, action, status and SMTP code.
struct Sample {
    server: &'static str,
    /// The header's field of the type, the boundary in it being `b`.
    kind: &'static str,
    /// Whether the text for people is more than one part.
    first: &'static str,
    status: &'static str,
    /// What is returned of the original.
    returned: &'static str,
    want: &'static [(&'static str, Action, &'static str, Option<u16>)],
}

const REPORT: &str = "multipart/report; report-type=delivery-status; boundary=\"b\"";
const TEXT: &str = "Content-Type: text/plain; charset=us-ascii\n\nIt didn't arrive.\n";
const HEADERS: &str = "Content-Type: text/rfc822-headers\n\nFrom: <a@here.example>\nMessage-ID: <1@here.example>\n";
const WHOLE: &str = "Content-Type: message/rfc822\n\nFrom: <a@here.example>\nMessage-ID: <1@here.example>\n\nhello\n";

use Action::{Delayed, Delivered, Expanded, Failed, Relayed};

const SAMPLES: &[Sample] = &[
    Sample {
        server: "Postfix, refused by the next host",
        kind: "multipart/report; report-type=delivery-status;\n\tboundary=\"b\"",
        first: "Content-Description: Notification\nContent-Type: text/plain; charset=us-ascii\n\nThis is the mail system at host out.example.\n",
        status: "Content-Description: Delivery report\nContent-Type: message/delivery-status\n\n\
            Reporting-MTA: dns; out.example\nX-Postfix-Queue-ID: 4BxYz12345zABC\nX-Postfix-Sender: rfc822; a@here.example\n\
            Arrival-Date: Mon, 23 Nov 2026 04:04:23 +0000 (UTC)\n\n\
            Final-Recipient: rfc822; gone@there.example\nOriginal-Recipient: rfc822;gone@there.example\nAction: failed\nStatus: 5.1.1\n\
            Remote-MTA: dns; mx.there.example\nDiagnostic-Code: smtp; 550 5.1.1 <gone@there.example>: no\n    mailbox of that name here\n",
        returned: HEADERS,
        want: &[("gone@there.example", Failed, "5.1.1", Some(550))],
    },
    Sample {
        server: "Postfix, on its own account, several recipients",
        kind: REPORT,
        first: TEXT,
        status: "Content-Type: message/delivery-status\n\nReporting-MTA: dns; out.example\nX-Postfix-Queue-ID: 1\nX-Postfix-Sender: rfc822; a@here.example\n\
            Arrival-Date: Mon, 23 Nov 2026 04:04:23 +0000 (UTC)\n\n\
            Final-Recipient: rfc822; one@nowhere.example\nAction: failed\nStatus: 5.4.4\nDiagnostic-Code: X-Postfix; Host or domain name not found\n\n\
            Final-Recipient: rfc822; two@slow.example\nAction: delayed\nStatus: 4.4.1\nDiagnostic-Code: X-Postfix; connect to slow.example: timed out\n\
            Will-Retry-Until: Sat, 28 Nov 2026 04:04:23 +0000 (UTC)\n",
        returned: WHOLE,
        want: &[("one@nowhere.example", Failed, "5.4.4", None), ("two@slow.example", Delayed, "4.4.1", None)],
    },
    Sample {
        server: "Postfix, for internationalized addresses",
        kind: "multipart/report; report-type=global-delivery-status; boundary=\"b\"",
        first: TEXT,
        status: "Content-Description: Delivery report\nContent-Type: message/global-delivery-status\nContent-Transfer-Encoding: 8bit\n\n\
            Reporting-MTA: dns; out.example\n\nFinal-Recipient: utf-8; gr\u{fc}n@there.example\nOriginal-Recipient: utf-8;gr\u{fc}n@there.example\n\
            Action: failed\nStatus: 5.6.7\nDiagnostic-Code: smtp; 553 5.6.7 no such address\n",
        returned: HEADERS,
        want: &[("gr\u{fc}n@there.example", Failed, "5.6.7", Some(553))],
    },
    Sample {
        server: "Exim 4",
        kind: "multipart/report; report-type=delivery-status; boundary=b",
        first: "Content-type: text/plain; charset=us-ascii\n\nMade by the mail delivery software of out.example.\n",
        status: "Content-type: message/delivery-status\n\nReporting-MTA: dns; out.example\n\n\
            Action: failed\nFinal-Recipient: rfc822;gone@there.example\nStatus: 5.0.0\nRemote-MTA: dns; mx.there.example\n\
            Diagnostic-Code: smtp; 550 unknown mailbox\n",
        returned: WHOLE,
        want: &[("gone@there.example", Failed, "5.0.0", Some(550))],
    },
    Sample {
        server: "Exim 4, a warning",
        kind: "multipart/report; report-type=delivery-status; boundary=b",
        first: TEXT,
        status: "Content-type: message/delivery-status\n\nReporting-MTA: dns; out.example\n\nAction: delayed\nFinal-Recipient: rfc822;slow@there.example\nStatus: 4.0.0\n\n",
        returned: HEADERS,
        want: &[("slow@there.example", Delayed, "4.0.0", None)],
    },
    Sample {
        server: "Exchange Online",
        kind: "multipart/report; report-type=delivery-status;\n\tboundary=\"b\"",
        first: "Content-Type: multipart/alternative; differences=Content-Type;\n\tboundary=\"c\"\n\n--c\nContent-Type: text/plain; charset=\"utf-8\"\nContent-Transfer-Encoding: base64\n\nSXQgZGlkbid0IGFycml2ZS4=\n\n--c\nContent-Type: text/html\n\n<p>It didn't arrive.\n--c--\n",
        status: "Content-Type: message/delivery-status\n\nReporting-MTA: dns;AB1PR2MB3456.eurprd01.prod.out.example\n\
            Received-From-MTA: dns;CD7PR8MB9012.eurprd01.prod.out.example\nArrival-Date: Mon, 23 Nov 2026 04:04:23 +0000\n\n\
            Final-Recipient: rfc822;gone@there.example\nAction: failed\nStatus: 5.1.10\n\
            Diagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient gone@there.example not found by SMTP address lookup\nX-Display-Name: Gone\n",
        returned: WHOLE,
        want: &[("gone@there.example", Failed, "5.1.10", Some(550))],
    },
    Sample {
        server: "Exchange, delivered",
        kind: REPORT,
        first: TEXT,
        status: "Content-Type: message/delivery-status\n\nReporting-MTA: dns;out.example\nArrival-Date: Mon, 23 Nov 2026 04:04:23 +0000\n\n\
            Original-Recipient: rfc822;a@there.example\nFinal-Recipient: rfc822;a@there.example\nAction: delivered\nStatus: 2.0.0\n\n\
            Original-Recipient: rfc822;list@there.example\nFinal-Recipient: rfc822;list@there.example\nAction: expanded\nStatus: 2.0.0\n\n\
            Original-Recipient: rfc822;b@far.example\nFinal-Recipient: rfc822;b@far.example\nAction: relayed\nStatus: 2.0.0\n",
        returned: HEADERS,
        want: &[
            ("a@there.example", Delivered, "2.0.0", None),
            ("list@there.example", Expanded, "2.0.0", None),
            ("b@far.example", Relayed, "2.0.0", None),
        ],
    },
    Sample {
        server: "Gmail, of another server",
        kind: "multipart/report; boundary=\"b\"; report-type=delivery-status",
        first: "Content-Type: multipart/related; boundary=\"c\"\n\n--c\nContent-Type: multipart/alternative; boundary=\"d\"\n\n--d\nContent-Type: text/plain; charset=\"UTF-8\"\n\nIt didn't arrive.\n--d\nContent-Type: text/html; charset=\"UTF-8\"\n\n<p>It didn't arrive.\n--d--\n--c\nContent-Type: image/png; name=\"icon.png\"\nContent-Transfer-Encoding: base64\nContent-ID: <icon.png>\n\niVBORw0KGgo=\n--c--\n",
        status: "Content-Type: message/delivery-status\n\nReporting-MTA: dns; out.example\nReceived-From-MTA: dns; a@here.example\n\
            Arrival-Date: Sun, 22 Nov 2026 20:04:23 -0800 (PST)\nX-Original-Message-ID: <1@here.example>\n\n\
            Final-Recipient: rfc822; gone@there.example\nAction: failed\nStatus: 5.1.1\n\
            Remote-MTA: dns; mx.there.example. (192.0.2.7, the server for the domain\n there.example.)\n\
            Diagnostic-Code: smtp; 550-5.1.1 The address that you wrote to has no\n 550-5.1.1 mailbox. See the manual\n 550 5.1.1  of the host - smtp\n\
            Last-Attempt-Date: Sun, 22 Nov 2026 20:04:25 -0800 (PST)\n",
        returned: WHOLE,
        want: &[("gone@there.example", Failed, "5.1.1", Some(550))],
    },
    Sample {
        server: "Gmail, that waits",
        kind: "multipart/report; boundary=\"b\"; report-type=delivery-status",
        first: TEXT,
        status: "Content-Type: message/delivery-status\n\nReporting-MTA: dns; out.example\nArrival-Date: Sun, 22 Nov 2026 20:04:23 -0800 (PST)\n\n\
            Final-Recipient: rfc822; slow@there.example\nAction: delayed\nStatus: 4.4.1\nDiagnostic-Code: smtp; The recipient server did not accept our requests to connect.\n\
            Last-Attempt-Date: Mon, 23 Nov 2026 20:04:25 -0800 (PST)\nWill-Retry-Until: Wed, 25 Nov 2026 20:04:23 -0800 (PST)\n",
        returned: WHOLE,
        want: &[("slow@there.example", Delayed, "4.4.1", None)],
    },
    Sample {
        server: "sendmail",
        kind: "multipart/report; report-type=delivery-status;\n\tboundary=\"b\"",
        first: "\nThe original message was received at Mon, 23 Nov 2026 04:04:23 GMT\n",
        status: "Content-Type: message/delivery-status\n\nReporting-MTA: dns; out.example\nReceived-From-MTA: DNS; client.here.example\nArrival-Date: Mon, 23 Nov 2026 04:04:23 GMT\n\n\
            Final-Recipient: RFC822; gone@there.example\nX-Actual-Recipient: RFC822; gone@inner.there.example\nAction: failed\nStatus: 5.1.1\n\
            Remote-MTA: DNS; mx.there.example\nDiagnostic-Code: SMTP; 550 5.1.1 <gone@there.example>... User unknown\nLast-Attempt-Date: Mon, 23 Nov 2026 04:04:25 GMT\n",
        returned: HEADERS,
        want: &[("gone@there.example", Failed, "5.1.1", Some(550))],
    },
    Sample {
        server: "Amazon SES",
        kind: REPORT,
        first: TEXT,
        status: "Content-Type: message/delivery-status\n\nReporting-MTA: dns; a1-2.smtp-out.example\n\nAction: failed\nFinal-Recipient: rfc822; gone@there.example\n\
            Diagnostic-Code: smtp; 550 5.1.1 user unknown\nStatus: 5.1.1\n",
        returned: WHOLE,
        want: &[("gone@there.example", Failed, "5.1.1", Some(550))],
    },
    Sample {
        server: "Domino",
        kind: REPORT,
        first: "Content-type: text/plain; charset=US-ASCII\n\nIt didn't arrive.\n",
        status: "Content-type: message/delivery-status\n\nReporting-MTA: dns;out.example\nArrival-Date: Mon, 23 Nov 2026 04:04:23 +0100\n\n\
            Final-Recipient: rfc822;gone@there.example\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: X-Notes; gone not listed in the directory\n",
        returned: HEADERS,
        want: &[("gone@there.example", Failed, "5.1.1", None)],
    },
    Sample {
        server: "a gateway that repeats fields of its own, and encodes the status",
        kind: REPORT,
        first: TEXT,
        status: "Content-Type: message/delivery-status\nContent-Transfer-Encoding: quoted-printable\n\nReporting-MTA: x-local; gateway\nX-Hop: one\nX-Hop: two\n\n\
            Final-Recipient: rfc822; <gone@there.example>\nAction: FAILED (for good)\nStatus: 5.7.1 (refused by=\n policy)\nX-Rule: 1\nX-Rule: 2\nDiagnostic-Code: smtp; 554 5.7.1 [no]\n",
        returned: HEADERS,
        want: &[("gone@there.example", Failed, "5.7.1", Some(554))],
    },
    Sample {
        server: "a server without fields about the message",
        kind: REPORT,
        first: TEXT,
        status: "Content-Type: message/delivery-status\n\nFinal-Recipient: gone@there.example\nAction: failed\nStatus: 5.0.0\n",
        returned: WHOLE,
        want: &[("gone@there.example", Failed, "5.0.0", None)],
    },
    Sample {
        server: "a server that ends the status with many empty lines",
        kind: REPORT,
        first: TEXT,
        status: "Content-Type: message/delivery-status\n\n\n\nReporting-MTA: dns; out.example\n\n\nFinal-Recipient: rfc822; gone@there.example\nAction: failed\nStatus: 5.0.0\n\n\n\n",
        returned: WHOLE,
        want: &[("gone@there.example", Failed, "5.0.0", None)],
    },
];

impl Sample {
    fn message(&self) -> Vec<u8> {
        let Self { kind, first, status, returned, .. } = self;
        let header = "From: MAILER-DAEMON@out.example\nTo: <a@here.example>\nSubject: Returned\nMIME-Version: 1.0\n";
        let text = format!("{header}Content-Type: {kind}\n\n--b\n{first}\n--b\n{status}\n--b\n{returned}\n--b--\n");
        text.replace('\n', "\r\n").into_bytes()
    }
}

#[test]
fn well_known_servers_are_understood() {
    for sample in SAMPLES {
        let message = sample.message();
        let structure = Structure::of(&message);
        let status = report_of(&structure, &message).unwrap_or_else(|| panic!("{}: no report", sample.server));
        let status = status.unwrap_or_else(|e| panic!("{}: {e}", sample.server));
        let got: Vec<(&str, Action, &str, Option<u16>)> = status
            .recipients
            .iter()
            .map(|r| {
                let code = r.diagnostic.as_ref().and_then(|(_, text)| smtp_code(text)).map(|(code, _)| code);
                (r.final_recipient.as_deref().unwrap_or_default(), r.action, r.status.as_str(), code)
            })
            .collect();
        assert_eq!(got, sample.want, "{}", sample.server);
        let dated =
            ["Arrival-Date:", "Last-Attempt-Date:", "Will-Retry-Until:"].iter().filter(|name| sample.status.contains(**name)).count();
        let read = usize::from(status.arrival.is_some())
            + usize::from(status.recipients.iter().any(|r| r.last_attempt.is_some()))
            + usize::from(status.recipients.iter().any(|r| r.will_retry_until.is_some()));
        assert_eq!(read, dated, "{}: dates", sample.server);
    }
}

/// Bounces that are no DSNs in the sense of RFC 3464: for people only.
#[test]
fn older_forms_are_no_reports() {
    for message in [
        // qmail.
        "From: MAILER-DAEMON@out.example\r\nSubject: failure notice\r\n\r\nHi. This is the qmail-send program at out.example.\r\n\r\n<gone@there.example>:\r\nno mailbox\r\n\r\n--- Below this line is a copy of the message.\r\n\r\nFrom: a\r\n",
        // Exim before 4.90.
        "From: Mailer-Daemon@out.example\r\nX-Failed-Recipients: gone@there.example\r\nContent-Type: text/plain\r\n\r\nIt failed:\r\n\r\n  gone@there.example\r\n",
        // A read receipt, RFC 8098.
        "Content-Type: multipart/report; report-type=disposition-notification; boundary=b\r\n\r\n--b\r\n\r\nread\r\n--b\r\nContent-Type: message/disposition-notification\r\n\r\nDisposition: manual-action/MDN-sent-manually; displayed\r\n--b--\r\n",
        // A complaint, RFC 5965.
        "Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n--b\r\n\r\nspam\r\n--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n--b--\r\n",
    ] {
        assert!(report_of(&Structure::of(message.as_bytes()), message.as_bytes()).is_none(), "{message}");
    }
}

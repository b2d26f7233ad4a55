//! The manual in Markdown, `docs/webapi.md`.

use crate::error::{ErrorCode, body_object};
use crate::method::{METHODS, ResponseKind};
use crate::object::{Describe, Object, Type};
use crate::scope::{self, Scope};
use crate::webhook::{Incoming, Outgoing};
use std::fmt::Write as _;

const INTRODUCTION: &str = "# Webapi

Send mail, and work with received mail, over HTTP and JSON. This page is generated from the server's own types; the same text is on the
pages that the server shows below `/webapi/v0/`, each with a form to try the method. `/webapi/v0/openapi.json` has it for programs.

## Calling

Listeners offer the webapi with `WebAPIHTTP` and `WebAPIHTTPS` in `mox.conf`, by default at path `/webapi/`. `mox localserve` has it at
`http://localhost:1080/webapi/` and `https://localhost:1443/webapi/`.

Each method is a POST to `/webapi/v0/<Method>` with HTTP basic authentication: an email address of the account and its password. The body is
a form, `application/x-www-form-urlencoded` or `multipart/form-data`, whose field `request` is a JSON object:

```sh
curl -sS -u mox@localhost:moxmoxmox http://localhost:1080/webapi/v0/Send \\
  --data-urlencode 'request={\"To\":[{\"Address\":\"mox@localhost\"}],\"Subject\":\"hello\",\"Text\":\"hi\"}'
```

- Names of fields match in any case. A field that doesn't exist is an error, so that a misspelled one isn't ignored.
- Every field may be left out or be null: it then has its zero value (empty text, 0, false, empty list or map, or null where that is possible).
- Times are as in RFC 3339, such as `2006-01-02T15:04:05Z`, with any offset.
- Responses with status 200 are JSON objects, unless a method says otherwise. They may get more fields: ignore those that you don't know.
- Instead of the password, an API key is as good: see below.
- Status 401 means that credentials are missing or wrong; 429 that there were too many requests or failed logins, see `Retry-After`.

";

const KEYS: &str = "
## API keys

An API key is a password for the webapi only: SMTP and IMAP don't take it. An administrator makes one with

```sh
mox webapi key add -from shop@example.org -expires 8760h <account> <name> send suppressions
```

which prints the key, this once. It is used with any address that logs in to the account. What follows the name limits the key to some
methods; each is the name of a method or one of these groups:

| Group | For | Methods |
|---|---|---|
";

const ERRORS: &str = "
With `-from`, messages can be sent from that address only, which is to be given in `From` unless it is the one logged in with. A call that a
key isn't for answers with status 403 and code `outOfScope`, and does nothing. `mox webapi key list` tells when keys were last used;
`mox webapi key rm` ends one at once.

## Errors

A method that fails answers with status 400, or 403 for `outOfScope`, and this object:

";

/// The manual.
pub fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str(KEYS);
    for scope in Scope::ALL {
        let methods: Vec<String> = scope::methods(*scope).map(|method| format!("`{}`", method.name)).collect();
        push(&mut text, format_args!("| `{}` | {} | {} |\n", scope.as_str(), cell(scope.about()), methods.join(", ")));
    }
    text.push_str(ERRORS);
    let mut described = Vec::new();
    table(&mut text, body_object());
    text.push_str("\n| Code | When |\n|---|---|\n");
    for code in ErrorCode::ALL {
        push(&mut text, format_args!("| `{}` | {} |\n", code.as_str(), cell(code.about())));
    }
    text.push_str(
        "\n`protocol`, `server`, `user` and `outOfScope` are possible with any method, others where the method says so.\n\n## Methods\n",
    );
    for method in &METHODS {
        push(&mut text, format_args!("\n### {}\n\n{}.\n\n{}\n", method.name, method.summary, method.about.replace('\n', "\n\n")));
        let request = (method.request)();
        section(&mut text, "Request", request, &mut described);
        match method.response {
            ResponseKind::Json(response) => section(&mut text, "Response", response(), &mut described),
            ResponseKind::Bytes { about, .. } => push(&mut text, format_args!("\n**Response**: {about}\n")),
        }
        if !method.errors.is_empty() {
            let codes: Vec<String> = method.errors.iter().map(|code| format!("`{}`", code.as_str())).collect();
            push(&mut text, format_args!("\n**Errors**: {}\n", codes.join(", ")));
        }
    }
    text.push_str(
        "\n## Webhooks\n\nWith `OutgoingWebhook` and `IncomingWebhook` in an account's configuration, the server posts JSON objects to a URL.\n",
    );
    section(&mut text, "Outgoing", Outgoing::object(), &mut described);
    text.push_str("\nEvents:\n\n| Event | When |\n|---|---|\n");
    for event in crate::webhook::Event::ALL {
        push(&mut text, format_args!("| `{event}` | {} |\n", event.about()));
    }
    section(&mut text, "Incoming", Incoming::object(), &mut described);
    text
}

/// An object, and those in it that weren't described before.
fn section(text: &mut String, title: &str, object: &'static Object, described: &mut Vec<&'static str>) {
    push(text, format_args!("\n**{title}** {}\n\n", object.about()));
    let mut all = Vec::new();
    Type::Object(object).objects(&mut all);
    for (i, object) in all.into_iter().enumerate() {
        if i > 0 {
            if described.contains(&object.name) {
                continue;
            }
            described.push(object.name);
            push(text, format_args!("\n`{}`: {}\n\n", object.name, object.about()));
        }
        if !object.fields.is_empty() {
            table(text, object);
        }
    }
}

fn table(text: &mut String, object: &Object) {
    text.push_str("| Field | Type | Meaning |\n|---|---|---|\n");
    for field in object.fields {
        push(text, format_args!("| `{}` | {} | {} |\n", field.name, (field.ty)(), cell(&field.about())));
    }
}

fn cell(text: &str) -> String {
    text.trim().replace('|', "\\|")
}

fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Writing to a string doesn't fail.
    let _ok = text.write_fmt(more);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_in_it() {
        let text = markdown();
        for method in &METHODS {
            assert!(text.contains(&format!("\n### {}\n", method.name)));
        }
        for code in ErrorCode::ALL {
            assert!(text.contains(&format!("| `{}` |", code.as_str())));
        }
        assert_eq!(text.matches("\n`NameAddress`: ").count(), 1);
        assert!(text.contains("| `unrecognized` |"));
    }
}

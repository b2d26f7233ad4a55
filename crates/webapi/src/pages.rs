//! The documentation pages that the server shows, with a form to try each method.

use crate::error::body_object;
use crate::method::{METHODS, Method, ResponseKind};
use crate::object::{Object, Type};
use std::fmt::Write as _;

/// Looks.
const STYLE: &str = "body { font-family: sans-serif; max-width: 60em; margin: 1em auto; padding: 0 1em; line-height: 1.4 } \
table { border-collapse: collapse; margin: .5em 0 1em } td, th { border: 1px solid #ccc; padding: .2em .5em; text-align: left; vertical-align: top } \
code, textarea { font-family: monospace } textarea { width: 100%; box-sizing: border-box } .about { color: #555 }";

/// Sends the form of a method with JSON, and shows the answer.
const SCRIPT: &str = "const form = document.querySelector('form')
const answer = document.getElementById('response')
form.addEventListener('submit', async (event) => {
  event.preventDefault()
  answer.value = ''
  const fieldset = form.querySelector('fieldset')
  const body = new FormData(form)
  fieldset.disabled = true
  try {
    const response = await fetch(location.href, { method: 'POST', body })
    const text = await response.text()
    try {
      answer.value = JSON.stringify(JSON.parse(text), null, '\\t')
    } catch {
      answer.value = text
    }
    document.getElementById('status').textContent = response.status + ' ' + response.statusText
  } catch (error) {
    document.getElementById('status').textContent = String(error)
  } finally {
    fieldset.disabled = false
  }
})
";

/// The page with the list of methods.
pub fn index() -> String {
    let mut page = head("mox webapi v0");
    page.push_str(
        "<p>Send mail and work with received mail over HTTP and JSON. Each method is a POST to its page below, with HTTP basic \
         authentication (an email address of yours, and your password or an API key), and a form whose field <code>request</code> is a JSON object. \
         The pages document the methods, and have a form to try them.</p>\n\
         <p>For programs: <a href=\"openapi.json\">openapi.json</a> describes all methods, errors and webhooks.</p>\n<ul>\n",
    );
    for method in &METHODS {
        push(&mut page, format_args!("<li><a href=\"{0}\">{0}</a>: {1}</li>\n", method.name, escape(method.summary)));
    }
    page.push_str("</ul>\n</body>\n</html>\n");
    page
}

/// The page of a method.
pub fn method(method: &Method) -> String {
    let mut page = head(method.name);
    page.push_str("<p><a href=\"./\">All methods</a></p>\n");
    push(&mut page, format_args!("<p><b>{}</b></p>\n", escape(method.summary)));
    for paragraph in method.about.lines() {
        push(&mut page, format_args!("<p>{}</p>\n", marked_up(paragraph)));
    }
    let request = (method.request)();
    page.push_str("<h2>Try</h2>\n<form method=\"POST\" enctype=\"multipart/form-data\"><fieldset>\n");
    push(
        &mut page,
        format_args!(
            "<p><label>Request<br><textarea name=\"request\" rows=\"15\" required>{}</textarea></label></p>\n",
            escape(&pretty(request))
        ),
    );
    if method.name == "Send" {
        for (name, label) in [("alternativefile", "Alternative files"), ("inlinefile", "Inline files"), ("attachedfile", "Attached files")]
        {
            push(&mut page, format_args!("<p><label>{label} <input type=\"file\" name=\"{name}\" multiple></label></p>\n"));
        }
    }
    page.push_str("<p><button type=\"reset\">Reset</button> <button type=\"submit\">Call</button></p>\n</fieldset></form>\n");
    match method.response {
        ResponseKind::Json(response) => {
            push(
                &mut page,
                format_args!(
                    "<p><label>Response <span id=\"status\"></span><br><textarea id=\"response\" rows=\"15\" readonly>{}</textarea></label></p>\n\
                     <script>\n{SCRIPT}</script>\n",
                    escape(&pretty(response()))
                ),
            );
            page.push_str("<h2>Request</h2>\n");
            objects(&mut page, request);
            page.push_str("<h2>Response</h2>\n");
            objects(&mut page, response());
        }
        ResponseKind::Bytes { about, .. } => {
            page.push_str("<h2>Request</h2>\n");
            objects(&mut page, request);
            push(&mut page, format_args!("<h2>Response</h2>\n<p>{}</p>\n", marked_up(about)));
        }
    }
    page.push_str("<h2>Errors</h2>\n<p>With status 400, or 403 for <code>outOfScope</code>, and an object:</p>\n");
    objects(&mut page, body_object());
    page.push_str("<table>\n<tr><th>Code</th><th>When</th></tr>\n");
    for code in method.all_errors() {
        push(&mut page, format_args!("<tr><td><code>{}</code></td><td>{}</td></tr>\n", code.as_str(), marked_up(code.about().trim())));
    }
    page.push_str("</table>\n</body>\n</html>\n");
    page
}

fn head(title: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"robots\" content=\"noindex,nofollow\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<h1>{title}</h1>\n"
    )
}

/// An object and those in it, a table each.
fn objects(page: &mut String, object: &'static Object) {
    let mut all = Vec::new();
    Type::Object(object).objects(&mut all);
    for object in all {
        push(page, format_args!("<h3>{}</h3>\n<p class=\"about\">{}</p>\n", object.name, marked_up(&object.about())));
        if object.fields.is_empty() {
            continue;
        }
        page.push_str("<table>\n<tr><th>Field</th><th>Type</th><th>Meaning</th></tr>\n");
        for field in object.fields {
            let ty = escape(&(field.ty)().to_string());
            push(page, format_args!("<tr><td><code>{}</code></td><td>{ty}</td><td>{}</td></tr>\n", field.name, marked_up(&field.about())));
        }
        page.push_str("</table>\n");
    }
}

fn pretty(object: &'static Object) -> String {
    serde_json::to_string_pretty(&object.example()).unwrap_or_default()
}

fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string doesn't fail.
    let _ok = page.write_fmt(text);
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Escaped, with what is between backticks as code.
fn marked_up(text: &str) -> String {
    let mut out = String::new();
    for (i, piece) in escape(text).split('`').enumerate() {
        if i > 0 {
            out.push_str(if i % 2 == 1 { "<code>" } else { "</code>" });
        }
        out.push_str(piece);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_say_what_there_is() {
        let index = index();
        for m in &METHODS {
            assert!(index.contains(&format!("<a href=\"{}\">", m.name)));
            let page = method(m);
            assert!(page.contains("<textarea name=\"request\" rows=\"15\" required>") && page.contains("noindex,nofollow"), "{page}");
            assert!(page.contains("<code>protocol</code>"), "{page}");
            assert_eq!(page.contains("await fetch"), matches!(m.response, ResponseKind::Json(_)), "{}", m.name);
            for tag in ["table", "code", "p", "textarea", "label"] {
                let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
                assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag} in {}", m.name);
            }
        }
        let send = method(Method::by_name("Send").unwrap());
        assert!(send.contains("&quot;example&quot;: &quot;&quot;") && send.contains("0001-01-01T00:00:00Z"), "{send}");
        assert!(send.contains("name=\"attachedfile\" multiple"));
    }
}

//! Reports as XML, RFC 7489 appendix C.
//!
//! Without a namespace and with `pct`, as consumers have known it since 2012; of RFC 9990, `np` and `testing` are added where a
//! record has them, which those who don't know them skip.

use super::{Feedback, Published, Row};
use quick_xml::escape::escape;
use std::borrow::Cow;

/// Writes elements, a line each, two spaces deeper at each level.
struct Out {
    text: String,
    open: Vec<&'static str>,
}

impl Out {
    const fn new() -> Self {
        Self { text: String::new(), open: Vec::new() }
    }

    fn indent(&mut self) {
        for _ in &self.open {
            self.text.push_str("  ");
        }
    }

    fn leaf(&mut self, name: &str, value: &str) {
        self.indent();
        self.text.push_str(&format!("<{name}>{}</{name}>\n", escape(printable(value))));
    }

    fn optional(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.leaf(name, value);
        }
    }

    fn within(&mut self, name: &'static str, inner: impl FnOnce(&mut Self)) {
        self.indent();
        self.text.push_str(&format!("<{name}>\n"));
        self.open.push(name);
        inner(self);
        self.open.pop();
        self.indent();
        self.text.push_str(&format!("</{name}>\n"));
    }
}

/// XML 1.0 has no way to write most control characters.
fn printable(text: &str) -> Cow<'_, str> {
    let bad = |c: char| (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{fffe}' | '\u{ffff}');
    if text.contains(bad) { Cow::Owned(text.replace(bad, "\u{fffd}")) } else { Cow::Borrowed(text) }
}

impl Feedback {
    /// The XML.
    pub fn to_xml(&self) -> String {
        let mut out = Out::new();
        out.text.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        out.within("feedback", |out| {
            out.leaf("version", "1.0");
            out.within("report_metadata", |out| {
                let of = &self.metadata;
                out.leaf("org_name", &of.organization);
                out.leaf("email", &of.email);
                out.optional("extra_contact_info", &of.extra_contact);
                out.leaf("report_id", &of.id);
                out.within("date_range", |out| {
                    out.leaf("begin", &of.begin.secs().to_string());
                    out.leaf("end", &of.end.secs().to_string());
                });
                for error in &of.errors {
                    out.leaf("error", error);
                }
                out.optional("generator", &of.generator);
            });
            self.published.write(out);
            for row in &self.rows {
                row.write(out);
            }
        });
        out.text
    }
}

impl Published {
    fn write(&self, out: &mut Out) {
        out.within("policy_published", |out| {
            out.leaf("domain", &self.domain);
            out.optional("adkim", self.dkim_alignment.map_or("", |a| a.letter()));
            out.optional("aspf", self.spf_alignment.map_or("", |a| a.letter()));
            out.leaf("p", self.policy.name());
            out.optional("sp", self.subdomain_policy.map_or("", |p| p.name()));
            out.optional("np", self.nonexistent_policy.map_or("", |p| p.name()));
            if let Some(percentage) = self.percentage {
                out.leaf("pct", &percentage.to_string());
            }
            out.optional("fo", &self.failure_options);
            out.optional("testing", if self.testing { "y" } else { "" });
        });
    }

    /// The element `policy_published` by itself, for keeping.
    pub fn to_xml(&self) -> String {
        let mut out = Out::new();
        self.write(&mut out);
        out.text
    }
}

impl Row {
    fn write(&self, out: &mut Out) {
        let outcome = |aligned: bool| if aligned { "pass" } else { "fail" };
        out.within("record", |out| {
            out.within("row", |out| {
                out.leaf("source_ip", &self.source_ip);
                out.leaf("count", &self.count.to_string());
                out.within("policy_evaluated", |out| {
                    out.leaf("disposition", self.disposition.name());
                    out.leaf("dkim", outcome(self.dkim_aligned));
                    out.leaf("spf", outcome(self.spf_aligned));
                    for reason in &self.reasons {
                        out.within("reason", |out| {
                            out.leaf("type", &reason.kind);
                            out.optional("comment", &reason.comment);
                        });
                    }
                });
            });
            out.within("identifiers", |out| {
                out.optional("envelope_to", &self.envelope_to);
                if let Some(from) = &self.envelope_from {
                    out.leaf("envelope_from", from);
                }
                out.leaf("header_from", &self.header_from);
            });
            out.within("auth_results", |out| {
                for dkim in &self.dkim {
                    out.within("dkim", |out| {
                        out.leaf("domain", &dkim.domain);
                        out.optional("selector", &dkim.selector);
                        out.leaf("result", &dkim.result);
                        out.optional("human_result", &dkim.human_result);
                    });
                }
                for spf in &self.spf {
                    out.within("spf", |out| {
                        out.leaf("domain", &spf.domain);
                        out.optional("scope", &spf.scope);
                        out.leaf("result", &spf.result);
                        out.optional("human_result", &spf.human_result);
                    });
                }
            });
        });
    }

    /// The element `record` by itself, for keeping.
    pub fn to_xml(&self) -> String {
        let mut out = Out::new();
        self.write(&mut out);
        out.text
    }
}

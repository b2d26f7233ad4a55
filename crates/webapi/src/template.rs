//! Templates: messages with places for what differs from one recipient to the next.
//!
//! A place is a name in double braces, as in `Dear {{name}}`. That is all there is: no conditions, no loops; who needs these composes the text
//! before it sends. Every place must be given a value, so that nobody is written to as “Dear ”; in HTML, values are text, whatever is
//! in them. Limits: names have up to 100 bytes, a template's parts and what becomes of each of them 1 MiB.

use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};

/// The most bytes of a part of a template, and of what it becomes.
pub const MAX_PART: usize = 1 << 20;

/// The longest name of a template or a place.
const MAX_NAME: usize = 100;

object! {
    /// A template.
    pub struct TemplateSetRequest {
        /// What it is called: up to 100 letters, digits, dots, dashes and underscores. A template of the same name is replaced.
        "Name" name: String,
        /// The subject. Here as in the texts, `{{name}}` is a place that is filled in from `TemplateData` when a message is sent. Its name
        /// has letters, digits, dots, dashes and underscores; spaces may be around it.
        "Subject" subject: String,
        /// The plain text. Text and HTML must not both be empty.
        "Text" text: String,
        /// The HTML. Values are escaped: they are text in it, not HTML.
        "HTML" html: String,
    }

    /// A template's name.
    pub struct TemplateRequest {
        /// What it is called.
        "Name" name: String,
    }

    /// A template as kept.
    pub struct TemplateGetResponse {
        /// What it is called.
        "Name" name: String,
        /// The subject.
        "Subject" subject: String,
        /// The plain text.
        "Text" text: String,
        /// The HTML.
        "HTML" html: String,
        /// Names of the places in it, for which `TemplateData` must have values.
        "Variables" variables: Vec<String>,
        /// When it was last set.
        "Changed" changed: Time,
    }

    /// A page of the templates.
    pub struct TemplateListRequest {
        /// Only templates after this name: the last one of the page before. Empty for the first page.
        "After" after: String,
        /// The most templates to return, at most 100; 0 for 100.
        "Limit" limit: i64,
    }

    /// A template in a list.
    pub struct TemplateEntry {
        /// What it is called.
        "Name" name: String,
        /// The subject.
        "Subject" subject: String,
        /// Names of the places in it.
        "Variables" variables: Vec<String>,
        /// When it was last set.
        "Changed" changed: Time,
    }

    /// Templates.
    pub struct TemplateListResponse {
        /// Ordered by name.
        "Templates" templates: Vec<TemplateEntry>,
    }
}

/// What a value is put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// A subject or a plain text: as it is.
    Text,
    /// HTML: what would be markup is escaped.
    Html,
}

/// What is wrong with a template or with what it is to be filled in with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Braces that aren't a place.
    #[error("{0:?} is no place to fill in: want a name between {{{{ and }}}}")]
    Braces(String),
    /// There is no value for a place.
    #[error("TemplateData has no value for {0:?}")]
    Missing(String),
    /// A part is too large, or would become so.
    #[error("a part of a template, filled in or not, has at most 1 MiB")]
    TooLarge,
}

/// Whether a text can be the name of a template or of a place.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// A piece of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'t> {
    Text(&'t str),
    Place(&'t str),
}

/// The next piece, and what follows it; none at the end.
fn piece(template: &str) -> Result<Option<(Piece<'_>, &str)>, TemplateError> {
    if template.is_empty() {
        return Ok(None);
    }
    let Some(inner) = template.strip_prefix("{{") else {
        let end = template.find("{{").unwrap_or(template.len());
        return Ok(template.split_at_checked(end).map(|(text, rest)| (Piece::Text(text), rest)));
    };
    let place = inner.split_once("}}").map(|(name, rest)| (name.trim(), rest)).filter(|(name, _)| is_name(name));
    let braces = || TemplateError::Braces(template.chars().take(20).collect());
    place.map(|(name, rest)| Some((Piece::Place(name), rest))).ok_or_else(braces)
}

/// Names of the places in the parts of a template, in order.
///
/// # Errors
/// A part is too large, or has braces that aren't a place.
pub fn variables(parts: &[&str]) -> Result<Vec<String>, TemplateError> {
    let mut names = BTreeSet::new();
    for part in parts {
        if part.len() > MAX_PART {
            return Err(TemplateError::TooLarge);
        }
        let mut rest = *part;
        while let Some((piece, after)) = piece(rest)? {
            if let Piece::Place(name) = piece {
                names.insert(name);
            }
            rest = after;
        }
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// A part of a template with its places filled in.
///
/// # Errors
/// A value is missing, or there would be too much text.
pub fn fill(template: &str, data: &BTreeMap<String, String>, into: Within) -> Result<String, TemplateError> {
    let (mut text, mut rest) = (String::with_capacity(template.len()), template);
    while let Some((piece, after)) = piece(rest)? {
        match (piece, into) {
            (Piece::Text(literal), _) => text.push_str(literal),
            (Piece::Place(name), into) => {
                let value = data.get(name).ok_or_else(|| TemplateError::Missing(name.to_owned()))?;
                if text.len().saturating_add(value.len()) > MAX_PART {
                    return Err(TemplateError::TooLarge);
                }
                match into {
                    Within::Text => text.push_str(value),
                    Within::Html => escape(value, &mut text),
                }
            }
        }
        if text.len() > MAX_PART {
            return Err(TemplateError::TooLarge);
        }
        rest = after;
    }
    Ok(text)
}

/// So that a value is text also within a quoted attribute.
fn escape(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str, into: Within) -> Result<String, TemplateError> {
        let data = [("name", "Jo <jo@x> & \"co's\""), ("order.id", "17"), ("brace", "{{name}}"), ("empty", "")];
        fill(template, &data.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), into)
    }

    #[test]
    fn places_are_filled_in() {
        for (template, want) in [
            ("", ""),
            ("nothing } to {fill} in }}", "nothing } to {fill} in }}"),
            ("Order {{order.id}} of {{ order.id }}{{order.id}}", "Order 17 of 1717"),
            ("Dear {{name}},", "Dear Jo <jo@x> & \"co's\","),
            ("{{empty}}ä", "ä"),
            // What is filled in is no template.
            ("{{brace}}", "{{name}}"),
        ] {
            assert_eq!(filled(template, Within::Text).as_deref(), Ok(want), "{template}");
        }
        let html = filled("<a title=\"{{name}}\" href='{{name}}'>{{order.id}}</a>", Within::Html).unwrap();
        let value = "Jo &lt;jo@x&gt; &amp; &#34;co&#39;s&#34;";
        assert_eq!(html, format!("<a title=\"{value}\" href='{value}'>17</a>"));
    }

    #[test]
    fn what_is_missing_or_malformed_is_told() {
        assert_eq!(filled("a {{order}} b", Within::Text), Err(TemplateError::Missing("order".to_owned())));
        for bad in ["{{", "{{}}", "{{a", "{{a b}}", "{{{name}}}", "{{a}", "{{ä}}", "x {{#if}}", &format!("{{{{{}}}}}", "a".repeat(101))] {
            assert!(matches!(variables(&[bad]), Err(TemplateError::Braces(_))), "{bad}");
            assert!(filled(bad, Within::Html).is_err(), "{bad}");
        }
        assert_eq!(variables(&["{{b}} {{ a }}", "", "{{b}}{{c-d_e.1}}"]), Ok(vec!["a".to_owned(), "b".to_owned(), "c-d_e.1".to_owned()]));
        assert!(is_name("welcome-2.en_US") && !is_name("") && !is_name("a/b") && !is_name(&"a".repeat(101)));
    }

    #[test]
    fn little_does_not_become_much() {
        let data: BTreeMap<String, String> = [("a".to_owned(), "<".repeat(MAX_PART / 2))].into();
        for (template, into, want) in [
            ("{{a}}{{a}}", Within::Text, true),
            ("{{a}}{{a}}{{a}}", Within::Text, false),
            ("{{a}}", Within::Html, false),
            ("{{a}}{{a}}x", Within::Text, false),
        ] {
            assert_eq!(fill(template, &data, into).is_ok(), want, "{template}");
        }
        assert_eq!(variables(&[&"x".repeat(MAX_PART + 1)]), Err(TemplateError::TooLarge));
    }
}

//! ENABLE, RFC 5161 and RFC 9051 §6.3.1.

use super::Done;
use crate::session::Session;
use mox_imap::response::{self, Code, Status};

pub(crate) fn run(s: &mut Session, names: &[String]) -> Done {
    let mut answer = String::from("ENABLED");
    let had_condstore = s.enabled.condstore;
    let disabled = s.login()?.disabled.clone();
    for name in names.iter().filter(|n| !disabled.iter().any(|d| d.eq_ignore_ascii_case(n))) {
        match name.to_ascii_uppercase().as_str() {
            "IMAP4REV2" => s.enabled.rev2 = true,
            "UTF8=ACCEPT" => s.enabled.utf8 = true,
            "CONDSTORE" => s.enabled.condstore = true,
            // Unknown ones are ignored, RFC 5161 §3.1.
            _ => continue,
        }
        answer.push(' ');
        answer.push_str(name);
    }
    response::untagged(&mut s.conn.out, &answer);
    if s.enabled.condstore && !had_condstore {
        highest_modseq(s);
    }
    Ok(None)
}

/// Enables CONDSTORE because of a command that uses it, RFC 7162 §3.1.
pub(crate) fn condstore(s: &mut Session) {
    if !s.enabled.condstore {
        s.enabled.condstore = true;
        highest_modseq(s);
    }
}

fn highest_modseq(s: &mut Session) {
    if let Some(selected) = &s.selected {
        let code = Code::HighestModSeq(selected.view.modseq());
        response::status(&mut s.conn.out, None, Status::Ok, Some(&code), "condstore enabled");
    }
}

//! CAPABILITY: what is announced, in every state, RFC 9051 §6.1.1.

/// What the announced capabilities depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    /// TLS is active, and has something that SCRAM can bind to.
    pub(crate) bindings: bool,
    /// STARTTLS is possible.
    pub(crate) starttls: bool,
    /// Passwords may cross the wire as they are.
    pub(crate) passwords: bool,
    /// The client presented a certificate that may be used.
    pub(crate) external: bool,
}

const FIXED: &str = "IMAP4rev2 IMAP4rev1 ENABLE LITERAL+ IDLE SASL-IR BINARY UNSELECT UIDPLUS ESEARCH SEARCHRES MOVE \
UTF8=ACCEPT LIST-EXTENDED SPECIAL-USE CREATE-SPECIAL-USE LIST-STATUS AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-256 \
AUTH=SCRAM-SHA-1-PLUS AUTH=SCRAM-SHA-1 AUTH=CRAM-MD5 ID APPENDLIMIT=9223372036854775807 CONDSTORE STATUS=SIZE WITHIN NAMESPACE MULTIAPPEND";

/// The capabilities, without those in `disabled` (in upper case).
pub(crate) fn capabilities(announced: Announced, disabled: &[String]) -> String {
    let enabled = |c: &&str| !disabled.iter().any(|d| d.eq_ignore_ascii_case(c));
    // Clients that take the first mechanism they know would fail where there is nothing to bind to.
    let possible = |c: &&str| announced.bindings || !c.ends_with("-PLUS");
    let mut all: Vec<&str> = FIXED.split(' ').filter(|c| enabled(c) && possible(c)).collect();
    if announced.starttls {
        all.push("STARTTLS");
    }
    all.push(if announced.passwords { "AUTH=PLAIN" } else { "LOGINDISABLED" });
    if announced.external {
        all.push("AUTH=EXTERNAL");
    }
    all.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depend_on_the_connection() {
        let plain = Announced { bindings: false, starttls: true, passwords: false, external: false };
        let text = capabilities(plain, &[]);
        assert!(text.starts_with("IMAP4rev2 IMAP4rev1 ENABLE "));
        assert!(text.ends_with(" STARTTLS LOGINDISABLED"));
        assert!(text.contains(" AUTH=SCRAM-SHA-256 ") && !text.contains("-PLUS"));
        let tls = Announced { bindings: true, starttls: false, passwords: true, external: true };
        let text = capabilities(tls, &["MOVE".into()]);
        assert!(text.ends_with(" AUTH=PLAIN AUTH=EXTERNAL") && !text.contains(" MOVE"));
        assert!(text.contains(" AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-256 AUTH=SCRAM-SHA-1-PLUS "));
    }
}

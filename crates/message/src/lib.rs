//! RFC 5322 and MIME: parse, structure, compose, edit headers; bodies of DSNs.

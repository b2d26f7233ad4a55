use super::*;
use expect_test::{Expect, expect};
use proptest::prelude::*;

/// One line a part: section number, type, ranges as text where short.
fn show(message: &[u8]) -> String {
    let s = Structure::of(message);
    let mut out = String::new();
    for (i, p) in s.parts().iter().enumerate() {
        let depth = std::iter::successors(p.parent, |parent| s.part(*parent).and_then(|p| p.parent)).count();
        out.push_str(&format!(
            "{}{i} {}/{} header {:?} body {:?} lines {}{}\n",
            "  ".repeat(depth),
            p.media_type,
            p.subtype,
            p.header,
            p.body,
            p.lines,
            if p.opaque { " opaque" } else { "" }
        ));
    }
    for (part, defect) in &s.defects {
        out.push_str(&format!("defect {part} {defect:?}\n"));
    }
    out
}

fn check(message: &str, want: Expect) {
    want.assert_eq(&show(message.as_bytes()));
    // With LF only, all but the offsets is the same.
    let lines = |s: Structure| s.parts().iter().map(|p| (p.media_type.clone(), p.lines, p.children.clone(), p.message)).collect::<Vec<_>>();
    let bare = message.replace("\r\n", "\n");
    assert_eq!(lines(Structure::of(message.as_bytes())), lines(Structure::of(bare.as_bytes())));
}

#[test]
fn simple() {
    check(
        "Subject: x\r\n\r\nbody\r\n",
        expect![[r#"
        0 text/plain header 0..14 body 14..20 lines 1
    "#]],
    );
    check(
        "",
        expect![[r#"
        0 text/plain header 0..0 body 0..0 lines 0
        defect 0 HeaderUnterminated
    "#]],
    );
    check(
        "Subject: x\r\n",
        expect![[r#"
        0 text/plain header 0..12 body 12..12 lines 0
        defect 0 HeaderUnterminated
    "#]],
    );
    check(
        "\r\nx\r\ny",
        expect![[r#"
        0 text/plain header 0..2 body 2..6 lines 2
    "#]],
    );
}

const MIXED: &str = "Content-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n--b\r\n\r\none\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n--bx\r\n--b--\r\nepilogue\r\n--b\r\n";

#[test]
fn multipart() {
    check(
        MIXED,
        expect![[r#"
        0 multipart/mixed header 0..45 body 45..129 lines 12
          1 text/plain header 60..62 body 62..67 lines 1
          2 text/html header 74..101 body 101..105 lines 1
    "#]],
    );
}

#[test]
fn embedded_message_in_nested_multiparts() {
    check(
        "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\nContent-Type: multipart/alternative; boundary=\"i i\"\r\n\r\n--i i\r\n\r\na\r\n--i i\r\n\r\nb\r\n--i i--\r\n\r\n--o\r\n\r\nlast",
        expect![[r#"
            0 multipart/mixed header 0..45 body 45..196 lines 17
              1 message/rfc822 header 50..82 body 82..183 lines 10
                2 multipart/alternative header 82..150 body 150..183 lines 7
                  3 text/plain header 157..159 body 159..160 lines 1
                  4 text/plain header 169..171 body 171..172 lines 1
              5 text/plain header 190..192 body 192..196 lines 1
            defect 0 Unclosed
        "#]],
    );
}

#[test]
fn broken() {
    // A part without empty line; an inner multipart cut off by the outer boundary; a boundary at once.
    check(
        "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: text/html\r\n--o\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n--o--",
        expect![[r#"
        0 multipart/mixed header 0..45 body 45..135 lines 7
          1 text/html header 50..75 body 75..75 lines 0
          2 multipart/mixed header 80..125 body 125..130 lines 1
            3 text/plain header 130..130 body 130..130 lines 0
        defect 1 HeaderUnterminated
        defect 3 HeaderUnterminated
        defect 2 Unclosed
    "#]],
    );
    check(
        "Content-Type: multipart/mixed\r\n\r\nx\r\n",
        expect![[r#"
        0 application/octet-stream header 0..33 body 33..36 lines 1 opaque
        defect 0 BadBoundary
    "#]],
    );
    check(
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b--\r\n",
        expect![[r#"
        0 application/octet-stream header 0..45 body 45..52 lines 1 opaque
        defect 0 NoParts
    "#]],
    );
    check(
        "Content-Type: text\r\n\r\n",
        expect![[r#"
        0 application/octet-stream header 0..22 body 22..22 lines 0 opaque
        defect 0 BadContentType
    "#]],
    );
    check(
        "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogeA==\r\n",
        expect![[r#"
        0 application/octet-stream header 0..67 body 67..85 lines 1 opaque
        defect 0 EncodedContainer
    "#]],
    );
}

#[test]
fn digest_defaults_to_messages() {
    check(
        "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: x\r\n\r\ny\r\n--b--\r\n",
        expect![[r#"
        0 multipart/digest header 0..46 body 46..77 lines 6
          1 message/rfc822 header 51..53 body 53..68 lines 3
            2 text/plain header 53..67 body 67..68 lines 1
    "#]],
    );
}

#[test]
fn sections() {
    // The example of RFC 9051 §6.4.5.1, shortened: 3 is a message with two parts, 4 a multipart with an image and a message.
    let message = "Content-Type: multipart/mixed; boundary=a\n\n--a\n\n1\n--a\n\n2\n--a\nContent-Type: message/rfc822\n\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\n3.1\n--b\n\n3.2\n--b--\n--a\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\n4.1\n--c\nContent-Type: message/rfc822\n\nSubject: x\n\n4.2.1\n--c--\n--a--\n";
    let s = Structure::of(message.as_bytes());
    let body = |numbers: &[u32]| {
        let r = &s.section(numbers)?.body;
        Some(&message[usize::try_from(r.start).unwrap()..usize::try_from(r.end).unwrap()])
    };
    assert_eq!(body(&[1]), Some("1"));
    assert_eq!(body(&[3, 1]), Some("3.1"));
    assert_eq!(body(&[3, 2]), Some("3.2"));
    assert_eq!(body(&[4, 1]), Some("4.1"));
    assert_eq!(body(&[4, 2, 1]), Some("4.2.1"));
    assert_eq!(body(&[4, 2]), Some("Subject: x\n\n4.2.1"));
    for none in [&[0][..], &[5], &[1, 1], &[3, 3], &[4, 2, 2], &[4, 2, 1, 1]] {
        assert_eq!(body(none), None, "{none:?}");
    }
    // A message that is no multipart, and one that is itself an embedded message.
    let s = Structure::of(b"\r\nx");
    assert_eq!(s.section(&[1]), Some(s.root()));
    assert_eq!(s.section(&[1, 1]), None);
    assert_eq!(s.section(&[2]), None);
    let s = Structure::of(b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\ny");
    assert_eq!(s.section(&[1]), Some(s.root()));
    assert_eq!(s.section(&[1, 1]), s.part(1));
    assert_eq!(s.section(&[1, 1, 1]), None);
}

#[test]
fn limits() {
    // 10,000 levels with long boundaries: a hundred are looked into, in linear time.
    let mut deep = String::new();
    for i in 0..10_000 {
        let boundary = format!("{}{i}", "=".repeat(60));
        deep.push_str(&format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\n"));
    }
    let s = Structure::of(deep.as_bytes());
    assert_eq!(s.parts().len(), 101);
    assert_eq!(s.len(), u64::try_from(deep.len()).unwrap());
    assert!(s.defects.iter().any(|(part, d)| (*part, *d) == (100, Defect::TooDeep)));

    let many = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", "--b\r\n\r\nx\r\n".repeat(20_000));
    let s = Structure::of(many.as_bytes());
    assert_eq!(s.parts().len(), 10_000);
    let last = s.parts().last().unwrap();
    assert!(last.opaque);
    assert_eq!(last.body.end, u64::try_from(many.len()).unwrap());
    well_nested(&s, many.len());

    let large = format!("From: a@x.example\r\nX: {}\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", "x".repeat(2 << 20));
    let s = Structure::of(large.as_bytes());
    assert_eq!(s.root().body, u64::try_from(large.len() - 5).unwrap()..u64::try_from(large.len()).unwrap());
    assert!(s.root().opaque);
    assert_eq!(s.root().envelope.as_ref().unwrap().from.mailboxes().count(), 1);
}

#[test]
fn prefix_is_as_if_parsed_with_it() {
    for message in [MIXED.as_bytes(), b"", b"\r\nx", b"Date: 1 Jan 2020 00:00:00 +0000\r\nTo: b@x.example\r\n\r\nx"] {
        let prefix = b"Received: from x\r\n\tby y\r\nDate: 2 Jan 2020 00:00:00 +0000\r\nTo: a@x.example\r\n";
        let whole = [prefix.as_slice(), message].concat();
        let mut want = Structure::of(&whole);
        let mut got = Structure::of(message).with_prefix(prefix);
        (want.defects, got.defects) = (Vec::new(), Vec::new());
        assert_eq!(got, want);
    }
}

/// Ranges are in order, within the message, and within the parent's body.
fn well_nested(s: &Structure, len: usize) {
    let len = u64::try_from(len).unwrap();
    assert_eq!((s.root().header.start, s.root().body.end), (0, len));
    let mut last_end = vec![0; s.parts().len()];
    for p in s.parts() {
        assert!(p.header.start <= p.header.end && p.header.end == p.body.start && p.body.start <= p.body.end);
        if let Some(parent) = p.parent {
            let of = s.part(parent).unwrap();
            assert!(of.body.start <= p.header.start && p.body.end <= of.body.end, "{p:?} in {of:?}");
            assert!(last_end[parent] <= p.header.start, "siblings overlap");
            last_end[parent] = p.body.end;
        }
    }
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("--a"),
        Just("--b"),
        Just("--a--"),
        Just("--b--"),
        Just("--a b"),
        Just(""),
        Just(""),
        Just("text"),
        Just("-"),
        Just("--"),
        Just("Content-Type: multipart/mixed; boundary=a"),
        Just("Content-Type: multipart/mixed; boundary=b"),
        Just("Content-Type: multipart/digest; boundary=\"a b\""),
        Just("Content-Type: message/rfc822"),
        Just("Subject: x"),
        Just(" folded"),
        Just("To: é <a@b>, g: x@y;"),
        Just("Content-Disposition: attachment; filename=x"),
        Just("Content-Type: x"),
        Just("\r"),
        Just("a\rb"),
    ];
    proptest::collection::vec((line, prop_oneof![4 => Just("\r\n"), 1 => Just("\n"), 1 => Just("")]), 0..24)
        .prop_map(|lines| lines.into_iter().flat_map(|(l, e)| [l.as_bytes(), e.as_bytes()].concat()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn same_however_it_is_split(message in message(), cuts in proptest::collection::vec(0_usize..600, 0..6)) {
        let whole = Structure::of(&message);
        well_nested(&whole, message.len());
        for p in whole.parts() {
            let body = &message[usize::try_from(p.body.start).unwrap()..usize::try_from(p.body.end).unwrap()];
            prop_assert_eq!(usize::try_from(p.lines).unwrap(), body.split_inclusive(|b| *b == b'\n').count());
        }
        let mut pieces = StructureBuilder::new(Limits::default());
        let mut at = 0;
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|c| *c <= message.len()).collect();
        cuts.sort_unstable();
        for cut in cuts {
            pieces.push(&message[at..cut]);
            at = cut;
        }
        pieces.push(&message[at..]);
        prop_assert_eq!(pieces.finish(), whole.clone());
        let mut bytes = StructureBuilder::new(Limits::default());
        message.iter().for_each(|b| bytes.push(&[*b]));
        prop_assert_eq!(bytes.finish(), whole);
    }

    #[test]
    fn small_limits(message in message(), depth in 0_usize..3, parts in 2_usize..6, section_bytes in 0_usize..60, header_bytes in 0_usize..100) {
        let limits = Limits { depth, parts, section_bytes, header_bytes };
        let mut b = StructureBuilder::new(limits);
        b.push(&message);
        let whole = b.finish();
        well_nested(&whole, message.len());
        prop_assert!(whole.parts().len() <= parts);
        let mut bytes = StructureBuilder::new(limits);
        message.iter().for_each(|b| bytes.push(&[*b]));
        prop_assert_eq!(bytes.finish(), whole);
    }

    #[test]
    fn encode_decode(message in message()) {
        let s = Structure::of(&message);
        prop_assert_eq!(Structure::decode(&s.encode()), Ok(s));
    }

    #[test]
    fn rotten_bytes_are_an_error_or_nested(message in message(), at in 0_usize..500, with: u8) {
        let mut bytes = Structure::of(&message).encode();
        let at = at % bytes.len();
        bytes[at] = with;
        if let Ok(s) = Structure::decode(&bytes) {
            for p in s.parts() {
                if let Some(parent) = p.parent {
                    prop_assert!(s.part(parent).unwrap().body.end >= p.body.end);
                }
            }
        }
        prop_assert!(Structure::decode(&bytes[..bytes.len() - 1]).is_err());
    }
}

#[test]
fn empty_and_unknown_versions_are_errors() {
    assert_eq!(Structure::decode(&[]), Err(DecodeError::Damaged));
    assert_eq!(Structure::decode(&[9]), Err(DecodeError::Version(9)));
    assert_eq!(Structure::decode(&[1, 0, 0, 0]), Err(DecodeError::Damaged));
}

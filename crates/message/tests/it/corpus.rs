//! Awkward messages from the real world: each is taken apart, and put together again octet for octet.

use mox_message::decode::{binary, preview, text_of};
use mox_message::ident::{base_subject, canonical_message_id, references};
use mox_message::{Headers, Limits, Structure, StructureBuilder};
use mox_testkit::peers::require_data;
use std::path::{Path, PathBuf};

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|e| e == "eml") {
            out.push(path);
        }
    }
}

#[test]
fn every_message_is_taken_apart_exactly() {
    let Some(folder) = require_data("mime") else { return };
    let mut paths = Vec::new();
    files(&folder, &mut paths);
    assert!(paths.len() > 90, "only {} messages", paths.len());
    for path in paths {
        let message = std::fs::read(&path).unwrap();
        check(&message, &path);
        // The same with the other kind of line breaks.
        let text: Vec<u8> = message.iter().copied().filter(|b| *b != b'\r').collect();
        let crlf: Vec<u8> = text.iter().flat_map(|b| if *b == b'\n' { vec![b'\r', b'\n'] } else { vec![*b] }).collect();
        let (lf, crlf) = (check(&text, &path), check(&crlf, &path));
        assert_eq!(shape(&lf), shape(&crlf), "{}", path.display());
    }
}

fn shape(s: &Structure) -> Vec<(String, String, u32, Option<usize>)> {
    s.parts().iter().map(|p| (p.media_type.clone(), p.subtype.clone(), p.lines, p.parent)).collect()
}

fn check(message: &[u8], path: &Path) -> Structure {
    let name = path.display();
    let s = Structure::of(message);
    let mut pieces = StructureBuilder::new(Limits::default());
    message.chunks(7).for_each(|piece| pieces.push(piece));
    assert_eq!(pieces.finish(), s, "{name}: split");
    assert_eq!(Structure::decode(&s.encode()).as_ref(), Ok(&s), "{name}: encoded");
    assert_eq!((s.root().header.start, s.len()), (0, message.len().try_into().unwrap()), "{name}");
    let slice = |r: &std::ops::Range<u64>| &message[r.start.try_into().unwrap()..r.end.try_into().unwrap()];
    for part in s.parts() {
        let (header, body) = (slice(&part.header), slice(&part.body));
        assert_eq!(Headers::new(header).section(), header, "{name}: header of {part:?}");
        assert_eq!(Headers::new(header).without(|_| false), header, "{name}");
        if let Some(parent) = part.parent.and_then(|i| s.part(i)) {
            assert!(parent.body.start <= part.header.start && part.body.end <= parent.body.end, "{name}: {part:?}");
        }
        text_of(part, body, 1 << 20);
        binary(part, body);
        if let Some(envelope) = &part.envelope {
            let subject = envelope.subject().unwrap_or_default();
            base_subject(&subject);
            envelope.date();
            envelope.from.mailboxes().for_each(|m| drop(m.address()));
            let _id = canonical_message_id(envelope.message_id.as_deref().unwrap_or_default());
            references(&Headers::new(header));
        }
    }
    preview(&s, |r| Ok::<_, ()>(slice(&r).to_vec())).unwrap();
    s
}

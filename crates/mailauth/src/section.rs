//! The header section of a message that comes in pieces.

/// The largest header section that is kept.
const MAX_HEADER: usize = 1 << 20;

/// A header section, as far as it came.
#[derive(Clone, Debug)]
pub(crate) enum Section {
    /// Its end wasn't seen.
    Reading(Vec<u8>),
    /// With the empty line that ends it.
    Complete(Vec<u8>),
    /// More than 1 MiB; nothing was kept.
    TooLarge,
}

impl Section {
    pub(crate) const fn new() -> Self {
        Self::Reading(Vec::new())
    }

    /// Takes the next piece, which has CRLF line breaks, and gives what of it belongs to the body.
    pub(crate) fn push<'d>(&mut self, data: &'d [u8]) -> &'d [u8] {
        let header = match self {
            Self::TooLarge => return &[],
            Self::Complete(_) => return data,
            Self::Reading(header) => header,
        };
        // The empty line may be split over pieces: look from where its line could have begun.
        let before = header.len();
        let from = before.saturating_sub(3);
        header.extend_from_slice(data);
        let end = if header.starts_with(b"\r\n") {
            Some(2)
        } else {
            let tail = header.get(from..).unwrap_or_default();
            tail.windows(4).position(|w| w == b"\r\n\r\n").map(|at| from.saturating_add(at).saturating_add(4))
        };
        let mut body: &[u8] = &[];
        if let Some(end) = end {
            body = data.get(end.saturating_sub(before)..).unwrap_or_default();
            header.truncate(end);
            *self = Self::Complete(std::mem::take(header));
        }
        if matches!(self, Self::Reading(header) | Self::Complete(header) if header.len() > MAX_HEADER) {
            *self = Self::TooLarge;
        }
        body
    }

    /// What there is of it; none if it was too large.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Reading(header) | Self::Complete(header) => Some(header),
            Self::TooLarge => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_begins_behind_the_empty_line() {
        for message in ["a: b\r\nc: d\r\n\r\nbody\r\n\r\nmore", "\r\nbody", "a: b\r\n", "a: b\r\n\r\n"] {
            let want = message.find("\r\n\r\n").map_or(message.len(), |at| at + 4);
            let want = if message.starts_with("\r\n") { 2 } else { want };
            for piece in 1..=message.len() {
                let mut section = Section::new();
                let mut body = Vec::new();
                for data in message.as_bytes().chunks(piece) {
                    body.extend_from_slice(section.push(data));
                }
                assert_eq!(section.bytes().unwrap(), &message.as_bytes()[..want], "{message} {piece}");
                assert_eq!(body, &message.as_bytes()[want..]);
            }
        }
    }
}

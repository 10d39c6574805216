/// Takes server-sent events apart, as the HTML standard describes their format (section 9.2.6).
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// Bytes after the last whole line.
    partial: Vec<u8>,
    event: String,
    data: String,
    has_data: bool,
    last_id: String,
}

/// One dispatched event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dispatched {
    pub event: String,
    pub data: String,
    pub id: String,
}

impl Parser {
    /// Bytes kept of a line or event that does not end; beyond that the stream is not one of ours.
    pub(crate) const PENDING_BYTES_MAX: usize = 4 * 1024 * 1024;

    /// Takes the next bytes; the events that they complete.
    pub(crate) fn handle_bytes(&mut self, bytes: &[u8]) -> Vec<Dispatched> {
        self.partial.extend_from_slice(bytes);
        let mut complete = Vec::new();
        let pending = std::mem::take(&mut self.partial);
        let mut rest = pending.as_slice();
        while let Some(end) = rest.iter().position(|&b| b == b'\n') {
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            complete.extend(self.handle_line(&String::from_utf8_lossy(line)));
            rest = &rest[end + 1..];
        }
        self.partial = rest.to_vec();
        complete
    }

    /// Whether more is pending than any event of the API has.
    pub(crate) fn is_overlong(&self) -> bool {
        self.partial.len() + self.data.len() > Self::PENDING_BYTES_MAX
    }

    fn handle_line(&mut self, line: &str) -> Option<Dispatched> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            let data = std::mem::take(&mut self.data);
            return std::mem::take(&mut self.has_data).then(|| Dispatched {
                event,
                data,
                id: self.last_id.clone(),
            });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.last_id),
            // Comments (an empty field name), `retry`, and what the standard says to ignore.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] =
        b": hello\n\nevent: purge\nid: 7\ndata: {\"a\":\ndata: 1}\n\nretry: 5\n\nevent: purge\r\nid: 8\r\ndata:x\r\n\r\nda";

    #[test]
    fn events_come_out_whole_however_the_bytes_are_cut() {
        let purge =
            |id: &str, data: &str| Dispatched { event: "purge".into(), data: data.into(), id: id.into() };
        let expected = [purge("7", "{\"a\":\n1}"), purge("8", "x")];
        for cut in 1..STREAM.len() {
            let mut parser = Parser::default();
            let events: Vec<_> = STREAM.chunks(cut).flat_map(|chunk| parser.handle_bytes(chunk)).collect();
            assert_eq!(events, expected, "in pieces of {cut}");
        }
    }
}

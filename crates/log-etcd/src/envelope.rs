//! Values of any size over an engine that takes a megabyte and a half: small ones lie where they belong, large ones in parts
//! that are written first and count only once the envelope that names them is there.

use batoff_log::StoreError;
use bytes::{Bytes, BytesMut};
use prost::Message;

use crate::client::{EtcdClient, EtcdError};
use crate::names::{KeyNames, PartsShelf};
use crate::rpc::{Compare, KeyRange, PutRequest, if_there};
use crate::stored::{Envelope, damaged, decode};

/// Bytes of a value that is kept in one piece, and of a part. Two of them, with what is around, are less than etcd's
/// limit for a request (1.5 MiB): large values hold up the heartbeats between members.
pub(crate) const PIECE_BYTES_MAX: usize = 512 * 1024;

/// Values or parts that are read by one request: groups of a busy log have a quarter of a megabyte each.
pub(crate) const VALUES_PER_READ: i64 = 16;

/// Names the values of one process.
#[derive(Debug)]
pub(crate) struct ValueWriter {
    id: [u8; 16],
    last: u64,
}

/// A value that is ready to be put where it belongs.
#[derive(Clone, Debug)]
pub(crate) struct SealedValue {
    shelf: PartsShelf,
    envelope: Envelope,
    /// Empty when the body lies in the envelope.
    parts: Vec<Bytes>,
}

impl ValueWriter {
    pub(crate) fn new() -> Self {
        Self { id: rand::random(), last: 0 }
    }

    /// Puts `body` into an envelope with a number of its own; parts, if it needs any, are for this shelf.
    pub(crate) fn seal(&mut self, shelf: PartsShelf, body: &impl Message) -> SealedValue {
        self.last += 1;
        let body = Bytes::from(body.encode_to_vec());
        let mut envelope = Envelope {
            writer: Bytes::copy_from_slice(&self.id),
            number: self.last,
            parts: 0,
            length: body.len() as u64,
            crc32: crc32fast::hash(&body),
            body: Bytes::new(),
        };
        let mut parts = Vec::new();
        if body.len() > PIECE_BYTES_MAX {
            let mut rest = body;
            while !rest.is_empty() {
                parts.push(rest.split_to(rest.len().min(PIECE_BYTES_MAX)));
            }
            // A batch is at most some dozen megabytes.
            envelope.parts = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        } else {
            envelope.body = body;
        }
        SealedValue { shelf, envelope, parts }
    }
}

impl SealedValue {
    /// The value of the key where it belongs.
    pub(crate) fn value(&self) -> Bytes {
        self.envelope.encode_to_vec().into()
    }

    /// What lies on its shelf and is not of it.
    pub(crate) fn other_parts(&self, names: &KeyNames) -> [KeyRange; 2] {
        let own = names.parts_of(self.shelf, &self.envelope.writer, self.envelope.number);
        let all = names.shelf(self.shelf);
        [KeyRange { begin: all.begin, end: own.begin }, KeyRange { begin: own.end, end: all.end }]
    }

    /// What is put at its place.
    pub(crate) fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Whether this is the value that was found, so that whoever wrote that was this.
    pub(crate) fn is(&self, found: &Envelope) -> bool {
        found.writer == self.envelope.writer && found.number == self.envelope.number
    }

    /// The parts with their keys, if there are any.
    pub(crate) fn parts(&self, names: &KeyNames) -> impl Iterator<Item = (Bytes, Bytes)> {
        (0..).zip(&self.parts).map(move |(part, bytes)| {
            (names.part(self.shelf, &self.envelope.writer, self.envelope.number, part), bytes.clone())
        })
    }

    /// Writes the parts, if there are any. Nothing is changed by that before the envelope is there.
    pub(crate) async fn stage(&self, client: &EtcdClient, names: &KeyNames) -> Result<(), EtcdError> {
        for (part, bytes) in (0..).zip(&self.parts) {
            let key = names.part(self.shelf, &self.envelope.writer, self.envelope.number, part);
            client.put(&PutRequest { key, value: bytes.clone(), lease: 0 }).await?;
        }
        Ok(())
    }

    /// What must hold for the envelope to be put: parts that nobody refers to are swept at some time.
    pub(crate) fn if_staged(&self, names: &KeyNames) -> Option<Compare> {
        let last = self.envelope.parts.checked_sub(1)?;
        Some(if_there(names.part(self.shelf, &self.envelope.writer, self.envelope.number, last)))
    }
}

impl Envelope {
    pub(crate) fn open(key: &[u8], value: Bytes) -> Result<Self, StoreError> {
        decode(key, value)
    }

    /// The keys of its parts, if it has any.
    pub(crate) fn parts_range(&self, shelf: PartsShelf, names: &KeyNames) -> Option<KeyRange> {
        (self.parts > 0).then(|| names.parts_of(shelf, &self.writer, self.number))
    }

    /// What is in it, read together and checked. `None` when parts are missing, as they are once it has been deleted.
    pub(crate) async fn unpack<M: Message + Default>(
        self,
        shelf: PartsShelf,
        key: &[u8],
        client: &EtcdClient,
        names: &KeyNames,
    ) -> Result<Option<M>, StoreError> {
        let body = match self.parts_range(shelf, names) {
            None => self.body,
            Some(range) => match read_parts(&self, range, client).await? {
                Some(body) => body,
                None => return Ok(None),
            },
        };
        if body.len() as u64 != self.length || crc32fast::hash(&body) != self.crc32 {
            return Err(damaged(key, "it does not match its checksum"));
        }
        decode(key, body).map(Some)
    }
}

async fn read_parts(
    envelope: &Envelope,
    mut range: KeyRange,
    client: &EtcdClient,
) -> Result<Option<Bytes>, StoreError> {
    let mut body = BytesMut::new();
    let mut parts = 0;
    loop {
        let answer = client
            .range(&range.read(VALUES_PER_READ))
            .await
            .map_err(|error| error.into_store_error(false))?;
        for kv in &answer.kvs {
            body.extend_from_slice(&kv.value);
            parts += 1;
        }
        match answer.kvs.last() {
            Some(last) if answer.more => range = range.after(&last.key),
            _ => break,
        }
    }
    Ok((parts == envelope.parts).then(|| body.freeze()))
}

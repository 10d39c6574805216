//! Protobuf written field by field, independently of the generated code: so the tests hold the numbers and types of the
//! contract, and can write what an encoder never would.

/// A message under construction.
#[derive(Clone, Debug, Default)]
pub struct Raw(Vec<u8>);

/// A message without fields.
pub fn raw() -> Raw {
    Raw::default()
}

impl Raw {
    /// Appends an integer, a bool or an enum.
    pub fn varint(mut self, field: u32, value: u64) -> Self {
        self.push_varint(u64::from(field) << 3);
        self.push_varint(value);
        self
    }

    /// Appends bytes, a string or a message.
    pub fn bytes(mut self, field: u32, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.push_varint(u64::from(field) << 3 | 2);
        self.push_varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn push_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

impl AsRef<[u8]> for Raw {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

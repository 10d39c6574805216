use std::fmt::Display;

/// Bytes that are not a message of the protocol. Sending them again does not help; the sender has to be mended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct WireError {
    /// Which field, from the message inwards: `records[3].purge.site`; the message's own name when it is no protobuf.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Truncated, or of another type than the contract's; the text names the place.
    #[error("{0}")]
    NotProtobuf(String),
    /// A field that must be there is not, or is of a kind that this build does not know.
    #[error("is missing, or of an unknown kind")]
    Missing,
    /// An identity that is not 16 bytes.
    #[error("must be a ULID of 16 bytes, has {0}")]
    UlidLength(usize),
    /// 0 where a record's number should be, or a number beyond the last possible one.
    #[error("must number a record: 1 or more, without overflow")]
    Seq,
    /// No number that a control plane can have.
    #[error("must number a control plane: 1 to 255")]
    Replica,
    /// A value outside its grammar; the text says which rule it breaks.
    #[error("{0}")]
    Grammar(String),
}

impl WireError {
    pub(crate) fn new(field: &str, problem: Problem) -> Self {
        Self { field: field.to_owned(), problem }
    }

    /// The same error as the enclosing message sees it.
    pub(crate) fn within(mut self, outer: impl Display) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }
}

impl From<WireError> for tonic::Status {
    fn from(error: WireError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

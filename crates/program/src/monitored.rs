//! What a program says of itself when it is asked.

/// What the monitoring listener asks a program.
pub trait Monitored: Send + Sync + 'static {
    /// Whether it can do its job; the reason when it cannot.
    fn ready(&self) -> Result<(), String>;

    /// What is to be told of a program that can do its job all the same.
    fn remark(&self) -> Option<String> {
        None
    }

    /// Brings figures up to date that are not pushed as they change.
    fn refresh(&self) {}
}

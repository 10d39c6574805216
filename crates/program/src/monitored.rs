//! What a program says of itself when it is asked.

/// What the monitoring listener asks a program.
pub trait Monitored: Send + Sync + 'static {
    /// Whether it can do its job; the reason when it cannot.
    fn ready(&self) -> Result<(), String>;

    /// Brings figures up to date that are not pushed as they change.
    fn refresh(&self) {}
}

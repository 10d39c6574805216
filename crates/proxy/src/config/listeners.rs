use std::time::Duration;

use batoff_edge::config::ConfigError;
use serde::Deserialize;

/// `[listeners]`: how long a visitor may be silent, and how many connect at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenersSection {
    /// A connection whose first byte takes longer is closed, in milliseconds.
    pub first_byte_ms: u64,
    /// A request whose header takes longer from its first byte is closed, however its bytes trickle, in milliseconds.
    pub header_ms: u64,
    /// A connection that is idle between two requests for longer is closed, in milliseconds; counted in whole seconds.
    pub idle_ms: u64,
    /// Visitors' connections at once, fewer when the limit of open files does not suffice; further ones wait in the
    /// kernel's queue.
    pub connections_max: usize,
    /// Of these, how many from one address (a network of 64 bits with IPv6); further ones are closed. A hop in front that
    /// ends TLS has one address for all its visitors.
    pub connections_per_address_max: usize,
}

/// The longest deadline, in milliseconds.
const DEADLINE_MS_MAX: u64 = 3_600_000;

impl Default for ListenersSection {
    fn default() -> Self {
        Self {
            first_byte_ms: 10_000,
            header_ms: 15_000,
            idle_ms: 60_000,
            connections_max: 16_384,
            connections_per_address_max: 4_096,
        }
    }
}

impl ListenersSection {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        for (key, value, min) in [
            ("listeners.first_byte_ms", self.first_byte_ms, 100),
            ("listeners.header_ms", self.header_ms, 100),
            ("listeners.idle_ms", self.idle_ms, 1_000),
        ] {
            if !(min..=DEADLINE_MS_MAX).contains(&value) {
                return Err(ConfigError::invalid(
                    key,
                    format!("{value} is outside {min} to {DEADLINE_MS_MAX} (milliseconds)"),
                ));
            }
        }
        if self.connections_max == 0 {
            return Err(ConfigError::invalid("listeners.connections_max", "must be at least 1"));
        }
        if !(1..=self.connections_max).contains(&self.connections_per_address_max) {
            return Err(ConfigError::invalid(
                "listeners.connections_per_address_max",
                format!("must be within 1 and listeners.connections_max, which is {}", self.connections_max),
            ));
        }
        Ok(())
    }

    pub(crate) const fn first_byte(&self) -> Duration {
        Duration::from_millis(self.first_byte_ms)
    }

    pub(crate) const fn header(&self) -> Duration {
        Duration::from_millis(self.header_ms)
    }

    pub(crate) const fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }

    /// As pingora counts it.
    pub(crate) const fn idle_seconds(&self) -> u64 {
        self.idle_ms.div_ceil(1_000)
    }
}

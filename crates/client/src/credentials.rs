use std::fmt;

/// A token, which travels and identifies, and its signing secret, which signs and never travels.
#[derive(Clone)]
pub struct Credentials {
    token: String,
    secret: String,
}

impl Credentials {
    /// From the two strings as they were issued; white space around them (a file's last newline) is dropped.
    pub fn new(token: &str, secret: &str) -> Self {
        Self { token: token.trim().to_owned(), secret: secret.trim().to_owned() }
    }

    /// The token, `bto_live_…`.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The signing secret, `bts_live_…`.
    pub fn secret(&self) -> &str {
        &self.secret
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither half belongs into a log.
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

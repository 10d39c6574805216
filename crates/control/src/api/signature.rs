//! `X-Batoff-Signature`: HMAC-SHA-256, keyed with the token's signing secret, over four lines, or five.
//!
//! ```text
//! <timestamp as sent>
//! <METHOD>
//! <path and query exactly as sent>
//! <lower-case hex SHA-256 of the raw body>
//! <the Idempotency-Key as sent; this line only when that header is sent>
//! ```
//!
//! joined by `\n`, with no newline at the end. The key is signed because it lasts for a day: whoever has captured a
//! request must not be able to send it once more with a key of their own choice, and so occupy that key.

use std::borrow::Cow;

use http::HeaderMap;

use crate::catalog::SigningKey;

/// The header of the IETF draft, whose value is the last of the signed lines.
pub const IDEMPOTENCY_HEADER: &str = "idempotency-key";

/// That header as it was sent: several lines of it are one, with commas between (RFC 9110, 5.2).
pub fn idempotency_key(headers: &HeaderMap) -> Option<Cow<'_, [u8]>> {
    let mut lines = headers.get_all(IDEMPOTENCY_HEADER).iter();
    let first = lines.next()?.as_bytes();
    Some(lines.fold(Cow::Borrowed(first), |all, line| [&all, &b", "[..], line.as_bytes()].concat().into()))
}

/// What a signature is made over.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// `X-Batoff-Timestamp` as sent.
    pub timestamp: &'a str,
    /// The method, in upper case.
    pub method: &'a str,
    /// Path and query exactly as sent.
    pub target: &'a str,
    /// SHA-256 of the raw body.
    pub body_sha256: &'a [u8; 32],
    /// `Idempotency-Key` as sent, if it was.
    pub idempotency_key: Option<&'a [u8]>,
}

impl Signed<'_> {
    /// The lines as they are to be signed, for whoever has signed others: each in quotes, so that nothing in one of them
    /// looks like the beginning of the next.
    pub fn expected(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let body = hex::encode(self.body_sha256);
        let target = clip(self.target);
        let _ = write!(text, "{:?}, {:?}, {target:?}, {body:?}", self.timestamp, self.method);
        if let Some(key) = self.idempotency_key {
            let _ = write!(text, ", {:?}", clip(&String::from_utf8_lossy(key)));
        }
        text
    }

    /// How many lines there are.
    pub const fn lines(&self) -> usize {
        if self.idempotency_key.is_some() { 5 } else { 4 }
    }
}

/// Bytes of one line that a refusal gives back.
const LINE_BYTES_MAX: usize = 2_048;

fn clip(line: &str) -> Cow<'_, str> {
    if line.len() <= LINE_BYTES_MAX {
        return line.into();
    }
    format!("{}…", &line[..line.floor_char_boundary(LINE_BYTES_MAX)]).into()
}

/// A signature as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signature([u8; 32]);

/// The header is not a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("X-Batoff-Signature must be sha256= and 64 lower-case hex digits")]
pub struct MalformedSignature;

impl Signature {
    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether it is the signature of `signed` under `key`. Takes the same time wherever it differs.
    pub fn verify(&self, key: &SigningKey, signed: Signed<'_>) -> bool {
        let mut body = [0; 64];
        // Twice as many digits as bytes.
        let _ = hex::encode_to_slice(signed.body_sha256, &mut body);
        key.verify(&self.0, |tell| {
            for line in [signed.timestamp, signed.method, signed.target] {
                tell(line.as_bytes());
                tell(b"\n");
            }
            tell(&body);
            if let Some(key) = signed.idempotency_key {
                tell(b"\n");
                tell(key);
            }
        })
    }
}

impl std::str::FromStr for Signature {
    type Err = MalformedSignature;

    fn from_str(text: &str) -> Result<Self, MalformedSignature> {
        let digits = text.strip_prefix("sha256=").ok_or(MalformedSignature)?;
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(MalformedSignature);
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| MalformedSignature)?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn secret() -> SigningKey {
        SigningKey::of(b"bts_live_0000000000000000000000000000")
    }

    fn sha256(body: &str) -> [u8; 32] {
        Sha256::digest(body.as_bytes()).into()
    }

    /// The vectors were made by OpenSSL, not by this code:
    ///
    /// ```sh
    /// body='{"urls":["https://www.example.com/index.html"]}'
    /// hash=$(printf %s "$body" | openssl dgst -sha256 -r | cut -d' ' -f1)
    /// printf '1745145600.123456789\nPOST\n/v1/sites/shop/purge?dry_run=true\n%s' "$hash" |
    ///     openssl dgst -sha256 -hmac bts_live_0000000000000000000000000000
    /// ```
    #[test]
    fn agrees_with_openssl() {
        let body = sha256(r#"{"urls":["https://www.example.com/index.html"]}"#);
        assert_eq!(hex::encode(body), "88b34e13536a99139b050dced0c82b2ccd0e2e0941c79eb9681017ab93421a31");
        let post = Signed {
            timestamp: "1745145600.123456789",
            method: "POST",
            target: "/v1/sites/shop/purge?dry_run=true",
            body_sha256: &body,
            idempotency_key: None,
        };
        let signature: Signature =
            "sha256=bfd109893d4c2c161f289e7c0b6f10552dce243b12b91eec52181eca81e0e1cc".parse().unwrap();
        assert!(signature.verify(&secret(), post));

        let get = Signed {
            timestamp: "1745145600",
            method: "GET",
            target: "/v1/sites/shop/purge/01JF7M2KZ7YH9Q4K0P2BDH9W3Y",
            body_sha256: &sha256(""),
            idempotency_key: None,
        };
        let signature: Signature =
            "sha256=4cd006940f023199f06313cc2fc09a77e9f2628de5e3b9f9af6547926ea14452".parse().unwrap();
        assert!(signature.verify(&secret(), get));
    }

    #[test]
    fn every_line_is_signed() {
        let body = sha256(r#"{"urls":["https://www.example.com/index.html"]}"#);
        let right = Signed {
            timestamp: "1745145600.123456789",
            method: "POST",
            target: "/v1/sites/shop/purge?dry_run=true",
            body_sha256: &body,
            idempotency_key: None,
        };
        let signature: Signature =
            "sha256=bfd109893d4c2c161f289e7c0b6f10552dce243b12b91eec52181eca81e0e1cc".parse().unwrap();
        let other = sha256("");
        let wrong = [
            Signed { timestamp: "1745145600.12345678", ..right },
            Signed { method: "GET", ..right },
            Signed { target: "/v1/sites/shop/purge", ..right },
            Signed { body_sha256: &other, ..right },
            Signed { idempotency_key: Some(b"deploy-17"), ..right },
            Signed { idempotency_key: Some(b""), ..right },
        ];
        for signed in wrong {
            assert!(!signature.verify(&secret(), signed), "{signed:?}");
        }
        assert!(!signature.verify(&SigningKey::of(b"bts_live_1"), right));
    }

    /// The vector was made by OpenSSL: the lines above, `\n`, and the key.
    #[test]
    fn a_key_is_the_fifth_line() {
        let body = sha256(r#"{"urls":["https://www.example.com/index.html"]}"#);
        let signed = Signed {
            timestamp: "1745145600.123456789",
            method: "POST",
            target: "/v1/sites/shop/purge",
            body_sha256: &body,
            idempotency_key: Some(b"deploy-17"),
        };
        let signature: Signature =
            "sha256=10bd3fb7d74947d9cc8c1b2755ea1a6b90a2fc077fefaf86fceab18ea843772c".parse().unwrap();
        assert!(signature.verify(&secret(), signed));
        for key in [None, Some(&b"deploy-18"[..]), Some(b"deploy-17\n")] {
            assert!(!signature.verify(&secret(), Signed { idempotency_key: key, ..signed }));
        }
        assert_eq!(signed.lines(), 5);
        assert!(signed.expected().ends_with("421a31\", \"deploy-17\""), "{}", signed.expected());
    }

    #[test]
    fn only_64_lower_case_digits_are_a_signature() {
        let digits = "0123456789abcdef".repeat(4);
        assert!(format!("sha256={digits}").parse::<Signature>().is_ok());
        let malformed = [
            String::new(),
            digits.clone(),
            format!("sha256={}", digits.to_uppercase()),
            format!("sha256={}", &digits[1..]),
            format!("sha256={digits}0"),
            format!("sha1={digits}"),
            format!("sha256= {digits}"),
            format!("SHA256={digits}"),
        ];
        for text in malformed {
            assert_eq!(text.parse::<Signature>(), Err(MalformedSignature), "{text:?}");
        }
    }
}

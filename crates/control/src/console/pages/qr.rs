//! A QR code as a drawing in the page: an image of its own would be one more request with a secret in it.

use qrcodegen::{QrCode, QrCodeEcc};

/// Modules of white around it, which readers need (ISO/IEC 18004).
const QUIET: i32 = 4;

/// What a template draws.
pub struct QrSvg {
    /// Width and height, in modules.
    pub size: i32,
    /// The black modules, as the path of an SVG.
    pub path: String,
}

impl QrSvg {
    /// `None`: too long for a QR code.
    pub fn of(text: &str) -> Option<Self> {
        let code = QrCode::encode_text(text, QrCodeEcc::Medium).ok()?;
        let mut path = String::new();
        for y in 0..code.size() {
            for x in 0..code.size() {
                if code.get_module(x, y) {
                    path.push_str(&format!("M{} {}h1v1h-1z", x + QUIET, y + QUIET));
                }
            }
        }
        Some(Self { size: code.size() + 2 * QUIET, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_its_finder_and_its_margin() {
        let qr = QrSvg::of("otpauth://totp/Batoff%20Purge:anna?secret=JBSWY3DPEHPK3PXP").unwrap();
        assert!(qr.size > 21 + 8 && qr.path.starts_with("M4 4h1v1h-1z"), "{}", qr.size);
        assert!(QrSvg::of(&"x".repeat(4_000)).is_none());
    }
}

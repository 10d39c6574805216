//! Style, scripts and the icon. Each is served under a name that has its content's hash in it, so that a browser may keep
//! it for ever, and asks for another one as soon as there is a new version.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};

use crate::api::problem::{Code, Problem};

/// Bytes of all assets together, at most.
#[cfg(test)]
const ASSETS_BYTES_MAX: usize = 150_000;

/// One of them.
struct Asset {
    stem: &'static str,
    extension: &'static str,
    content_type: &'static str,
    content: &'static [u8],
}

/// The file names that pages link.
pub struct AssetNames {
    /// The style sheet.
    pub style: String,
    /// Ours.
    pub script: String,
    /// htmx.
    pub htmx: String,
    /// Its extension for server-sent events.
    pub sse: String,
    /// The icon in the browser's tab.
    pub icon: String,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

const STYLE: Asset = Asset {
    stem: "console",
    extension: "css",
    content_type: "text/css; charset=utf-8",
    content: include_bytes!("../../assets/console.css"),
};
const OURS: Asset = Asset {
    stem: "console",
    extension: "js",
    content_type: SCRIPT,
    content: include_bytes!("../../assets/console.js"),
};
const HTMX: Asset = Asset {
    stem: "htmx",
    extension: "js",
    content_type: SCRIPT,
    content: include_bytes!("../../assets/htmx-2.0.11.min.js"),
};
const SSE: Asset = Asset {
    stem: "htmx-ext-sse",
    extension: "js",
    content_type: SCRIPT,
    content: include_bytes!("../../assets/htmx-ext-sse-2.2.4.min.js"),
};
const ICON: Asset = Asset {
    stem: "icon",
    extension: "svg",
    content_type: "image/svg+xml",
    content: include_bytes!("../../assets/icon.svg"),
};
const ALL: [&Asset; 5] = [&STYLE, &OURS, &HTMX, &SSE, &ICON];

/// What pages link.
pub static NAMES: LazyLock<AssetNames> = LazyLock::new(|| AssetNames {
    style: STYLE.name(),
    script: OURS.name(),
    htmx: HTMX.name(),
    sse: SSE.name(),
    icon: ICON.name(),
});

static BY_NAME: LazyLock<[(String, &Asset); 5]> = LazyLock::new(|| ALL.map(|asset| (asset.name(), asset)));

impl Asset {
    /// `console-0123456789abcdef.css`
    fn name(&self) -> String {
        let mut name = format!("{}-", self.stem);
        for byte in &Sha256::digest(self.content)[..8] {
            let _ = write!(name, "{byte:02x}");
        }
        let _ = write!(name, ".{}", self.extension);
        name
    }
}

/// `GET /assets/{name}`
pub async fn serve(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let found = BY_NAME.iter().find(|(known, _)| *known == name);
    let (_, asset) = found.ok_or_else(|| Problem::detailed(Code::NotFound, "there is no such file"))?;
    // The name has the content's hash in it, so it is a validator too.
    let etag = format!("\"{name}\"");
    let caching = [(CACHE_CONTROL, "public, max-age=31536000, immutable".to_owned()), (ETAG, etag.clone())];
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if known.is_some_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == etag)) {
        return Ok((StatusCode::NOT_MODIFIED, caching).into_response());
    }
    Ok((caching, [(CONTENT_TYPE, asset.content_type)], asset.content).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_and_all_that_it_links_is_small() {
        let bytes: usize = ALL.iter().map(|asset| asset.content.len()).sum();
        assert!(bytes <= ASSETS_BYTES_MAX, "{bytes} bytes");
    }

    #[test]
    fn other_peoples_scripts_are_as_their_packages_have_them() {
        let told = include_str!("../../assets/README.md");
        for asset in [&HTMX, &SSE] {
            assert!(told.contains(&hex::encode(Sha256::digest(asset.content))), "{}", asset.stem);
        }
    }

    #[tokio::test]
    async fn an_asset_is_kept_for_ever_and_asked_for_again_by_its_name_only() {
        let name = NAMES.style.clone();
        let response = serve(Path(name.clone()), HeaderMap::new()).await.unwrap();
        assert_eq!(response.headers()[CACHE_CONTROL], "public, max-age=31536000, immutable");
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, response.headers()[ETAG].clone());
        assert_eq!(serve(Path(name), headers).await.unwrap().status(), StatusCode::NOT_MODIFIED);
        assert!(serve(Path("console.css".to_owned()), HeaderMap::new()).await.is_err());
    }
}

use reqwest::header::HeaderMap;

/// Somebody who reads pages through a node's proxy.
#[derive(Clone, Debug)]
pub struct Visitor {
    http: reqwest::Client,
}

/// What the visitor got.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `HIT`, `MISS`, `STALE`, `EXPIRED` or `BYPASS`.
    pub x_cache: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
}

impl Default for Visitor {
    fn default() -> Self {
        let http = crate::http();
        Self { http }
    }
}

impl Visitor {
    /// Reads a page of `host` through `proxy`.
    pub async fn read(&self, proxy: &str, host: &str, path: &str) -> Answer {
        self.try_read(proxy, host, path, &[])
            .await
            .unwrap_or_else(|error| panic!("{proxy} {host}{path}: {error:#}"))
    }

    /// Reads a page with further headers; an error when the proxy cannot be reached.
    pub async fn try_read(
        &self,
        proxy: &str,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> reqwest::Result<Answer> {
        let mut request = self.http.get(format!("{proxy}{path}")).header("Host", host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await?;
        let text = |name: &str| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let (status, x_cache) = (response.status().as_u16(), text("x-cache"));
        let headers = response.headers().clone();
        Ok(Answer { status, x_cache, headers, body: response.text().await? })
    }

    /// Reads a page until it comes from the cache.
    pub async fn warm(&self, proxy: &str, host: &str, path: &str) -> Answer {
        crate::eventually(&format!("{proxy}{path} is a HIT"), || async {
            let answer = self.try_read(proxy, host, path, &[]).await.ok()?;
            (answer.x_cache == "HIT").then_some(answer)
        })
        .await
    }
}

/// An HTTP client that goes straight to where it is told.
///
/// # Panics
/// Never on a machine that can make threads.
pub fn http() -> reqwest::Client {
    // Fails when an earlier client did it.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    reqwest::Client::builder().no_proxy().build().expect("an HTTP client")
}

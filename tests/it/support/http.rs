//! HTTP as the tests need it: blocking, without proxies, trusting one authority.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::{Certificate, Method};

/// A client that trusts one authority.
#[derive(Debug, Clone)]
pub struct Http(reqwest::Client);

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Http {
    /// A client that trusts the authorities of this PEM text alone; none for plain HTTP.
    pub fn trusting(pem: &str) -> Self {
        let certs = Certificate::from_pem_bundle(pem.as_bytes()).unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only(certs).timeout(Duration::from_secs(60));
        Self(client.build().unwrap())
    }

    /// GET. An error says that the server could not be reached.
    pub fn get(&self, url: &str) -> Result<Reply, reqwest::Error> {
        self.send(Method::GET, url, &[], Vec::new())
    }

    /// POST with a content type.
    pub fn post(&self, url: &str, content_type: &str, body: Vec<u8>) -> Result<Reply, reqwest::Error> {
        self.send(Method::POST, url, &[("content-type", content_type)], body)
    }

    /// Any request.
    pub fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Reply, reqwest::Error> {
        let mut request = self.0.request(method, url).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        runtime().block_on(async {
            let response = request.send().await?;
            Ok(Reply { status: response.status().as_u16(), body: response.bytes().await?.to_vec() })
        })
    }
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap())
}

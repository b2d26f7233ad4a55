//! MTA-STS policies from the web, RFC 8461 §3.3.

use super::mtasts::{FetchError, FetchFuture, PolicySource};
use mox_base::{Domain, LookupError};
use mox_mailauth::mtasts::MAX_POLICY;
use mox_mailauth::tlsrpt::ResultType;
use mox_net::http::{Client, HttpError, Method, Request, Url};

/// Fetches policies over HTTPS.
#[derive(Clone, Debug)]
pub struct WebPolicies {
    client: Client,
}

impl WebPolicies {
    /// With a client that verifies certificates, and goes to public addresses only: whose policies are fetched is up to whoever
    /// makes us send mail.
    pub const fn new(client: Client) -> Self {
        Self { client }
    }
}

impl PolicySource for WebPolicies {
    fn fetch<'a>(&'a self, domain: &'a Domain) -> FetchFuture<'a> {
        Box::pin(async move {
            let url = format!("https://mta-sts.{}/.well-known/mta-sts.txt", domain.ascii());
            let url = Url::parse(&url).map_err(|e| FetchError::Other(e.to_string()))?;
            let mut request = Request::new(Method::GET, url);
            request.max_body = MAX_POLICY;
            let answer = self.client.send(request).await.map_err(error)?;
            match answer.status {
                200 if answer.truncated => Err(FetchError::TooLarge),
                200 => Ok(answer.body),
                404 => Err(FetchError::NoPolicy),
                // RFC 8461 §3.3: redirects must not be followed.
                status => Err(FetchError::Other(format!("status {status}"))),
            }
        })
    }
}

fn error(e: HttpError) -> FetchError {
    match e {
        HttpError::Lookup(_, LookupError::NotFound { .. }) => FetchError::NoPolicy,
        HttpError::Tls(handshake) => {
            let fault = handshake.fault();
            match fault.result {
                ResultType::ValidationFailure => FetchError::Other(handshake.to_string()),
                _ => FetchError::Certificate(fault),
            }
        }
        e => FetchError::Other(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_net::http::AddressGuard;
    use mox_net::memory::World;
    use mox_net::tls::{Certificates, KeyCert, ServerTlsOptions, read_roots};
    use mox_net::{ClientTls, ServerTls};
    use mox_testkit::Zone;
    use rcgen::{CertificateParams, KeyPair};
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// What a policy host with a certificate for `name` leads to that gives this answer.
    async fn fetched(name: &str, answer: &'static str) -> String {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, cert.pem()).unwrap();
        let roots = read_roots(false, &[file]).unwrap();
        let cert = KeyCert::from_pem(cert.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let server = ServerTls::new(Arc::new(Certificates::new(vec![cert]).unwrap()), ServerTlsOptions::default()).unwrap();
        let world = World::new();
        let mut listener = world.listen("1.1.1.1:443".parse().unwrap());
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(async move {
            while let Ok(mut stream) = listener.accept().await {
                if stream.start_tls(&server, &[]).await.is_err() {
                    continue;
                }
                let mut request = vec![0; 4096];
                let n = stream.read(&mut request).await.unwrap_or(0);
                let good = request.get(..n).is_some_and(|r| r.starts_with(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\n"));
                let answer = if good { answer } else { "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n" };
                // The client may be satisfied before all of it.
                let _sent = stream.write_all(answer.as_bytes()).await;
                stream.close().await;
            }
        });
        let zone = Zone::new().a("mta-sts.a.example", "1.1.1.1");
        let tls = ClientTls::verified(roots).unwrap();
        let source = WebPolicies::new(Client::new(Arc::new(zone), Arc::new(world), tls, AddressGuard::public_only()));
        let domain = if answer.is_empty() { "none.example" } else { "a.example" };
        match source.fetch(&domain.parse().unwrap()).await {
            Ok(text) => String::from_utf8(text).unwrap(),
            Err(e) => e.to_string(),
        }
    }

    #[tokio::test]
    async fn what_hosts_answer() {
        let host = "mta-sts.a.example";
        assert_eq!(fetched(host, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntext").await, "text");
        assert_eq!(fetched(host, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n").await, "no policy served");
        let redirect = "HTTP/1.1 302 Found\r\nLocation: https://mta-sts.a.example/x\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(fetched(host, redirect).await, "cannot fetch policy: status 302");
        assert_eq!(fetched(host, "").await, "no policy served", "no such host");
        let wrong = fetched("a.example", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntext").await;
        assert_eq!(wrong.trim(), "certificate of policy host: certificate-host-mismatch");
        let large: &'static str = format!("HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n{}", "x".repeat(70_000)).leak();
        assert_eq!(fetched(host, large).await, "policy too large");
    }
}

//! How old a domain is, from its registry: RDAP, RFC 9082 and RFC 9083, whose servers IANA lists, RFC 9224.
//!
//! Young domains are distrusted by those who get mail from them. Not all registries have RDAP.

use mox_base::{Domain, Timestamp};
use mox_net::http::header::{ACCEPT, HeaderValue};
use mox_net::http::{Client, HttpError, Method, Request, Response, Url};
use serde::Deserialize;
use std::time::Duration;

/// IANA's list of servers.
pub const BOOTSTRAP: &str = "https://data.iana.org/rdap/dns.json";

/// The list has some 1,500 top-level domains.
const MAX_BOOTSTRAP: usize = 4 * 1024 * 1024;

const MAX_ANSWER: usize = 1024 * 1024;

/// Servers refer to others, RFC 7480 §5.2.
const MAX_REDIRECTS: usize = 3;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Texts of others that are longer than the first are cut to the second.
const LONG_TEXT: usize = 200;
const CUT_TEXT: usize = 150;

/// Why the date isn't known.
#[derive(Debug, thiserror::Error)]
pub enum RdapError {
    /// The registry has no RDAP.
    #[error("the registry of {0} has no rdap service")]
    NoService(String),
    /// The registry doesn't know the domain.
    #[error("domain not found in registry")]
    NotFound,
    /// It knows it, but not since when.
    #[error("registry has no registration date")]
    NoDate,
    /// An answer that can't be understood.
    #[error("bad answer from {0}: {1}")]
    Syntax(String, String),
    /// Another status than success.
    #[error("{0} answered with status {1}: {2}")]
    Status(String, u16, String),
    /// No answer.
    #[error("asking {0}: {1}")]
    Http(String, HttpError),
}

#[derive(Deserialize)]
struct Bootstrap {
    /// Each a list of domains, and a list of URLs.
    services: Vec<Vec<Vec<String>>>,
}

#[derive(Deserialize)]
struct DomainObject {
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(default)]
    event_action: String,
    /// RFC 9083 §4.5 wants it; registries that don't know it leave it out, or write null.
    #[serde(default)]
    event_date: Option<String>,
}

/// When a domain was registered last: for the first time, or again after somebody else had it.
///
/// # Errors
/// See [`RdapError`].
pub async fn registered(client: &Client, bootstrap: &str, domain: &Domain, now: Timestamp) -> Result<Timestamp, RdapError> {
    let list = fetch(client, bootstrap, "application/json", MAX_BOOTSTRAP).await?;
    let services = services(&list.body, domain).map_err(|e| RdapError::Syntax(bootstrap.to_owned(), e.to_string()))?;
    let mut failed = RdapError::NoService(domain.ascii().rsplit('.').next().unwrap_or_default().to_owned());
    for base in services {
        let separator = if base.ends_with('/') { "" } else { "/" };
        match at_server(client, &format!("{base}{separator}domain/{}", domain.ascii()), now).await {
            // What a registry says of its domains is final.
            Err(e @ (RdapError::Syntax(..) | RdapError::Status(..) | RdapError::Http(..))) => failed = e,
            result => return result,
        }
    }
    Err(failed)
}

/// The URLs of IANA's list for the longest name that the domain is below, those with TLS first.
fn services(list: &[u8], domain: &Domain) -> Result<Vec<String>, serde_json::Error> {
    let list: Bootstrap = serde_json::from_slice(list)?;
    let mut best: Option<(usize, &[String])> = None;
    for service in &list.services {
        let [names, urls, ..] = service.as_slice() else { continue };
        for name in names.iter().map(|name| name.trim_end_matches('.').to_ascii_lowercase()) {
            let fits = domain.ascii().strip_suffix(&name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
            if fits && !name.is_empty() && best.is_none_or(|(length, _)| name.len() > length) {
                best = Some((name.len(), urls));
            }
        }
    }
    let mut urls = best.map(|(_, urls)| urls.to_vec()).unwrap_or_default();
    urls.sort_by_key(|url| !url.starts_with("https:"));
    Ok(urls)
}

async fn at_server(client: &Client, url: &str, now: Timestamp) -> Result<Timestamp, RdapError> {
    let answer = fetch(client, url, "application/rdap+json", MAX_ANSWER).await?;
    let date = last_registration(&answer.body, now).map_err(|e| RdapError::Syntax(url.to_owned(), e.to_string()))?;
    date.ok_or(RdapError::NoDate)
}

/// The last of the registrations that a domain object knows of, RFC 9083 §5.3, if it knows any.
fn last_registration(object: &[u8], now: Timestamp) -> Result<Option<Timestamp>, serde_json::Error> {
    let object: DomainObject = serde_json::from_slice(object)?;
    let registrations = object.events.iter().filter(|event| {
        let action = event.event_action.as_str();
        matches!(action, "registration" | "reregistration" | "reinstantiation")
    });
    let dates = registrations.filter_map(|event| Timestamp::parse_rfc3339(event.event_date.as_deref()?));
    Ok(dates.filter(|date| *date <= now).max())
}

async fn fetch(client: &Client, url: &str, accept: &'static str, max_body: usize) -> Result<Response, RdapError> {
    let mut url = url.to_owned();
    for _ in 0..=MAX_REDIRECTS {
        let parsed = Url::parse(&url).map_err(|e| RdapError::Syntax(url.clone(), e.to_string()))?;
        let mut request = Request::new(Method::GET, parsed);
        request.headers.insert(ACCEPT, HeaderValue::from_static(accept));
        request.timeout = TIMEOUT;
        request.max_body = max_body;
        let answer = client.send(request).await.map_err(|e| RdapError::Http(url.clone(), e))?;
        match (answer.status, answer.header("location")) {
            (200, _) if answer.truncated => return Err(RdapError::Syntax(url, "too large".to_owned())),
            (200, _) => return Ok(answer),
            (404, _) => return Err(RdapError::NotFound),
            (301 | 302 | 303 | 307 | 308, Some(to)) if to.starts_with("https://") => url = to.to_owned(),
            (status, _) => return Err(RdapError::Status(url, status, shortened(&String::from_utf8_lossy(&answer.body)))),
        }
    }
    Err(RdapError::Syntax(url, "too many redirects".to_owned()))
}

/// A text of others for one line of ours.
fn shortened(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.chars().count() <= LONG_TEXT { clean } else { clean.chars().take(CUT_TEXT).chain("...".chars()).collect() }
}

/// An age as people say it: `2 years, 3 days`.
pub fn age(registered: Timestamp, now: Timestamp) -> String {
    let days = now.since(registered).as_secs() / (24 * 3600);
    let (years, days) = (days / 365, days % 365);
    let count = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    format!("{}, {}", count(years, "year"), count(days, "day"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mox_net::http::AddressGuard;
    use mox_net::memory::World;
    use mox_net::{ClientTls, Listener};
    use mox_testkit::{Mutator, Zone};
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const LIST: &str = r#"{"version": "1.0", "services": [
        [["example", "test"], ["http://broken.example/", "http://rdap.example/x"]],
        [["long.example"], ["http://rdap.example/long/"]],
        [[""], ["http://rdap.example/"]]
    ]}"#;

    /// Answers by path, as registries do.
    async fn registry(mut listener: Listener) {
        while let Ok(mut stream) = listener.accept().await {
            let mut request = vec![0; 4096];
            let n = stream.read(&mut request).await.unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..n]).into_owned();
            let path = text.split(' ').nth(1).unwrap_or_default();
            let accepts_rdap = text.to_ascii_lowercase().contains("accept: application/rdap+json");
            let (status, body) = match path {
                "/dns.json" => (200, LIST.to_owned()),
                _ if !accepts_rdap => (406, "no".to_owned()),
                "/x/domain/old.example" => (
                    200,
                    r#"{"events": [{"eventAction": "registration", "eventDate": "1995-08-14T04:00:00Z"},
                        {"eventAction": "reregistration", "eventDate": "2001-01-01T00:00:00+01:00", "x": 1},
                        {"eventAction": "expiration", "eventDate": "2020-01-01T00:00:00Z"},
                        {"eventAction": "registration", "eventDate": "2999-01-01T00:00:00Z"}]}"#
                        .to_owned(),
                ),
                "/long/domain/a.long.example" => {
                    (200, r#"{"events": [{"eventAction": "registration", "eventDate": "2000-01-01T00:00:00Z"}]}"#.to_owned())
                }
                "/x/domain/undated.example" => (200, "{}".to_owned()),
                "/x/domain/bad.example" => (200, "<html>".to_owned()),
                "/x/domain/down.example" => (500, "x".repeat(300)),
                _ => (404, String::new()),
            };
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.close().await;
        }
    }

    #[tokio::test]
    async fn what_registries_say() {
        let world = World::new();
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(registry(world.listen("1.1.1.1:80".parse().unwrap())));
        let zone = Zone::new().a("rdap.example", "1.1.1.1").a("broken.example", "1.1.1.2");
        let client = Client::new(Arc::new(zone), Arc::new(world), ClientTls::opportunistic().unwrap(), AddressGuard::public_only());
        let now = Timestamp::parse_rfc3339("2010-01-03T00:00:00Z").unwrap();
        for (domain, want) in [
            ("old.example", "2000-12-31T23:00:00Z"),
            ("a.long.example", "2000-01-01T00:00:00Z"),
            ("undated.example", "registry has no registration date"),
            ("unknown.example", "domain not found in registry"),
            ("a.elsewhere", "the registry of elsewhere has no rdap service"),
        ] {
            let found = registered(&client, "http://rdap.example/dns.json", &domain.parse().unwrap(), now).await;
            assert_eq!(found.map_or_else(|e| e.to_string(), Timestamp::rfc3339), want, "{domain}");
        }
        let bad = registered(&client, "http://rdap.example/dns.json", &"bad.example".parse().unwrap(), now).await.unwrap_err();
        assert!(bad.to_string().starts_with("bad answer from http://rdap.example/x/domain/bad.example: "), "{bad}");
        let down = registered(&client, "http://rdap.example/dns.json", &"down.example".parse().unwrap(), now).await.unwrap_err();
        assert!(down.to_string().ends_with(&format!("status 500: {}...", "x".repeat(150))), "{down}");
    }

    #[test]
    fn events_without_a_date_are_passed_over() {
        let now = Timestamp::parse_rfc3339("2010-01-03T00:00:00Z").unwrap();
        let object = r#"{"events": [{"eventAction": "registration"}, {"eventAction": "reregistration", "eventDate": null}, {},
            {"eventAction": "registration", "eventDate": "1995-08-14T04:00:00Z"}]}"#;
        assert_eq!(last_registration(object.as_bytes(), now).unwrap(), Timestamp::parse_rfc3339("1995-08-14T04:00:00Z"));
    }

    /// A date that isn't in the answer, or in the future, would be a lie about somebody's domain.
    #[test]
    fn broken_answers_give_no_wrong_dates() {
        let now = Timestamp::parse_rfc3339("2010-01-03T00:00:00Z").unwrap();
        let domain: Domain = "a.long.example".parse().unwrap();
        const OBJECT: &str = r#"{"objectClassName": "domain", "handle": "D1", "ldhName": "a.long.example", "status": ["active"], "events": [
            {"eventAction": "registration", "eventDate": "1995-08-14T04:00:00Z", "eventActor": "x"},
            {"eventAction": "reregistration", "eventDate": "2001-01-01T00:00:00.5+01:00", "links": [{"href": "http://x.example"}]},
            {"eventAction": "last changed", "eventDate": "2009-01-01T00:00:00Z"}], "nameservers": [{"ldhName": "ns.example"}]}"#;
        let (mut read, mut listed) = (0, 0);
        for seed in 0..3000 {
            let mutator = Mutator::new(seed);
            if let Ok(Some(date)) = last_registration(&mutator.json(OBJECT), now) {
                assert!(date <= now, "seed {seed}");
                let _text = age(date, now);
                read += 1;
            }
            if let Ok(urls) = services(&mutator.json(LIST), &domain) {
                assert!(urls.iter().all(|url| url.len() <= 100_000), "seed {seed}");
                listed += 1;
            }
            let line = shortened(&String::from_utf8_lossy(&mutator.bytes(OBJECT.as_bytes())));
            assert!(line.chars().count() <= LONG_TEXT && !line.contains(char::is_control), "seed {seed}");
        }
        // Not all of them are so broken that nothing is tried.
        assert!(read > 300 && listed > 300, "{read} {listed}");
    }

    #[test]
    fn ages() {
        let at = |text: &str| Timestamp::parse_rfc3339(text).unwrap();
        assert_eq!(age(at("2000-01-01T00:00:00Z"), at("2000-01-02T12:00:00Z")), "0 years, 1 day");
        assert_eq!(age(at("2000-01-01T00:00:00Z"), at("2001-01-03T00:00:00Z")), "1 year, 3 days");
    }
}

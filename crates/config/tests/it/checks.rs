use crate::world::{DYNAMIC, STATIC, World};
use mox_base::Address;

/// Replaces parts of the static file and gives the mistakes.
fn fixed(replacements: &[(&str, &str)]) -> Vec<String> {
    World::new(&replaced(STATIC, replacements), DYNAMIC).mistakes()
}

fn dynamic(replacements: &[(&str, &str)]) -> Vec<String> {
    World::new(STATIC, &replaced(DYNAMIC, replacements)).mistakes()
}

fn replaced(text: &str, replacements: &[(&str, &str)]) -> String {
    replacements.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from:?}");
        text.replacen(from, to, 1)
    })
}

#[test]
fn the_basis_is_valid() {
    assert_eq!(World::new(STATIC, DYNAMIC).load().unwrap().1, Vec::<String>::new());
}

#[test]
fn single_values_of_the_static_file() {
    assert_eq!(
        fixed(&[
            ("LogLevel: info", "LogLevel: loud\nUser: nobody-here"),
            ("Hostname: mx.example.org", "Hostname: MX.example.org"),
            ("- 127.0.0.1", "- localhost"),
        ]),
        [
            "mox.conf:2: parsing LogLevel: unknown log level \"loud\"",
            "mox.conf:4: parsing Hostname: domain \"MX.example.org\" must be in its unicode form, \"mx.example.org\"",
            "mox.conf:8: parsing Listeners[public].IPs[0]: expected an IP address, not \"localhost\"",
        ]
    );
    assert_eq!(
        fixed(&[("LogLevel: info", "LogLevel: info\nUser: nobody-here")]),
        ["mox.conf:3: user \"nobody-here\" doesn't exist and is no number"]
    );
    assert!(fixed(&[("LogLevel: info", "LogLevel: info\nUser: 1000")]).is_empty());
}

#[test]
fn an_accounts_own_queue_settings() {
    let account = |text: &str| dynamic(&[("\tann:\n", &format!("\tann:\n{text}"))]);
    let good = "\t\tQueueMaxMessages: 100\n\t\tQueueMaxSize: 1000000\n\t\tQueueRetryIntervals:\n\t\t\t- 30m\n\t\t\t- 24h\n\
                \t\tQueueDSNMailbox: Returned/Mail\n\t\tSuppressionPeriod: 720h\n";
    assert!(account(good).is_empty(), "{:?}", account(good));
    assert_eq!(
        account("\t\tQueueRetryIntervals:\n\t\t\t- 30m\n\t\t\t- 0s\n\t\tQueueDSNMailbox: a//b\n"),
        [
            "domains.conf:8: account \"ann\": queue retry intervals: must be between 1s and 168h",
            "domains.conf:9: account \"ann\": QueueDSNMailbox \"a//b\": mailbox name has an empty element, . or ..",
        ]
    );
}

#[test]
fn storage_is_a_database_that_can_be_reached() {
    let storage = |text: &str| fixed(&[("LogLevel:", &format!("Storage:\n\tPostgreSQL:\n{text}LogLevel:"))]);
    assert!(storage("\t\tURL: postgres://mox@db.example.org/mox?sslmode=require\n").is_empty());
    for (url, why) in [
        ("mysql://db/mox", "the URL must start with postgres://"),
        ("postgres:///mox", "the URL has no host"),
        ("postgres://mox:hush@db/mox?sslmode=prefer", "sslmode in the URL must be disable, require or verify-full"),
    ] {
        assert_eq!(storage(&format!("\t\tURL: {url}\n")), [format!("mox.conf:4: storage: {why}")]);
    }
    assert_eq!(
        storage("\t\tURL: postgres://db/mox\n\t\tPasswordFile: absent\n\t\tCACertFiles:\n\t\t\t- key.pem\n"),
        [
            "mox.conf:5: storage: reading absent: No such file or directory (os error 2)",
            "mox.conf:7: storage: no PEM block \"CERTIFICATE\" in key.pem"
        ]
    );
}

#[test]
fn services_without_tls_are_one_mistake() {
    let services = "\t\tSMTP:\n\t\t\tEnabled: true\n\t\tSubmissions:\n\t\t\tEnabled: true\n\t\tSubmission:\n\t\t\tEnabled: true\n\t\tIMAP:\n\t\t\tEnabled: true\n\t\tIMAPS:\n\t\t\tEnabled: true\n\t\tWebmailHTTPS:\n\t\t\tEnabled: true\n\t\tMTASTSHTTPS:\n\t\t\tEnabled: true\n\t\t\tNonTLS: true\n\t\t\tPort: 81\nPostmaster:";
    assert_eq!(
        fixed(&[("Postmaster:", services)]),
        [
            "mox.conf:5: listener public: without TLS, these services are not possible: IMAPS, SMTP without NoSTARTTLS, Submissions, Submission without NoRequireSTARTTLS, WebmailHTTPS"
        ]
    );
}

#[test]
fn tls_needs_one_source_of_certificates() {
    let tls = |text: &str| fixed(&[("Postmaster:", &format!("\t\tTLS:\n{text}Postmaster:"))]);
    assert_eq!(tls("\t\t\tMinVersion: TLSv1.2\n"), ["mox.conf:8: listener public: TLS needs ACME or KeyCerts"]);
    assert_eq!(
        tls("\t\t\tMinVersion: SSLv3\n"),
        ["mox.conf:9: parsing Listeners[public].TLS.MinVersion: \"SSLv3\" is not one of: TLSv1.0, TLSv1.1, TLSv1.2, TLSv1.3"]
    );
    assert_eq!(tls("\t\t\tACME: x\n"), ["mox.conf:9: listener public: unknown ACME provider \"x\""]);
    assert_eq!(
        tls("\t\t\tKeyCerts:\n\t\t\t\t-\n\t\t\t\t\tCertFile: key.pem\n\t\t\t\t\tKeyFile: key.pem\n"),
        ["mox.conf:11: listener public: no PEM block \"CERTIFICATE\" in key.pem"]
    );
}

#[test]
fn ports_are_bound_once() {
    let services = "\t\tIMAP:\n\t\t\tEnabled: true\n\t\t\tPort: 80\n\t\tAccountHTTP:\n\t\t\tEnabled: true\n\t\tWebmailHTTP:\n\t\t\tEnabled: true\n\t\t\tPath: mail\n\tall:\n\t\tIPs:\n\t\t\t- 0.0.0.0\n\t\t\t- ::\n\t\tIMAP:\n\t\t\tEnabled: true\nPostmaster:";
    assert_eq!(
        fixed(&[("Postmaster:", services)]),
        [
            "mox.conf:11: listener public: AccountHTTP: port 80 on 127.0.0.1 is taken by IMAP of listener public",
            "mox.conf:13: listener public: WebmailHTTP: port 80 on 127.0.0.1 is taken by IMAP of listener public",
            "mox.conf:15: listener public: WebmailHTTP: path \"mail\" must start with a slash",
        ]
    );
    assert_eq!(
        fixed(&[("Postmaster:", &services.replace("Port: 80", "Port: 143").replace("Path: mail", "Path: /mail/"))]),
        ["mox.conf:8: listener public: IMAP: port 143 on 127.0.0.1 is taken by IMAP of listener all"]
    );
}

#[test]
fn transports() {
    let transports = "Transports:\n\ta:\n\t\tSubmissions:\n\t\t\tHost: x.example\n\t\t\tNoSTARTTLS: true\n\t\tFail:\n\t\t\tSMTPCode: 200\n\tb:\n\t\tDirect:\n\t\t\tDisableIPv4: true\n\t\t\tDisableIPv6: true\n\tc:\n\t\tSocks:\n\t\t\tAddress: localhost\n\t\t\tRemoteIPs:\n\t\t\t\t- 10.0.0.1\n\t\t\tRemoteHostname: x.example\nPostmaster:";
    assert_eq!(
        fixed(&[("Postmaster:", transports)]),
        [
            "mox.conf:9: transport a: only one method can be set, not 2",
            "mox.conf:10: transport a: STARTTLS settings make no sense with Submissions",
            "mox.conf:14: transport a: SMTPCode 200 is not from 400 to 599",
            "mox.conf:16: transport b: IPv4 and IPv6 can't both be disabled",
            "mox.conf:21: transport c: address \"localhost\" is not host:port",
        ]
    );
    let transports = "OutgoingIPs:\n\t- 0.0.0.0\n\t- 192.0.2.1\n\t- 192.0.2.1\nTransports:\n\ta:\n\t\tSubmissions:\n\t\t\tHost: x.example\n\t\t\tPort: 465\n\t\t\tSRV: true\n\tb:\n\t\tSMTP:\n\t\t\tHost: x.example\n\t\t\tSRV: true\n\tc:\n\t\tSocks:\n\t\t\tAddress: localhost:1\n\t\t\tRemoteIPs:\n\t\t\t\t- 10.0.0.1\n\t\t\tRemoteHostname: x.example\n\t\t\tAuth:\n\t\t\t\tUsername: LONG\n\t\t\t\tPassword: p\n\td:\n\t\tDirect:\n\t\t\tDisableIPv6: true\n\t\t\tOutgoingIPs:\n\t\t\t\t- 2001:db8::1\n\t\t\tHostname: other.example\nPostmaster:";
    assert_eq!(
        fixed(&[("Postmaster:", &transports.replace("LONG", &"x".repeat(256)))]),
        [
            "mox.conf:9: 0.0.0.0 is no address to connect from",
            "mox.conf:11: duplicate address 192.0.2.1",
            "mox.conf:16: transport a: the port comes from SRV records",
            "mox.conf:21: transport b: SRV records exist for Submissions and Submission only",
            "mox.conf:29: transport c: Username must have 1 to 255 bytes",
            "mox.conf:35: transport d: 2001:db8::1 is of a disabled family",
        ]
    );
}

#[test]
fn addresses_have_one_owner() {
    let more = "ann@example.org: nil\n\t\t\t@example.org: nil\n\tbob:\n\t\tDomain: example.org\n\t\tDestinations:\n\t\t\tANN@example.org: nil\n\t\t\t@example.org: nil\n\t\t\tbob+x@example.org: nil\n\t\t\tbob@other.example: nil";
    assert_eq!(
        dynamic(&[("ann@example.org: nil", more)]),
        [
            "domains.conf:13: account \"bob\": destination \"ANN@example.org\": same address as destination \"ann@example.org\" of account \"ann\"",
            "domains.conf:14: account \"bob\": destination \"@example.org\": account \"ann\" has the catchall address already",
            "domains.conf:15: account \"bob\": destination \"bob+x@example.org\": localpart has the domain's separator \"+\"",
            "domains.conf:16: account \"bob\": destination \"bob@other.example\": domain other.example is not configured",
        ]
    );
}

#[test]
fn localpart_destinations_are_completed() {
    let world = World::new(STATIC, &DYNAMIC.replace("ann@example.org", "ann"));
    let (snapshot, warnings) = world.load().unwrap();
    assert_eq!(warnings, ["domains.conf:8: account \"ann\": destination \"ann\" without domain is deprecated, using \"ann@example.org\""]);
    assert_eq!(snapshot.dynamic.accounts["ann"].destinations.keys().next().unwrap().to_string(), "ann@example.org");
}

#[test]
fn aliases() {
    let aliases = "LocalpartCatchallSeparator: +\n\t\tAliases:\n\t\t\tann:\n\t\t\t\tAddresses:\n\t\t\t\t\t- ann@example.org\n\t\t\tteam:\n\t\t\t\tAddresses:\n\t\t\t\t\t- ann@example.org\n\t\t\t\t\t- ann@example.org\n\t\t\t\t\t- x@example.org\n\t\t\t\t\t- TEAM@example.org\n\t\t\tTEAM:\n\t\t\t\tAddresses:\n\t\t\t\t\t- team@example.org";
    assert_eq!(
        dynamic(&[("LocalpartCatchallSeparator: +", aliases)]),
        [
            "domains.conf:5: domain example.org: alias ann: is an address of account \"ann\"",
            "domains.conf:8: domain example.org: alias team: same address as alias TEAM",
            "domains.conf:11: domain example.org: alias team: duplicate member ann@example.org",
            "domains.conf:12: domain example.org: alias team: member x@example.org is no address of a local account",
            "domains.conf:13: domain example.org: alias team: member TEAM@example.org is no address of a local account",
            "domains.conf:16: domain example.org: alias TEAM: member team@example.org is an alias itself",
        ]
    );
}

#[test]
fn reports_and_canonical_addresses() {
    let reports = "LocalpartCatchallSeparators:\n\t\t\t- +\n\t\t\t- -\n\t\tDMARC:\n\t\t\tLocalpart: dmarc-reports\n\t\t\tAccount: ann\n\t\t\tMailbox: DMARC";
    let world = World::new(STATIC, &replaced(DYNAMIC, &[("LocalpartCatchallSeparator: +", reports)]));
    let (snapshot, _) = world.load().unwrap();
    let domain = snapshot.dynamic.domains.values().next().unwrap();
    for (localpart, canonical) in [
        ("Ann", "ann"),
        ("ann+x-y", "ann"),
        ("a-b+c", "a"),
        ("dmarc-reports", "dmarc-reports"),
        ("DMARC-reports+x", "dmarc-reports"),
        ("dmarc-reportsx", "dmarc"),
    ] {
        assert_eq!(domain.canonical_localpart(&localpart.parse().unwrap()).as_str(), canonical, "{localpart}");
    }
    let address: Address = "ann+x@example.org".parse().unwrap();
    assert_eq!(snapshot.addresses.account(&snapshot.dynamic, &address), Some("ann"));

    let unknown = reports.replace("Account: ann", "Domain: other.example\n\t\t\tAccount: bob");
    assert_eq!(
        dynamic(&[("LocalpartCatchallSeparator: +", &unknown)]),
        [
            "domains.conf:8: domain example.org: DMARC: domain other.example is not configured",
            "domains.conf:9: domain example.org: DMARC: account \"bob\" doesn't exist",
        ]
    );
    let shadowing = reports.replace("dmarc-reports", "ann");
    let world = World::new(STATIC, &replaced(DYNAMIC, &[("LocalpartCatchallSeparator: +", &shadowing)]));
    assert_eq!(
        world.load().unwrap().1,
        ["domains.conf:7: domain example.org: DMARC: reports to ann@example.org shadow the same address of account \"ann\""]
    );
}

#[test]
fn dkim() {
    let dkim = "LocalpartCatchallSeparator: +\n\t\tDKIM:\n\t\t\tSelectors:\n\t\t\t\ta:\n\t\t\t\t\tPrivateKeyFile: key.pem\n\t\t\t\t\tExpiration: 72h\n\t\t\t\tb:\n\t\t\t\t\tPrivateKeyFile: missing.pem\n\t\t\t\tc:\n\t\t\t\t\tHash: sha1\n\t\t\t\t\tHeaders:\n\t\t\t\t\t\t- Subject\n\t\t\t\t\tPrivateKeyFile: key.pem\n\t\t\tSign:\n\t\t\t\t- a\n\t\t\t\t- d";
    assert_eq!(
        dynamic(&[("LocalpartCatchallSeparator: +", dkim)]),
        [
            "domains.conf:10: domain example.org: selector b: missing.pem: reading private key file: No such file or directory (os error 2)",
            "domains.conf:13: domain example.org: selector c: header From must be signed",
            "domains.conf:15: domain example.org: selector c: key.pem: ed25519 keys are only possible with sha256",
            "domains.conf:18: domain example.org: selector d to sign with doesn't exist",
        ]
    );
    let good = replaced(
        dkim,
        &[("\t\t\t\tb:\n\t\t\t\t\tPrivateKeyFile: missing.pem\n", ""), ("sha1", "sha256"), ("- Subject", "- from"), ("\t\t\t\t- d", "")],
    );
    let world = World::new(STATIC, &replaced(DYNAMIC, &[("LocalpartCatchallSeparator: +", good.trim_end())]));
    assert_eq!(world.load().unwrap().0.dkim_keys.len(), 2);
}

#[test]
fn rsa_keys_that_cannot_sign_are_told_of() {
    let dkim = "LocalpartCatchallSeparator: +\n\t\tDKIM:\n\t\t\tSelectors:\n\t\t\t\ta:\n\t\t\t\t\tPrivateKeyFile: short.pem";
    let world = World::new(STATIC, &replaced(DYNAMIC, &[("LocalpartCatchallSeparator: +", dkim)]));
    std::fs::write(world.path("short.pem"), include_str!("short_rsa.pem")).unwrap();
    assert_eq!(
        world.load().unwrap().1,
        [
            "domains.conf:7: domain example.org: selector a: short.pem: rsa key of 1024 bits: mail isn't signed with keys of less than 2048 bits"
        ]
    );
}

#[test]
fn accounts() {
    let more = "Domain: example.org\n\t\tRejectsMailbox: inbox\n\t\tIntrobox: #a//b\n\t\tLoginDisabled: café\n\t\tJunkFilter:\n\t\t\tThreshold: 0.95\n\t\t\tParams:\n\t\t\t\tMaxPower: 0.6\n\t\t\t\tTopWords: 10\n\t\tFromIDLoginAddresses:\n\t\t\t- x@example.org";
    assert_eq!(
        dynamic(&[("Domain: example.org", more)]),
        ["domains.conf:9: parsing Accounts[ann].LoginDisabled: text \"café\" must be printable ASCII"]
    );
    assert_eq!(
        dynamic(&[("Domain: example.org", &more.replace("café", "cafe"))]),
        [
            "domains.conf:7: account \"ann\": RejectsMailbox can't be the Inbox",
            "domains.conf:8: account \"ann\": Introbox \"#a//b\": mailbox name starts with #",
            "domains.conf:13: account \"ann\": junk filter: MaxPower 0.6 is not from 0 to 0.5",
            "domains.conf:16: account \"ann\": FromID login address x@example.org is no address of the account",
        ]
    );
    assert_eq!(
        dynamic(&[("ann:", "../ann:")])[..2],
        [
            "domains.conf:4: postmaster account \"ann\" of mox.conf doesn't exist",
            "domains.conf:5: account \"../ann\": account name can't start with a dot or have slashes or control characters",
        ]
    );
}

#[test]
fn destinations() {
    let rulesets = "ann@example.org:\n\t\t\t\tSMTPError: 550 no\n\t\t\t\tRulesets:\n\t\t\t\t\t-\n\t\t\t\t\t\tMailbox: x\n\t\t\t\t\t-\n\t\t\t\t\t\tVerifiedDomain: x.example\n\t\t\t\t\t\tIsForward: true\n\t\t\t\t\t\tListAllowDomain: x.example\n\t\t\t\t\t\tAcceptRejectsToMailbox: INBOX\n\t\t\t\t\t\tMailbox: x\n\t\t\t\t\t-\n\t\t\t\t\t\tHeadersRegexp:\n\t\t\t\t\t\t\tSubject: x\n\t\t\t\t\t\tMailbox: x";
    assert_eq!(
        dynamic(&[("ann@example.org: nil", rulesets)]),
        [
            "domains.conf:9: account \"ann\": destination \"ann@example.org\": SMTPError can't be set together with Mailbox or Rulesets",
            "domains.conf:11: account \"ann\": destination \"ann@example.org\": ruleset 1: at least one condition is needed",
            "domains.conf:15: account \"ann\": destination \"ann@example.org\": ruleset 2: IsForward needs SMTPMailFromRegexp and VerifiedDomain",
            "domains.conf:15: account \"ann\": destination \"ann@example.org\": ruleset 2: IsForward and ListAllowDomain can't both be set",
            "domains.conf:17: account \"ann\": destination \"ann@example.org\": ruleset 2: AcceptRejectsToMailbox can't be the Inbox",
            "domains.conf:21: account \"ann\": destination \"ann@example.org\": ruleset 3: header regexp \"Subject\" must be in lower case, as headers are made for it",
        ]
    );
    assert_eq!(
        dynamic(&[(
            "ann@example.org: nil",
            "ann@example.org:\n\t\t\t\tSMTPError: 500 x\n\t\t\t\tMailbox: e\u{301}\n\t\t\t\tRulesets:\n\t\t\t\t\t-\n\t\t\t\t\t\tMsgFromRegexp: (\n\t\t\t\t\t\tMailbox: x"
        )]),
        [
            "domains.conf:9: parsing Accounts[ann].Destinations[ann@example.org].SMTPError: \"500 x\" must start with 421 or 550",
            "domains.conf:10: parsing Accounts[ann].Destinations[ann@example.org].Mailbox: mailbox name \"e\\u{301}\" must be in unicode NFC: \"\u{e9}\"",
            "domains.conf:13: parsing Accounts[ann].Destinations[ann@example.org].Rulesets[0].MsgFromRegexp: regular expression \"(\": unclosed group",
        ]
    );
}

#[test]
fn web() {
    let web = "Accounts:\n\tann:\n\t\tDomain: example.org\nWebDomainRedirects:\n\ta.example: a.example\nWebHandlers:\n\t-\n\t\tDomain: a.example\n\t\tPathRegexp: /\n\t-\n\t\tDomain: a.example\n\t\tPathRegexp: ^/\n\t\tWebRedirect:\n\t\t\tBaseURL: https://a.example/path\n\t\t\tReplacePath: /x\n\t\t\tStatusCode: 200\nMonitorDNSBLs:\n\t- a.example\n\t- A.example\nRoutes:\n\t-\n\t\tTransport: none\n";
    let (before, _) = DYNAMIC.split_once("Accounts:").unwrap();
    assert_eq!(
        World::new(STATIC, &format!("{before}{web}")).mistakes(),
        [
            "domains.conf:7: WebDomainRedirects: no listener of mox.conf has WebserverHTTP or WebserverHTTPS enabled",
            "domains.conf:8: web redirect a.example to a.example: a redirect to itself",
            "domains.conf:9: WebHandlers: no listener of mox.conf has WebserverHTTP or WebserverHTTPS enabled",
            "domains.conf:10: webhandler a.example /: exactly one of WebStatic, WebRedirect, WebForward and WebInternal must be set",
            "domains.conf:12: webhandler a.example /: PathRegexp must start with ^",
            "domains.conf:17: webhandler a.example ^/: BaseURL \"https://a.example/path\" must be a URL without path",
            "domains.conf:18: webhandler a.example ^/: OrigPathRegexp and ReplacePath must be set together",
            "domains.conf:19: webhandler a.example ^/: StatusCode 200 is not from 300 to 399",
            "domains.conf:22: dnsbl a.example: duplicate zone",
            "domains.conf:25: route 1: unknown transport \"none\"",
        ]
    );
}

#[test]
fn webhooks_go_to_web_addresses_for_events_that_exist() {
    let account = |text: &str| dynamic(&[("\tann:\n", &format!("\tann:\n{text}"))]);
    let all = ["delivered", "suppressed", "delayed", "failed", "relayed", "expanded", "canceled", "unrecognized"];
    let events: String = all.iter().map(|event| format!("\t\t\t\t- {event}\n")).collect();
    let url = |kind: &str, url: &str| format!("\t\t{kind}:\n\t\t\tURL: {url}\n");
    let good = url("OutgoingWebhook", "https://example.org/hook?x=y") + "\t\t\tAuthorization: Bearer x\n\t\t\tEvents:\n" + &events;
    assert_eq!(account(&(good + &url("IncomingWebhook", "http://localhost:8888/"))), Vec::<String>::new());
    for kind in ["OutgoingWebhook", "IncomingWebhook"] {
        for bad in ["ftp://example.org/", "example.org", "https://", "file:///etc/passwd", "https://exa mple.org/"] {
            let mistakes = account(&url(kind, bad));
            assert!(mistakes.len() == 1 && mistakes[0].contains(&format!("{kind}.URL")), "{bad}: {mistakes:?}");
        }
    }
    for bad in ["Failed", "bounced", "incoming"] {
        let mistakes = account(&(url("OutgoingWebhook", "https://example.org/") + "\t\t\tEvents:\n\t\t\t\t- " + bad + "\n"));
        assert!(mistakes.len() == 1 && mistakes[0].contains("OutgoingWebhook.Events[0]"), "{bad}: {mistakes:?}");
    }
}

#[test]
fn intervals_between_attempts_have_bounds() {
    for name in ["QueueRetryIntervals", "WebhookRetryIntervals"] {
        let intervals = |list: &str| fixed(&[("LogLevel: info", &format!("LogLevel: info\n{name}:\n{list}"))]);
        assert_eq!(intervals("\t- 1s\n\t- 168h\n"), Vec::<String>::new());
        for (list, at) in [("\t- 999ms\n", 0), ("\t- 1m\n\t- 169h\n", 1), ("\t- 0s\n", 0)] {
            let mistakes = intervals(list);
            assert!(mistakes.len() == 1 && mistakes[0].contains("must be between 1s and 168h"), "{list}: {mistakes:?}");
            assert!(mistakes[0].starts_with(&format!("mox.conf:{}: ", 4 + at)), "{mistakes:?}");
        }
    }
}

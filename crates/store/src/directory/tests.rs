use super::*;

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

fn mailbox_of(account: &str, mailbox: &str) -> MailboxOf {
    MailboxOf { account: account.to_owned(), mailbox: mailbox.to_owned() }
}

fn to(mailbox: &str) -> Destination {
    Destination { mailbox: mailbox.to_owned(), ..Destination::default() }
}

fn settings() -> Settings {
    let with = |key: &str, mailbox: &str| (DestinationKey::Address(address(key)), to(mailbox));
    let alias = |localpart: &str, members: &[&str], allow_msg_from| AliasSettings {
        localpart: localpart.parse().unwrap(),
        members: members.iter().map(|m| address(m)).collect(),
        post_public: false,
        list_members: false,
        allow_msg_from,
    };
    Settings {
        hostname: domain("mail.example"),
        listener_hostnames: vec![domain("mx2.example")],
        postmaster: mailbox_of("root", "Postmaster"),
        host_tls_reports: Some(HostTlsReports { localpart: "tls-reports".parse().unwrap(), to: mailbox_of("root", "HostTLS") }),
        domains: vec![
            DomainSettings {
                separators: vec!["+".to_owned(), "--".to_owned()],
                dmarc_reports: Some(ReportAddress {
                    localpart: "dmarc+reports".parse().unwrap(),
                    domain: domain("a.example"),
                    to: mailbox_of("root", "DMARC"),
                }),
                aliases: vec![alias("all", &["ann@a.example", "bob@b.example"], true), alias("news", &["ann@a.example"], false)],
                ..DomainSettings::new(domain("a.example"))
            },
            DomainSettings { case_sensitive: true, ..DomainSettings::new(domain("b.example")) },
            DomainSettings { disabled: true, ..DomainSettings::new(domain("off.example")) },
            // Its reports go elsewhere, and it has no address: not hosted.
            DomainSettings {
                tls_reports: Some(ReportAddress {
                    localpart: "tls".parse().unwrap(),
                    domain: domain("a.example"),
                    to: mailbox_of("root", "TLS"),
                }),
                ..DomainSettings::new(domain("reports.example"))
            },
            DomainSettings::new(domain("bücher.example")),
        ],
        accounts: vec![
            (AccountSettings::new("ann"), vec![with("Ann@a.example", "Inbox"), with("ann@off.example", "Off")]),
            (
                AccountSettings::new("bob"),
                vec![
                    with("bob@b.example", "Inbox"),
                    with("Bob@b.example", "Upper"),
                    (DestinationKey::CatchAll(domain("bücher.example")), to("Rest")),
                ],
            ),
            (AccountSettings::new("root"), vec![]),
        ],
        everything: None,
    }
}

fn show(found: Result<Recipient, AddressError>) -> String {
    match found {
        Ok(Recipient::Account(r)) => format!("{} {} {}", r.account.name, r.destination.mailbox, r.canonical),
        Ok(Recipient::Alias(alias)) => format!("alias {}", alias.address),
        Err(e) => e.to_string(),
    }
}

#[test]
fn recipients() {
    let directory = Directory::new(settings()).unwrap();
    for (text, want) in [
        ("ann@a.example", "ann Inbox ann@a.example"),
        ("ANN@A.EXAMPLE", "ann Inbox ann@a.example"),
        ("ann+x--y@a.example", "ann Inbox ann@a.example"),
        ("ann--x+y@a.example", "ann Inbox ann@a.example"),
        ("+ann@a.example", "address not found"),
        ("nobody@a.example", "address not found"),
        ("all@a.example", "alias all@a.example"),
        ("All+x@a.example", "alias all@a.example"),
        // A report address with a separator in it, and with something behind a separator.
        ("dmarc+reports@a.example", "root DMARC dmarc+reports@a.example"),
        ("DMARC+reports+1@a.example", "root DMARC dmarc+reports@a.example"),
        ("dmarc+reportsx@a.example", "address not found"),
        ("tls@a.example", "root TLS tls@a.example"),
        ("tls@reports.example", "domain not found"),
        ("tls-reports@mail.example", "root HostTLS tls-reports@mail.example"),
        ("bob@b.example", "bob Inbox bob@b.example"),
        ("Bob@b.example", "bob Upper Bob@b.example"),
        ("BOB@b.example", "address not found"),
        // No separator configured there.
        ("bob+x@b.example", "address not found"),
        ("any@xn--bcher-kva.example", "bob Rest @bücher.example"),
        ("ann@off.example", "domain is temporarily disabled"),
        ("x@elsewhere.example", "domain not found"),
        ("PostMaster@mail.example", "root Postmaster postmaster"),
        ("postmaster@mx2.example", "root Postmaster postmaster"),
        ("postmaster@a.example", "root Postmaster postmaster"),
        ("POSTMASTER@b.example", "root Postmaster postmaster"),
        // A catchall is nearer than the server's postmaster.
        ("postmaster@bücher.example", "bob Rest @bücher.example"),
        ("x@mail.example", "domain not found"),
    ] {
        assert_eq!(show(directory.recipient(&address(text).into())), want, "{text}");
    }
    let literal = Path { localpart: "ann".parse().unwrap(), host: Host::Ip("192.0.2.1".parse().unwrap()) };
    assert_eq!(show(directory.recipient(&literal)), "domain not found");
}

#[test]
fn senders() {
    let directory = Directory::new(settings()).unwrap();
    for (account, text, want) in [
        ("ann", "ann@a.example", Ok(())),
        ("ann", "Ann+x@a.example", Ok(())),
        ("bob", "ann@a.example", Err(SenderError::NotAllowed)),
        ("bob", "anything@bücher.example", Ok(())),
        ("ann", "all@a.example", Ok(())),
        ("bob", "all@a.example", Ok(())),
        ("root", "all@a.example", Err(SenderError::NotAllowed)),
        ("ann", "news@a.example", Err(SenderError::NotAllowed)),
        ("ann", "ann@off.example", Err(SenderError::DomainDisabled)),
        // The postmaster of the host isn't an address for sending.
        ("root", "postmaster@mail.example", Err(SenderError::NotAllowed)),
        ("root", "postmaster@a.example", Err(SenderError::NotAllowed)),
        ("ann", "ann@elsewhere.example", Err(SenderError::NotAllowed)),
    ] {
        assert_eq!(directory.check_sender(account, &address(text)), want, "{account} {text}");
    }
}

#[test]
fn logins() {
    let directory = Directory::new(settings()).unwrap();
    for (text, want) in [
        ("Ann+phone@a.example", Ok("ann")),
        ("ann@off.example", Ok("ann")),
        ("any@bücher.example", Ok("bob")),
        ("all@a.example", Err(AddressError::AddressNotFound)),
        ("postmaster@mail.example", Err(AddressError::DomainNotFound)),
        ("postmaster@a.example", Err(AddressError::AddressNotFound)),
        ("x@elsewhere.example", Err(AddressError::DomainNotFound)),
    ] {
        let found = directory.login(&address(text));
        assert_eq!(found.as_ref().map(|r| r.account.name.as_str()), want.as_ref().map(|s| *s), "{text}");
    }
}

#[test]
fn localserve_takes_everything_and_sends_only_its_own() {
    let directory = Directory::new(Settings { everything: Some(address("ann@a.example")), ..settings() }).unwrap();
    for (text, want) in [
        ("x@elsewhere.example", "ann Inbox ann@a.example"),
        ("nobody@a.example", "ann Inbox ann@a.example"),
        ("ann@off.example", "ann Inbox ann@a.example"),
        ("bob@b.example", "bob Inbox bob@b.example"),
        ("all@a.example", "alias all@a.example"),
    ] {
        assert_eq!(show(directory.recipient(&address(text).into())), want, "{text}");
    }
    assert_eq!(directory.check_sender("ann", &address("x@elsewhere.example")), Err(SenderError::NotAllowed));
    assert_eq!(directory.check_sender("ann", &address("ann@off.example")), Err(SenderError::DomainDisabled));
    assert!(directory.login(&address("x@elsewhere.example")).is_err());
}

#[test]
fn refuses_what_cannot_be_resolved() {
    let twice = || {
        let mut s = settings();
        s.accounts[1].1.push((DestinationKey::Address(address("ann+x@a.example")), Destination::default()));
        s
    };
    let unknown_domain = || {
        let mut s = settings();
        s.accounts[1].1.push((DestinationKey::CatchAll(domain("other.example")), Destination::default()));
        s
    };
    let member = || {
        let mut s = settings();
        s.domains[0].aliases[0].members.push(address("any@bücher.example"));
        s
    };
    let postmaster = || Settings { postmaster: mailbox_of("nobody", "Inbox"), ..settings() };
    for (settings, want) in [
        (twice(), "address ann+x@a.example exists twice"),
        (unknown_domain(), "domain other.example is not configured"),
        (member(), "alias all@a.example: member any@bücher.example is no local address"),
        (postmaster(), "unknown account \"nobody\""),
    ] {
        assert_eq!(Directory::new(settings).unwrap_err().to_string(), want);
    }
}

#[test]
fn smtp_errors() {
    let error = |kind, text: Option<&str>| Some(SmtpError { kind, text: text.map(str::to_owned) });
    for (text, want) in [
        ("421", error(SmtpErrorKind::Temporary, None)),
        ("550 moved away", error(SmtpErrorKind::Permanent, Some("moved away"))),
        ("551 x", None),
        ("", None),
    ] {
        assert_eq!(SmtpError::parse(text), want, "{text}");
    }
}

#[test]
fn swapping_leaves_what_was_looked_up() {
    let shared = SharedDirectory::new(Directory::new(settings()).unwrap());
    let before = shared.current();
    let mut changed = settings();
    changed.accounts[0].1.clear();
    changed.domains[0].aliases.clear();
    shared.clone().replace(Directory::new(changed).unwrap());
    assert!(before.login(&address("ann@a.example")).is_ok());
    assert!(shared.current().login(&address("ann@a.example")).is_err());
}

#[test]
fn the_postmaster_has_addresses_with_ids() {
    let directory = Directory::new(settings()).unwrap();
    let path = |text: &str| Path::from(address(text));
    let id = "AbCdEfGhIjKlMnOpQr-_12";
    for (domain, takes) in [
        ("mail.example", true),
        ("mx2.example", true),
        ("a.example", true),
        ("b.example", true),
        // Its catchall gets nothing of these.
        ("xn--bcher-kva.example", true),
        ("off.example", false),
        ("reports.example", false),
        ("elsewhere.example", false),
    ] {
        let to = path(&format!("Postmaster+{id}@{domain}"));
        assert_eq!(directory.postmaster_id(&to), takes.then_some(id), "{domain}");
        let reached = show(directory.recipient(&to));
        assert_eq!(reached == "root Postmaster postmaster", takes, "{domain}: {reached}");
    }
    for localpart in ["postmaster", "postmaster+", "postmaster+short", "ann+AbCdEfGhIjKlMnOpQr-_12", "postmaster+AbCdEfGhIjKlMnOpQr-_1!"] {
        assert_eq!(directory.postmaster_id(&path(&format!("{localpart}@mail.example"))), None, "{localpart}");
    }
    // Nobody logs in as, or writes as, one.
    assert!(directory.login(&address(&format!("postmaster+{id}@a.example"))).is_err());
}

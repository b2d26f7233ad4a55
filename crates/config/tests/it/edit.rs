use crate::world::{DYNAMIC, STATIC, World, outside};
use mox_base::{Address, Domain};
use mox_config::edit::{self, Changed, NewDomain};
use mox_config::{DestinationKey, Dynamic, Live};

/// An edit to try.
type Edit<'a> = &'a dyn Fn(&mut Dynamic, &Live) -> Changed;

/// Makes changes one after the other and gives the file, or the first refusal.
fn edited(changes: &[Edit<'_>]) -> String {
    let world = World::new(STATIC, DYNAMIC);
    let live = Live::open(&world.path("mox.conf"), &outside()).unwrap().0;
    for change in changes {
        if let Err(error) = live.edit(|dynamic| change(dynamic, &live)) {
            return error.to_string();
        }
    }
    std::fs::read_to_string(world.path("domains.conf")).unwrap()
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn new_domain(account: &str, localpart: Option<&str>) -> NewDomain {
    NewDomain {
        domain: Domain::parse("new.example").unwrap(),
        disabled: true,
        account: account.to_owned(),
        localpart: localpart.map(|l| l.parse().unwrap()),
        selectors: vec![(Domain::parse("2026a").unwrap().into(), "key.pem".to_owned())],
        policy_id: "20260101T000000".to_owned(),
    }
}

#[test]
fn a_new_domain_with_its_account() {
    let text = edited(&[&|dynamic, live| edit::add_domain(dynamic, live.settings(), new_domain("bob", Some("bob")))]);
    assert_eq!(
        text,
        "Domains:\n\texample.org:\n\t\tLocalpartCatchallSeparator: +\n\tnew.example:\n\t\tDisabled: true\n\t\tClientSettingsDomain: mail.new.example\n\t\tLocalpartCatchallSeparator: +\n\t\tDKIM:\n\t\t\tSelectors:\n\t\t\t\t2026a:\n\t\t\t\t\tCanonicalization:\n\t\t\t\t\t\tHeaderRelaxed: true\n\t\t\t\t\t\tBodyRelaxed: true\n\t\t\t\t\tExpiration: 72h\n\t\t\t\t\tPrivateKeyFile: key.pem\n\t\t\tSign:\n\t\t\t\t- 2026a\n\t\tDMARC:\n\t\t\tLocalpart: dmarcreports\n\t\t\tAccount: bob\n\t\t\tMailbox: DMARC\n\t\tTLSRPT:\n\t\t\tLocalpart: tlsreports\n\t\t\tAccount: bob\n\t\t\tMailbox: TLSRPT\nAccounts:\n\tann:\n\t\tDomain: example.org\n\t\tDestinations:\n\t\t\tann@example.org: nil\n\tbob:\n\t\tDomain: new.example\n\t\tDestinations:\n\t\t\tbob@new.example: nil\n\t\tSubjectPass:\n\t\t\tPeriod: 12h0m0s\n\t\tRejectsMailbox: Rejects\n\t\tAutomaticJunkFlags:\n\t\t\tEnabled: true\n\t\t\tJunkMailboxRegexp: ^(junk|spam)\n\t\t\tNeutralMailboxRegexp: ^(inbox|introbox|neutral|postmaster|dmarc|tlsrpt|rejects)\n\t\tJunkFilter:\n\t\t\tThreshold: 0.950000\n\t\t\tParams:\n\t\t\t\tOnegrams: true\n\t\t\t\tMaxPower: 0.010000\n\t\t\t\tTopWords: 10\n\t\t\t\tIgnoreWords: 0.100000\n\t\t\t\tRareWords: 2\n\t\tNoCustomPassword: true\n"
    );
    assert_eq!(
        edited(&[&|dynamic, live| edit::add_domain(dynamic, live.settings(), new_domain("bob", None))]),
        "account \"bob\" doesn't exist, and needs a localpart to be made"
    );
    let again: &dyn Fn(&mut Dynamic, &Live) -> Changed =
        &|dynamic, live| edit::add_domain(dynamic, live.settings(), new_domain("ann", None));
    assert_eq!(edited(&[again, again]), "domain new.example already exists");
}

#[test]
fn there_and_back() {
    let text = edited(&[
        &|dynamic, live| edit::add_domain(dynamic, live.settings(), new_domain("ann", None)),
        &|dynamic, _| edit::add_account(dynamic, "bob", &address("bob@example.org")),
        &|dynamic, _| edit::add_address(dynamic, DestinationKey::Catchall(Domain::parse("example.org").unwrap()), "bob"),
        &|dynamic, _| edit::add_alias(dynamic, &address("team@example.org"), vec![address("ann@example.org")]),
        &|dynamic, _| edit::add_members(dynamic, &address("team@example.org"), vec![address("bob@example.org")]),
        &|dynamic, _| edit::update_alias(dynamic, &address("team@example.org"), Some(false), Some(true), None),
        &|dynamic, _| edit::set_login_disabled(dynamic, "bob", Some("away")),
        &|dynamic, _| edit::set_login_disabled(dynamic, "bob", None),
        &|dynamic, _| edit::set_domain_disabled(dynamic, &Domain::parse("example.org").unwrap(), true),
        &|dynamic, _| edit::set_domain_disabled(dynamic, &Domain::parse("example.org").unwrap(), false),
        &|dynamic, _| edit::remove_address(dynamic, &DestinationKey::Address(address("bob@example.org"))),
        &|dynamic, _| edit::remove_alias(dynamic, &address("team@example.org")),
        &|dynamic, _| edit::remove_account(dynamic, "bob"),
        &|dynamic, _| edit::remove_domain(dynamic, &Domain::parse("new.example").unwrap()),
    ]);
    assert_eq!(text, DYNAMIC);
}

#[test]
fn refusals() {
    let team = address("team@example.org");
    let with_alias: &dyn Fn(&mut Dynamic, &Live) -> Changed =
        &|dynamic, _| edit::add_alias(dynamic, &team, vec![address("ann@example.org")]);
    let refused = |change: &dyn Fn(&mut Dynamic, &Live) -> Changed| edited(&[with_alias, change]);
    assert_eq!(refused(&|d, _| edit::remove_account(d, "eve")), "account \"eve\" doesn't exist");
    assert_eq!(
        refused(&|d, _| edit::remove_account(d, "ann")),
        "config error: domain example.org: alias team: member ann@example.org is no address of a local account; postmaster account \"ann\" of mox.conf doesn't exist"
    );
    assert_eq!(
        refused(&|d, _| edit::remove_address(d, &DestinationKey::Address(address("ann@example.org")))),
        "address ann@example.org is the last member of alias team@example.org"
    );
    assert_eq!(
        refused(&|d, _| edit::remove_members(d, &team, &[address("ann@example.org")])),
        "alias team@example.org would have no members"
    );
    assert_eq!(refused(&|d, _| edit::set_login_disabled(d, "ann", Some(""))), "message is empty");
    assert_eq!(
        refused(&|d, _| edit::add_account(d, "bob", &address("ann+x@example.org"))),
        "config error: account \"bob\": destination \"ann+x@example.org\": localpart has the domain's separator \"+\""
    );
    assert_eq!(
        refused(&|d, _| edit::remove_domain(d, &Domain::parse("example.org").unwrap())),
        "config error: account \"ann\": destination \"ann@example.org\": domain example.org is not configured"
    );
}

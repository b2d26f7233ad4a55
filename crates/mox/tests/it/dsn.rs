//! DSNs that Postfix writes, about messages that we sent through it: recognised, and told of.

use crate::queue::{await_queue, is_empty, run};
use crate::server::{BINARY, PATIENCE, await_messages, imap, message};
use crate::webapi_http::ok;
use mox_testkit::peers::{Mox, NextHop, Postfix, Service, SmtpClient, wait_until};
use std::path::Path;

/// The login address whose messages have unique reverse-paths.
const FROM_ID: &str = "mox+fromid@localhost";

#[test]
fn postfix_s_bounce_finds_its_message() {
    // Each has to know the other's port: ours is started again with Postfix' own.
    let mox = Mox::serve_with(Path::new(BINARY), |folder| {
        let conf = folder.join("mox.conf");
        let transport = "Transports:\n\trelay:\n\t\tSMTP:\n\t\t\tHost: localhost\n\t\t\tPort: 1\n\t\t\tNoSTARTTLS: true\n";
        std::fs::write(&conf, std::fs::read_to_string(&conf)? + transport)?;
        let dynamic = folder.join("domains.conf");
        let text = std::fs::read_to_string(&dynamic)?;
        let with_id = format!("\tmox:\n\t\tFromIDLoginAddresses:\n\t\t\t- {FROM_ID}\n");
        std::fs::write(&dynamic, text.replacen("\tmox:\n", &with_id, 1) + "Routes:\n\t-\n\t\tTransport: relay\n")
    });
    let mut mox = mox.unwrap();
    let Some(postfix) = Postfix::require(NextHop::Smtp(mox.port(Service::Smtp))) else {
        return;
    };
    mox.kill().unwrap();
    let conf = mox.dir().join("mox.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, text.replace("Port: 1\n", &format!("Port: {}\n", postfix.port()))).unwrap();
    mox.resume().unwrap();

    // Postfix brings it back to us, who are nobody's far.test: refused, and Postfix says so to the unique address.
    let mut client = SmtpClient::smtp(mox.port(Service::Submission)).unwrap();
    client.login(FROM_ID, Mox::PASSWORD).unwrap();
    assert!(client.send(FROM_ID, &["gone@far.test"], &message("there and back")).unwrap().is_ok());
    await_queue(&mox, is_empty);
    let mut json = serde_json::Value::Null;
    let told = wait_until(PATIENCE, || {
        let list = run(&mox, &["queue", "retired", "list"]);
        let Some(id) = list.lines().nth(1).and_then(|line| line.split_whitespace().next()).map(str::to_owned) else { return false };
        json = serde_json::from_str(&run(&mox, &["queue", "retired", "print", &id])).unwrap();
        json["Results"].as_array().is_some_and(|results| results.len() == 2)
    });
    assert!(told, "{json}\n{}", postfix.log());
    let result = &json["Results"][1];
    assert_eq!((&result["Success"], &result["Code"]), (&false.into(), &550.into()), "{json}");
    await_messages(&mut imap(&mox), "INBOX", 1);
    let structure = ok(&mox, "MessageGet", r#"{"MsgID":1}"#)["Structure"].clone();
    assert_eq!(structure["ContentType"], "multipart/report", "{structure}");
}

//! `mox setaccountpassword`, `mox setadminpassword`.

use crate::cli::{Command, Failure, Invocation, Outcome};
use crate::ctl::{self, Request};
use std::io::{BufRead, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        words: "setaccountpassword",
        params: &["account"],
        listed: true,
        help: "Set the password of an account.\n\n\
        The parameter is the name of the account, not one of its addresses. The new password is asked for, or read from the first line of standard input. Only what is needed to check it is kept, for plain text logins, SCRAM and CRAM-MD5.",
        flags: &[],
        args: 1..=1,
        run: set_account_password,
    },
    Command {
        words: "setadminpassword",
        params: &[""],
        listed: true,
        help: "Set the password of the admin web pages.\n\n\
        The new password is asked for, or read from the first line of standard input. A bcrypt hash of it goes to the file that AdminPasswordFile in mox.conf names.",
        flags: &[],
        args: 0..=0,
        run: set_admin_password,
    },
];

fn set_account_password(invocation: &Invocation) -> Outcome {
    let data_dir = super::data_dir(invocation)?;
    let password = read_password()?;
    let mut stream = ctl::connect(&data_dir)?;
    let request = Request::SetAccountPassword { account: invocation.arg(0).to_owned(), password };
    ctl::request(&mut stream, &request, &mut std::io::stdout())
}

fn set_admin_password(invocation: &Invocation) -> Outcome {
    let config = super::static_config(invocation)?;
    if config.admin_password_file.is_empty() {
        return Err(Failure::Error("no admin password file configured".into()));
    }
    let path = super::config_dir(&invocation.globals.config).join(&config.admin_password_file);
    write_admin_password(&path, &read_password()?)
}

/// Writes the hash of the admin's password.
pub(super) fn write_admin_password(path: &Path, password: &str) -> Outcome {
    let hash = bcrypt::hash(password, bcrypt::DEFAULT_COST).map_err(|e| Failure::new("generating hash for password", e))?;
    let mut file = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o660)
        .open(path)
        .map_err(|e| Failure::new(format!("open {}", path.display()), e))?;
    file.write_all(hash.as_bytes()).map_err(|e| Failure::new(format!("write {}", path.display()), e))
}

/// One line from standard input.
#[expect(clippy::print_stdout, reason = "the prompt")]
fn read_password() -> Result<String, Failure> {
    println!("Enter the new password; it is shown as you type.");
    println!("Take a long one that is used nowhere else: guessing over the network is slowed down, not stopped.");
    print!("password: ");
    let flushed = std::io::stdout().flush();
    let mut line = String::new();
    flushed.and_then(|()| std::io::stdin().lock().read_line(&mut line).map(|_| ())).map_err(|e| Failure::new("reading password", e))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.len() < 8 {
        return Err(Failure::Error("password must be at least 8 characters".into()));
    }
    Ok(password.to_owned())
}

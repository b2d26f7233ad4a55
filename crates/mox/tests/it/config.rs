//! `mox config …` on files in a temporary folder.

use std::path::Path;
use std::process::{Command, Output};

const STATIC: &str = "DataDir: ../data\nLogLevel: info\nHostname: mx.example.org\nUser: 1000\nListeners:\n\tpublic:\n\t\tIPs:\n\t\t\t- 127.0.0.1\nPostmaster:\n\tAccount: ann\n\tMailbox: Postmaster\n";
const DYNAMIC: &str = "Domains:\n\texample.org:\n\t\tLocalpartCatchallSeparator: +\n\t\tAliases:\n\t\t\tteam:\n\t\t\t\tAddresses:\n\t\t\t\t\t- ann@example.org\n\t\t\t\t\t- bob@example.org\n\t\t\t\tPostPublic: true\n\toff.example:\n\t\tDisabled: true\nAccounts:\n\tann:\n\t\tDomain: example.org\n\t\tDestinations:\n\t\t\t@example.org: nil\n\t\t\tann@example.org: nil\n\tbob:\n\t\tLoginDisabled: away\n\t\tDomain: example.org\n\t\tDestinations:\n\t\t\tbob@example.org: nil\n";

struct Installation(tempfile::TempDir);

impl Installation {
    fn new(dynamic: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("config")).unwrap();
        std::fs::write(dir.path().join("config/mox.conf"), STATIC).unwrap();
        std::fs::write(dir.path().join("config/domains.conf"), dynamic).unwrap();
        Self(dir)
    }

    fn run(&self, line: &str) -> (i32, String, String) {
        run(self.0.path(), line)
    }
}

fn run(dir: &Path, line: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mox"));
    command.args(line.split_whitespace()).current_dir(dir).env_remove("MOXCONF");
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn test_says_ok_or_what_is_wrong() {
    let installation = Installation::new(DYNAMIC);
    assert_eq!(installation.run("config test"), (0, "config OK\n".to_owned(), String::new()));
    let installation = Installation::new(&DYNAMIC.replace("Disabled: true", "Disabled: 1").replace("team:", ":"));
    let wrong = "multiple errors:\nconfig/domains.conf:5: empty key in line \":\"\nconfig/domains.conf:11: parsing Domains[off.example].Disabled: expected true or false, not \"1\"\n";
    assert_eq!(installation.run("config test"), (1, String::new(), wrong.to_owned()));
    let (status, _, stderr) = installation.run("-config other/mox.conf config test");
    assert_eq!(status, 1);
    assert!(stderr.starts_with("other/mox.conf: reading: ") && stderr.contains("hint"), "{stderr}");
}

#[test]
fn accounts_and_addresses() {
    let installation = Installation::new(DYNAMIC);
    for (line, want) in [
        ("config account list", "ann\nbob\t(disabled)\n"),
        ("config account addresses ann", "@example.org\nann@example.org\n"),
        ("config address account BOB+x@example.org", "bob\n"),
        ("config address account else@example.org", "ann\n"),
        ("config alias list example.org", "team@example.org\n"),
        (
            "config alias print team@example.org",
            "# postpublic true\n# listmembers false\n# allowmsgfrom false\n# members:\nann@example.org\nbob@example.org\n",
        ),
    ] {
        assert_eq!(installation.run(line), (0, want.to_owned(), String::new()), "{line}");
    }
    for (line, want) in [
        ("config account addresses eve", "account \"eve\": no such account\n"),
        ("config address account x@off.example", "looking up address: domain is disabled\n"),
        ("config address account x@other.example", "looking up address: domain not found\n"),
        ("config alias list other.example", "domain other.example: no such domain\n"),
        ("config alias print x@example.org", "alias x@example.org: no such alias\n"),
    ] {
        assert_eq!(installation.run(line), (1, String::new(), want.to_owned()), "{line}");
    }
    assert_eq!(installation.run("config account addresses").0, 2);
}

#[test]
fn descriptions_need_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let (status, text, _) = run(dir.path(), "config describe-static");
    assert_eq!(status, 0);
    assert!(text.contains("\nDataDir: \n") && text.contains("\nListeners:\n\tx:\n\n\t\t# "), "{text}");
    let (_, text, _) = run(dir.path(), "config describe-domains");
    assert!(text.contains("\nAccounts:\n\tx:\n"), "{text}");
    let (_, text, _) = run(dir.path(), "config describe-sendmail");
    assert!(text.contains("\nLocalHostname: \n"), "{text}");
    let (_, names, _) = run(dir.path(), "config example");
    for name in names.lines() {
        let (status, text, _) = run(dir.path(), &format!("config example {name}"));
        assert!(status == 0 && text.starts_with("# Part of "), "{name}");
    }
    assert_eq!(run(dir.path(), "config example nothing"), (1, String::new(), "not found\n".to_owned()));
    let (_, unit, _) = run(dir.path(), "config printservice");
    let here = dir.path().canonicalize().unwrap();
    assert!(unit.contains(&format!("ExecStart={}/mox serve\n", here.display())), "{unit}");
}

#[test]
fn flags_for_profiles_are_taken_and_warned_about() {
    let output = Command::new(env!("CARGO_BIN_EXE_mox")).args(["-cpuprof", "cpu.prof", "-memprof=", "version"]).output().unwrap();
    assert!(output.status.success() && !output.stdout.is_empty());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "warning: -cpuprof: no profile is written, use perf\n");
}

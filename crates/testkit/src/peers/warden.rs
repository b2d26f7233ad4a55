//! Ends the programs that this process started when this process ends without doing so itself: killed, or by a panic in a drop.
//!
//! A shell reads from a pipe which processes are running. The pipe closes with this process, however that ends, and
//! then the shell kills what is left, and removes its folders. It is in a process group of its own, as are the programs, so that a signal from the
//! keyboard or to this process' group reaches neither before that.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Lines are `+ KIND WHAT` and `- KIND WHAT`: kind `group` with the id of a process group, `file` with a file that has a
/// process id, or `folder` with one to be removed.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
left=
while read -r op kind what; do
    case "$op" in
    +) left="$left$kind $what
" ;;
    -) left=$(printf '%s' "$left" | grep -v -x -F -e "$kind $what")
        [ -z "$left" ] || left="$left
" ;;
    esac
done
printf '%s' "$left" | while read -r kind what; do
    case "$kind" in
    group) kill -KILL "-$what" ;;
    file) pid=; read -r pid < "$what"; [ -z "$pid" ] || kill -TERM $pid ;;
    esac
done 2>/dev/null
case "$left" in *"folder "*) sleep 1 ;; esac
printf '%s' "$left" | while read -r kind what; do
    [ "$kind" != folder ] || rm -rf -- "$what"
done 2>/dev/null
"#;

/// One for the process, as there is one end of the process.
static WARDEN: Mutex<Option<Child>> = Mutex::new(None);

/// What is to be ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ward<'a> {
    /// A process group, by the id of its leader.
    Group(u32),
    /// A process whose id is in this file by then.
    File(&'a str),
    /// A folder, to be removed once the processes are gone.
    Folder(&'a Path),
}

/// Has something ended with this process.
pub(super) fn guard(ward: Ward<'_>) -> io::Result<()> {
    tell('+', ward)
}

/// It has ended, or is ended otherwise.
pub(super) fn release(ward: Ward<'_>) {
    // If the shell has gone, it has nothing left to end.
    drop(tell('-', ward));
}

fn tell(op: char, ward: Ward<'_>) -> io::Result<()> {
    let line = match ward {
        Ward::Group(id) => format!("{op} group {id}\n"),
        Ward::File(path) => format!("{op} file {path}\n"),
        Ward::Folder(path) => format!("{op} folder {}\n", path.display()),
    };
    let mut warden = WARDEN.lock().unwrap_or_else(PoisonError::into_inner);
    if warden.is_none() {
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        *warden = Some(shell.spawn()?);
    }
    let pipe = warden.as_mut().and_then(|shell| shell.stdin.as_mut());
    pipe.ok_or_else(|| io::Error::other("no shell"))?.write_all(line.as_bytes())
}

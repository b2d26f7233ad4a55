//! The walk-through in the manual does what it says: its commands are run, and what it shows is seen.

use crate::server::PATIENCE;
use mox_testkit::peers::{Mox, Service, require_program};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A block of the document: its kind and its lines.
struct Block {
    kind: String,
    text: String,
}

fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in document.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(kind), None) => open = Some(Block { kind: kind.to_owned(), text: String::new() }),
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    blocks
}

/// A shell that runs one block after the other; what it prints is kept.
struct Shell {
    child: Child,
    input: ChildStdin,
    output: Arc<Mutex<String>>,
    folder: PathBuf,
}

impl Shell {
    fn start(folder: &Path, program_folder: &Path) -> Self {
        let path = format!("{}:{}", program_folder.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.arg("-e").current_dir(folder).env("PATH", path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, lines) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
        let output = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&output);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *kept.lock().unwrap() += &format!("{line}\n");
            }
        });
        let mut shell = Self { child, input, output, folder: folder.to_owned() };
        // What the document starts in the background ends with the shell, however that ends.
        shell.run("trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n");
        shell
    }

    fn run(&mut self, block: &str) {
        self.input.write_all(block.as_bytes()).unwrap();
        self.input.flush().unwrap();
    }

    fn seen(&self) -> String {
        let calls = std::fs::read_to_string(self.folder.join("calls.log")).unwrap_or_default();
        format!("{calls}{}", self.output.lock().unwrap())
    }

    fn await_line(&mut self, part: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.seen().contains(part) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}, not seen: {part}\n{}", self.seen());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ended = self.input.write_all(b"exit\n");
        drop(self.child.wait());
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

#[test]
fn the_walkthrough_does_what_it_says() {
    let (Some(_), Some(_)) = (require_program("curl"), require_program("python3")) else {
        return;
    };
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/walkthrough.md")).unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_mox"));
    let mut mox = Mox::start(binary).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Tests run beside each other: other folders, other ports.
    let port = |service| format!("localhost:{}", mox.port(service));
    let receiver = free_port().to_string();
    let changed = document
        .replace("/tmp/mox-try", mox.dir().to_str().unwrap())
        .replace("localhost:1080", &port(Service::Http))
        .replace("8888", &receiver);
    let blocks = blocks(&changed);
    assert!(blocks.iter().filter(|b| b.kind == "text").count() >= 5);
    let mut shell = Shell::start(folder.path(), binary.parent().unwrap());
    for block in blocks {
        match block.kind.as_str() {
            "sh" => shell.run(&block.text),
            "text" => block.text.lines().for_each(|line| shell.await_line(line)),
            // Already running.
            "sh server" => {}
            other => panic!("what is a block of {other}?"),
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while mox.is_running() {
        assert!(Instant::now() < deadline, "still running\n{}", shell.seen());
        std::thread::sleep(Duration::from_millis(50));
    }
}

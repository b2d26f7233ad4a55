//! `mox webapi`: what methods there are, what they take, and calling them.

use crate::cli::{Command, Failure, Invocation, Outcome};
use mox_webapi::object::Object;
use mox_webapi::{METHODS, Method, ResponseKind};
use mox_webapi_client::{CallError, Client};
use std::io::{Read as _, Write as _};

pub(super) const COMMANDS: &[Command] = &[Command {
    words: "webapi",
    params: &["[$method [$baseurl-with-credentials]]"],
    listed: true,
    help: "List the methods of the webapi, show examples of their JSON, or call them.\n\n\
        Without parameters, the methods are listed. With a method, an example of its request and of its response is printed. With a method and a base URL, a request in JSON is read from standard input, checked and sent, and the response is printed.\n\n\
        The base URL has the credentials in it, such as http://mox%40localhost:moxmoxmox@localhost:1080/webapi/v0/, where %40 stands for @.",
    flags: &[],
    args: 0..=2,
    run: webapi,
}];

/// The largest request that is read.
const MAX_REQUEST: u64 = 10 << 20;

fn webapi(invocation: &Invocation) -> Outcome {
    match invocation.args.as_slice() {
        [] => list(),
        [method] => examples(find(method)?),
        [method, base, ..] => call(find(method)?, base),
    }
}

fn find(name: &str) -> Result<&'static Method, Failure> {
    Method::by_name(name).ok_or_else(|| Failure::Error(format!("no method {name:?}; without parameters, methods are listed")))
}

#[expect(clippy::print_stdout, reason = "the command's result")]
fn list() -> Outcome {
    for method in &METHODS {
        println!("{}", method.name);
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the command's result")]
fn examples(method: &Method) -> Outcome {
    println!("# Example request\n\n{}\n", pretty((method.request)())?);
    match method.response {
        ResponseKind::Json(response) => println!("# Example response\n\n{}", pretty(response())?),
        ResponseKind::Bytes { .. } => println!("Output is not JSON."),
    }
    Ok(())
}

fn pretty(object: &'static Object) -> Result<String, Failure> {
    serde_json::to_string_pretty(&object.example()).map_err(|e| Failure::new("example", e))
}

fn call(method: &'static Method, base: &str) -> Outcome {
    let mut request = String::new();
    std::io::stdin().lock().take(MAX_REQUEST).read_to_string(&mut request).map_err(|e| Failure::new("reading request", e))?;
    (method.check)(&request).map_err(|e| Failure::new("parsing request", e))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| Failure::new("starting", e))?;
    let answer = runtime.block_on(async {
        let client = Client::new(base).map_err(|e| Failure::Error(e.to_string()))?;
        Ok(client.call_raw(method.name, &request).await)
    })?;
    let mut out = std::io::stdout().lock();
    let write = |e| Failure::new("writing response", e);
    match answer {
        Ok(bytes) => {
            let json = matches!(method.response, ResponseKind::Json(_));
            let value = if json { serde_json::from_slice::<serde_json::Value>(&bytes).ok() } else { None };
            match value.and_then(|value| serde_json::to_string_pretty(&value).ok()) {
                Some(text) => writeln!(out, "{text}").map_err(write),
                None => out.write_all(&bytes).map_err(write),
            }
        }
        Err(CallError::Refused(error)) => {
            writeln!(out, "{}", mox_webapi::write(&error)).map_err(write)?;
            Err(Failure::Exit(1))
        }
        Err(CallError::Status { status, text }) => {
            eprintln!("http status {status}:\n{text}");
            Err(Failure::Exit(1))
        }
        Err(error) => Err(Failure::new("calling", error)),
    }
}

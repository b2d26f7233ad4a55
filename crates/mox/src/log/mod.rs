//! Logging: one line per event on standard error, as operators and their fail2ban filters know it.
//!
//! Events come through `tracing`. A line has a package, which the configuration sets levels for: the event's target, or
//! for our crates the package of the module it comes from. Protocol traces use the targets `smtpserver:auth` and `imapserver:data` for what
//! only the levels `traceauth` and `tracedata` show. `serve` writes logfmt without a time, which the service manager adds; commands write `level: message: error; key=value`.
//! Levels can be changed while running.

mod format;
mod levels;

pub(crate) use levels::Levels;

use format::{Fields, Line};
use mox_config::LogLevel;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use std::backtrace::Backtrace;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use tracing::metadata::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `l=info m="…" pkg=… key=value`.
    Logfmt,
    /// `info: …: error; pkg=…; key=value`.
    Command,
}

/// Lines written, for the metrics.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    info: Counter,
    warn: Counter,
    error: Counter,
}

impl Counts {
    /// Makes them metrics.
    pub(crate) fn register(&self, registry: &mut Registry) {
        for (level, counter) in [("info", &self.info), ("warn", &self.warn), ("error", &self.error)] {
            registry.register(format!("mox_logging_level_{level}"), format!("Lines logged at level {level}"), counter.clone());
        }
    }
}

/// The log of this process.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    /// Which lines are written.
    pub(crate) levels: Arc<Levels>,
    /// How many were.
    pub(crate) counts: Arc<Counts>,
}

impl Log {
    /// Starts logging. Once per process; a second call changes nothing.
    pub(crate) fn start(format: Format, level: LogLevel) -> Self {
        let log = Self { levels: Arc::new(Levels::new(level)), counts: Arc::new(Counts::default()) };
        let writer = Writer { format, log: log.clone() };
        // Fails only when there is a subscriber already, in tests.
        drop(tracing::subscriber::set_global_default(tracing_subscriber::registry().with(writer)));
        std::panic::set_hook(Box::new(log_panic));
        log
    }
}

/// A panic ends a connection or a piece of work, no more; its trace belongs into the log.
fn log_panic(info: &PanicHookInfo<'_>) {
    let text = info.payload_as_str().unwrap_or("panic");
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(error = text, location, stack = %Backtrace::force_capture(), "unhandled panic");
}

struct Writer {
    format: Format,
    log: Log,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Writer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Asked each time, since levels change; but never for what no level shows.
        if levels::package(metadata).is_none() { Interest::never() } else { Interest::sometimes() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.is_span() || self.log.levels.shows(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.log.levels.widest())
    }

    fn on_new_span(&self, attrs: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        if let Some(span) = ctx.span(id) {
            let mut fields = Fields::default();
            attrs.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        if let Some(span) = ctx.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let level = levels::level(event.metadata());
        let mut line = Line::new(self.format, level, levels::package(event.metadata()).unwrap_or("mox"));
        let mut fields = Fields::default();
        event.record(&mut fields);
        line.add(fields);
        if let Some(scope) = ctx.event_scope(event) {
            for span in scope {
                if let Some(fields) = span.extensions().get::<Fields>() {
                    line.add(fields.clone());
                }
            }
        }
        let counter = match level {
            LogLevel::Info => Some(&self.log.counts.info),
            LogLevel::Warn => Some(&self.log.counts.warn),
            LogLevel::Error => Some(&self.log.counts.error),
            _ => None,
        };
        if let Some(counter) = counter {
            counter.inc();
        }
        // A log that can't be written has nobody to tell.
        drop(std::io::stderr().lock().write_all(line.finish().as_bytes()));
    }
}

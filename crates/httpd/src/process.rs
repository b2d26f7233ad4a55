//! Metrics of the process itself, from `/proc`, under the names Prometheus' own libraries use.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;

/// Ticks a second in `/proc/self/stat`: 100 on all architectures of Linux.
const TICKS: f64 = 100.0;

/// Reads `/proc` at each scrape; where there is none, there are no such metrics.
#[derive(Debug)]
pub(crate) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(stat) = Stat::read() else { return Ok(()) };
        let cpu = ConstCounter::new(stat.cpu_seconds);
        cpu.encode(encoder.encode_descriptor("process_cpu_seconds", "CPU time used, in seconds", None, cpu.metric_type())?)?;
        let gauges = [
            ("process_resident_memory_bytes", "Resident memory", stat.resident),
            ("process_virtual_memory_bytes", "Virtual memory", stat.virtual_memory),
            ("process_start_time_seconds", "Start of the process since the epoch", stat.start),
            ("process_open_fds", "Open file descriptors", stat.open_fds),
            ("process_max_fds", "Limit of open file descriptors", stat.max_fds),
            ("process_virtual_memory_max_bytes", "Limit of virtual memory", stat.max_virtual_memory),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

struct Stat {
    cpu_seconds: f64,
    resident: f64,
    virtual_memory: f64,
    start: f64,
    open_fds: f64,
    max_fds: f64,
    max_virtual_memory: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The command's name, in parentheses, can hold anything; what follows can't.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // proc(5): numbers of fields count from the process id, which with the name precedes these.
        let field = |n: usize| fields.get(n.checked_sub(3)?)?.parse::<f64>().ok();
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let kib = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)?.split_whitespace().next()?.parse::<f64>().ok());
        let boot = std::fs::read_to_string("/proc/stat").ok()?.lines().find_map(|l| l.strip_prefix("btime ")?.parse::<f64>().ok())?;
        let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
        // "unlimited" isn't a number.
        let limit = |name: &str| limits.lines().find_map(|l| l.strip_prefix(name)?.split_whitespace().next()?.parse::<f64>().ok());
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS,
            resident: kib("VmRSS:")? * 1024.0,
            virtual_memory: field(23)?,
            start: boot + field(22)? / TICKS,
            open_fds: f64::from(u32::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok()?),
            max_fds: limit("Max open files").unwrap_or(f64::INFINITY),
            max_virtual_memory: limit("Max address space").unwrap_or(f64::INFINITY),
        })
    }
}

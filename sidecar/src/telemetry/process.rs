//! What the system and the runtime say of this process, looked up when it is asked for.

use std::{fs, time::Duration};

use libkoorde::metrics::{Book, Counters, Gauges};
use tokio::runtime::Handle;

use super::catalogue;

/// Ticks a second in `/proc`: fixed by Linux's interface to programs.
const TICKS: u64 = 100;
const SECOND: u64 = 1_000_000_000;

/// Gauges and counters of the process.
#[derive(Debug)]
pub struct Process {
    cpu: Counters,
    resident: Gauges,
    virtual_memory: Gauges,
    open_fds: Gauges,
    max_fds: Gauges,
    threads: Gauges,
    busy: Counters,
    workers: Gauges,
    tasks: Gauges,
    queue: Gauges,
}

impl Process {
    /// Adds them.
    #[must_use]
    pub fn new(book: &mut Book) -> Self {
        let started = book.gauges(&catalogue::STARTED);
        started.set(start_time().unwrap_or_default());
        Self {
            cpu: book.counters(&catalogue::CPU),
            resident: book.gauges(&catalogue::RESIDENT),
            virtual_memory: book.gauges(&catalogue::VIRTUAL),
            open_fds: book.gauges(&catalogue::OPEN_FDS),
            max_fds: book.gauges(&catalogue::MAX_FDS),
            threads: book.gauges(&catalogue::THREADS),
            busy: book.counters(&catalogue::RUNTIME_BUSY),
            workers: book.gauges(&catalogue::RUNTIME_WORKERS),
            tasks: book.gauges(&catalogue::RUNTIME_TASKS),
            queue: book.gauges(&catalogue::RUNTIME_QUEUE),
        }
    }

    /// Looks them up. What cannot be read stays as it was.
    pub fn refresh(&self) {
        self.system();
        if let Ok(runtime) = Handle::try_current() {
            self.runtime(&runtime);
        }
    }

    fn system(&self) {
        if let Some(ticks) = fs::read_to_string("/proc/self/stat")
            .ok()
            .as_deref()
            .and_then(cpu)
        {
            self.cpu.at(0).raise(ticks * (SECOND / TICKS));
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kilobytes = |key: &str| number(&status, key).map(|kb| kb * 1024);
        let shown = [
            (&self.resident, kilobytes("VmRSS:")),
            (&self.virtual_memory, kilobytes("VmSize:")),
            (&self.threads, number(&status, "Threads:")),
            (&self.max_fds, max_fds()),
            (&self.open_fds, open_fds()),
        ];
        for (gauge, value) in shown {
            if let Some(value) = value {
                gauge.set(value);
            }
        }
    }

    fn runtime(&self, runtime: &Handle) {
        let metrics = runtime.metrics();
        let level = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let workers = metrics.num_workers();
        let busy: Duration = (0..workers)
            .map(|worker| metrics.worker_total_busy_duration(worker))
            .sum();
        let busy = u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX);
        self.busy.at(0).raise(busy);
        self.workers.set(level(workers));
        self.tasks.set(level(metrics.num_alive_tasks()));
        self.queue.set(level(metrics.global_queue_depth()));
    }
}

/// User and system time in ticks. The name before them may have blanks and parentheses.
fn cpu(stat: &str) -> Option<u64> {
    let mut fields = after_name(stat)?.skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn after_name(stat: &str) -> Option<std::str::SplitWhitespace<'_>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace())
}

/// When the process started, in nanoseconds since 1970: the system's boot and ticks after it.
fn start_time() -> Option<i64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let ticks: i64 = after_name(&stat)?.nth(19)?.parse().ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot = number(&system, "btime")?;
    let (second, a_second) = (i64::try_from(SECOND).ok()?, i64::try_from(TICKS).ok()?);
    Some(boot * second + ticks * (second / a_second))
}

/// The number behind a key at the start of a line.
fn number(text: &str, key: &str) -> Option<i64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn max_fds() -> Option<i64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    number(&limits, "Max open files")
}

fn open_fds() -> Option<i64> {
    // The one that reads the folder is not counted.
    let open = fs::read_dir("/proc/self/fd").ok()?.count();
    i64::try_from(open.saturating_sub(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_move_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 12 30 0 0 20 0 4 0 555 1 2";
        assert_eq!(cpu(stat), Some(42));
        assert_eq!(after_name(stat).and_then(|mut f| f.nth(19)), Some("555"));
    }

    #[tokio::test]
    async fn this_process_has_memory_threads_and_files() {
        let process = Process::new(&mut Book::default());
        process.refresh();
        for gauge in [
            &process.resident,
            &process.virtual_memory,
            &process.open_fds,
            &process.max_fds,
            &process.threads,
            &process.workers,
        ] {
            assert!(gauge.get() > 0, "{gauge:?}");
        }
    }
}

//! A buffer in memory and the thread that empties it.
//!
//! An event appends its line to the buffer under a short lock; one thread swaps the buffer for an empty one and
//! writes it out at once. A slow stderr therefore never holds up a review. In normal operation nothing is lost; if
//! stderr cannot keep up with [`CAPACITY`] the lines beyond are dropped and counted, and the count is logged.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use super::Format;

/// Bytes that may wait to be written: some ten thousand lines.
const CAPACITY: usize = 4 * 1024 * 1024;
/// How long lines are gathered before they are written: one wake-up and one write serve them all.
const GATHER: Duration = Duration::from_millis(10);
/// How long the end of the process waits for a stderr that takes nothing.
const LAST_FLUSH: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
struct Pending {
    lines: Vec<u8>,
    lost: u64,
    /// The writer waits for a line; the next one wakes it.
    asleep: bool,
    closing: bool,
    finished: bool,
}

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    line: Condvar,
    end: Condvar,
}

impl Shared {
    /// A panic while the lock is held leaves at worst a cut line behind, which is no reason to stop logging.
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where events put their lines.
#[derive(Debug, Clone)]
pub(super) struct Sink(Arc<Shared>);

/// Writes what is left when dropped; waits at most two seconds for it.
#[derive(Debug)]
#[must_use = "the last lines are lost without it"]
pub struct Guard(Arc<Shared>);

impl Sink {
    /// Starts the thread that writes to `target`.
    pub(super) fn start(target: impl Write + Send + 'static, format: Format) -> io::Result<(Self, Guard)> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        thread::Builder::new().name("log-writer".to_owned()).spawn(move || write_out(&of_thread, target, format))?;
        Ok((Self(Arc::clone(&shared)), Guard(shared)))
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter(&self.0)
    }
}

/// Takes whole lines: the formatting layer hands over each event in one piece.
#[derive(Debug)]
pub(super) struct LineWriter<'a>(&'a Shared);

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut pending = self.0.lock();
        if pending.lines.len() + line.len() > CAPACITY {
            pending.lost += 1;
        } else {
            pending.lines.extend_from_slice(line);
        }
        let wake = std::mem::take(&mut pending.asleep);
        drop(pending);
        if wake {
            self.0.line.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_out(shared: &Shared, mut target: impl Write, format: Format) {
    let mut lines = Vec::new();
    loop {
        let mut pending = shared.lock();
        while pending.lines.is_empty() && pending.lost == 0 && !pending.closing {
            pending.asleep = true;
            pending = shared.line.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
        pending.asleep = false;
        if !pending.closing {
            drop(pending);
            thread::sleep(GATHER);
            pending = shared.lock();
        }
        std::mem::swap(&mut pending.lines, &mut lines);
        let lost = std::mem::take(&mut pending.lost);
        let closing = pending.closing;
        drop(pending);
        // Nobody is left to be told when stderr itself fails.
        let _ = target.write_all(&lines);
        if lost > 0 {
            let _ = target.write_all(notice(lost, format).as_bytes());
        }
        let _ = target.flush();
        lines.clear();
        if closing {
            break;
        }
    }
    shared.lock().finished = true;
    shared.end.notify_all();
}

fn notice(lost: u64, format: Format) -> String {
    let now = jiff::Timestamp::now();
    let message = "log lines were lost because stderr takes them too slowly";
    match format {
        Format::Text => format!("{now:.6} WARN podseal::telemetry: {message} lost={lost}\n"),
        Format::Json => format!(
            "{{\"timestamp\":\"{now:.6}\",\"level\":\"WARN\",\"target\":\"podseal::telemetry\",\
             \"message\":\"{message}\",\"lost\":{lost}}}\n"
        ),
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut pending = self.0.lock();
        pending.closing = true;
        self.0.line.notify_one();
        // Bounded: a full pipe that nobody reads must not keep the process from ending.
        let _ = self.0.end.wait_timeout_while(pending, LAST_FLUSH, |pending| !pending.finished);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes nothing until told to, and passes on what it then took.
    struct Gate {
        open: mpsc::Receiver<()>,
        taken: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.open.recv();
            let _ = self.taken.send(bytes.to_vec());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_blocked_stderr_blocks_nobody_and_lost_lines_are_counted() {
        let (open, gate) = mpsc::channel();
        let (taken, written) = mpsc::channel();
        let (sink, guard) = Sink::start(Gate { open: gate, taken }, Format::Text).unwrap();
        let line = vec![b'x'; 1024];
        for _ in 0..3 * CAPACITY / line.len() {
            sink.make_writer().write_all(&line).unwrap();
        }
        drop(open);
        drop(guard);
        let text: Vec<u8> = written.try_iter().flatten().collect();
        assert!(text.len() >= CAPACITY - line.len(), "{}", text.len());
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("log lines were lost") && text.contains("lost="), "no notice");
    }

    #[test]
    fn every_line_is_written_before_the_guard_is_gone() {
        let (open, gate) = mpsc::channel::<()>();
        drop(open);
        let (taken, written) = mpsc::channel();
        let (sink, guard) = Sink::start(Gate { open: gate, taken }, Format::Text).unwrap();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let sink = sink.clone();
                thread::spawn(move || (0..1000).for_each(|_| sink.make_writer().write_all(b"line\n").unwrap()))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        drop(guard);
        let bytes: usize = written.try_iter().map(|part| part.len()).sum();
        assert_eq!(bytes, 4 * 1000 * 5);
    }
}

//! Trials: skipped when their servers are missing, and told with the logs of their servers when they fail.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use super::scratch;
use super::tools::{self, Need};

/// More trials at once than this only make each other time out: every one drives several programs.
const MOST_THREADS: usize = 4;

/// Trials that take longer are worth a line at the end.
const LONG: Duration = Duration::from_secs(10);

thread_local! {
    static IN_TRIAL: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static LOGS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Lists the tests of a module: `needs [Cluster, Gpg];` and the names of functions without arguments.
#[macro_export]
macro_rules! tests {
    (needs [$($need:ident),* $(,)?]; $($test:ident),+ $(,)?) => {
        pub fn trials() -> Vec<libtest_mimic::Trial> {
            use $crate::support::tools::Need;
            const NEEDS: &[Need] = &[$(Need::$need),*];
            vec![$($crate::support::harness::trial(concat!(module_path!(), "::", stringify!($test)), NEEDS, $test)),+]
        }
    };
}

/// How long each trial took.
static TIMES: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());

/// One trial. `path` is its module path with the crate's name in front, which is left out of the trial's name.
pub fn trial(path: &'static str, needs: &'static [Need], test: fn()) -> Trial {
    let name = path.split_once("::").map_or(path, |(_, rest)| rest);
    let required = std::env::var_os("PODSEAL_REQUIRE_SERVERS").is_some_and(|v| v != "0");
    Trial::ignorable_test(name, move || match (tools::unable(needs), tools::missing(needs)) {
        (Some(unable), _) => Ok(Completion::ignored_with(unable)),
        (None, None) => timed(path, test).map(|()| Completion::Completed),
        (None, Some(missing)) if required => Err(missing.into()),
        (None, Some(missing)) => Ok(Completion::ignored_with(missing)),
    })
}

/// Runs the trials that the command line asks for. Everything that they started is gone when it returns.
pub fn run(trials: Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    let cores = available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(cores.min(MOST_THREADS));
    collect_panics();
    let conclusion = libtest_mimic::run(&arguments, trials);
    scratch::finish();
    print_times();
    conclusion.exit_code()
}

/// Has the log of a server shown with the failure of the trial that runs on this thread.
pub fn attach(title: &str, log: &str) {
    const TAIL: usize = 60;
    let lines: Vec<_> = log.lines().collect();
    let left_out = lines.len().saturating_sub(TAIL);
    let tail = lines[left_out..].join("\n");
    LOGS.with_borrow_mut(|logs| logs.push(format!("--- {title} ({left_out} lines before)\n{tail}")));
}

/// For what is made once and used by many trials: what went wrong is told to each of them.
pub fn attempt<T>(what: &str, make: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(make)).map_err(|payload| {
        let why = PANIC.take().unwrap_or_else(|| text_of(payload.as_ref()));
        format!("{what} did not start: {why}")
    })
}

fn timed(path: &str, test: fn()) -> Result<(), Failed> {
    let started = Instant::now();
    let result = run_one(test);
    let mut times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    times.push((started.elapsed(), path.to_owned()));
    result
}

/// Says what took longest.
fn print_times() {
    let mut times = std::mem::take(&mut *TIMES.lock().unwrap_or_else(PoisonError::into_inner));
    times.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    for (time, path) in times.iter().filter(|(time, _)| *time > LONG).take(10) {
        eprintln!("{:>5} s {path}", time.as_secs());
    }
}

fn run_one(test: fn()) -> Result<(), Failed> {
    IN_TRIAL.set(true);
    LOGS.take();
    let result = catch_unwind(AssertUnwindSafe(test));
    IN_TRIAL.set(false);
    result.map_err(|payload| {
        let message = PANIC.take().unwrap_or_else(|| text_of(payload.as_ref()));
        [vec![message], LOGS.take()].concat().join("\n").into()
    })
}

/// Panics of trials are kept for the report instead of being printed where they happen.
fn collect_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if IN_TRIAL.get() {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            PANIC.set(Some(format!("{place}: {}", text_of(panic.payload()))));
        } else {
            default(panic);
        }
    }));
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
    text.unwrap_or("panicked").to_owned()
}

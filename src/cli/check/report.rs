//! What `--cluster` prints: rows as they come, and at the end how many Pods there are of each kind.

use serde_json::json;

use super::rows::{Row, Table, Worth};
use crate::cli::args::{CheckCommand, Format};
use crate::cli::output::print;

/// How many Pods there are of each kind.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) allowed: usize,
    pub(super) undecided: usize,
    pub(super) denied: usize,
    pub(super) exempt: usize,
}

impl Tally {
    /// Those that are not exempt.
    pub(super) fn judged(&self) -> usize {
        self.allowed + self.undecided + self.denied
    }

    /// One more Pod that comes to this.
    pub(super) fn add(&mut self, worth: Worth) {
        match worth {
            Worth::Allowed => self.allowed += 1,
            Worth::Error => self.undecided += 1,
            Worth::Denied => self.denied += 1,
        }
    }
}

/// Where rows go as they come.
pub(super) struct Output<'a> {
    command: &'a CheckCommand,
    table: Table,
    rows: usize,
}

impl<'a> Output<'a> {
    /// Begins the document, if it is one.
    pub(super) fn new(command: &'a CheckCommand) -> Self {
        if command.output == Format::Json {
            print("{\"images\": [");
        }
        Self { command, table: Table::default(), rows: 0 }
    }

    /// The rows of a page.
    pub(super) fn rows(&mut self, rows: &[Row]) {
        if self.command.output == Format::Json {
            let mut text = String::new();
            for row in rows {
                text.push_str(if self.rows == 0 { "\n" } else { ",\n" });
                // Texts and numbers always serialise.
                text.push_str(&serde_json::to_string(row).unwrap_or_else(|_| "null".to_owned()));
                self.rows += 1;
            }
            return print(&text);
        }
        let shown: Vec<_> = rows.iter().filter(|row| self.command.all || row.is_remarkable()).collect();
        if !shown.is_empty() {
            print(&self.table.print(shown));
        }
    }

    /// The sum, and the end of the document; `complete` is whether all Pods were looked at.
    pub(super) fn end(&self, tally: &Tally, allowed: bool, complete: bool) {
        let Tally { denied, undecided, exempt, .. } = tally;
        if self.command.output == Format::Json {
            let pods = json!({"allowed": tally.allowed, "denied": denied, "undecided": undecided, "exempt": exempt});
            return print(&format!("\n], \"allowed\": {allowed}, \"complete\": {complete}, \"pods\": {pods}}}\n"));
        }
        print(&format!(
            "{} Pods: {} allowed, {denied} would be denied, {undecided} could not be decided; {exempt} Pods of exempt \
             namespaces were left out\n",
            tally.judged(),
            tally.allowed,
        ));
    }
}

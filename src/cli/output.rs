//! What commands write: to the two streams, without panicking when nobody reads, and into new directories.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::domain::printable::{printable, printable_lines};

/// Results, to standard output; what could steer a terminal is escaped, whoever wrote it. A reader that went away ends
/// the output quietly.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(printable_lines(text).as_bytes()).and_then(|()| out.flush());
}

/// Messages for people, to standard error; escaped likewise.
pub(super) fn complain(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "podseal: {}", printable_lines(text));
}

/// What the parser of arguments says. It quotes them as they came, and whoever typed the command may have had them from
/// somebody else: an image's name from a list, for one. `parse` is asked again with what is safe to show.
pub(super) fn complain_of_usage(
    error: &clap::Error,
    arguments: &[OsString],
    parse: impl FnOnce(&[OsString]) -> Option<clap::Error>,
) {
    let safe: Vec<OsString> =
        arguments.iter().map(|argument| printable(&argument.to_string_lossy()).into_owned().into()).collect();
    let _ = if safe == arguments {
        error.print()
    } else if let Some(error) = parse(&safe) {
        error.print()
    } else {
        // In one line, and without what was wrong with it.
        complain(&printable(&error.render().to_string()));
        Ok(())
    };
}

/// Lines of cells under each other, each with the notes that belong to it; the first line is the heading.
pub(super) fn columns<const N: usize>(lines: &[([String; N], Vec<String>)]) -> String {
    let mut widths = [0; N];
    for (cells, _) in lines {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for (cells, notes) in lines {
        let padded: Vec<_> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
        text.extend(notes.iter().flat_map(|note| ["  ", note, "\n"]));
    }
    text
}

/// Writes files into a directory that is new or empty, so that nothing old stays among them. It appears there when all is
/// written, so that no part of it is taken for the whole. `folders` and the names of `files` are below it; an error names
/// the file or directory.
pub(super) fn new_directory(out: &Path, folders: &[&Path], files: &[(PathBuf, &[u8])]) -> Result<(), String> {
    let named = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    std::fs::create_dir_all(out).map_err(|e| named(out, &e))?;
    if std::fs::read_dir(out).map_err(|e| named(out, &e))?.next().is_some() {
        return Err(named(out, &"not empty: give a new directory"));
    }
    // Beside it, for a directory takes the place of an empty one only within a file system.
    let place = out.canonicalize().map_err(|e| named(out, &e))?;
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let beside = place.with_file_name(format!(".{name}.{}", std::process::id()));
    std::fs::create_dir(&beside).map_err(|e| named(&beside, &e))?;
    let fill = || {
        for folder in folders.iter().map(|folder| beside.join(folder)) {
            std::fs::create_dir(&folder).map_err(|e| named(&folder, &e))?;
        }
        for (path, content) in files.iter().map(|(name, content)| (beside.join(name), content)) {
            std::fs::write(&path, content).map_err(|e| named(&path, &e))?;
        }
        std::fs::rename(&beside, &place).map_err(|e| named(out, &e))
    };
    fill().inspect_err(|_| {
        // What is left behind has a name that nothing reads.
        let _ = std::fs::remove_dir_all(&beside);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_directory_appears_whole_or_not_at_all() {
        let around = tempfile::tempdir().unwrap();
        let out = around.path().join("deep/out");
        let file = |name: &str| (PathBuf::from(name), b"content".as_slice());
        new_directory(&out, &["a".as_ref()], &[file("a/one"), file("two")]).unwrap();
        assert_eq!(std::fs::read(out.join("a/one")).unwrap(), b"content");
        assert_eq!(std::fs::read(out.join("two")).unwrap(), b"content");
        let error = new_directory(&out, &[], &[file("three")]).unwrap_err();
        assert!(error.ends_with("deep/out: not empty: give a new directory"), "{error}");

        let other = around.path().join("other");
        let error = new_directory(&other, &[], &[file("two"), file("missing/one")]).unwrap_err();
        assert!(error.contains("missing/one"), "{error}");
        let left: Vec<_> = std::fs::read_dir(around.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert_eq!(std::fs::read_dir(&other).unwrap().count(), 0);
    }

    #[test]
    fn cells_stand_under_each_other_and_notes_below() {
        let cells = |cells: [&str; 2]| cells.map(str::to_owned);
        let lines = [
            (cells(["NAME", "KEY"]), vec![]),
            (cells(["ä", "f"]), vec!["why".to_owned(), "where".to_owned()]),
            (cells(["longer", ""]), vec![]),
        ];
        assert_eq!(columns(&lines), "NAME    KEY\nä       f\n  why\n  where\nlonger\n");
    }
}

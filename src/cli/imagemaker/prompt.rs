//! Questions at the terminal.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use super::Failure;
use crate::signing::gnupg::Secret;

/// How often a question is asked anew.
const TRIES: usize = 5;
/// Longest answer, in bytes.
const MAX_LINE: usize = 1024;

/// Somebody who can be asked.
pub(in crate::cli) struct Terminal {
    file: File,
}

/// Puts the terminal back as it was.
struct Hidden<'a> {
    file: &'a File,
    before: Termios,
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // Nothing more can be done when the terminal is gone.
        let _ = tcsetattr(self.file, OptionalActions::Drain, &self.before);
    }
}

fn gone(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(format!("the terminal cannot be read: {error}"))
}

fn ended() -> Failure {
    Failure::Failed("broken off; nothing more was done".to_owned())
}

impl Terminal {
    /// The terminal, when standard input is one.
    pub(in crate::cli) fn open() -> Option<Self> {
        if !std::io::stdin().is_terminal() {
            return None;
        }
        let file = File::options().read(true).write(true).open("/dev/tty").ok()?;
        Some(Self { file })
    }

    /// Shows a line.
    pub(super) fn say(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.file, "{text}").map_err(gone)
    }

    /// Asks until the answer can be read. An empty answer is the default.
    pub(super) fn ask<T>(
        &mut self,
        question: &str,
        default: Option<&str>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Failure> {
        for _ in 0..TRIES {
            let shown = default.filter(|text| !text.is_empty()).map(|text| format!(" ({text})")).unwrap_or_default();
            write!(self.file, "{question}{shown}: ").and_then(|()| self.file.flush()).map_err(gone)?;
            let line = self.line()?;
            let answer = match (line.trim(), default) {
                ("", Some(default)) => default,
                (text, _) => text,
            };
            match read(answer) {
                Ok(value) => return Ok(value),
                Err(why) => self.say(&format!("  {why}"))?,
            }
        }
        Err(ended())
    }

    /// A passphrase without an echo.
    pub(in crate::cli) fn secret(&mut self, question: &str) -> Result<Secret, Failure> {
        let text = self.hidden(question);
        self.say("")?;
        Ok(Secret::new(text?)?)
    }

    /// A new passphrase, typed twice.
    pub(super) fn new_secret(&mut self, whose: &str) -> Result<Secret, Failure> {
        for _ in 0..TRIES {
            let typed = self.secret(&format!("New passphrase for {whose}"));
            let why = match typed.and_then(|one| Ok(self.secret("Once more")?.is(&one).then_some(one))) {
                Ok(Some(secret)) => return Ok(secret),
                Ok(None) => "they differ".to_owned(),
                Err(Failure::Failed(why)) if why.starts_with("the passphrase") => why,
                Err(error) => return Err(error),
            };
            self.say(&format!("  {why}"))?;
        }
        Err(ended())
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut bytes = Vec::new();
        while let Some(byte) = self.byte()? {
            match byte {
                b'\n' | b'\r' => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                byte if bytes.len() < MAX_LINE => bytes.push(byte),
                _ => {}
            }
        }
        Err(ended())
    }

    /// Byte by byte and without signals, so that the echo comes back whatever key ends it. The question comes when the echo
    /// is off, and what was typed before it counts for nothing.
    fn hidden(&mut self, question: &str) -> Result<Vec<u8>, Failure> {
        let file = self.file.try_clone().map_err(gone)?;
        let before = tcgetattr(&file).map_err(gone)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        silent.special_codes[SpecialCodeIndex::VMIN] = 1;
        silent.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&file, OptionalActions::Flush, &silent).map_err(gone)?;
        let _restored = Hidden { file: &file, before };
        write!(self.file, "{question}: ").and_then(|()| self.file.flush()).map_err(gone)?;
        // With its capacity from the start: growing would leave copies behind.
        let mut bytes = Vec::with_capacity(MAX_LINE);
        loop {
            match self.byte()? {
                Some(b'\n' | b'\r') => return Ok(bytes),
                // Control-C, and control-D with nothing typed.
                Some(3) | None => break,
                Some(4) if bytes.is_empty() => break,
                // Control-U takes all back, backspace one character.
                Some(21) => bytes.clear(),
                Some(8 | 127) => while bytes.pop().is_some_and(|byte| byte & 0xC0 == 0x80) {},
                Some(byte) if bytes.len() < MAX_LINE => bytes.push(byte),
                Some(_) => {}
            }
        }
        bytes.fill(0);
        Err(ended())
    }

    fn byte(&mut self) -> Result<Option<u8>, Failure> {
        let mut byte = [0];
        loop {
            match self.file.read(&mut byte) {
                Ok(0) => return Ok(None),
                Ok(_) => return Ok(byte.first().copied()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(gone(error)),
            }
        }
    }
}

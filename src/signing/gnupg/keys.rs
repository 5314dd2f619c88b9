//! Keys in a home: made, prolonged, revoked, given another passphrase, taken away.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::process::{Input, Reply};
use super::secret::{Passphrase, Secret};
use super::{Gnupg, GnupgError};

/// What a new key can do, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA that signs, with an RSA subkey that encrypts.
    Rsa,
    /// RSA that signs.
    RsaSign,
    /// DSA that signs, with an Elgamal subkey that encrypts.
    Dsa,
    /// DSA that signs.
    DsaSign,
    /// Ed25519 that signs.
    Ed25519,
}

/// A key that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// What it is.
    pub algorithm: Algorithm,
    /// Bits of RSA, DSA and Elgamal keys; Ed25519 has no choice.
    pub bits: u32,
    /// How long it is valid from now on; without it, for ever.
    pub lifetime: Option<Duration>,
    /// The holder's name.
    pub name: String,
    /// What stands in parentheses; may be empty.
    pub comment: String,
    /// The holder's address.
    pub email: String,
}

/// Why a key is revoked (RFC 9580, section 5.2.3.31).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Nothing is said.
    Unspecified,
    /// Somebody else has it.
    Compromised,
    /// Another key has taken its place.
    Superseded,
    /// It is no longer used.
    Retired,
}

impl Reason {
    fn code(self) -> &'static str {
        match self {
            Self::Unspecified => "0",
            Self::Compromised => "1",
            Self::Superseded => "2",
            Self::Retired => "3",
        }
    }
}

impl NewKey {
    /// The key as gpg's `--generate-key` reads it (doc/DETAILS and "Unattended key generation" of its manual).
    fn parameters(&self) -> Result<String, GnupgError> {
        let forbidden = |c: char| c.is_control() || matches!(c, '<' | '>' | '(' | ')');
        for (what, text) in [("name", &self.name), ("note", &self.comment), ("e-mail address", &self.email)] {
            // A line break would begin another parameter.
            if text.contains(forbidden) {
                let why = format!("the {what} must not hold <, >, parentheses or control characters");
                return Err(GnupgError::Failed("make the key".to_owned(), why));
            }
        }
        let bits = self.bits;
        let mut text = match self.algorithm {
            Algorithm::Rsa => format!(
                "Key-Type: RSA\nKey-Length: {bits}\nKey-Usage: sign\nSubkey-Type: RSA\nSubkey-Length: {bits}\nSubkey-Usage: encrypt\n"
            ),
            Algorithm::RsaSign => format!("Key-Type: RSA\nKey-Length: {bits}\nKey-Usage: sign\n"),
            Algorithm::Dsa => format!(
                "Key-Type: DSA\nKey-Length: {bits}\nKey-Usage: sign\nSubkey-Type: ELG\nSubkey-Length: {bits}\nSubkey-Usage: encrypt\n"
            ),
            Algorithm::DsaSign => format!("Key-Type: DSA\nKey-Length: {bits}\nKey-Usage: sign\n"),
            Algorithm::Ed25519 => "Key-Type: EDDSA\nKey-Curve: Ed25519\nKey-Usage: sign\n".to_owned(),
        };
        for (parameter, value) in
            [("Name-Real", &self.name), ("Name-Comment", &self.comment), ("Name-Email", &self.email)]
        {
            if !value.is_empty() {
                let _ = writeln!(text, "{parameter}: {value}");
            }
        }
        let _ = match self.lifetime {
            None => writeln!(text, "Expire-Date: 0"),
            Some(time) => writeln!(text, "Expire-Date: seconds={}", time.as_secs().max(1)),
        };
        text.push_str("%commit\n");
        Ok(text)
    }
}

impl Gnupg {
    /// Makes a key and gives its fingerprint. [`Secret::none`] makes one without a passphrase.
    pub fn generate(&self, key: &NewKey, passphrase: &Passphrase) -> Result<String, GnupgError> {
        const WHAT: &str = "make the key";
        let parameters = key.parameters()?;
        let input = Input { passphrase: Some(passphrase), data: parameters.as_bytes() };
        let output = self.run(WHAT, &["--generate-key"], input)?;
        let made = output.status("KEY_CREATED").and_then(|rest| rest.split(' ').nth(1)).map(str::to_owned);
        made.ok_or_else(|| output.failure(WHAT))
    }

    /// Lets a key end at this time, in its own self-signature, which everybody who has the certificate sees.
    pub fn expire(&self, fingerprint: &str, at: SystemTime, passphrase: &Passphrase) -> Result<(), GnupgError> {
        const WHAT: &str = "set the key's expiry";
        let time = jiff::Timestamp::try_from(at).map_err(|e| GnupgError::Failed(WHAT.to_owned(), e.to_string()))?;
        let time = time.strftime("%Y%m%dT%H%M%S").to_string();
        let input = Input { passphrase: Some(passphrase), data: b"" };
        self.run(WHAT, &["--quick-set-expire", fingerprint, &time], input)?.succeeded(WHAT).map(drop)
    }

    /// Revokes a key in its home, for good. Without the secret part, the certificate that gpg laid by when the key was
    /// made serves; it states no reason.
    pub fn revoke(
        &self,
        fingerprint: &str,
        reason: Reason,
        text: &str,
        passphrase: &Passphrase,
    ) -> Result<(), GnupgError> {
        let made = self.secret_key(fingerprint).is_ok_and(|key| key.has_secret);
        let certificate =
            if made { self.new_revocation(fingerprint, reason, text, passphrase)? } else { self.laid_by(fingerprint)? };
        self.import(&certificate)
    }

    fn new_revocation(
        &self,
        fingerprint: &str,
        reason: Reason,
        text: &str,
        passphrase: &Passphrase,
    ) -> Result<Vec<u8>, GnupgError> {
        const WHAT: &str = "revoke the key";
        let secret = passphrase.secret()?;
        let mut lines = vec![text.lines().next().unwrap_or_default().to_owned()];
        let mut asked = 0;
        let answer = |keyword: &str| match keyword {
            "gen_revoke.okay" | "ask_revocation_reason.okay" => Reply::Line("y".to_owned()),
            "ask_revocation_reason.code" => Reply::Line(reason.code().to_owned()),
            // An empty line ends the text.
            "ask_revocation_reason.text" => Reply::Line(lines.pop().unwrap_or_default()),
            "passphrase.enter" if asked == 0 => {
                asked = 1;
                secret.clone().map_or(Reply::Stop, Reply::Secret)
            }
            _ => Reply::Stop,
        };
        let arguments = ["--no-armor", "--output", "-", "--gen-revoke", fingerprint];
        let output = self.dialogue(WHAT, &arguments, secret.is_some(), answer)?;
        if output.data.is_empty() {
            return Err(output.failure(WHAT));
        }
        Ok(output.data)
    }

    fn laid_by(&self, fingerprint: &str) -> Result<Vec<u8>, GnupgError> {
        let Some(file) = self.revocation_file(fingerprint) else {
            return Err(GnupgError::Key(format!("there is no secret key {fingerprint} in {}", self.place())));
        };
        let text = std::fs::read_to_string(&file).map_err(|error| {
            let why = "the secret key is not at hand, and neither is the revocation that gpg laid by";
            GnupgError::Key(format!("{why}: {}: {error}", file.display()))
        })?;
        // gpg puts a colon in front of the armor, so that nobody imports it by mistake.
        Ok(text.replace("\n:-----BEGIN", "\n-----BEGIN").into_bytes())
    }

    fn revocation_file(&self, fingerprint: &str) -> Option<PathBuf> {
        Some(self.folder()?.join("openpgp-revocs.d").join(format!("{fingerprint}.rev")))
    }

    /// Gives a key another passphrase; with [`Passphrase::Agent`] the agent asks for both. `Secret::none` as the new one
    /// takes it away.
    pub fn change_passphrase(&self, fingerprint: &str, old: &Passphrase, new: &Secret) -> Result<(), GnupgError> {
        const WHAT: &str = "change the passphrase";
        let old = old.secret()?;
        let mut answers = vec![new.clone()];
        // The agent asks for the old one only when there is one; else it would be taken for the new one.
        if self.is_protected(fingerprint)? {
            answers.push(old.unwrap_or_else(Secret::none));
        }
        let answer = |keyword: &str| match keyword {
            "passphrase.enter" => answers.pop().map_or(Reply::Stop, Reply::Secret),
            _ => Reply::Stop,
        };
        let output = self.dialogue(WHAT, &["--passwd", fingerprint], true, answer)?;
        // It says "success" also when one of its keys was not changed.
        if output.status("SUCCESS").is_none() || output.said.contains("error changing passphrase") {
            return Err(output.failure(WHAT));
        }
        Ok(())
    }

    /// The same with the agent asking.
    pub fn change_passphrase_by_agent(&self, fingerprint: &str) -> Result<(), GnupgError> {
        const WHAT: &str = "change the passphrase";
        let output = self.dialogue(WHAT, &["--passwd", fingerprint], false, |_| Reply::Stop)?;
        if !output.ok || output.said.contains("error changing passphrase") {
            return Err(output.failure(WHAT));
        }
        Ok(())
    }

    /// Whether the primary secret key has a passphrase, as the agent says.
    pub fn is_protected(&self, fingerprint: &str) -> Result<bool, GnupgError> {
        const WHAT: &str = "ask the agent for the key";
        let arguments = ["--with-colons", "--with-keygrip", "--list-secret-keys", fingerprint];
        let listed = self.run(WHAT, &arguments, Input::default())?.succeeded(WHAT)?;
        let listed = String::from_utf8_lossy(&listed.data).into_owned();
        let grip =
            listed.lines().find_map(|line| line.strip_prefix("grp:")).map(|rest| rest.trim_matches(':').to_owned());
        let grip = grip.filter(|grip| grip.len() == 40 && grip.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let Some(grip) = grip else {
            return Err(GnupgError::Key(format!("there is no secret key {fingerprint} in {}", self.place())));
        };
        let question = format!("keyinfo {grip}");
        let output = self.run_program("gpg-connect-agent".as_ref(), WHAT, &[&question, "/bye"], Input::default())?;
        let said = String::from_utf8_lossy(&output.data).into_owned();
        // S KEYINFO <grip> <type> <serial> <id> <cached> <protection> …
        let fields: Vec<_> =
            said.lines().find(|line| line.starts_with("S KEYINFO ")).unwrap_or_default().split(' ').collect();
        match (fields.get(3).copied(), fields.get(7).copied()) {
            (Some("T"), _) => Err(GnupgError::Key(format!(
                "key {fingerprint} is on a card, which has a PIN and no passphrase: gpg --change-pin changes it"
            ))),
            (Some("D"), Some("C")) => Ok(false),
            (Some("D"), Some(_)) => Ok(true),
            _ => Err(GnupgError::Failed(WHAT.to_owned(), "it does not know it".to_owned())),
        }
    }

    /// Takes a key away that was just made, its secret part and its revocation included.
    pub fn delete(&self, fingerprint: &str) -> Result<(), GnupgError> {
        const WHAT: &str = "delete the key";
        let arguments = ["--delete-secret-and-public-key", fingerprint];
        self.run(WHAT, &arguments, Input::default())?.succeeded(WHAT)?;
        if let Some(file) = self.revocation_file(fingerprint) {
            // Without its key it revokes nothing.
            let _ = std::fs::remove_file(file);
        }
        Ok(())
    }
}

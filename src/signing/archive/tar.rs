//! Where the files of a tar archive lie: POSIX.1-1988 (ustar), the long names of GNU tar, and of pax `path` and `size`.
//!
//! Only what has content is kept, and hard links to it; folders, symbolic links and devices are passed over. What names a place outside the archive ends
//! the reading: it was made to do harm.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

const HEADER: usize = 512;
const BLOCK: u64 = HEADER as u64;
const MAX_MEMBERS: usize = 200_000;
/// Bytes of a name, or of one pax header.
const MAX_HEADER: u64 = 64 * 1024;

/// What the header before an entry says of it.
#[derive(Default)]
struct Ahead {
    path: Option<String>,
    size: Option<u64>,
    link: Option<String>,
}

/// Path → offset and size of every file.
pub(super) fn members(file: &File) -> Result<BTreeMap<String, (u64, u64)>, String> {
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let mut members = BTreeMap::new();
    let mut ahead = Ahead::default();
    let (mut at, mut entries) = (0, 0);
    while at + BLOCK <= length {
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, at).map_err(|error| error.to_string())?;
        at += BLOCK;
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        check_sum(&header)?;
        entries += 1;
        if entries > MAX_MEMBERS {
            return Err(format!("it has more than {MAX_MEMBERS} entries"));
        }
        let kind = header.get(156).copied().unwrap_or_default();
        let special = matches!(kind, b'L' | b'K' | b'x' | b'g');
        let size = ahead.size.filter(|_| !special).map_or_else(|| number(&header, 124, 12), Ok)?;
        let end = at.checked_add(size).filter(|end| *end <= length).ok_or("it is cut off")?;
        match kind {
            b'L' => ahead.path = Some(text(&content(file, at, size)?)),
            b'x' => pax(&content(file, at, size)?, &mut ahead)?,
            b'K' => ahead.link = Some(text(&content(file, at, size)?)),
            b'g' => {}
            b'S' => return Err("it holds sparse files, which are not read".to_owned()),
            _ => {
                let ahead = std::mem::take(&mut ahead);
                let path = ahead.path.unwrap_or_else(|| short_name(&header));
                if matches!(kind, 0 | b'0' | b'7') {
                    members.insert(clean(&path)?, (at, size));
                } else if kind == b'1' {
                    let target = ahead.link.unwrap_or_else(|| text(header.get(157..257).unwrap_or_default()));
                    let linked = linked(&members, &target, size)?;
                    members.insert(clean(&path)?, linked);
                }
            }
        }
        at = end.checked_next_multiple_of(BLOCK).ok_or("it is cut off")?;
    }
    if members.is_empty() {
        return Err("not a tar archive with files in it".to_owned());
    }
    Ok(members)
}

/// What a hard link stands for: a file that came before it, so that there is no going round.
fn linked(members: &BTreeMap<String, (u64, u64)>, target: &str, size: u64) -> Result<(u64, u64), String> {
    if size != 0 {
        return Err(format!("it holds a hard link to {target:?} with content of its own, which is not read"));
    }
    let before = members.get(&clean(target)?).copied();
    before.ok_or_else(|| format!("it holds a hard link to {target:?}, which is no file before it in the archive"))
}

/// Without `./`, and never anywhere but below the archive's top.
fn clean(path: &str) -> Result<String, String> {
    let parts: Vec<_> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if path.starts_with('/') || parts.contains(&"..") || path.contains('\0') {
        return Err("it names a file outside itself".to_owned());
    }
    Ok(parts.join("/"))
}

fn content(file: &File, at: u64, size: u64) -> Result<Vec<u8>, String> {
    if size > MAX_HEADER {
        return Err("it has a name that is too long".to_owned());
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
    file.read_exact_at(&mut bytes, at).map_err(|error| error.to_string())?;
    Ok(bytes)
}

fn short_name(header: &[u8]) -> String {
    let name = text(header.get(..100).unwrap_or_default());
    // Old archives have other things where ustar has the prefix.
    let prefix = if header.get(257..263) == Some(b"ustar\0") { header.get(345..500) } else { None };
    match text(prefix.unwrap_or_default()) {
        prefix if prefix.is_empty() => name,
        prefix => format!("{prefix}/{name}"),
    }
}

/// Up to the first zero byte.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// Octal digits, or base 256 when the first bit is set.
fn number(header: &[u8], at: usize, length: usize) -> Result<u64, String> {
    let field = header.get(at..at + length).unwrap_or_default();
    let bad = || "not a tar archive: a size in it is no number".to_owned();
    if let [first, rest @ ..] = field
        && first & 0x80 != 0
    {
        let mut value = u64::from(first & 0x7f);
        for byte in rest {
            value = value.checked_mul(256).and_then(|value| value.checked_add(u64::from(*byte))).ok_or_else(bad)?;
        }
        return Ok(value);
    }
    let digits = text(field);
    let digits = digits.trim();
    if digits.is_empty() { Ok(0) } else { u64::from_str_radix(digits, 8).map_err(|_| bad()) }
}

/// The sum of all bytes, with blanks in place of the sum itself.
fn check_sum(header: &[u8]) -> Result<(), String> {
    let byte = |(at, byte): (usize, &u8)| u64::from(if (148..156).contains(&at) { b' ' } else { *byte });
    let sum: u64 = header.iter().enumerate().map(byte).sum();
    if number(header, 148, 8)? == sum { Ok(()) } else { Err("not a tar archive, or damaged".to_owned()) }
}

/// Records `LENGTH KEY=VALUE\n`.
fn pax(mut bytes: &[u8], ahead: &mut Ahead) -> Result<(), String> {
    let bad = || "it has a malformed pax header".to_owned();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|byte| *byte == b' ').ok_or_else(bad)?;
        let length: usize = text(bytes.get(..space).unwrap_or_default()).parse().map_err(|_| bad())?;
        let record = bytes.get(space + 1..length.saturating_sub(1)).ok_or_else(bad)?;
        bytes = bytes.get(length..).ok_or_else(bad)?;
        let Some(equals) = record.iter().position(|byte| *byte == b'=') else { return Err(bad()) };
        let (key, value) = record.split_at(equals);
        let value = value.get(1..).unwrap_or_default();
        match key {
            b"path" => ahead.path = Some(text(value)),
            b"linkpath" => ahead.link = Some(text(value)),
            b"size" => ahead.size = Some(text(value).parse().map_err(|_| bad())?),
            _ if key.starts_with(b"GNU.sparse.") => return Err("it holds sparse files, which are not read".to_owned()),
            _ => {}
        }
    }
    Ok(())
}
